"""Bootstrap by weights: every statistic takes a matrix of row counts, whose first line is the data as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST_GROUPS = 3  # with fewer donors their resampling says nothing, and cells are resampled


def resamples_groups(groups: ArrayLike | None) -> bool:
    """Whether :func:`resampling_weights` draws whole groups; where it draws rows instead, the page has to say so."""
    return groups is not None and len(np.unique(np.asarray(groups))) >= FEWEST_GROUPS


def resampling_weights(
    n: int, n_resamples: int, rng: np.random.Generator, groups: ArrayLike | None = None
) -> NDArray[np.float64]:
    """How often each row is in each resample, shape ``(1 + n_resamples, n)``; line 0 is all ones.

    With ``groups``, whole groups (donors) are drawn, because cells of one donor are no independent witnesses; rows are
    where there are fewer than three groups.
    """
    weights = np.ones((1 + n_resamples, n))
    codes = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = 0 if codes is None else int(codes.max()) + 1
    for line in weights[1:]:
        if codes is not None and n_groups >= FEWEST_GROUPS:
            line[:] = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)[codes]
        else:
            line[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    return weights


def ones(n: int) -> NDArray[np.float64]:
    """Weights without resampling."""
    return np.ones((1, n))


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Value and its 95 % interval from the spread of the resamples.

    Normal and not by percentiles: resampling repeats rows, which shifts distances upwards but hardly widens them.
    """
    value = float(values[0])
    drawn = values[1:][np.isfinite(values[1:])]
    if len(drawn) < 2:
        return value, float("nan"), float("nan")
    half = 1.96 * float(drawn.std(ddof=1))
    return value, value - half, value + half


def pair_mean(
    kernel: NDArray[np.float64], left: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted mean of ``kernel[i, j]``, one value for each line of weights."""
    return np.einsum("bi,bi->b", left @ kernel, right) / (left.sum(axis=1) * right.sum(axis=1))


def own_pair_mean(kernel: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean of ``kernel[i, j]`` over pairs of different rows."""
    total = np.einsum("bi,bi->b", weights @ kernel, weights) - weights**2 @ np.diag(kernel)
    return total / (weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1))
