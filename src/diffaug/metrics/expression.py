"""Genes one by one, totals of cells, and genes by genes: what synthetic expression keeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wasserstein_distance

from diffaug.core.arguments import whole_number
from diffaug.metrics._checks import as_codes, as_dense, check_same_columns
from diffaug.metrics._resample import ones

Array = NDArray[np.float64]


def correlation_agreement(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    labels: tuple[ArrayLike, ArrayLike] | None = None,
    n_genes: int = 200,
    min_cells: int = 20,
) -> float:
    """Correlation of the gene-gene correlations of real and synthetic cells.

    Parameters
    ----------
    real, synthetic
        Expression, shapes ``(n, g)`` and ``(m, g)``, dense.
    labels
        Types of the real and of the synthetic cells. Correlations are then taken within types and the agreements
        averaged, weighted by real cells: over types together, correlations mostly repeat which types there are.
    n_genes
        Genes of the greatest variance in ``real`` that are looked at.
    min_cells
        Types with fewer cells on a side are left out.

    Returns
    -------
    1 for equal correlations; two finite real samples stay below, so read it beside its floor. NaN without any type
    that is large enough.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(50, 5))
    >>> round(correlation_agreement(x, x), 6)
    1.0
    """
    a, b = as_dense(real, "real").astype(np.float64), as_dense(synthetic, "synthetic").astype(np.float64)
    check_same_columns(a, b, ("real", "synthetic"))
    whole_number("n_genes", n_genes, 3)
    types: tuple[NDArray, NDArray] = (np.zeros(len(a)), np.zeros(len(b)))
    if labels is not None:
        types = (_labels(labels[0], "labels[0]", len(a)), _labels(labels[1], "labels[1]", len(b)))
    genes = top_variance(a, n_genes)
    agreement, weight = [], []
    for name in np.unique(types[0]):
        x, y = a[types[0] == name][:, genes], b[types[1] == name][:, genes]
        if min(len(x), len(y)) >= min_cells:
            agreement.append(correlation_values(x, y, ones(len(x)), ones(len(y)))[0])
            weight.append(len(x))
    return float(np.average(agreement, weights=weight)) if agreement else float("nan")


def top_variance(x: NDArray, n: int) -> NDArray[np.intp]:
    """Columns of the greatest variance, in their order."""
    return np.sort(np.argsort(-x.var(axis=0), kind="stable")[:n])


def correlation_values(a: Array, b: Array, weights_a: Array, weights_b: Array) -> Array:
    """Pearson correlation of the two correlation matrices' upper triangles, for each line of weights."""
    upper = np.triu_indices(a.shape[1], 1)
    found = []
    for line_a, line_b in zip(weights_a, weights_b, strict=True):
        pair = [_correlations(x, w)[upper] for x, w in ((a, line_a), (b, line_b))]
        centred = [v - v.mean() for v in pair]
        norm = np.linalg.norm(centred[0]) * np.linalg.norm(centred[1])
        found.append(centred[0] @ centred[1] / norm if norm > 1e-12 else np.nan)
    return np.array(found)


def _correlations(x: Array, weights: Array) -> Array:
    """Correlations of the columns; 0 with a column that does not vary."""
    share = weights / weights.sum()
    centred = (x - share @ x) * np.sqrt(share)[:, None]
    covariance = centred.T @ centred
    sd = np.sqrt(np.diag(covariance))
    inverse = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 1e-12)
    return covariance * inverse * inverse[:, None]


def mean_values(a: Array, b: Array, weights_a: Array, weights_b: Array) -> Array:
    """Summed absolute error of the gene means, as a share of the summed real means."""
    real, made = (w @ x / w.sum(axis=1)[:, None] for x, w in ((a, weights_a), (b, weights_b)))
    return np.abs(made - real).sum(axis=1) / np.maximum(np.abs(real).sum(axis=1), 1e-12)


def variance_values(a: Array, b: Array, weights_a: Array, weights_b: Array) -> Array:
    """Summed absolute error of the gene variances, as a share of the summed real variances."""
    real, made = (_variances(x, w) for x, w in ((a, weights_a), (b, weights_b)))
    return np.abs(made - real).sum(axis=1) / np.maximum(real.sum(axis=1), 1e-12)


def zero_values(a: Array, b: Array, weights_a: Array, weights_b: Array) -> Array:
    """Mean absolute error of the genes' shares of zeros."""
    real, made = (w @ (x == 0) / w.sum(axis=1)[:, None] for x, w in ((a, weights_a), (b, weights_b)))
    return np.abs(made - real).mean(axis=1)


def total_values(a: Array, b: Array, weights_a: Array, weights_b: Array) -> Array:
    """Wasserstein-1 distance of the cells' totals, in standard deviations of the real ones."""
    spread = float(a.std()) or 1.0
    return np.array([wasserstein_distance(a, b, wa, wb) / spread for wa, wb in zip(weights_a, weights_b, strict=True)])


def _variances(x: Array, weights: Array) -> Array:
    x = x - x.mean(axis=0)  # so that the difference of squares loses no digits
    total = weights.sum(axis=1)[:, None]
    return weights @ (x * x) / total - (weights @ x / total) ** 2


def _labels(values: ArrayLike, name: str, n: int) -> NDArray:
    codes, names = as_codes(values, name, n)
    return names[codes]
