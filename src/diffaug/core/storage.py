"""Folders and files written whole or not at all, and what they may replace."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple


class FolderKind(NamedTuple):
    """What a folder of results holds: one with anything else in it is never replaced."""

    name: str
    marker: str  # is in every folder of the kind
    others: tuple[str, ...]


MODEL_FOLDER = FolderKind("a model's folder", "config.json", ("weights.safetensors", "history.csv"))


def check_target_folder(
    target: Path, kind: FolderKind | None = None, *, overwrite: bool = False, how: str = "overwrite=True"
) -> None:
    """Refuse a folder that must not be written: the one rule, for those who ask before the work and for the writing.

    Parameters
    ----------
    target
        Where results shall go.
    kind
        What a folder to replace may hold: ``save(home, overwrite=True)`` must not remove a home. ``None`` for anything.
    overwrite
        Whether a folder may be there already.
    how
        How the caller's user says ``overwrite``.

    Raises
    ------
    FileExistsError
        There is something that must stay.
    """
    if not target.exists():
        return
    name = str(target)
    if not target.is_dir():
        raise FileExistsError(f"Expected {name!r} to be a folder, found a file. Choose another name.")
    if not overwrite:
        raise FileExistsError(f"Expected a new folder, found {name!r}. Pass {how} to replace it.")
    if os.path.ismount(target):
        raise FileExistsError(f"Expected a folder to replace, found a mount point: {name!r}. Name a folder in it.")
    if target.samefile("."):  # it would take the current folder away, and relative names of other results with it
        raise FileExistsError(f"Expected a folder to replace, found the current one: {name!r}. Choose another folder.")
    if kind is None:
        return
    found = {f.name for f in target.iterdir()}
    foreign = sorted(found - {kind.marker, *kind.others})
    if foreign:
        raise FileExistsError(
            f"Expected {kind.name} to overwrite, found other things in {name!r}, e.g. {foreign[0]!r}. "
            "Choose another folder."
        )
    if found and not (target / kind.marker).is_file():
        raise FileExistsError(
            f"Expected {kind.name} to overwrite, found no {kind.marker!r} in {name!r}. Choose another folder."
        )


@contextmanager
def written_whole(target: Path, *, kind: FolderKind | None = None, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside ``target`` to write into; it takes the target's place only if the block succeeds.

    Raises
    ------
    FileExistsError
        :func:`check_target_folder` refuses ``target``.
    OSError
        The parent folder cannot be written.
    """
    check_target_folder(target, kind, overwrite=overwrite)
    given, target = target, target.resolve()  # a link stays, and what it points to is replaced
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.parent / f".{target.name}.{secrets.token_hex(8)}"
        fresh.mkdir()  # whom the umask lets in, where mkdtemp would let in nobody else
    except OSError as error:
        raise OSError(
            f"Expected a place where {str(given)!r} can be written, found {error.strerror or error}. Choose another folder."
        ) from error
    try:
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


@contextmanager
def file_written_whole(target: Path) -> Iterator[BinaryIO]:
    """A stream to write into; what was written takes the place of ``target`` only if the block succeeds.

    Whenever the process or the machine stops, ``target`` is the old or the new file. Its folder must be there.
    """
    with _replacement(target.resolve(), "") as fresh, fresh.open("xb") as stream:
        yield stream


@contextmanager
def written_file(target: Path) -> Iterator[Path]:
    """The same for writers that want a name: a path beside ``target``, with its ending, which the block must write to."""
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _replacement(target, "".join(target.suffixes)) as fresh:
        yield fresh


@contextmanager
def _replacement(target: Path, ending: str) -> Iterator[Path]:
    """A new name beside a file without links; what the block writes there replaces the file, if the block succeeds."""
    # A name and not tempfile's file, which is private: the writer's gets the permissions that the user's files have.
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part{ending}")
    try:
        yield fresh
        with fresh.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(fresh, target)
    finally:
        fresh.unlink(missing_ok=True)


def leftovers(target: Path) -> list[Path]:
    """What processes that were killed while they wrote ``target`` as one of the above left beside it."""
    target = target.resolve()
    ending = re.escape("".join(target.suffixes))
    scratch = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]+\.part({ending})?")
    return [path for path in target.parent.iterdir() if scratch.fullmatch(path.name)]


def remove_leftovers(target: Path) -> None:
    """Remove the :func:`leftovers` of a file that nobody else is writing now."""
    for path in leftovers(target):
        path.unlink(missing_ok=True)
