"""What the generated views did: the model beside its loop-off twin, on AnnData."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from diffaug._anndata import obs_column
from diffaug._model import DiffAug
from diffaug._new_cells import read_like
from diffaug._twin import MAX_OBS, N_FOLDS, compare_with_twin, drawn_rows, require_twin


def loop_gain(
    adata: AnnData,
    model: DiffAug,
    *,
    groupby: str | None = None,
    max_obs: int = MAX_OBS,
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
    (:meth:`diffaug.DiffAug.split_half_overlap`, without labels), for a model fitted with ``batch_key`` ``"batch_mixing"``
    (:func:`diffaug.metrics.neighbor_batch_entropy`, without labels and without an interval: types that only one batch has should not
    mix, so read it beside the others), and with ``groupby`` ``"linear"`` and ``"knn"``
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
    key = model.meta["batch_key"]
    batch = obs_column(adata, key, "the model's batch_key").astype(str).to_numpy() if key in adata.obs else None
    return compare_with_twin(model, x, labels, batch=batch, max_obs=max_obs, random_state=random_state)


def label_values(
    adata: AnnData, groupby: str | None, *, max_obs: int = MAX_OBS, random_state: int = 0
) -> np.ndarray | None:
    """Labels of the cells as text; an error where those that are drawn cannot judge, which a fit wants to know beforehand."""
    if groupby is None:
        return None
    labels = np.asarray(obs_column(adata, groupby, "groupby")).astype(str)
    drawn = labels[drawn_rows(len(labels), max_obs, random_state)]
    n_large = int((np.unique(drawn, return_counts=True)[1] >= N_FOLDS).sum())
    if n_large < 2:
        among = "" if len(drawn) == len(labels) else f" among the {len(drawn)} that are drawn"
        raise ValueError(
            f"Expected at least two classes of {N_FOLDS} cells or more in `adata.obs[{groupby!r}]` (groupby), found "
            f"{n_large}{among}. Name a column of fewer and larger classes, or leave `groupby` out."
        )
    return labels
