"""k-means scores against known partitions and brute-force matching."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from diffaug.metrics import kmeans_scores


def blobs(gap: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(120) % 3
    return np.random.default_rng(0).normal(size=(120, 4)) + gap * np.eye(3, 4)[y], y


def test_separated_classes_are_found_and_random_labels_are_not() -> None:
    x, y = blobs()
    good = kmeans_scores(x, y)
    assert (good.accuracy, good.nmi, good.ari) == pytest.approx((1.0, 1.0, 1.0))
    chance = kmeans_scores(x, np.random.default_rng(1).permutation(y))
    assert chance.accuracy < 0.5
    assert chance.nmi < 0.1
    assert abs(chance.ari) < 0.1


@settings(max_examples=6, deadline=None)
@given(st.permutations([0, 1, 2]))
def test_names_of_classes_do_not_matter(order: list[int]) -> None:
    x, y = blobs(gap=2.0)
    first, renamed = (
        kmeans_scores(x, y, n_init=2),
        kmeans_scores(x, np.array(["u", "v", "w"])[np.array(order)[y]], n_init=2),
    )
    assert 0.4 < first.accuracy < 1.0
    assert (renamed.accuracy, renamed.nmi, renamed.ari) == pytest.approx((first.accuracy, first.nmi, first.ari))


def test_matching_is_the_best_of_all() -> None:
    x, y = blobs(gap=1.0)
    found = KMeans(3, n_init=10, random_state=0).fit_predict(x)
    best = max(np.mean(np.array(order)[found] == y) for order in itertools.permutations(range(3)))
    assert kmeans_scores(x, y).accuracy == pytest.approx(best)


@pytest.mark.parametrize(("n_clusters", "accuracy"), [(1, 1 / 3), (2, 2 / 3), (3, 1.0)])
def test_classes_without_a_cluster_count_as_wrong(n_clusters: int, accuracy: float) -> None:
    x, y = blobs()
    assert kmeans_scores(x, y, n_clusters=n_clusters).accuracy == pytest.approx(accuracy)


def test_clusters_in_excess_count_as_wrong() -> None:
    x, y = blobs()
    scores = kmeans_scores(x, y, n_clusters=12)
    assert scores.accuracy < 0.7
    assert 0.5 < scores.nmi < 1.0


def test_a_collapsed_embedding_is_scored_with_a_logged_warning(caplog: pytest.LogCaptureFixture) -> None:
    y = np.arange(90) % 3
    with caplog.at_level(logging.WARNING, logger="diffaug.metrics.clustering"):
        scores = kmeans_scores(np.ones((90, 2)), y)
    assert scores.accuracy == pytest.approx(1 / 3)
    assert scores.nmi == pytest.approx(0.0, abs=1e-12)
    assert "distinct clusters (1)" in caplog.text


def test_seeds() -> None:
    x, y = blobs(gap=0.5)
    scores = [kmeans_scores(x, y, n_init=1, random_state=seed) for seed in (0, 0, 1, 2, 3)]
    assert scores[0] == scores[1]
    assert len(set(scores)) > 1


def test_bad_input() -> None:
    x, y = blobs()
    with pytest.raises(ValueError, match="Expected at least two classes in `y`, found 1"):
        kmeans_scores(x, np.zeros(120))
    with pytest.raises(ValueError, match="Expected at most 120 clusters, the number of rows, found n_clusters=121"):
        kmeans_scores(x, y, n_clusters=121)
    with pytest.raises(ValueError, match="Expected `n_clusters` of at least 1, found 0"):
        kmeans_scores(x, y, n_clusters=0)
    with pytest.raises(ValueError, match="Expected `n_init` of at least 1, found 0"):
        kmeans_scores(x, y, n_init=0)
