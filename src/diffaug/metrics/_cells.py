"""Cells as they are judged: values, components, types, and the resamples that give the intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffaug.metrics._resample import resampling_weights

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cells:
    """One set of cells.

    Attributes
    ----------
    x, pcs
        Values, shape ``(n, n_genes)``, and principal components.
    totals
        Total of each cell.
    labels
        Type of each cell, where known.
    weights
        A line for the cells themselves, all ones, and one for each resample.
    donors
        Donor of each cell, where donors are resampled.
    alive
        Resamples that say something of these cells; the others' values are struck out.
    """

    x: NDArray[np.float32]
    pcs: NDArray[np.float64]
    totals: Values
    labels: NDArray | None
    weights: Values
    donors: NDArray | None = None
    alive: NDArray[np.bool_] | None = None

    @property
    def types(self) -> NDArray:
        """The labels of cells that must have some."""
        assert self.labels is not None
        return self.labels

    def of(self, rows: NDArray) -> Cells:
        """Some of them."""
        labels = None if self.labels is None else self.labels[rows]
        donors = None if self.donors is None else self.donors[rows]
        weights = self.weights[:, rows]
        # A resample of donors may hold none of a type's cells. Ones, so that it can be gone through.
        alive = (weights > 0).sum(axis=1) > 1
        weights = np.where(alive[:, None], weights, 1.0)
        if self.alive is not None:
            alive = alive & self.alive
        return Cells(self.x[rows], self.pcs[rows], self.totals[rows], labels, weights, donors, alive)

    def by_cells(self, rng: np.random.Generator) -> Cells:
        """The same with resamples of cells in place of donors."""
        weights = resampling_weights(len(self.x), len(self.weights) - 1, rng)
        return replace(self, weights=weights, donors=None, alive=None)

    def head(self, n: int, seed: int) -> Cells:
        """``n`` cells at random, with their own resamples: cut weights would no longer add up."""
        if len(self.x) <= n:
            return self
        return self.of(np.sort(np.random.default_rng(seed).permutation(len(self.x))[:n]))
