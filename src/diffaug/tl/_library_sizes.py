"""Library sizes of synthetic cells, and counts brought to the scale on which the model reads cells."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from diffaug._anndata import Matrix, model_totals, read_totals
from diffaug._model import DiffAug
from diffaug.core.arguments import any_number
from diffaug.tl._provenance import TrainingCells

logger = logging.getLogger(__name__)

#: Scales of two cells that differ by less, relatively, are one: float32 logarithms leave about 1e-6.
_ONE_SCALE = 1e-5

#: Counts of each cell on all genes, and on the model's.
Totals = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class LibrarySizes:
    """Library sizes of the conditioning cells and the depth that is wanted.

    Attributes
    ----------
    library, on_features
        Counts of each possible conditioning cell on all genes and on the model's.
    depth
        Sizes to draw from, or ``None`` for those of the conditioning cells.
    """

    library: NDArray[np.int64]
    on_features: NDArray[np.int64]
    depth: NDArray[np.int64] | None

    def wanted(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Library size of each synthetic cell, and its counts on the model's genes."""
        own = self.library[rows]
        if self.depth is None:
            return own, self.on_features[rows]
        sizes = np.empty(len(rows), dtype=np.int64)
        sizes[np.argsort(own, kind="stable")] = np.sort(spread(self.depth, len(rows), rng))
        deeper = float((sizes > own).mean())
        if deeper > 0.5:
            logger.warning(
                "%.0f %% of the cells are deeper than the cells that condition them: their zeros stay as these have them",
                100 * deeper,
            )
        share = self.on_features[rows] / np.maximum(own, 1)
        return sizes, np.rint(sizes * share).astype(np.int64)


def library_sizes(model: DiffAug, like: AnnData | None, depth: float | AnnData | None) -> LibrarySizes:
    library, on_features = model_totals(model)  # also says that the model is one of counts
    if like is not None:
        library, on_features = read_totals(like, model, "like")
    if depth is None:
        return LibrarySizes(library, on_features, None)
    if isinstance(depth, AnnData):
        return LibrarySizes(library, on_features, read_totals(depth, model, "depth")[0])
    number = any_number("depth", depth)
    if not (np.isfinite(number) and number >= 1):
        raise ValueError(f"Expected `depth` of at least 1 count, found {depth}.")
    return LibrarySizes(library, on_features, np.array([round(number)]))


def spread(rows: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``n`` of these rows, each about equally often."""
    rounds = [rng.permutation(rows) for _ in range(n // len(rows))]
    return np.concatenate([*rounds, rng.permutation(rows)[: n % len(rows)]]).astype(int)


def log_scale(x: Matrix, totals: Totals, usual: float | None = None) -> NDArray[np.float64]:
    """What the counts of each cell were scaled to before their logarithm: mostly one number for all, 10,000 say.

    Cells whose scale is ``usual`` (by default the median) but for rounding get just that number, so that equal counts
    become equal values. A cell without counts gets it too.
    """
    library, on_features = totals
    own = np.divide(_sums(x) * library, on_features, out=np.full(len(library), np.nan), where=on_features > 0)
    if usual is None:
        usual = float(np.nanmedian(own))
    return np.where(np.isnan(own) | (np.abs(own - usual) <= _ONE_SCALE * usual), usual, own)


def as_counts(x: Matrix, totals: Totals) -> sp.csr_matrix:
    """Counts of which ``x`` is the log1p, after each cell was scaled; int32."""
    rows = sp.csr_matrix(x, dtype=np.float64, copy=True)
    sums = _sums(x)
    unit = np.divide(totals[1], sums, out=np.zeros(len(sums)), where=sums > 0)
    rows.data = np.rint(np.expm1(rows.data) * np.repeat(unit, np.diff(rows.indptr)))
    rows.eliminate_zeros()
    return rows.astype(np.int32)


def as_log(counts: Matrix, library: NDArray[Any], scale: NDArray[np.float64] | float) -> sp.csr_matrix:
    """Log1p of counts that are scaled to ``scale`` by the library size of each cell; float32."""
    rows = sp.csr_matrix(counts, dtype=np.float64, copy=True)
    factor = np.broadcast_to(scale, len(library)) / np.maximum(library, 1)
    rows.data = np.log1p(rows.data * np.repeat(factor, np.diff(rows.indptr)))
    return rows.astype(np.float32)


def _sums(x: Matrix) -> NDArray[np.float64]:
    """Sum over the genes of what the logarithm was taken of."""
    rows = sp.csr_matrix(x, dtype=np.float64, copy=True)
    rows.data = np.expm1(rows.data)
    return np.asarray(rows.sum(axis=1), dtype=np.float64).ravel()


@dataclass(frozen=True)
class CountScale:
    """The scale of the model's input, and its training cells on it as counts are brought to it.

    Equal counts then give equal values to the bit, and copies are found; the training cells' own values differ from
    these by the rounding of the logarithm.

    Attributes
    ----------
    usual
        What most cells are scaled to.
    of_model_cells
        What each cell that the model was trained on is scaled to.
    train
        Values of the training cells at hand.
    """

    usual: float
    of_model_cells: NDArray[np.float64]
    train: Matrix

    @classmethod
    def of(cls, train: AnnData, known: TrainingCells, model: DiffAug) -> CountScale:
        library, on_features = (t[known.at] for t in read_totals(train, model, "train"))
        own = log_scale(known.x, (library, on_features))
        usual = float(np.median(own))
        names = np.asarray(model.meta["cells"]["names"], dtype=str)
        all_cells = np.full(len(names), usual) if (own == usual).all() else own[known.rows_of(names)]
        return cls(usual, all_cells, as_log(as_counts(known.x, (library, on_features)), library, own))

    def rescaled(self, x: Matrix, totals: Totals) -> Matrix:
        """Other log-normalised cells, brought to the scale in the same way."""
        return as_log(as_counts(x, totals), totals[0], log_scale(x, totals, self.usual))
