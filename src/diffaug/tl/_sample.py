"""Cells to train on, drawn from more of them, which may lie in a file."""

from __future__ import annotations

import logging

import numpy as np
from anndata import AnnData

from diffaug._anndata import check_adata, main_matrix, obs_column
from diffaug._new_cells import check_by_cells
from diffaug.core.arguments import whole_number

logger = logging.getLogger(__name__)


def cells_to_train_on(
    adata: AnnData, max_obs: int | None, sample_by: str | None, random_state: int, *, of_matrix: bool = True
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
    of_matrix
        Whether ``.X`` will be read, which in a file has to lie cell by cell.

    Returns
    -------
    ``adata`` itself, or others in the order of ``adata``.

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
    max_obs = whole_number("max_obs", max_obs, 1)
    if of_matrix and adata.isbacked:
        check_by_cells(main_matrix(adata), "adata.X", "adata")
    if max_obs >= adata.n_obs:
        if sample_by is not None:
            obs_column(adata, sample_by, "sample_by")
        return adata.to_memory() if adata.isbacked else adata
    rng = np.random.default_rng(whole_number("random_state", random_state))
    groups = np.zeros(adata.n_obs, int)
    if sample_by is not None:
        groups = np.unique(np.asarray(obs_column(adata, sample_by, "sample_by")).astype(str), return_inverse=True)[1]
    quota = even_shares(np.bincount(groups), max_obs)
    rows = np.concatenate([rng.permutation(np.flatnonzero(groups == g))[:n] for g, n in enumerate(quota.tolist())])
    logger.info("training on %d of %d cells; all are embedded", max_obs, adata.n_obs)
    some = adata[np.sort(rows)]
    return some.to_memory() if adata.isbacked else some.copy()


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
