"""What the generated views did: the model beside its loop-off twin."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from anndata import AnnData

from diffaug._anndata import Matrix, obs_column, read_like
from diffaug._model import DiffAug, whole_number
from diffaug.metrics import paired_difference, row_hits

logger = logging.getLogger(__name__)

LABEL_FREE = "split_half_overlap"


def loop_gain(
    adata: AnnData,
    model: DiffAug,
    *,
    groupby: str | None = None,
    max_obs: int = 5000,
    random_state: int = 0,
) -> pd.DataFrame:
    """Compare a model of ``tl.fit(..., twin=True)`` with its loop-off twin: did the generated views help here?

    The twin had the same warm-up, batches, hand-made views and number of epochs. Both embed the same cells, and each cell is
    a pair, so the interval speaks of these cells under this one seed; another seed moves the difference too.

    Parameters
    ----------
    adata
        Cells, read as by :func:`diffaug.tl.embed`.
    model
        A model fitted with ``twin=True``.
    groupby
        Column of ``.obs`` with labels, which only judge. Without it the reading is label-free alone.
    max_obs
        Of more cells so many are drawn.
    random_state
        Seed of the drawing, of the splits and of the folds.

    Returns
    -------
    Data frame with one row for each measure and the columns ``"model"``, ``"twin"``, ``"difference"``, ``"low"`` and
    ``"high"`` (95 % interval over cells) and ``"labelled"``. The measures: ``"split_half_overlap"``
    (:meth:`diffaug.DiffAug.split_half_overlap`, without labels), and with ``groupby`` ``"linear"`` and ``"knn"``
    (:func:`diffaug.metrics.row_hits`: accuracy over five folds).

    Raises
    ------
    ValueError
        The model has no twin, or the cells do not fit it.
    KeyError
        ``groupby`` is no column.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> model = diffaug.tl.fit(adata, twin=True, max_epochs=6, progress=False)
    >>> diffaug.tl.loop_gain(adata, model, groupby="bulk_labels").index.tolist()
    ['split_half_overlap', 'linear', 'knn']
    """
    require_twin(model)
    x, _ = read_like(adata, model)
    return compare_with_twin(model, x, label_values(adata, groupby), max_obs=max_obs, random_state=random_state)


def require_twin(model: DiffAug) -> DiffAug:
    """The model's twin, or a clear error."""
    if not isinstance(model, DiffAug):
        raise TypeError(f"Expected `model` to be a fitted DiffAug, found {type(model).__name__}.")
    if model.twin is None:
        raise ValueError("Expected a model with its loop-off twin, found one without. Fit with twin=True.")
    return model.twin


def label_values(adata: AnnData, groupby: str | None) -> np.ndarray | None:
    """Labels of the cells as text."""
    return None if groupby is None else np.asarray(obs_column(adata, groupby, "groupby")).astype(str)


def compare_with_twin(
    model: DiffAug, x: Matrix, labels: np.ndarray | None, *, max_obs: int = 5000, random_state: int = 0
) -> pd.DataFrame:
    """The table of :func:`loop_gain`, on values."""
    twin = require_twin(model)
    max_obs = whole_number("max_obs", max_obs, 2)
    k = min(15, x.shape[0] - 1)
    pairs = {
        LABEL_FREE: [m.split_half_overlap(x, k=k, max_obs=max_obs, random_state=random_state) for m in (model, twin)]
    }
    if labels is not None:
        rows = np.sort(np.random.default_rng(random_state).permutation(len(labels))[:max_obs])
        embedded = [m.embed(x[rows]).semantic for m in (model, twin)]
        for probe in ("linear", "knn"):
            both = [row_hits(e, labels[rows], probe=probe, random_state=random_state) for e in embedded]
            pairs[probe] = [hits[~np.isnan(hits)] for hits in both]
    table = []
    for name, (a, b) in pairs.items():
        found = paired_difference(a, b)
        table.append(
            {
                "measure": name,
                "model": a.mean(),
                "twin": b.mean(),
                "difference": found.mean,
                "low": found.low,
                "high": found.high,
                "labelled": name != LABEL_FREE,
            }
        )
    return pd.DataFrame(table).set_index("measure")


def log_gain(table: pd.DataFrame) -> None:
    """Say in the log what the views did."""
    for name, row in table.iterrows():
        verdict = "helped" if row["low"] > 0 else "harmed" if row["high"] < 0 else "made no clear difference"
        logger.info(
            "generated views %s by %s: %.4f, twin %.4f, difference %+.4f (95 %% interval over cells %+.4f .. %+.4f)",
            *(verdict, name, row["model"], row["twin"], row["difference"], row["low"], row["high"]),
        )
