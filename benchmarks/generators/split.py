"""Real cells in four parts, by donor where there are enough: to train, to judge by, to project with, and for a control."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import diffaug

logger = logging.getLogger("bench")

TYPE, DONOR = "cell_type", "donor"
#: Shares of the cells, where they are split within types. With donors the first three are of the training donors' cells.
SHARES = {
    "type": {"train": 0.5, "projection": 0.1, "fresh": 0.15, "held_out": 0.25},
    "donor": {"train": 0.5, "projection": 0.2, "fresh": 0.3},
}
#: With fewer donors an interval over held-out ones would need most of them.
LEAST_DONORS = 6
N_HELD_OUT_DONORS = 3
#: Training cells of a type; types with fewer are left out of all parts.
LEAST_OF_TYPE = 4
#: Counts of a cell on the chosen genes.
LEAST_COUNTS = 5


@dataclass(frozen=True)
class Split:
    """Raw counts on the same genes; ``.obs`` has ``cell_type`` and, where there are donors, ``donor``.

    Attributes
    ----------
    train
        What generators see (T).
    held_out
        What they are judged by (H): other donors where ``by`` is "donor".
    projection
        For the principal components (P), of the training donors.
    fresh
        Real cells of the training donors for the control that a perfect generator would be (R).
    by
        "donor" or "type".
    """

    train: AnnData
    held_out: AnnData
    projection: AnnData
    fresh: AnnData
    by: str

    @property
    def unseen(self) -> AnnData:
        """Cells of the training donors that no generator saw, about as many as it saw."""
        return _stacked(self.projection, self.fresh, *([] if self.by == "donor" else [self.held_out]))

    @property
    def unseen_but_fresh(self) -> AnnData:
        """The same without the control's own cells."""
        return _stacked(self.projection, *([] if self.by == "donor" else [self.held_out]))


def _stacked(*parts: AnnData) -> AnnData:
    import anndata as ad

    return ad.concat(parts, merge="same")


def split_cells(name: str, seed: int, max_obs: int | None = None, n_top_genes: int = 1000) -> Split:
    """The parts of a data set. The seed draws the cells, the donors and the parts.

    Half of ``max_obs`` cells are trained on. Where donors are held out, ``max_obs`` are drawn of the training donors
    and a third as many of the others. Variable genes are chosen on the training cells only.
    """
    m = diffaug.datasets.manifest(name)
    if m.kind != "counts":
        raise ValueError(f"Expected a set of raw counts, found {name!r} of kind {m.kind!r}.")
    full = diffaug.datasets.load(name)
    obs = full.obs[[m.label_key]].rename(columns={m.label_key: TYPE}).astype(str)
    if m.batch_key is not None:
        obs[DONOR] = full.obs[m.batch_key].astype(str)
    adata = AnnData(sp.csr_matrix(full.X, dtype=np.float32), obs=obs, var=full.var[[]])
    return split_adata(adata, seed, max_obs, n_top_genes)


def split_adata(adata: AnnData, seed: int, max_obs: int | None, n_top_genes: int) -> Split:
    """As :func:`split_cells`, of raw counts with the columns of ``.obs`` that :class:`Split` has."""
    rng = np.random.default_rng(seed)
    sc.pp.filter_cells(adata, min_counts=1)
    by = "donor" if DONOR in adata.obs and adata.obs[DONOR].nunique() >= LEAST_DONORS else "type"
    held = np.zeros(adata.n_obs, dtype=bool)
    if by == "donor":
        donors = adata.obs[DONOR].astype(str).to_numpy()
        held = np.isin(donors, rng.permutation(np.unique(donors))[:N_HELD_OUT_DONORS])
    most = (max_obs, max_obs // 3) if max_obs else (adata.n_obs, adata.n_obs)
    some, others = (rng.permutation(np.flatnonzero(mask))[:n] for mask, n in zip((~held, held), most, strict=True))
    rows = np.sort(np.concatenate([some, others]))
    adata, held = adata[rows].copy(), held[rows]
    part = _parts(adata.obs[TYPE].astype(str).to_numpy(), held, SHARES[by], rng)

    chosen = adata[part == "train"].copy()
    diffaug.pp.recipe(chosen, n_top_genes=n_top_genes)
    adata = adata[:, chosen.var["highly_variable"].to_numpy()].copy()
    adata.obs = adata.obs.drop(columns="n_counts")
    enough = np.asarray(adata.X.sum(axis=1)).ravel() >= LEAST_COUNTS
    kinds = adata.obs[TYPE].astype(str)
    counted = kinds[enough & (part == "train")].value_counts()
    common = kinds.isin(counted.index[counted >= LEAST_OF_TYPE]).to_numpy()
    keep = enough & common
    if not keep.all():
        logger.info("%d of %d cells are left out: few counts or a rare type", int((~keep).sum()), len(keep))
    adata, part = adata[keep], part[keep]
    return Split(*(adata[part == p].copy() for p in ("train", "held_out", "projection", "fresh")), by)


def _parts(kinds: np.ndarray, held: np.ndarray, shares: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Part of each cell; all but those of held-out donors are drawn within types."""
    part = np.full(len(kinds), "held_out", dtype=object)
    for kind in np.unique(kinds[~held]):
        rows = rng.permutation(np.flatnonzero(~held & (kinds == kind)))
        # One random offset for all borders: each part then gets its share of small types in expectation.
        borders = np.cumsum([0.0, *shares.values()]) * len(rows) + rng.random()
        borders = np.clip(np.floor(borders).astype(int), 0, len(rows))
        borders[0], borders[-1] = 0, len(rows)
        for name, begin, end in zip(shares, borders[:-1], borders[1:], strict=True):
            part[rows[begin:end]] = name
    return part
