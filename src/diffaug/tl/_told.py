"""What a generator is told of given cells beside their values, where its model has it told: their labels and batches."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from diffaug._anndata import cells_meta, obs_column
from diffaug._model import DiffAug

logger = logging.getLogger(__name__)


class Told(NamedTuple):
    """``labels`` and ``batch`` for :meth:`diffaug.DiffAug.augment`, of each cell, shape ``(n_obs,)``; ``None`` where not told."""

    labels: np.ndarray | None
    batch: np.ndarray | str | None

    def of(self, rows: np.ndarray) -> Told:
        """Those of some of the cells."""
        labels = None if self.labels is None else self.labels[rows]
        return Told(labels, self.batch[rows] if isinstance(self.batch, np.ndarray) else self.batch)


def told_of(obs: pd.DataFrame, model: DiffAug, batch: np.ndarray | str | None = None) -> Told:
    """Labels and batches of cells, from the columns that the model was fitted with.

    Parameters
    ----------
    obs
        Their ``.obs``.
    model
        The model whose generator is to be told.
    batch
        Batch for all of them, or of each, in place of what their ``.obs`` says.

    Raises
    ------
    KeyError, ValueError
        The labels' column is missing, or a column is incomplete.
    """
    meta, labels = cells_meta(model), None

    def column(key: str, argument: str) -> pd.Series:
        return obs_column(AnnData(obs=obs.set_axis([str(i) for i in range(len(obs))])), key, argument)

    if model.config.diffusion.condition == "label":
        labels = np.asarray(column(meta["label_key"], "the model's label_key"))
    if batch is not None or not model.batches:
        return Told(labels, batch)
    key = meta["batch_key"]
    if key not in obs:
        logger.warning("no column %r in `.obs`: views are drawn under no batch in particular", key)
        return Told(labels, None)
    names = column(key, "the model's batch_key").astype(str).astype(object)
    strange = ~names.isin(model.batches)
    if strange.any():
        logger.warning(
            "%d of %d cells are of batches that the model does not know, e.g. %r: their views are drawn under no batch in particular",
            strange.sum(),
            len(names),
            names[strange].iloc[0],
        )
    return Told(labels, names.where(~strange, None).to_numpy())
