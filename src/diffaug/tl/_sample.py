"""Cells to train on, drawn from more of them, which may lie in a file."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from anndata import AnnData

from diffaug._anndata import check_adata, matrix_slot, obs_column
from diffaug._new_cells import check_by_cells
from diffaug.core.arguments import whole_number

logger = logging.getLogger(__name__)


def cells_to_train_on(
    adata: AnnData,
    max_obs: int | None,
    sample_by: str | None,
    random_state: int,
    *,
    layer: str | None,
    use_rep: str | None,
) -> AnnData:
    """All cells, or some of them in memory.

    Parameters
    ----------
    adata
        All cells; backed by a file only with ``max_obs``.
    max_obs
        Number of cells at most; ``None`` for all.
    sample_by
        Column of ``.obs`` whose groups get equal shares, as far as they have the cells; otherwise any cell is as likely.
    random_state
        Seed.
    layer, use_rep
        Where the values are. ``.X`` in a file has to lie cell by cell, and is not read where they are elsewhere.

    Returns
    -------
    ``adata`` itself, or a new AnnData with what a fit reads of the drawn cells, in the order of ``adata``.

    Raises
    ------
    KeyError, TypeError, ValueError
        The arguments do not fit each other or ``adata``.
    """
    check_adata(adata, on_disk=True)
    if max_obs is None:
        if sample_by is not None:
            raise ValueError(
                f"Expected `max_obs` with sample_by={sample_by!r}, found none. Say how many cells to draw."
            )
        if adata.isbacked:
            raise ValueError(
                "Expected `adata` in memory, or `max_obs` with one that is backed by a file, found neither. Pass max_obs=100_000, "
                "say, to train on so many of its cells and embed all, or call `adata.to_memory()` first."
            )
        return adata
    max_obs = min(whole_number("max_obs", max_obs, 1), adata.n_obs)
    slot, address = matrix_slot(adata, layer, use_rep)
    if adata.isbacked and address == "adata.X":
        check_by_cells(slot, address, "adata")
    groups = np.zeros(adata.n_obs, dtype=np.int64)
    if sample_by is not None:
        names, groups = np.unique(
            np.asarray(obs_column(adata, sample_by, "sample_by")).astype(str), return_inverse=True
        )
        if len(names) > max_obs:
            raise ValueError(
                f"Expected `max_obs` of at least one cell for each of the {len(names)} groups of {sample_by!r} (sample_by), found "
                f"{max_obs}. Draw more cells, or name a column of fewer groups."
            )
    if max_obs == adata.n_obs and not adata.isbacked:
        return adata
    rng = np.random.default_rng(whole_number("random_state", random_state))
    order = rng.permutation(adata.n_obs)
    order = order[np.argsort(groups[order], kind="stable")]  # group by group, at random inside of each
    sizes = np.bincount(groups)
    place = np.arange(adata.n_obs) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = np.sort(order[place < np.repeat(even_shares(sizes, max_obs), sizes)])
    if max_obs < adata.n_obs:
        logger.info("training on %d of %d cells; all are embedded", max_obs, adata.n_obs)
    return _some(adata, rows, slot, layer, use_rep)


def _some(adata: AnnData, rows: np.ndarray, slot: Any, layer: str | None, use_rep: str | None) -> AnnData:
    """These cells in memory, with the matrix that is read (``slot``) and no other."""
    values = slot.iloc[rows] if hasattr(slot, "iloc") else slot[rows]
    out = AnnData(obs=adata.obs.iloc[rows], var=adata.var, uns=dict(adata.uns))
    if use_rep is not None:
        out.obsm[use_rep] = values
    elif layer is not None:
        out.layers[layer] = values
    else:
        out.X = values
    return out


def even_shares(sizes: np.ndarray, total: int) -> np.ndarray:
    """How many of groups of these sizes make up ``total``: of each as many, and all of those that have no more.

    Parameters
    ----------
    sizes
        Shape ``(n_groups,)``, of at least ``total`` in all.
    total
        Number to draw.

    Returns
    -------
    Shape ``(n_groups,)``, of the sum ``total``.
    """
    out, left = np.zeros(len(sizes), dtype=np.int64), total
    order = np.argsort(sizes, kind="stable")
    for place, group in enumerate(order):
        out[group] = min(int(sizes[group]), left // (len(order) - place))
        left -= int(out[group])
    return out
