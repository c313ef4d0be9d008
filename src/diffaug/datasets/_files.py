"""Files on disk: where they are, whether they are the right ones, how they get there."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.request
from pathlib import Path
from typing import IO

from tqdm.auto import tqdm

from diffaug.core.storage import written_file
from diffaug.datasets._manifest import Manifest

logger = logging.getLogger(__name__)

DATA_VARIABLE = "DIFFAUG_DATA_DIR"
CACHE_VARIABLE = "DIFFAUG_CACHE_DIR"
_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without an answer

# Files that were checked by this process, with the time of their last change.
_verified: dict[Path, tuple[int, str]] = {}


def data_folder() -> Path | None:
    """Folder named by ``DIFFAUG_DATA_DIR``; ``None`` where that is unset."""
    value = os.environ.get(DATA_VARIABLE, "")
    return Path(value).expanduser() if value else None


def cache_folder() -> Path:
    """Folder for downloads: ``DIFFAUG_CACHE_DIR``, else ``diffaug`` in the user's cache folder."""
    value = os.environ.get(CACHE_VARIABLE, "")
    if value:
        return Path(value).expanduser()
    user_cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(user_cache) if user_cache else Path.home() / ".cache") / "diffaug"


def candidates(m: Manifest) -> list[Path]:
    """Places where the file of a set may be, best first."""
    assert m.file is not None  # the manifest's own check: every local set names its file
    folder = data_folder()
    places = [folder / m.file] if folder is not None else []
    return [*places, cache_folder() / m.file] if m.url is not None else places


def verify(path: Path, m: Manifest) -> None:
    """Check size and checksum of a file, once per process and change of the file.

    Raises
    ------
    ValueError
        If either differs from the manifest.
    """
    stat, where = path.stat(), path.resolve()
    assert m.sha256 is not None
    if _verified.get(where) == (stat.st_mtime_ns, m.sha256):
        return
    if stat.st_size != m.bytes:
        raise ValueError(
            f"Expected {m.bytes} bytes in {str(path)!r} ({m.name}), found {stat.st_size}. Replace it by the original file."
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != m.sha256:
        raise ValueError(
            f"Expected the sha256 checksum {m.sha256} of {str(path)!r} ({m.name}), found {found}. "
            "Replace it by the original file."
        )
    _verified[where] = (stat.st_mtime_ns, m.sha256)


def download(m: Manifest, target: Path, *, progress: bool = True) -> None:
    """Fetch the file of a set, check it, and only then give it its name.

    Parameters
    ----------
    m
        A manifest with a ``url``.
    target
        Where to put the file; its folder is made.
    progress
        Show a bar.

    Raises
    ------
    OSError
        If the server cannot be reached or refuses.
    ValueError
        If what arrived is not the file of the manifest. Nothing is left behind.
    """
    assert m.url is not None
    logger.info("Downloading %s (%s bytes) to '%s'.", m.name, m.bytes, target)
    with written_file(target) as part:
        with part.open("xb") as file:
            _copy_from(m, file, progress=progress)
        verify(part, m)
        _verified.pop(part.resolve(), None)


def _copy_from(m: Manifest, file: IO[bytes], *, progress: bool) -> None:
    assert m.url is not None
    request = urllib.request.Request(m.url, headers={"User-Agent": "diffaug"})
    bar = tqdm(total=m.bytes, unit="B", unit_scale=True, desc=m.name, disable=not progress, leave=False)
    try:
        with bar, urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"Could not download {m.name!r} from {m.url}: {error}. "
            f"Try again, or put the file at {m.file!r} in the folder that {DATA_VARIABLE} names."
        ) from error
