"""Neighbourhood scores against naive loops and closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import manifold

from diffaug.metrics import effective_rank, neighbor_batch_entropy, neighbor_overlap, trustworthiness

RNG = np.random.default_rng(0)


def naive_neighbors(x: np.ndarray, k: int) -> np.ndarray:
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1)[:, :k]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_effective_rank_of_arrays(dtype: Any) -> None:
    simplex = np.vstack([np.eye(4), -np.eye(4)]).astype(dtype)
    assert effective_rank(simplex) == pytest.approx(4.0, rel=1e-5)
    assert effective_rank(simplex[:, :1] * np.array([1, 2, 3], dtype=dtype)) == pytest.approx(1.0, abs=1e-4)
    assert effective_rank(simplex[::2, ::-1]) == effective_rank(simplex[::2, ::-1].copy())  # a view, negative strides
    assert effective_rank(np.ones((9, 3), dtype=dtype)) == 0.0


def test_trustworthiness() -> None:
    x = RNG.normal(size=(120, 6))
    assert trustworthiness(x, 3 * x + 1, k=10) == pytest.approx(1.0)
    assert trustworthiness(x, x[:, :3], k=10) == manifold.trustworthiness(x, x[:, :3], n_neighbors=10)
    assert abs(trustworthiness(x, RNG.permutation(x), k=10) - 0.5) < 0.05


def test_trustworthiness_of_a_subsample() -> None:
    x = RNG.normal(size=(300, 6))
    y = x[:, :3]
    full, part = trustworthiness(x, y, k=5, max_obs=None), trustworthiness(x, y, k=5, max_obs=150)
    assert full == trustworthiness(x, y, k=5, max_obs=300) == manifold.trustworthiness(x, y, n_neighbors=5)
    assert part != full
    assert abs(part - full) < 0.05
    assert part == trustworthiness(x, y, k=5, max_obs=150)
    assert part != trustworthiness(x, y, k=5, max_obs=150, random_state=1)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(5, 40), k=st.integers(1, 4), seed=st.integers(0, 999))
def test_overlap_against_sets(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    pairs = zip(naive_neighbors(a, k), naive_neighbors(b, k), strict=True)
    wanted = np.mean([len(set(i) & set(j)) / k for i, j in pairs])
    assert neighbor_overlap(a, b, k=k) == pytest.approx(wanted)
    assert neighbor_overlap(a, b, k=k) == neighbor_overlap(b, a, k=k)


def test_overlap_of_equal_and_unrelated_spaces() -> None:
    x = RNG.normal(size=(300, 4))
    rotation = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    assert neighbor_overlap(x, 5 * x @ rotation + 2) == 1.0
    assert neighbor_overlap(x, RNG.permutation(x)) == pytest.approx(15 / 299, abs=0.01)
    assert neighbor_overlap(x.astype(np.float32), x) > 0.99


@pytest.mark.parametrize("k", [2, 5, 15, 40])
def test_batch_entropy_is_one_for_random_batches_and_zero_for_separated_ones(k: int) -> None:
    """At every k: the entropy of two neighbours is far below that of the batch sizes."""
    batch = RNG.permutation(np.repeat(["a", "b", "c"], [300, 200, 100]))
    x = RNG.normal(size=(600, 3))
    assert neighbor_batch_entropy(x, batch, k=k) == pytest.approx(1.0, abs=0.04)
    apart = x + 100 * (batch[:, None] == np.array(["a", "b", "c"]))
    assert neighbor_batch_entropy(apart, batch, k=k) == 0.0
    half = np.where(np.arange(600)[:, None] % 2, apart, x - 1000)  # half of the rows are mixed
    assert 0.4 < neighbor_batch_entropy(half, batch, k=k) < 0.6


def test_batch_entropy_against_loops() -> None:
    """The expectation by averaging over random neighbours, the entropy row by row."""
    n, k = 40, 6
    batch = np.arange(n) % 3
    batch[:14] = 0
    x = RNG.normal(size=(n, 2)) + 1.5 * batch[:, None]

    def entropy(rows: np.ndarray) -> float:
        p = np.bincount(batch[rows]) / len(rows)
        return -sum(v * math.log(v) for v in p if v > 0)

    observed = np.mean([entropy(rows) for rows in naive_neighbors(x, k)])
    random = np.mean([entropy(RNG.permutation(np.delete(np.arange(n), i))[:k]) for i in range(n) for _ in range(200)])
    assert 0.3 < observed / random < 0.9
    assert neighbor_batch_entropy(x, batch, k=k) == pytest.approx(observed / random, rel=0.01)


def test_batch_entropy_above_chance_is_cut() -> None:
    x = np.arange(40.0)[:, None]  # neighbours on a line, batches in turn: more even than chance
    assert neighbor_batch_entropy(x, np.arange(40) // 2 % 2, k=4) == 1.0


def test_bad_input() -> None:
    x = RNG.normal(size=(30, 3))
    with pytest.raises(ValueError, match="Expected `x` and `embedding` to have the same rows, found 30 and 29"):
        trustworthiness(x, x[:29])
    with pytest.raises(ValueError, match="Expected `a` and `b` to have the same rows, found 30 and 29"):
        neighbor_overlap(x, x[:29])
    with pytest.raises(ValueError, match="Expected `k` under half of the 30 rows, found 15"):
        trustworthiness(x, x)
    with pytest.raises(ValueError, match="Expected `k` under half of the 20 rows, found 10"):
        trustworthiness(x, x, k=10, max_obs=20)
    with pytest.raises(ValueError, match="Expected between 1 and 29 neighbours among 30 points, found k=30"):
        neighbor_overlap(x, x, k=30)
    with pytest.raises(ValueError, match="Expected between 1 and 29 neighbours among 30 points, found k=30"):
        neighbor_batch_entropy(x, np.arange(30) % 2, k=30)
    with pytest.raises(ValueError, match="Expected `k` of at least 2, found 1"):
        neighbor_batch_entropy(x, np.arange(30) % 2, k=1)
    with pytest.raises(ValueError, match="Expected at least two batches in `batch`, found 1"):
        neighbor_batch_entropy(x, np.zeros(30))
    with pytest.raises(TypeError, match="Expected `k` to be a whole number, found 2.5"):
        neighbor_overlap(x, x, k=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected `max_obs` of at least 2, found 0"):
        trustworthiness(x, x, k=3, max_obs=0)
