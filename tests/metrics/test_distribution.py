"""Distances of clouds against loops and closed forms, and what their resamples are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from diffaug.metrics import energy_distance, mixing_score, mmd, sliced_wasserstein
from diffaug.metrics._resample import interval, ones, resampling_weights
from diffaug.metrics.distribution import energy_values, mmd_values, sliced_values

A, B = np.random.default_rng(0).normal(size=(2, 25, 3))
B = B[:18] + 0.7


def test_mmd_is_the_loop() -> None:
    distance = np.linalg.norm(A[:, None] - A, axis=2)
    scale = np.median([distance[i, j] for i in range(25) for j in range(i)])
    total = 0.0
    for width in (0.5, 1.0, 2.0):

        def kernel(x: np.ndarray, y: np.ndarray, width: float = width) -> float:
            return float(np.exp(-((x - y) @ (x - y)) / (2 * (width * scale) ** 2)))

        within = [np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (A, B)]
        total += sum(within) - 2 * np.mean([kernel(x, y) for x in A for y in B])
    assert mmd(A, B) == pytest.approx(total / 3)


def test_energy_is_the_loop() -> None:
    def mean(s: np.ndarray, t: np.ndarray, own: bool = False) -> float:
        d = [np.linalg.norm(x - y) for i, x in enumerate(s) for j, y in enumerate(t) if not (own and i == j)]
        return float(np.mean(d))

    assert energy_distance(A, B) == pytest.approx(2 * mean(A, B) - mean(A, A, True) - mean(B, B, True))


def test_sliced_wasserstein_is_scipys_in_one_dimension() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 4000))
    found = sliced_wasserstein(x[:, None], 2 * y[:, None] + 1, n_directions=3)
    assert found == pytest.approx(wasserstein_distance(x, 2 * y + 1), rel=0.02)  # read off 100 quantiles


def test_weights_are_repeated_rows() -> None:
    """The oracle of the bootstrap: a row with weight 2 is a row that stands there twice."""
    counts = np.random.default_rng(3).integers(0, 3, size=25)
    again = np.repeat(A, counts, axis=0)
    weights = np.vstack([ones(25), counts[None]])
    flat = np.repeat(ones(18), 2, axis=0)
    # The unbiased forms leave out pairs of a row with itself, and so with its repeats.
    d = np.linalg.norm(again[:, None] - again, axis=2)
    source = np.repeat(np.arange(25), counts)
    between = np.linalg.norm(again[:, None] - B, axis=2).mean()
    n = len(again)
    within = d[source[:, None] != source].sum() / (n * n - (counts**2).sum() + 0.0)
    own_b = np.linalg.norm(B[:, None] - B, axis=2).sum() / (18 * 17)
    found = energy_values(A, B, weights, flat)
    assert found[0] == pytest.approx(energy_distance(A, B))
    assert found[1] == pytest.approx(2 * between - within - own_b)
    assert sliced_values(A, B, weights, flat)[1] == pytest.approx(sliced_values(again, B, ones(n), ones(18))[0])
    assert mmd_values(A, B, weights, flat)[0] == pytest.approx(mmd(A, B))


def test_resampling_by_donors_keeps_them_whole() -> None:
    rng = np.random.default_rng(0)
    donors = np.repeat(["a", "b", "c", "d"], 5)
    weights = resampling_weights(20, 50, rng, donors)
    assert (weights[0] == 1).all()
    blocks = weights.reshape(51, 4, 5)
    assert (blocks == blocks[:, :, :1]).all() and (weights.sum(axis=1) == 20).all()
    free = resampling_weights(20, 50, rng, np.repeat(["a", "b"], 10))  # two donors say nothing of others
    assert not (free.reshape(51, 2, 10) == free.reshape(51, 2, 10)[:, :, :1]).all()


def test_the_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        x = rng.normal(size=40)
        _, low, high = interval(resampling_weights(40, 60, rng) @ x / 40)
        hits += low < 0 < high
    assert hits >= 86


def test_mixing_of_halves_and_of_strangers() -> None:
    x = np.random.default_rng(2).normal(size=(300, 2))
    assert mixing_score(x[:150], x[150:]) > 0.93
    assert mixing_score(x[:150], x[150:] + 20) == 0
    assert 0 < mixing_score(x[:150], x[150:] + 1) < 0.9


def test_errors() -> None:
    with pytest.raises(ValueError, match="Expected `real` and `synthetic` to have the same columns, found 3 and 2"):
        mmd(A, B[:, :2])
    with pytest.raises(ValueError, match="Expected positive `bandwidths`"):
        mmd(A, B, bandwidths=(0.0,))
    with pytest.raises(ValueError, match="Expected `k` under 43"):
        mixing_score(A, B, k=43)
