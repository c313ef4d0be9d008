"""Intervals against scipy's and a hand-typed one; pairing, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from diffaug.reproduce._statistics import compare, interval

MadeUp = Callable[..., pd.DataFrame]


def test_an_interval_typed_by_hand() -> None:
    """1, 2, 3, 4: standard error sqrt(5/3)/2 = 0.645497, t of 3 degrees of freedom 3.182446."""
    found = interval([1.0, 2.0, 3.0, 4.0])
    assert (found.mean, found.n) == (2.5, 4)
    assert found.high - found.mean == pytest.approx(3.182446 * 0.645497, abs=1e-5)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_an_interval_is_scipys(n: int) -> None:
    x = np.random.default_rng(n).normal(3, 2, n)
    found, oracle = interval(x), stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_an_interval_covers_as_often_as_it_says() -> None:
    """The normal quantile would cover 88 % of the time at five values (control)."""
    x = np.random.default_rng(0).normal(size=(4000, 5))
    hit = [found.low < 0 < found.high for found in map(interval, x)]
    assert np.mean(hit) == pytest.approx(0.95, abs=0.012)
    half = stats.norm.ppf(0.975) * x.std(axis=1, ddof=1) / math.sqrt(5)
    assert np.mean(np.abs(x.mean(axis=1)) < half) < 0.9


def test_one_value_has_no_interval() -> None:
    found = interval([0.7])
    assert (found.mean, found.n) == (0.7, 1) and math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, math.nan], [math.inf]])
def test_an_interval_needs_finite_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match="Expected finite values of shape"):
        interval(values)


def test_a_comparison_against_loops(made_up: MadeUp) -> None:
    rng = np.random.default_rng(0)
    grids = {arm: rng.normal(size=(3, 4)) for arm in ("x", "y", "z")}
    table = made_up(grids).sample(frac=1, random_state=0)  # whatever the order of the rows
    found = compare(table, "linear", "y", ["x", "y", "z"])
    assert list(found) == ["x", "y", "z"]
    for arm, grid in grids.items():
        assert found[arm].level == interval([np.mean([grid[i, s] for i in range(3)]) for s in range(4)])
        for i, name in enumerate("abc"):
            assert found[arm].by_set[name] == interval(grid[i])
        if arm != "y":
            gap = [[grid[i, s] - grids["y"][i, s] for s in range(4)] for i in range(3)]
            assert found[arm].over_seeds == interval(np.mean(gap, axis=0))
            assert found[arm].over_sets == interval(np.mean(gap, axis=1))
    assert found["y"].over_seeds is None and found["y"].over_sets is None


def test_pairing_takes_out_what_sets_and_seeds_share(made_up: MadeUp) -> None:
    """A constant gain under large common differences is exact; unpaired intervals would drown it (control)."""
    common = np.array([[0.9, 0.1, 0.5], [0.3, 0.7, 0.2]])
    found = compare(made_up({"on": common + 0.01, "off": common}), "linear", "off", ["on", "off"])["on"]
    assert found.over_seeds is not None and found.over_sets is not None
    for value in (found.over_seeds, found.over_sets):
        assert (value.low, value.high) == pytest.approx((0.01, 0.01))
    assert found.level.high - found.level.low > 0.1


def test_a_set_without_the_score_is_left_out_for_all(made_up: MadeUp) -> None:
    grids = {"x": np.array([[1.0, 2.0], [3.0, np.nan]]), "y": np.array([[5.0, 6.0], [7.0, 8.0]])}
    found = compare(made_up(grids), "linear", "x", ["x", "y"])
    assert list(found["y"].by_set) == ["a"] and found["y"].level.mean == 5.5


def test_an_arm_without_the_score_is_left_out_alone(made_up: MadeUp) -> None:
    grids = {"x": np.full((2, 2), np.nan), "y": np.ones((2, 2))}
    found = compare(made_up(grids), "linear", "x", ["x", "y"])
    assert list(found) == ["y"] and list(found["y"].by_set) == ["a", "b"] and found["y"].over_seeds is None


def test_a_score_that_nobody_has(made_up: MadeUp) -> None:
    assert compare(made_up({"x": np.ones((1, 1))}), "knn", "x", ["x"]) == {}
    assert compare(made_up({"x": np.full((1, 1), np.nan)}), "linear", "x", ["x"]) == {}
