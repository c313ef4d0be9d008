"""Distances between two clouds of rows: maximum mean discrepancy, energy distance, sliced Wasserstein."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffaug.core.arguments import whole_number
from diffaug.metrics._checks import as_dense, check_same_columns
from diffaug.metrics._resample import ones, own_pair_mean, pair_mean

Array = NDArray[np.float64]

BANDWIDTHS = (0.5, 1.0, 2.0)
_GRID = np.linspace(0.005, 0.995, 100)


def mmd(real: ArrayLike, synthetic: ArrayLike, *, bandwidths: tuple[float, ...] = BANDWIDTHS) -> float:
    """Squared maximum mean discrepancy with Gaussian kernels of several widths, unbiased.

    Parameters
    ----------
    real, synthetic
        Rows, shapes ``(n, d)`` and ``(m, d)``, dense: principal components, say. Memory grows with ``n * m``.
    bandwidths
        Widths of the kernels, as multiples of the median distance between real rows. The kernels are averaged.

    Returns
    -------
    About 0 for two samples of one distribution, and then a little below 0 as often as above.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit, or a bandwidth is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.random.default_rng(0).normal(size=(2, 200, 3))
    >>> abs(mmd(a, b)) < 0.02 < mmd(a, b + 1)
    True
    """
    if not bandwidths or min(bandwidths) <= 0:
        raise ValueError(f"Expected positive `bandwidths`, found {bandwidths}.")
    a, b = _pair(real, synthetic)
    return float(mmd_values(a, b, ones(len(a)), ones(len(b)), bandwidths)[0])


def energy_distance(real: ArrayLike, synthetic: ArrayLike) -> float:
    """Energy distance (Szekely & Rizzo), unbiased: ``2 E|x-y| - E|x-x'| - E|y-y'|``.

    Parameters
    ----------
    real, synthetic
        Rows, shapes ``(n, d)`` and ``(m, d)``, dense. Memory grows with ``n * m``.

    Returns
    -------
    In the unit of the data; about 0 for two samples of one distribution. No bandwidth to choose.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit.

    Examples
    --------
    >>> round(energy_distance([[0.0], [0.0]], [[3.0], [3.0]]), 6)
    6.0
    """
    a, b = _pair(real, synthetic)
    return float(energy_values(a, b, ones(len(a)), ones(len(b)))[0])


def sliced_wasserstein(
    real: ArrayLike, synthetic: ArrayLike, *, n_directions: int = 64, random_state: int = 0
) -> float:
    """Mean Wasserstein-1 distance of the rows projected onto random directions.

    Parameters
    ----------
    real, synthetic
        Rows, shapes ``(n, d)`` and ``(m, d)``, dense.
    n_directions
        Number of random directions.
    random_state
        Seed of the directions.

    Returns
    -------
    In the unit of the data. Positive for finite samples of one distribution too: read it beside its floor.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(100, 1))
    >>> round(sliced_wasserstein(x, x + 2), 6)
    2.0
    """
    a, b = _pair(real, synthetic)
    whole_number("n_directions", n_directions, 1)
    return float(sliced_values(a, b, ones(len(a)), ones(len(b)), n_directions, random_state)[0])


def mmd_values(
    a: Array, b: Array, weights_a: Array, weights_b: Array, bandwidths: tuple[float, ...] = BANDWIDTHS
) -> Array:
    """:func:`mmd` for each line of weights."""
    within = distances(a, a)
    # The median of all pairs; a zero (most rows equal) would divide by nothing.
    scale = float(np.median(within[np.triu_indices(len(a), 1)])) or 1.0
    total = np.zeros(len(weights_a))
    parts = [np.square(d / scale) for d in (within, distances(b, b), distances(a, b))]
    for width in bandwidths:
        aa, bb, ab = (np.exp(-0.5 * part / width**2) for part in parts)
        total += own_pair_mean(aa, weights_a) + own_pair_mean(bb, weights_b) - 2 * pair_mean(ab, weights_a, weights_b)
    return total / len(bandwidths)


def energy_values(a: Array, b: Array, weights_a: Array, weights_b: Array) -> Array:
    """:func:`energy_distance` for each line of weights."""
    between = pair_mean(distances(a, b), weights_a, weights_b)
    return 2 * between - own_pair_mean(distances(a, a), weights_a) - own_pair_mean(distances(b, b), weights_b)


def sliced_values(
    a: Array, b: Array, weights_a: Array, weights_b: Array, n_directions: int = 64, random_state: int = 0
) -> Array:
    """:func:`sliced_wasserstein` for each line of weights."""
    directions = np.random.default_rng(random_state).normal(size=(a.shape[1], n_directions))
    directions /= np.linalg.norm(directions, axis=0)
    quantiles = []
    for rows, weights in ((a @ directions, weights_a), (b @ directions, weights_b)):
        order = np.argsort(rows, axis=0)
        ordered = np.take_along_axis(rows, order, axis=0)
        columns = np.arange(n_directions)
        found = []
        for line in weights:
            share = np.cumsum(line[order], axis=0) / line.sum()
            place = np.stack([np.searchsorted(share[:, j], _GRID) for j in columns], axis=1)
            found.append(ordered[np.minimum(place, len(rows) - 1), columns])
        quantiles.append(np.stack(found))
    return np.abs(quantiles[0] - quantiles[1]).mean(axis=(1, 2))


def distances(a: Array, b: Array) -> Array:
    """Euclidean distances between rows."""
    center = b.mean(axis=0)  # the expansion of the square loses digits far from the origin
    a, b = a - center, b - center
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0.0))


def _pair(real: ArrayLike, synthetic: ArrayLike) -> tuple[Array, Array]:
    a = as_dense(real, "real").astype(np.float64)
    b = as_dense(synthetic, "synthetic").astype(np.float64)
    check_same_columns(a, b, ("real", "synthetic"))
    return a, b
