"""Means and 95 % intervals over seeds and sets, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from diffaug.metrics import mean_interval


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval by Student's t; both ends are NaN where one value says nothing of the spread.

    Attributes
    ----------
    mean, low, high
        The mean and the ends.
    n
        Number of values.
    """

    mean: float
    low: float
    high: float
    n: int


def interval(values: ArrayLike) -> Interval:
    """Mean of independent values with its interval.

    Parameters
    ----------
    values
        Finite numbers, shape ``(n,)``, at least one.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(
            f"Expected finite values of shape (n,), found shape {x.shape} with {int((~np.isfinite(x)).sum())} not finite."
        )
    found = mean_interval(x)
    return Interval(found.mean, found.low, found.high, found.n_values)


@dataclass(frozen=True)
class Comparison:
    """One score of one arm.

    Attributes
    ----------
    level
        Mean over the sets, with its interval over seeds.
    by_set
        Mean over the seeds of each set, with its interval over seeds.
    over_seeds, over_sets
        Mean difference to the reference, paired by set and seed, with its interval over seeds (of the means over sets) and
        over sets (of the means over seeds). ``None`` for the reference itself.
    """

    level: Interval
    by_set: dict[str, Interval]
    over_seeds: Interval | None = None
    over_sets: Interval | None = None


def compare(
    table: pd.DataFrame, score: str, reference: str | Mapping[str, str], arms: Sequence[str]
) -> dict[str, Comparison]:
    """Compare the arms by one score.

    Parameters
    ----------
    table
        Columns ``arm``, ``set``, ``seed`` and ``score``.
    score
        Name of the column. Arms without any value of it are left out, and then sets that lack a value: a mean over sets
        is over the same sets for all arms.
    reference
        Arm that the others are compared with; or that of each arm.
    arms
        Their order.

    Returns
    -------
    By arm. Empty where no set has the score.
    """
    if score not in table:
        return {}
    wide = table.pivot(index=["set", "seed"], columns="arm", values=score)
    wide = wide[[arm for arm in arms if wide[arm].notna().any()]]
    whole = wide.notna().all(axis=1).groupby(level="set").transform("all")
    wide = wide[whole]
    if wide.empty:
        return {}
    sets = list(dict.fromkeys(table["set"]))
    found = {}
    for arm in wide:
        grid = wide[arm].unstack("seed")
        over_seeds = over_sets = None
        other = reference if isinstance(reference, str) else reference[str(arm)]
        if arm != other and other in wide:
            gap = grid - wide[other].unstack("seed")
            over_seeds, over_sets = interval(gap.mean(axis=0)), interval(gap.mean(axis=1))
        by_set = {name: interval(grid.loc[name]) for name in sets if name in grid.index}
        found[str(arm)] = Comparison(interval(grid.mean(axis=0)), by_set, over_seeds, over_sets)
    return found
