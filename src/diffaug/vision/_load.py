"""Image data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from diffaug.vision._archives import read_cifar, read_stl10, read_tinyimagenet
from diffaug.vision._read import ImageSet, import_pillow, read_images


def load(name: str, *, split: str | None = None, progress: bool = True) -> ImageSet:
    """Load an image data set: CIFAR-10 or -100, STL-10, TinyImageNet, or another of the domain ``"vision"``.

    The original archive is looked for in the folder that the environment variable ``DIFFAUG_DATA_DIR`` names, under the
    name that ``diffaug.datasets.manifest(name).file`` says, and downloaded into the cache folder if it is not there (see
    :func:`diffaug.datasets.path`). Its checksum is verified.

    Parameters
    ----------
    name
        One of ``diffaug.datasets.list_datasets("vision")``: ``"cifar10"``, ``"cifar100"``, ``"stl10"``,
        ``"tinyimagenet"``, ``"cifar10_12k"``.
    split
        Only this part, such as ``"train"``; by default all parts.
    progress
        Show progress bars.

    Returns
    -------
    :class:`ImageSet` with labels, names of the classes, and the authors' split.

    Raises
    ------
    KeyError
        There is no such set, or no such part of it.
    FileNotFoundError, OSError
        It is not there, and cannot be downloaded.
    ValueError
        It is of another domain, or its file is not the original one.
    ImportError
        Pillow is not installed (extra ``vision``), which TinyImageNet needs.
    """
    from diffaug import datasets

    found = datasets.manifest(name)
    if found.domain != "vision":
        raise ValueError(
            f"Expected a data set of domain 'vision', found {name!r} of domain {found.domain!r}. "
            f"There are {datasets.list_datasets('vision').index.tolist()}."
        )
    readers: dict[str, Callable[[Path], ImageSet]] = {
        "cifar10": read_cifar,
        "cifar100": read_cifar,
        "stl10": read_stl10,
        "tinyimagenet": partial(read_tinyimagenet, progress=progress),
    }
    if name == "tinyimagenet":
        import_pillow()  # its absence is said before the download
    whole = readers.get(name, read_images)(datasets.path(name, progress=progress))
    return whole if split is None else whole.part(split)
