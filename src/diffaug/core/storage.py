"""Folders written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside ``target`` to write into; it takes the target's place only if the block succeeds.

    Raises
    ------
    FileExistsError
        ``target`` exists and ``overwrite`` is false.
    OSError
        The parent folder cannot be written.
    """
    if target.exists() and not overwrite:
        raise FileExistsError(f"Expected a new folder, found {str(target)!r}. Pass overwrite=True to replace it.")
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"Expected {str(target)!r} to be a folder, found a file. Choose another name.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OSError(
            f"Expected a place where {str(target)!r} can be written, found {error.strerror or error}. Choose another folder."
        ) from error
    try:
        fresh.chmod(0o755)  # mkdtemp makes private folders
        yield fresh
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            target.rename(old / "old")
            try:
                fresh.rename(target)
            except OSError:
                (old / "old").rename(target)
                old.rmdir()
                raise
            shutil.rmtree(old)
        else:
            fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
