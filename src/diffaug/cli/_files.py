"""Files in and out: inputs with clear errors, results whole or not at all."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffaug.core import storage

if TYPE_CHECKING:
    from anndata import AnnData

    from diffaug._keys import Keys

H5AD = (".h5ad",)


def read_h5ad(path: Path, *, backed: bool = False) -> AnnData:
    """Read an AnnData.

    Parameters
    ----------
    path
        The file.
    backed
        Leave the matrix on disk.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        There is no file.
    ValueError
        It is not an h5ad file, or is damaged.
    """
    check_source(path, "an .h5ad file")
    import anndata
    import h5py

    with path.open("rb") as file:
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise ValueError(f"Expected an .h5ad file (HDF5), found another kind of file: {str(path)!r}.")
    try:
        with h5py.File(path) as file:
            content = list(file)
    except OSError as error:
        raise ValueError(
            f"Expected a whole .h5ad file, found a truncated or damaged one: {str(path)!r} ({error}). Copy it again."
        ) from error
    if not {"obs", "var"} <= set(content):
        raise ValueError(f"Expected an AnnData in {str(path)!r}, found an HDF5 file with {content[:5]}.")
    try:
        return anndata.read_h5ad(path, backed="r" if backed else None)
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"Expected a readable AnnData in {str(path)!r}, found a damaged or foreign one: {error}"
        ) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read settings; errors name the file."""
    check_source(path, "a TOML file")
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected TOML in {str(path)!r}, found something else: {error}.") from error


def check_source(path: Path, what: str) -> None:
    """Refuse an input that is not there."""
    if path.is_dir():
        raise IsADirectoryError(f"Expected {what}, found a folder: {str(path)!r}.")
    if not path.exists():
        raise FileNotFoundError(f"Expected {what}, found nothing at {str(path)!r}.")


def check_target_file(
    target: Path, *, suffixes: tuple[str, ...], overwrite: bool, sources: tuple[Path, ...] = ()
) -> None:
    """Refuse a file that cannot or must not be written, before any work is done.

    Parameters
    ----------
    target
        Where a result shall go.
    suffixes
        Endings of the name that are allowed.
    overwrite
        Whether a file may be there already.
    sources
        Inputs, whose overwriting has a message of its own.
    """
    name = str(target)
    if target.suffix.lower() not in suffixes:
        raise ValueError(f"Expected an output that ends in {' or '.join(suffixes)}, found {name!r}.")
    if target.is_dir():
        raise IsADirectoryError(f"Expected the name of a file to write, found a folder: {name!r}.")
    if target.exists() and not overwrite:
        what = "the input itself" if any(s.exists() and target.samefile(s) for s in sources) else "a file that exists"
        raise FileExistsError(f"Expected a new output, found {what}: {name!r}. Pass --overwrite to replace it.")
    _check_place(target)


def check_target_folder(
    target: Path, kind: storage.FolderKind, *, overwrite: bool, files: tuple[Path | None, ...] = ()
) -> None:
    """Refuse a folder that cannot or must not be written, before any work is done.

    Parameters
    ----------
    target
        Where a folder of results shall go.
    kind
        What a folder to replace may hold.
    overwrite
        Whether a folder may be there already.
    files
        Other outputs, which cannot be in the folder, because it comes whole, nor above it.
    """
    storage.check_target_folder(target, kind, overwrite=overwrite, how="--overwrite")
    place = target.resolve()
    for file in filter(None, files):
        other = file.resolve()
        if place == other or place in other.parents or other in place.parents:
            raise ValueError(
                f"Expected a file and a folder beside each other, found {str(file)!r} and {str(target)!r}. "
                "Choose another name for one of them."
            )
    _check_place(place)


def check_checkpoint(checkpoint: Path | None, *others: Path) -> None:
    """Refuse a checkpoint in the place of an input or a result, before any work is done."""
    if checkpoint is None:
        return
    place = checkpoint.resolve()
    for other in others:
        if other.resolve() in (place, *place.parents):
            raise ValueError(
                f"Expected a file of its own for --checkpoint, found {str(checkpoint)!r}, which is, or is in, the input or "
                f"the result {str(other)!r}. Choose another name."
            )
    _check_place(checkpoint)


def remove_checkpoint(checkpoint: Path | None) -> None:
    """Remove a checkpoint when the results are written, also behind a link."""
    if checkpoint is not None:
        behind = checkpoint.resolve()
        checkpoint.unlink(missing_ok=True)
        behind.unlink(missing_ok=True)


def _check_place(target: Path) -> None:
    """Refuse a target whose folder cannot be made or written to."""
    folder = _standing_folder(target)
    if not folder.is_dir():
        raise NotADirectoryError(f"Expected a folder to write {target.name!r} into, found a file: {str(folder)!r}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            f"Expected a folder that can be written, found a read-only one: {str(folder)!r}. Choose another."
        )


def _standing_folder(target: Path) -> Path:
    """The nearest place above a target that is there already; a link's is that of what it points to."""
    folder = target.resolve().parent
    while not folder.exists():
        folder = folder.parent
    return folder


def write_h5ad(adata: AnnData, target: Path) -> None:
    """Write an AnnData, whole or not at all."""
    with storage.written_file(target) as fresh:
        adata.write_h5ad(fresh)


def write_embedded(adata: AnnData, source: Path, target: Path, keys: Keys) -> None:
    """Write ``source`` with what an embedding under ``keys`` added to ``adata``, whole or not at all."""
    with storage.written_file(target) as fresh:
        add_embedding(adata, source, fresh, keys)


def add_embedding(adata: AnnData, source: Path, fresh: Path, keys: Keys) -> None:
    """Copy ``source`` to ``fresh``, and add what an embedding under ``keys`` added to ``adata``, the twin's too.

    All else is copied as it lies in the file: the matrix is never read, and what anndata reads but does not write stays.
    """
    if not is_of_today(source):
        (adata.to_memory() if adata.isbacked else adata).write_h5ad(fresh)
        return
    import h5py
    from anndata.io import write_elem

    shutil.copyfile(source, fresh)
    with h5py.File(fresh, "r+") as file:
        for key in (keys.semantic, keys.latent, keys.twin):
            if key in adata.obsm:
                write_elem(file["obsm"], key, adata.obsm[key])
        write_elem(file["uns"], keys.uns, dict(adata.uns[keys.uns]))
        if keys.twin in file["obsm"] and keys.twin not in adata.obsm:  # it belonged to an earlier fit
            del file["obsm"][keys.twin]
    if adata.isbacked:
        adata.file.close()  # before its file is replaced, where the target is the source


def check_room(target: Path, source: Path) -> None:
    """Refuse a place without room for a copy of a file, before any work is done."""
    from diffaug.core.memory import size_text

    folder = _standing_folder(target)
    needed, free = source.stat().st_size, shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"Expected room for {size_text(needed)} in {str(folder)!r}, a copy of the input, found {size_text(free)}. Choose another "
            "place for the output, or make room."
        )


def is_of_today(path: Path) -> bool:
    """Whether single fields can be written into an .h5ad file; of anndata before 0.7 or so they depend on each other."""
    import h5py

    with h5py.File(path) as file:
        fields = (file.get("obsm"), file.get("uns"))
        return "encoding-type" in file.attrs and all(isinstance(field, h5py.Group) for field in fields)
