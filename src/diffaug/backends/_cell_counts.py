"""Counts and their logarithms: counts read back from log1p-normalised values, and made for drawn ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

#: The smallest count of a cell may be this large for its counts to be read back.
_LARGEST_UNIT = 10
#: Values this far from a whole number are not whole; float32 logarithms leave much less.
_WHOLE = 0.02


def recovered_counts(x: Any) -> Any | None:
    """Counts of which ``x`` is the log1p, after each cell was scaled by some factor.

    Scaled counts of one cell lie on a lattice, whose step is what one count became; mostly the smallest value is that
    step. Imputed, batch-corrected or otherwise smoothed values lie on none.

    Parameters
    ----------
    x
        Values of at least 0, dense or csr, shape ``(n_cells, n_genes)``.

    Returns
    -------
    Whole numbers as float64 csr of the same shape, or ``None`` where one cell is on no lattice.
    """
    rows = sp.csr_matrix(x, dtype=np.float64, copy=True)
    rows.eliminate_zeros()
    for begin, end in zip(rows.indptr[:-1], rows.indptr[1:], strict=True):
        if begin == end:
            continue
        scaled = np.expm1(rows.data[begin:end])
        units = scaled / scaled.min()
        for unit in range(1, _LARGEST_UNIT + 1):
            whole = np.rint(units * unit)
            if np.abs(units * unit - whole).max() <= _WHOLE * min(1.0, 5 / unit):
                rows.data[begin:end] = whole
                break
        else:
            return None
    return rows


def drawn_counts(
    values: Any, own_totals: NDArray[np.int64], totals: NDArray[np.int64], rng: np.random.Generator
) -> sp.csr_matrix:
    """Counts for log1p-normalised values, drawn or real.

    A cell's values take the lattice of a cell of ``own_totals`` counts: zeros stay zeros, other values become at least
    one count, and fractions are rounded at random so that each gene's expectation and the cell's sum are kept. The values
    of a generator have the data's sampling noise already; a Poisson, multinomial or negative-binomial draw would add
    it a second time (``docs/benchmarks/counts.md``). Fewer ``totals`` are then drawn without replacement; more are added
    by a multinomial draw, which finds no gene that was zero.

    Parameters
    ----------
    values
        Log1p of normalised expression, at least 0, dense or csr, shape ``(n_cells, n_genes)``.
    own_totals
        Counts of each cell at its own depth, shape ``(n_cells,)``.
    totals
        Counts of each cell in the result.
    rng
        Source of randomness.

    Returns
    -------
    Int32 csr of the shape of ``values``. A cell without any value above 0 has no counts.
    """
    rows = sp.csr_matrix(values, dtype=np.float64, copy=True)
    rows.eliminate_zeros()
    for i, (begin, end) in enumerate(zip(rows.indptr[:-1], rows.indptr[1:], strict=True)):
        if begin == end:
            continue
        weight = np.expm1(rows.data[begin:end])
        own = int(own_totals[i])
        counts = _rounded(_on_lattice(weight, own), own, rng)
        excess = int(totals[i]) - own
        if excess < 0:
            counts = rng.multivariate_hypergeometric(counts, int(totals[i]), method="marginals")
        elif excess > 0:
            counts = counts + rng.multinomial(excess, weight / weight.sum())
        rows.data[begin:end] = counts
    rows.eliminate_zeros()
    return rows.astype(np.int32)


def _on_lattice(weight: NDArray[np.float64], total: int) -> NDArray[np.float64]:
    """Expected counts, in proportion to ``weight`` and at least 1 each, of sum ``total``; at most 1 where it is too few."""
    order = np.argsort(weight)
    if total < len(weight):
        order = order[::-1]  # the largest are at 1 then, and the rest is below
    ordered = weight[order]
    rest = ordered[::-1].cumsum()[::-1]
    fixed = np.arange(len(ordered))
    factor = (total - fixed) / rest
    scaled = factor * ordered
    fits = scaled <= 1 if total < len(weight) else scaled >= 1
    first = int(fits.argmax()) if fits.any() else len(ordered)
    expected = np.ones(len(ordered))
    if first < len(ordered):
        expected[first:] = factor[first] * ordered[first:]
    out = np.empty_like(expected)
    out[order] = expected
    return out


def _rounded(expected: NDArray[np.float64], total: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Whole numbers with these expectations and sum ``total``: systematic sampling in a random order."""
    near = np.rint(expected)
    expected = np.where(np.abs(expected - near) <= 1e-4 + 2e-6 * near, near, expected)  # what float32 has left
    low = np.floor(expected)
    left = total - low.sum()
    order = rng.permutation(len(expected))
    passed = (expected - low)[order].cumsum()
    if left > 0 and passed[-1] > 0:
        passed *= left / passed[-1]
        # Away from the ends, where an error of rounding could add or lose one.
        low[order] += np.diff(np.floor(passed + rng.uniform(1e-6, 1 - 1e-6)), prepend=0.0)
    return low.astype(np.int64)
