"""Images of the user's own: arrays in .npy and .npz files, and folders of image files."""

from __future__ import annotations

import logging
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffaug.core.arguments import check_real_array, whole_number

logger = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
#: Modes of Pillow with 8 bits a channel, and what is made of them.
_MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB", "RGBX": "RGB", "CMYK": "RGB"}
_MODES["YCbCr"] = "RGB"
#: Folders of these names, in any case, around all others are parts of a set, not classes; and what the parts are called.
_PARTS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
#: What Pillow raises where an image is damaged, by the format; ``Image.DecompressionBombError`` besides.
UNDECODABLE = (OSError, SyntaxError, EOFError, struct.error)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with what is known of them.

    Attributes
    ----------
    images
        Shape ``(n, height, width)`` (grey) or ``(n, height, width, channels)``.
    labels
        Class of each, shape ``(n,)``: place in ``classes`` where these are known, else a whole number or a name; -1 for
        none.
    classes
        Names of the classes.
    split
        Part that each belongs to, such as ``"train"`` and ``"test"``, shape ``(n,)``.
    names
        Path of each in the folder that it was read from, shape ``(n,)``.

    Raises
    ------
    TypeError, ValueError
        ``images`` are no array of images, or what is known of them does not fit them.
    """

    images: NDArray[Any]
    labels: NDArray[Any] | None = None
    classes: tuple[str, ...] = ()
    split: NDArray[Any] | None = None
    names: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        x = self.images
        check_pixels(x)
        if x.ndim not in (3, 4):
            raise ValueError(
                f"Expected images of shape (n, height, width) or (n, height, width, channels), found shape {x.shape}."
            )
        for field in ("labels", "split", "names"):
            if getattr(self, field) is None:
                continue
            value = np.asarray(getattr(self, field))
            if value.shape != (len(x),):
                raise ValueError(f"Expected `{field}` of shape ({len(x)},), one for each image, found {value.shape}.")
            value = _checked_labels(value, len(self.classes)) if field == "labels" else as_text(value)
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.images)

    def part(self, split: str) -> ImageSet:
        """The images of one part; raises ``KeyError`` with the known parts."""
        known = [] if self.split is None else sorted(set(self.split.tolist()))
        if self.split is None or split not in known:
            raise KeyError(f"Expected a part among {known}, found {split!r}.")
        rows = self.split == split
        labels, names = (None if v is None else v[rows] for v in (self.labels, self.names))
        return ImageSet(self.images[rows], labels, self.classes, self.split[rows], names)


def check_pixels(x: Any) -> None:
    """Raise ``TypeError`` for what is no array of real numbers."""
    check_real_array("images", "pixels", x)


def as_text(x: NDArray[Any]) -> NDArray[np.str_]:
    """Names as text: numbers are written out, bytes are read as UTF-8."""
    return np.char.decode(x, "utf-8") if x.dtype.kind == "S" else x.astype(str)


def _checked_labels(labels: NDArray[Any], n_classes: int) -> NDArray[Any]:
    """Labels as whole numbers or as text; as places in the classes where these are known."""
    if labels.dtype.kind == "S" or (labels.dtype.kind == "O" and all(isinstance(v, str) for v in labels)):
        labels = as_text(labels)
    elif labels.dtype.kind == "f" and bool((np.isfinite(labels) & (np.rint(labels) == labels)).all()):
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iuU":
        raise TypeError(
            f"Expected `labels` that are whole numbers or names, found dtype {labels.dtype}, e.g. {labels[:3].tolist()}. "
            "An image without a class has the label -1."
        )
    if not n_classes or not labels.size:
        return labels
    if labels.dtype.kind == "U":
        raise ValueError(
            f"Expected `labels` that are places in the {n_classes} names of classes, found names, e.g. "
            f"{str(labels[0])!r}. Leave the names of classes out."
        )
    if labels.max() >= n_classes or labels.min() < -1:
        bad = labels.max() if labels.max() >= n_classes else labels.min()
        raise ValueError(
            f"Expected `labels` below {n_classes}, the number of names of classes, or -1 for none, found {bad}."
        )
    return labels


def read_images(path: str | Path, *, size: int | None = None, progress: bool = False) -> ImageSet:
    """Read images from an array file or a folder.

    Parameters
    ----------
    path
        An .npy file with an array of images; an .npz file with the array ``images`` and, if known, ``labels``, ``split``
        and ``class_names``; or a folder of image files (extra ``vision``). Folders in the folder are classes, but for
        ``train``, ``test`` and ``val``, which are parts and may hold classes. Of nested folders the outermost is the class.
    size
        Bring the images of a folder to this height and width: the shorter side is resized, the middle of the longer one
        kept. Without it they must be of one size.
    progress
        Show a progress bar.

    Returns
    -------
    :class:`ImageSet`. Image files become uint8, grey where all of them are; transparency is dropped, and of an animation or
    a file of many pages the first picture is taken. Hidden files, and files with an ending that is no image's, are left
    out; the log says of the latter how many.

    Raises
    ------
    FileNotFoundError
        There is nothing, or no image in the folder.
    ValueError
        A file is damaged or of another kind, or the images are of different sizes.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> file = Path(tempfile.mkdtemp()) / "photos.npz"
    >>> np.savez(file, images=np.zeros((5, 32, 32, 3), "uint8"), labels=np.arange(5))
    >>> len(read_images(file))
    5
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"Expected a folder of images or an .npy or .npz file, found nothing at {str(path)!r}.")
    if path.is_dir():
        return _read_folder(path, size, progress)
    if path.suffix.lower() not in (".npy", ".npz"):
        raise ValueError(f"Expected a folder of images or an .npy or .npz file, found {str(path)!r}.")
    if size is not None:
        raise ValueError(f"Expected `size` with a folder of image files only, found it with {str(path)!r}.")
    return _read_arrays(path)


def _read_arrays(path: Path) -> ImageSet:
    if path.suffix.lower() == ".npy":
        found = _loaded(path)
        if not isinstance(found, np.ndarray):
            raise ValueError(f"Expected a single array in {str(path)!r}, found several. Give it the ending .npz.")
        return ImageSet(found)
    arrays = read_npz(path)
    if "images" not in arrays:
        raise ValueError(f"Expected an array 'images' in {str(path)!r}, found {sorted(arrays)}.")
    classes: tuple[str, ...] = ()
    if "class_names" in arrays:
        if arrays["class_names"].ndim != 1:
            raise ValueError(
                f"Expected `class_names` of shape (n_classes,) in {str(path)!r}, found {arrays['class_names'].shape}."
            )
        classes = tuple(as_text(arrays["class_names"]).tolist())
    return ImageSet(arrays["images"], arrays.get("labels"), classes, arrays.get("split"), arrays.get("names"))


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file by name; raises ``ValueError`` for a damaged one."""
    found = _loaded(path)
    if isinstance(found, np.ndarray):
        raise ValueError(f"Expected an .npz file in {str(path)!r}, found a single array. Give it the ending .npy.")
    return found


def _loaded(path: Path) -> Any:
    """What :func:`numpy.load` finds, as an array or a dictionary of arrays."""
    try:
        with path.open("rb") as file:  # numpy leaves a damaged one open
            found = np.load(file, allow_pickle=False)  # a pickle would run code
            return found if isinstance(found, np.ndarray) else {key: found[key] for key in found.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"Expected a whole {path.suffix} file of plain numbers in {str(path)!r}, found a damaged or foreign one ({error})."
        ) from error


def _read_folder(folder: Path, size: int | None, progress: bool) -> ImageSet:
    from tqdm.auto import tqdm

    pillow = import_pillow()
    if size is not None:
        whole_number("size", size, 1)
    files, others = _listed(folder)
    if not files:
        found = f"none among {len(others)} files, e.g. {others[0].name!r}" if others else "none"
        raise FileNotFoundError(f"Expected image files ({', '.join(SUFFIXES)}) in {str(folder)!r}, found {found}.")
    if others:
        logger.info("left out %d files that are no images by their ending, e.g. %s", len(others), others[0])
    names = [p.relative_to(folder) for p in files]
    folders = [name.parts[:-1] for name in names]
    split: NDArray[np.str_] | None = None
    tops = {parts[0].lower() for parts in folders if parts}
    # A single folder of such a name is a part only if there are classes in it.
    if all(folders) and tops <= _PARTS.keys() and (len(tops) > 1 or all(len(parts) > 1 for parts in folders)):
        given = [_PARTS[parts[0].lower()] for parts in folders]
        if "test" not in given:  # the part to test on: without it the validation images are
            given = ["test" if part == "val" else part for part in given]
        split = np.array(given)
        folders = [parts[1:] for parts in folders]
    if any(folders) and not all(folders):
        flat = next(name for name, parts in zip(names, folders, strict=True) if not parts)
        deep = next(name for name, parts in zip(names, folders, strict=True) if parts)
        raise ValueError(
            f"Expected images either in {str(folder)!r} or in one folder for each class, found both, e.g. "
            f"{str(flat)!r} and {str(deep)!r}."
        )
    images: list[NDArray[np.uint8]] = []
    for file in tqdm(files, desc="read", unit="image", disable=not progress):
        images.append(_decoded(pillow, file, size))
        if images[-1].shape[:2] != images[0].shape[:2]:
            one, other = ("{1} x {0}".format(*image.shape) for image in (images[0], images[-1]))
            raise ValueError(
                f"Expected images of one size, found {one} pixels in {str(files[0])!r} and {other} in {str(file)!r}. "
                "Pass a `size` to bring them to."
            )
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2) for image in images]
    x, paths = np.stack(images), np.array([name.as_posix() for name in names])
    if not all(folders):
        return ImageSet(x, split=split, names=paths)
    classes, labels = np.unique([parts[0] for parts in folders], return_inverse=True)
    return ImageSet(x, labels, tuple(map(str, classes)), split, paths)


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Image files of a folder and the folders in it, and the other files; hidden ones are neither."""
    found: tuple[list[Path], list[Path]] = ([], [])
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            found[path.suffix.lower() not in SUFFIXES].append(path)
    return found


def import_pillow() -> ModuleType:
    """``PIL.Image``, or the error that names the extra."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f'Expected Pillow for reading image files, found none ({error}). Do: pip install "diffaug[vision]"'
        ) from error
    return Image


def _decoded(pillow: ModuleType, file: Path, size: int | None) -> NDArray[np.uint8]:
    """Pixels of an image file, grey or colour as they are."""
    from PIL import ImageOps

    try:
        with pillow.open(file) as image:
            if image.mode not in _MODES:
                raise ValueError(
                    f"Expected images of 8 bits a channel, found mode {image.mode!r} in {str(file)!r}. "
                    "Save the pixels as an .npy file instead."
                )
            target = _MODES[image.mode]
            if image.mode == "P":
                image = image.convert("RGBA")  # Pillow wants this step where the palette has a transparent colour
                red, green, blue, _ = image.split()
                if red.tobytes() == green.tobytes() == blue.tobytes():  # a GIF of greys
                    target = "L"
            image = ImageOps.exif_transpose(image).convert(target)
            if size is not None:
                image = ImageOps.fit(image, (size, size), pillow.Resampling.BICUBIC)
            return np.asarray(image)
    except (*UNDECODABLE, pillow.DecompressionBombError) as error:
        raise ValueError(f"Expected a whole image file, found a damaged one: {str(file)!r} ({error}).") from error
