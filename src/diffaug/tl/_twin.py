"""What the generated views did: the model beside its loop-off twin."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from diffaug._anndata import Matrix, obs_column
from diffaug._model import DiffAug
from diffaug._new_cells import read_like
from diffaug.core.arguments import whole_number
from diffaug.metrics import kmeans_scores, paired_difference, row_hits

logger = logging.getLogger(__name__)

LABEL_FREE, CLUSTERS = "split_half_overlap", "kmeans"
#: One clustering moves by points with its start, so that a mean over some is compared.
_N_STARTS = 5
_N_FOLDS = 5
#: Cells that are judged by default; the labels that a fit looks at before the training are theirs.
_MAX_OBS = 5000
_K = 15
#: Of fewer cells each one is a neighbour of each other, and every embedding finds all of them.
_MIN_CELLS = 3
_WENT = {1: "rose", -1: "fell", 0: "did not clearly change"}
_DID = {1: "helped", -1: "harmed", 0: "made no clear difference"}


def loop_gain(
    adata: AnnData,
    model: DiffAug,
    *,
    groupby: str | None = None,
    max_obs: int = _MAX_OBS,
    random_state: int = 0,
) -> pd.DataFrame:
    """Compare a model of ``tl.fit(..., twin=True)`` with its loop-off twin: did the generated views help here?

    The twin had the same warm-up, batches, hand-made views and number of epochs. Both embed the same cells, and each cell is
    a pair, so the interval speaks of these cells under this one seed; another seed moves the difference too. A proof needs
    labels of some cells (``groupby``): the label-free reading does not follow them (entry 5 of ``docs/experiments.md``).

    Parameters
    ----------
    adata
        Cells, read as by :func:`diffaug.tl.embed`.
    model
        A model fitted with ``twin=True``, as the fit returned it: saving leaves the twin out.
    groupby
        Column of ``.obs`` with labels, which only judge. Without it the reading is label-free alone. Classes of fewer than
        five cells are left out. Every cell needs a label: where only some have one, hand over those cells,
        ``adata[adata.obs[groupby].notna()]``.
    max_obs
        Of more cells so many are drawn.
    random_state
        Seed of the drawing, of the splits, of the folds and of the starts of k-means.

    Returns
    -------
    Data frame with one row for each measure and the columns ``"model"``, ``"twin"``, ``"difference"``, ``"low"`` and
    ``"high"`` (95 % interval over cells) and ``"labelled"``. The measures: ``"split_half_overlap"``
    (:meth:`diffaug.DiffAug.split_half_overlap`, without labels), and with ``groupby`` ``"linear"`` and ``"knn"``
    (:func:`diffaug.metrics.row_hits`: accuracy over five folds) and ``"kmeans"`` (accuracy of
    :func:`diffaug.metrics.kmeans_scores`, mean over five single starts). Neighbourhoods are of 15 cells, and of fewer where
    there are not enough cells. K-means has no interval (NaN): cells are clustered together and so are no witnesses of their
    own, and one fit gives one difference. Judge it over fits of several seeds.

    Raises
    ------
    ValueError
        The model has no twin, the cells do not fit it, there are fewer than three, or ``groupby`` has no two classes of five
        cells or more.
    KeyError
        ``groupby`` is no column.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> model = diffaug.tl.fit(adata, twin=True, max_epochs=6, progress=False)
    >>> diffaug.tl.loop_gain(adata, model, groupby="bulk_labels").index.tolist()
    ['split_half_overlap', 'linear', 'knn', 'kmeans']
    """
    require_twin(model)
    x = read_like(adata, model)
    labels = label_values(adata, groupby, max_obs=max_obs, random_state=random_state)
    return compare_with_twin(model, x, labels, max_obs=max_obs, random_state=random_state)


def require_twin(model: DiffAug) -> DiffAug:
    """The model's twin, or a clear error."""
    if not isinstance(model, DiffAug):
        raise TypeError(f"Expected `model` to be a fitted DiffAug, found {type(model).__name__}.")
    if model.twin is None:
        raise ValueError(
            "Expected a model with its loop-off twin, found one without. Fit with twin=True, and hand over that model: one that "
            "was loaded from a folder has no twin."
        )
    return model.twin


def label_values(
    adata: AnnData, groupby: str | None, *, max_obs: int = _MAX_OBS, random_state: int = 0
) -> np.ndarray | None:
    """Labels of the cells as text; an error where those that are drawn cannot judge, which a fit wants to know beforehand."""
    if groupby is None:
        return None
    labels = np.asarray(obs_column(adata, groupby, "groupby")).astype(str)
    drawn = labels[_drawn(len(labels), max_obs, random_state)]
    n_large = int((np.unique(drawn, return_counts=True)[1] >= _N_FOLDS).sum())
    if n_large < 2:
        among = "" if len(drawn) == len(labels) else f" among the {len(drawn)} that are drawn"
        raise ValueError(
            f"Expected at least two classes of {_N_FOLDS} cells or more in `adata.obs[{groupby!r}]` (groupby), found "
            f"{n_large}{among}. Name a column of fewer and larger classes, or leave `groupby` out."
        )
    return labels


def _drawn(n_obs: int, max_obs: int, random_state: int) -> np.ndarray:
    """Rows of the cells that are judged by their labels."""
    max_obs, random_state = whole_number("max_obs", max_obs, 2), whole_number("random_state", random_state)
    return np.sort(np.random.default_rng(random_state).permutation(n_obs)[:max_obs])


def compare_with_twin(
    model: DiffAug, x: Matrix, labels: np.ndarray | None, *, max_obs: int = _MAX_OBS, random_state: int = 0
) -> pd.DataFrame:
    """The table of :func:`loop_gain`, on values."""
    twin = require_twin(model)
    n_obs = min(x.shape[0], whole_number("max_obs", max_obs, 2))
    if n_obs < _MIN_CELLS:
        raise ValueError(f"Expected at least {_MIN_CELLS} cells to compare a model with its twin on, found {n_obs}.")
    # With k near the number of cells the halves agree whatever the embedding is.
    k = min(_K, (n_obs - 1) // 2)
    pairs = {
        LABEL_FREE: [m.split_half_overlap(x, k=k, max_obs=max_obs, random_state=random_state) for m in (model, twin)]
    }
    table = []
    if labels is not None:
        rows = _drawn(len(labels), max_obs, random_state)
        embedded = [m.embed(x[rows]).semantic for m in (model, twin)]
        _, codes, sizes = np.unique(labels[rows], return_inverse=True, return_counts=True)
        judged = sizes[codes] >= _N_FOLDS
        most = int(judged.sum()) * (_N_FOLDS - 1) // _N_FOLDS
        for probe in ("linear", "knn"):
            both = [
                row_hits(e, labels[rows], probe=probe, k=min(_K, most), n_folds=_N_FOLDS, random_state=random_state)
                for e in embedded
            ]
            pairs[probe] = [hits[judged] for hits in both]
    for name, (a, b) in pairs.items():
        found = paired_difference(a, b)
        table.append(_row(name, a.mean(), b.mean(), found.low, found.high))
    if labels is not None:
        found_by = [_clusters_found(e[judged], labels[rows][judged], random_state) for e in embedded]
        table.append(_row(CLUSTERS, found_by[0], found_by[1], np.nan, np.nan))
    return pd.DataFrame(table).set_index("measure")


def _row(name: str, model: float, twin: float, low: float, high: float) -> dict[str, Any]:
    return {
        "measure": name,
        "model": model,
        "twin": twin,
        "difference": model - twin,
        "low": low,
        "high": high,
        "labelled": name != LABEL_FREE,
    }


def _clusters_found(x: np.ndarray, labels: np.ndarray, random_state: int) -> float:
    """Accuracy of k-means, mean over starts, the same starts for every embedding."""
    seeds = np.random.default_rng(random_state).integers(2**31, size=_N_STARTS).tolist()
    return float(np.mean([kmeans_scores(x, labels, n_init=1, random_state=seed).accuracy for seed in seeds]))


def log_gain(table: pd.DataFrame) -> None:
    """Say in the log what the views did: of a labelled measure whether they helped, of the other only where it went."""
    for name, row in table.iterrows():
        values = f"{row['model']:.4f}, twin {row['twin']:.4f}, difference {row['difference']:+.4f}"
        interval = f"(95 % interval over cells {row['low']:+.4f} .. {row['high']:+.4f})"
        sign = 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0
        if not row["labelled"]:
            logger.info("with the generated views %s %s: %s %s", name, _WENT[sign], values, interval)
        elif np.isnan(row["low"]):
            logger.info("with the generated views, by %s: %s (one fit: no interval)", name, values)
        else:
            logger.info("generated views %s by %s: %s %s", _DID[sign], name, values, interval)
    if not table["labelled"].any():
        logger.info(
            "%s is no proof: it does not follow labelled scores. Give `groupby` to judge by labels of the cells",
            LABEL_FREE,
        )
