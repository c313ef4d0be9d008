"""Intervals against closed forms and against the coverage they promise, in simulated experiments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from diffaug.metrics import mean_interval, paired_difference

N_SETS, N_SEEDS = 12, 5


def experiment(rng: np.random.Generator, truth: float = 0.0, between: float = 1.0) -> tuple[np.ndarray, ...]:
    """Two methods on sets of very different difficulty; ``truth`` is their difference, which varies between sets."""
    groups = np.repeat(np.arange(N_SETS), N_SEEDS)
    difficulty = rng.normal(0, 30, N_SETS)[groups] + rng.normal(0, 5, len(groups))  # of the set, and of the seed
    gain = rng.normal(truth, between, N_SETS)[groups] + rng.normal(0, 1, len(groups))
    return difficulty + gain, difficulty, groups


def coverage(interval: Any, n_experiments: int, n_resamples: int = 1) -> float:
    held = 0
    for seed in range(n_experiments):
        rng = np.random.default_rng(seed)
        found = paired_difference(
            *experiment(rng, truth=0.7), interval=interval, n_resamples=n_resamples, random_state=seed
        )
        held += found.low <= 0.7 <= found.high
    return held / n_experiments


def test_t_interval_covers_as_often_as_it_says() -> None:
    """2,000 experiments: the share is within four standard errors of 95 %."""
    assert abs(coverage("t", 2000) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_bootstrap_covers_nearly_as_often() -> None:
    """Short by what percentiles of twelve groups lack; resampled seeds give a part of it back."""
    assert 0.88 < coverage("bootstrap", 500, n_resamples=300) < 0.96


def test_seeds_taken_for_independent_would_cover_far_too_seldom() -> None:
    """The control: without groups, five seeds of a set count as five sets."""
    held = 0
    for seed in range(500):
        a, b, _ = experiment(np.random.default_rng(seed), truth=0.7)
        found = paired_difference(a, b)
        held += found.low <= 0.7 <= found.high
    assert held / 500 < 0.80


def test_pairing_finds_what_two_intervals_hide() -> None:
    a, b, groups = experiment(np.random.default_rng(0), truth=3.0)
    paired, alone_a, alone_b = paired_difference(a, b, groups), mean_interval(a, groups), mean_interval(b, groups)
    assert paired.low > 0
    assert alone_a.low < alone_b.high and alone_b.low < alone_a.high
    assert paired.mean == pytest.approx(alone_a.mean - alone_b.mean)


def test_one_value_a_group_is_students_t() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 9))
    wanted = stats.ttest_rel(a, b).confidence_interval(0.9)
    found = paired_difference(a, b, confidence=0.9)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert (found.n_groups, found.n_values, found.confidence) == (9, 9, 0.9)


def test_groups_count_alike_whatever_their_size() -> None:
    found = mean_interval([1.0, 1.0, 1.0, 1.0, 4.0], ["many"] * 4 + ["one"])
    assert found.mean == 2.5
    assert (found.n_groups, found.n_values) == (2, 5)


def test_bootstrap_of_groups_without_spread_inside_is_the_bootstrap_of_their_means() -> None:
    means = np.random.default_rng(0).normal(size=20)
    inside = mean_interval(np.repeat(means, 3), np.repeat(np.arange(20), 3), interval="bootstrap", n_resamples=20_000)
    wanted = stats.bootstrap((means,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1))
    ends = wanted.confidence_interval
    assert (inside.low, inside.high) == pytest.approx((ends.low, ends.high), abs=0.02)


def test_bootstrap_sees_the_spread_inside_groups_too() -> None:
    """Equal means of all groups leave Student's t no width; the bootstrap has the members'."""
    values, groups = np.tile([-1.0, 1.0], 10), np.repeat(np.arange(10), 2)
    t, bootstrap = mean_interval(values, groups), mean_interval(values, groups, interval="bootstrap")
    assert t.low == t.high == 0.0
    # A mean of ten groups of two draws from {-1, 1} has variance 1 / 20.
    assert bootstrap.high == pytest.approx(stats.norm.ppf(0.975) / math.sqrt(20), abs=0.08)


def test_bootstrap_is_repeatable() -> None:
    a, b, groups = experiment(np.random.default_rng(0))
    one, same, other = (
        paired_difference(a, b, groups, interval="bootstrap", n_resamples=200, random_state=s) for s in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_one_group_has_no_interval() -> None:
    for interval in ("t", "bootstrap"):
        found = mean_interval([1.0, 2.0], ["a", "a"], interval=interval)  # type: ignore[arg-type]
        assert found.mean == 1.5
        assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (([1.0, 2.0], [1.0]), {}, ValueError, "pairs in `values_a` and `values_b`, found 2 and 1"),
        (([1.0, np.nan], [1.0, 2.0]), {}, ValueError, "finite values in `values_a`, found 1"),
        (([], []), {}, ValueError, r"at least one value in `values_a`, found shape \(0,\)"),
        (([[1.0]], [1.0]), {}, ValueError, r"1-D array .* found shape \(1, 1\)"),
        ((["a"], [1.0]), {}, TypeError, "real numbers in `values_a`, found dtype"),
        (([1.0, 2.0], [1.0, 2.0], ["a"]), {}, ValueError, "Expected 2 labels in `groups`"),
        (([1.0, 2.0], [1.0, 2.0]), {"interval": "z"}, ValueError, r"`interval` in \['t', 'bootstrap'\], found 'z'"),
        (([1.0, 2.0], [1.0, 2.0]), {"confidence": 95}, ValueError, "`confidence` between 0 and 1, found 95"),
        (([1.0, 2.0], [1.0, 2.0]), {"n_resamples": 0}, ValueError, "`n_resamples` of at least 1, found 0"),
    ],
)
def test_bad_input(arguments: Any, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        paired_difference(*arguments, **settings)
