"""The files of a fit, the same in every domain: refused before the training, written after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diffaug.cli._files import check_checkpoint, check_target_file, check_target_folder, remove_checkpoint
from diffaug.cli._output import show
from diffaug.core.storage import MODEL_FOLDER, written_file

if TYPE_CHECKING:
    from diffaug._model import DiffAug


class FitFiles(NamedTuple):
    """Where the embedding, the model and the checkpoint go."""

    target: Path
    folder: Path
    checkpoint: Path | None
    overwrite: bool


def fit_files(
    data: Path, target: Path, model: Path | None, checkpoint: Path | None, *, suffixes: tuple[str, ...], overwrite: bool
) -> FitFiles:
    """The files, none of which must stop the writing after a long training.

    Parameters
    ----------
    data
        The input.
    target
        File for the embedding.
    model
        Folder for the model; by default beside the target, with its name.
    checkpoint
        File that keeps the state of the training.
    suffixes
        Endings that the target may have.
    overwrite
        Whether they may be there already.
    """
    folder = target.with_suffix(".model") if model is None else model
    check_target_file(target, suffixes=suffixes, overwrite=overwrite, sources=(data,))
    check_checkpoint(checkpoint, data, target)
    check_target_folder(folder, MODEL_FOLDER, overwrite=overwrite, files=(target, checkpoint))
    return FitFiles(target, folder, checkpoint, overwrite)


def write_fit(files: FitFiles, fitted: DiffAug, write_embedding: Callable[[Path], object]) -> None:
    """Write the embedding, by a function of the path, and the model; remove the checkpoint, and print what was written."""
    # The model inside the block: if it cannot be written, there is no output either.
    with written_file(files.target) as fresh:
        write_embedding(fresh)
        fitted.save(files.folder, overwrite=files.overwrite)
    remove_checkpoint(files.checkpoint)
    show(files.target, files.folder)
