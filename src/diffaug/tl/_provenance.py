"""How near synthetic cells lie to the cells that their model was trained on, and whether they give these away."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from diffaug import metrics
from diffaug._anndata import Matrix, cells_meta, obs_column
from diffaug._model import DiffAug
from diffaug._new_cells import read_like
from diffaug.core.neighbors import nearest_neighbors

logger = logging.getLogger(__name__)

_N_REFERENCE = 2000
#: Fewer cells than this, on any side, ``metrics.memorization_audit`` refuses.
LEAST_AUDITED = 10


@dataclass(frozen=True)
class NearestTraining:
    """Nearest training cell of each synthetic one.

    Attributes
    ----------
    cell
        Its name, shape ``(n,)``.
    distance
        Distance to it, shape ``(n,)``.
    percentile
        Share of training cells, in percent, whose nearest other training cell is nearer than that, shape ``(n,)``.
    real
        Those distances among training cells, in ascending order.
    """

    cell: NDArray[np.str_]
    distance: NDArray[np.float64]
    percentile: NDArray[np.float64]
    real: NDArray[np.float64]


@dataclass(frozen=True)
class TrainingCells:
    """The cells that a model was trained on, as it reads them.

    Attributes
    ----------
    names, x
        Their names and values.
    at
        Their rows in the AnnData that they were found in.
    """

    names: pd.Index
    x: Matrix
    at: NDArray[np.intp]

    def rows_of(self, names: NDArray[np.str_]) -> NDArray[np.int64]:
        """Rows of some of them by name; a clear error where they are not there."""
        rows = self.names.get_indexer(pd.Index(names))
        if (rows < 0).any():
            raise ValueError(
                f"Expected every cell that conditions a synthetic one in `train`, found no {str(names[rows < 0][0])!r} and "
                f"{len(set(names[rows < 0].tolist())) - 1} others. Hand over all training cells."
            )
        return rows


def training_cells(train: AnnData, model: DiffAug) -> TrainingCells:
    """The model's training cells among ``train``, by their names."""
    names = cells_meta(model)["cells"]["names"]
    x = read_like(train, model, name="train")
    if not train.obs_names.is_unique:
        raise ValueError(
            f"Expected unique names of cells in `train`, found {train.obs_names[train.obs_names.duplicated()][0]!r} more than "
            "once: nobody could say which one a synthetic cell is near to. Call `adata.obs_names_make_unique()` before the fit."
        )
    own = train.obs_names.isin(names)
    if not own.any():
        raise ValueError(
            f"Expected the cells that the model was trained on in `train`, such as {names[0]!r}, found none of them (but "
            f"e.g. {train.obs_names[0]!r}). Hand over the AnnData of the fit."
        )
    if own.sum() < len(set(names)):
        logger.warning("`train` has %d of the model's %d training cells", own.sum(), len(set(names)))
    at = np.flatnonzero(own)
    return TrainingCells(train.obs_names[own].astype(str), x[at], at)


def nearest_training(values: Matrix, train: TrainingCells, model: DiffAug, random_state: int = 0) -> NearestTraining:
    """Nearest training cell of each row of ``values``, by all genes, scaled and clipped as the encoder sees them.

    Not on principal components: fitted on the training cells they fit these better than any others, and cells that
    were never seen would seem nearer to them than they are to each other.
    """
    real, made = _scaled(train.x, model), _scaled(values, model)
    if len(real) < 3:
        raise ValueError(f"Expected at least 3 training cells in `train`, found {len(real)}.")
    rng = np.random.default_rng(random_state)
    near = nearest_neighbors(made, 1, reference=real)[:, 0]
    distance = _distance(made, real[near])
    # Among training cells: each to the nearest other one. Equal cells have another at distance 0, and keep it.
    rows = torch.as_tensor(np.sort(rng.permutation(len(real))[:_N_REFERENCE]))
    two = nearest_neighbors(real[rows], 2, reference=real)
    others = torch.where(two[:, :1] == rows[:, None], two[:, 1:], two[:, :1])[:, 0]
    reference = np.sort(_distance(real[rows], real[others]))
    percentile = 100 * np.searchsorted(reference, distance, side="left") / len(reference)
    return NearestTraining(train.names.to_numpy(str)[near.numpy()], distance, percentile, reference)


@dataclass(frozen=True)
class AuditedAgainst:
    """The real cells that an audit compares synthetic ones with.

    Attributes
    ----------
    train
        Values of the training cells.
    held_out
        Values of cells that the model has not seen, if there are any.
    train_donors, held_out_donors
        Donor of each, if these are known.
    """

    train: Matrix
    held_out: Matrix | None = None
    train_donors: NDArray[np.str_] | None = None
    held_out_donors: NDArray[np.str_] | None = None

    def check_sizes(self, n_synthetic: int) -> None:
        """Say before the work, and not after it, that there are too few cells to judge."""
        sizes = {"synthetic cells": n_synthetic, "training cells in `train`": self.train.shape[0]}
        if self.held_out is not None:
            sizes["cells in `held_out`"] = self.held_out.shape[0]
        for what, n in sizes.items():
            if n < LEAST_AUDITED:
                raise ValueError(
                    f"Expected at least {LEAST_AUDITED} {what} with audit=True, found {n}: no share of copies could be "
                    "judged. Take more, or set audit=False."
                )


def audit_donors(train: AnnData, known: TrainingCells, held_out: AnnData, donor_key: str) -> tuple[NDArray, NDArray]:
    """Donors of the training and of the held-out cells."""
    found = []
    for cells, name in ((train, "train"), (held_out, "held_out")):
        found.append(obs_column(cells, donor_key, f"donor_key, of `{name}`").astype(str).to_numpy(str))
    return found[0][known.at], found[1]


def passed_audit(values: Matrix, against: AuditedAgainst, random_state: int) -> dict[str, Any]:
    """Numbers and notes of a memorisation audit that was passed; an error with the reasons if it was not."""
    found = metrics.memorization_audit(
        values,
        against.train,
        against.held_out,
        train_donors=against.train_donors,
        held_out_donors=against.held_out_donors,
        random_state=random_state,
    )
    for note in found.notes:
        logger.warning("audit: %s", note)
    if not found.passed:
        raise RuntimeError(
            f"Expected synthetic cells that give no training cell away, found: {' '.join(found.reasons)} Nothing is returned. "
            "Fit on more cells, for fewer steps or with a higher `generator_dropout`, or set audit=False."
        )
    numbers = {k: v for k, v in dataclasses.asdict(found).items() if isinstance(v, bool | int | float)}
    return {**numbers, "notes": np.array(found.notes, dtype=str)}


def _scaled(x: Matrix, model: DiffAug) -> Tensor:
    limit = model.config.domain.max_value
    return model.backend.to_model(x).cpu().clamp(-limit, limit)


def _distance(a: Tensor, b: Tensor) -> NDArray[np.float64]:
    return (a - b).double().square().sum(dim=1).sqrt().numpy()
