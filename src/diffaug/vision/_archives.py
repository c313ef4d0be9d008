"""Original archives of image data sets, read without unpacking them to disk and without pickles."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffaug.core.archives import ARCHIVE_DAMAGE
from diffaug.vision._read import UNDECODABLE, ImageSet, import_pillow

Bytes = NDArray[np.uint8]
#: A member that is not there is a KeyError, and names that are no text a UnicodeDecodeError.
_DAMAGE = (*ARCHIVE_DAMAGE, KeyError, UnicodeDecodeError)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Turn what the standard library says of damaged archives into one message."""
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(
            f"Expected a whole archive in {str(path)!r}, found a damaged or foreign one ({error}). Replace it by the "
            "original file."
        ) from error


@contextmanager
def _tar(path: Path) -> Iterator[Callable[[str], bytes]]:
    """Reader of a tar archive's members by name."""
    with _whole(path), tarfile.open(path) as archive:

        def read(name: str) -> bytes:
            member = archive.extractfile(name)
            if member is None:
                raise KeyError(f"{name} is no file")
            return member.read()

        yield read


def _records(raw: bytes, width: int, name: str) -> Bytes:
    """Bytes as rows of ``width``."""
    if not raw or len(raw) % width:
        raise ValueError(f"Expected records of {width} bytes in {name!r}, found {len(raw)} bytes in all.")
    return np.frombuffer(raw, np.uint8).reshape(-1, width)


def _text(raw: bytes) -> tuple[str, ...]:
    return tuple(line for line in raw.decode().split("\n") if line.strip())


def _columns(raw: bytes, name: str, path: Path) -> Iterator[tuple[str, str]]:
    """The first two columns of a text file, separated by tabs."""
    for line in _text(raw):
        first, *rest = line.split("\t")
        if not rest:
            raise ValueError(
                f"Expected columns separated by tabs in {name!r} of {str(path)!r}, found the line {line!r}."
            )
        yield first, rest[0]


def _parts(**n: int) -> NDArray[np.str_]:
    return np.repeat(list(n), list(n.values()))


def read_cifar(path: Path) -> ImageSet:
    """CIFAR-10 or CIFAR-100 in the binary version: a byte or two of labels, then three planes of 32 x 32 pixels."""
    with _tar(path) as read:
        try:
            folder, classes, n_labels = "cifar-10-batches-bin", _text(read("cifar-10-batches-bin/batches.meta.txt")), 1
            files = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
        except KeyError:
            folder, classes, n_labels = "cifar-100-binary", _text(read("cifar-100-binary/fine_label_names.txt")), 2
            files = {"train": ["train.bin"], "test": ["test.bin"]}
        width = n_labels + 3 * 32 * 32
        rows = {
            part: np.concatenate([_records(read(f"{folder}/{name}"), width, name) for name in names])
            for part, names in files.items()
        }
    both = np.concatenate(list(rows.values()))
    images = np.ascontiguousarray(both[:, n_labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    labels = both[:, n_labels - 1].astype(np.int64)  # of CIFAR-100's two, the fine one comes second
    return ImageSet(images, _checked(labels, classes, path), classes, _parts(**{k: len(v) for k, v in rows.items()}))


def read_stl10(path: Path) -> ImageSet:
    """STL-10: planes of 96 x 96 pixels, column by column; labels from 1. The unlabelled images get the label -1."""
    side = 96
    with _tar(path) as read:
        classes = _text(read("stl10_binary/class_names.txt"))
        rows, labels = {}, []
        for part in ("train", "test", "unlabeled"):
            rows[part] = _records(read(f"stl10_binary/{part}_X.bin"), 3 * side * side, f"{part}_X.bin")
            if part == "unlabeled":
                labels.append(np.full(len(rows[part]), -1))
            else:
                labels.append(np.frombuffer(read(f"stl10_binary/{part}_y.bin"), np.uint8).astype(np.int64) - 1)
            if len(labels[-1]) != len(rows[part]):
                raise ValueError(f"Expected {len(rows[part])} labels of {part!r}, found {len(labels[-1])}.")
    images = np.empty((sum(map(len, rows.values())), side, side, 3), np.uint8)
    split = _parts(**{k: len(v) for k, v in rows.items()})
    for part in list(rows):  # one part at a time: the whole set has three gigabytes
        images[split == part] = rows.pop(part).reshape(-1, 3, side, side).transpose(0, 3, 2, 1)
    return ImageSet(images, _checked(np.concatenate(labels), classes, path), classes, split)


def read_tinyimagenet(path: Path, *, progress: bool = False) -> ImageSet:
    """TinyImageNet: JPEG files of 64 x 64 pixels; the validation images, which have labels, are the part ``"test"``."""
    from tqdm.auto import tqdm

    import_pillow()  # its absence is said before the archive is read
    root = "tiny-imagenet-200"
    with _whole(path), zipfile.ZipFile(path) as archive:
        codes = {wnid: i for i, wnid in enumerate(_text(archive.read(f"{root}/wnids.txt")))}
        words = dict(_columns(archive.read(f"{root}/words.txt"), "words.txt", path))
        found: list[tuple[str, int, str]] = []
        for name in sorted(archive.namelist()):
            parts = name.split("/")
            if len(parts) == 5 and parts[1] == "train" and name.lower().endswith(".jpeg"):
                found.append((name, codes[parts[2]], "train"))
        for file, wnid in _columns(archive.read(f"{root}/val/val_annotations.txt"), "val_annotations.txt", path):
            found.append((f"{root}/val/images/{file}", codes[wnid], "test"))
        images = np.empty((len(found), 64, 64, 3), np.uint8)
        for i, (name, _, _) in enumerate(tqdm(found, desc="read", unit="image", disable=not progress)):
            pixels = _pixels(archive.read(name), name, path)
            if pixels.shape != images.shape[1:]:
                raise ValueError(f"Expected 64 x 64 pixels in {name!r}, found {pixels.shape[1]} x {pixels.shape[0]}.")
            images[i] = pixels
    classes = tuple(words.get(wnid, wnid) for wnid in codes)
    return ImageSet(images, np.array([code for _, code, _ in found]), classes, np.array([part for _, _, part in found]))


def _pixels(raw: bytes, name: str, path: Path) -> Bytes:
    """Pixels of an image in an archive: the archive may be whole, with checksums that fit, and the image not."""
    pillow = import_pillow()
    try:
        with pillow.open(io.BytesIO(raw)) as image:
            return np.asarray(image.convert("RGB"))
    except (*UNDECODABLE, ValueError, pillow.DecompressionBombError) as error:
        raise ValueError(
            f"Expected whole image files in {str(path)!r}, found a damaged one: {name!r} ({error}). Replace the archive by "
            "the original file."
        ) from error


def _checked(labels: NDArray[np.int64], classes: tuple[str, ...], path: Path) -> NDArray[np.int64]:
    if labels.max() >= len(classes):
        raise ValueError(f"Expected labels below {len(classes)} in {str(path)!r}, found {labels.max()}.")
    return labels
