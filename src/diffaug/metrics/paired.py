"""How far two methods are apart over seeds and data sets, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from diffaug.core.arguments import whole_number
from diffaug.metrics._checks import as_codes, check_choice

Interval = Literal["t", "bootstrap"]
INTERVALS: tuple[Interval, ...] = ("t", "bootstrap")


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its interval.

    Attributes
    ----------
    mean
        Mean over the members of each group, then over the groups: every group counts alike.
    low, high
        Ends of the interval; NaN where there is one group, whose spread is not known.
    n_groups, n_values
        How many there were.
    interval, confidence
        How the interval was made.
    """

    mean: float
    low: float
    high: float
    n_groups: int
    n_values: int
    interval: str
    confidence: float


def mean_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    interval: Interval = "t",
    confidence: float = 0.95,
    n_resamples: int = 4000,
    random_state: int = 0,
) -> MeanInterval:
    """Mean over groups of the means of their members, with an interval that holds for new groups.

    ===========  =======================================================================================
    interval     how
    ===========  =======================================================================================
    "t"          Student's t from the spread of the groups' means. The spread within groups is in it
                 already, for it moves those means. It asks for nearly normal group means.
    "bootstrap"  percentiles of means of resampled groups, and of resampled members within each
                 resampled group. It asks for no form of distribution, and is a little too short for
                 few groups: with 12, a nominal 95 % covers about 92 % (``tests/metrics/test_paired.py``).
    ===========  =======================================================================================

    Parameters
    ----------
    values
        Numbers, shape ``(n,)``.
    groups
        Group of each number, shape ``(n,)``: the data set of a run, say, where the numbers are seeds. By default every
        number is a group of its own, which gives the plain interval of a mean.
    interval
        See above.
    confidence
        Share of experiments whose interval holds the true mean, in (0, 1).
    n_resamples, random_state
        Of the bootstrap.

    Returns
    -------
    :class:`MeanInterval`.

    Raises
    ------
    TypeError
        If the values are not numbers, or the groups of mixed kinds.
    ValueError
        If shapes do not fit, values are missing or not finite, there are none, or a setting is out of its range.

    Examples
    --------
    >>> found = mean_interval([1.0, 3.0, 6.0, 8.0], ["a", "a", "b", "b"])
    >>> found.mean, found.n_groups
    (4.5, 2)
    """
    check_choice(interval, "interval", INTERVALS)
    whole_number("n_resamples", n_resamples, 1)
    if not 0 < confidence < 1:
        raise ValueError(f"Expected `confidence` between 0 and 1, found {confidence!r}.")
    x = _as_values(values, "values")
    codes = np.arange(len(x)) if groups is None else as_codes(groups, "groups", len(x))[0]
    members = [x[codes == code] for code in range(codes.max() + 1)]
    means = np.array([m.mean() for m in members])
    mean, n_groups = float(means.mean()), len(means)
    low = high = float("nan")
    if n_groups > 1 and interval == "t":
        error = means.std(ddof=1) / np.sqrt(n_groups)
        half = float(stats.t.ppf(0.5 + confidence / 2, n_groups - 1) * error)
        low, high = mean - half, mean + half
    elif n_groups > 1:
        drawn = _resampled_means(members, n_resamples, np.random.default_rng(random_state))
        low, high = (float(np.quantile(drawn, q)) for q in (0.5 - confidence / 2, 0.5 + confidence / 2))
    return MeanInterval(mean, low, high, n_groups, len(x), interval, confidence)


def paired_difference(
    values_a: ArrayLike,
    values_b: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    interval: Interval = "t",
    confidence: float = 0.95,
    n_resamples: int = 4000,
    random_state: int = 0,
) -> MeanInterval:
    """Mean of ``a - b`` over pairs that share a seed and a data set, with its interval.

    What makes a data set easy, and what a seed does to both sides alike, cancels in the pair; two intervals side by side
    would still hold it, and hide a difference that every set shows.

    Parameters
    ----------
    values_a, values_b
        Scores of the two methods, shape ``(n,)``; equal positions were measured under equal conditions.
    groups
        Data set of each pair, shape ``(n,)``. By default every pair is a group of its own: the seeds of one data set.
    interval, confidence, n_resamples, random_state
        As in :func:`mean_interval`.

    Returns
    -------
    :class:`MeanInterval` of the differences.

    Raises
    ------
    TypeError, ValueError
        As :func:`mean_interval`, and if the two sides differ in length.

    Examples
    --------
    >>> found = paired_difference([0.9, 0.8, 0.6, 0.5], [0.8, 0.7, 0.5, 0.4], ["easy", "easy", "hard", "hard"])
    >>> round(found.mean, 6)
    0.1
    """
    a, b = _as_values(values_a, "values_a"), _as_values(values_b, "values_b")
    if len(a) != len(b):
        raise ValueError(f"Expected pairs in `values_a` and `values_b`, found {len(a)} and {len(b)} values.")
    return mean_interval(
        a - b,
        groups,
        interval=interval,
        confidence=confidence,
        n_resamples=n_resamples,
        random_state=random_state,
    )


def _resampled_means(members: list[NDArray[Any]], n_resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of ``n_resamples`` resampled experiments; a group that is drawn twice is resampled twice."""
    slots = rng.integers(len(members), size=(n_resamples, len(members)))
    means = np.empty(slots.shape)
    for code, values in enumerate(members):
        here = slots == code
        means[here] = values[rng.integers(len(values), size=(int(here.sum()), len(values)))].mean(axis=1)
    return means.mean(axis=1)


def _as_values(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Expected real numbers in `{name}`, found dtype {array.dtype}.")
    if array.ndim != 1 or not len(array):
        raise ValueError(f"Expected a 1-D array of at least one value in `{name}`, found shape {array.shape}.")
    n_bad = int((~np.isfinite(array)).sum())
    if n_bad:
        raise ValueError(f"Expected finite values in `{name}`, found {n_bad} that are not. Drop those pairs first.")
    return array.astype(np.float64)
