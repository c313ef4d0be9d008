"""Probes of an embedding, on given parts and on random ones."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from diffaug import metrics
from diffaug.vision import evaluate


def blobs(n: int = 120, distance: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % 3
    return np.random.default_rng(0).normal(size=(n, 4)) + distance * np.eye(3, 4)[y], y


def test_separate_classes_are_found_and_mixed_ones_are_not() -> None:
    x, y = blobs()
    split = np.where(np.arange(120) < 90, "train", "test")
    for parts in (split, None):
        good = evaluate(x, y, split=parts)
        assert min(good.linear, good.knn, good.kmeans, good.nmi, good.ari) > 0.95
        bad = evaluate(x, np.random.default_rng(1).permutation(y), split=parts)
        assert max(bad.linear, bad.knn) < 0.6 and bad.ari < 0.2


def test_too_few_images_for_a_random_tenth_of_all_classes() -> None:
    """Advice that can be followed here; with parts the same images are judged."""
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 10
    with pytest.raises(
        ValueError, match=r"at least 10 rows .* found 6 of 60. Hand over more rows with labels, or a `split`"
    ):
        evaluate(x, y)
    assert evaluate(x, y, split=np.where(np.arange(60) < 40, "train", "test")).n_test == 20


def test_given_parts_are_kept_apart() -> None:
    """The probes learn from the one and are tested on the other: labels of the test part that are turned count as wrong."""
    x, y = blobs()
    split = np.where(np.arange(120) < 90, "train", "test")
    turned = np.where(split == "test", (y + 1) % 3, y)
    found = evaluate(x, turned, split=split)
    assert found.linear == found.knn == 0.0
    assert found.kmeans > 0.95  # clusters have no names
    assert (found.n_train, found.n_test) == (90, 30)
    np.testing.assert_allclose(
        evaluate(*blobs(distance=1.5), split=split).linear,
        LogisticRegression().fit(blobs(distance=1.5)[0][:90], y[:90]).score(blobs(distance=1.5)[0][90:], y[90:]),
        atol=0.12,
    )


def test_without_parts_it_is_the_metrics_own_protocol() -> None:
    x, y = blobs(distance=1.5)
    found = evaluate(x, y, random_state=3)
    assert found.linear == metrics.linear_probe(x, y, random_state=3).accuracy
    assert found.knn == metrics.knn_probe(x, y, random_state=3).accuracy
    assert found.ari == metrics.kmeans_scores(x, y, random_state=3).ari
    assert (found.n_train, found.n_test) == (108, 12)


def test_the_logistic_probe_is_logistic_regression_on_standardised_features() -> None:
    """By hand: the optimum of the penalised cross-entropy, whose gradient is zero there and at no other classifier's."""
    x, y = blobs(distance=1.5)
    x = x * [1.0, 50.0, 0.02, 1.0]  # a probe of features as they are would see the second alone
    split = np.where(np.arange(120) < 90, "train", "test")
    z = (x - x[:90].mean(axis=0)) / x[:90].std(axis=0)
    weights, bias, hit = np.zeros((4, 3)), np.zeros(3), np.eye(3)[y[:90]]
    for _ in range(4000):
        logits = z[:90] @ weights + bias
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = p / p.sum(axis=1, keepdims=True) - hit
        weights -= 0.01 * (z[:90].T @ error + weights)
        bias -= 0.01 * error.sum(axis=0)
    expected = ((z[90:] @ weights + bias).argmax(axis=1) == y[90:]).mean()
    found, svm = evaluate(x, y, split=split, probe="logistic"), evaluate(x, y, split=split)
    assert found.linear == expected
    assert found[1:] == svm[1:]  # the neighbours, the clusters and the parts know no probe


def test_the_probes_differ_where_classes_stand_in_a_line() -> None:
    """An inner class has no half-space of its own: one against the rest misses it, the joint cross-entropy does not."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 5
    x = rng.normal(size=(300, 2)) * [0.1, 1.0] + np.stack([y, 0 * y], axis=1)
    for split in (np.where(np.arange(300) < 200, "train", "test"), None):
        assert evaluate(x, y, split=split, probe="logistic").linear > 0.97
        assert evaluate(x, y, split=split, probe="svm").linear < 0.9


def test_rows_without_a_label_or_of_another_part_are_left_out() -> None:
    x, y = blobs()
    split = np.where(np.arange(120) < 90, "train", "test")
    more = np.concatenate([x, 99 * np.ones((10, 4)), 99 * np.ones((5, 4))])
    labels = np.concatenate([y, np.full(10, -1), np.zeros(5, int)])
    parts = np.concatenate([split, ["train"] * 10, ["unlabeled"] * 5])
    assert evaluate(more, labels, split=parts) == evaluate(x, y, split=split)


def test_errors() -> None:
    x, y = blobs()
    with pytest.raises(ValueError, match=r"Expected `labels` of shape \(120,\), one for each row, found \(119,\)"):
        evaluate(x, y[1:])
    with pytest.raises(ValueError, match=r"Expected `split` of shape \(120,\), one for each row, found \(3,\)"):
        evaluate(x, y, split=["train"] * 3)
    with pytest.raises(
        ValueError, match=r"Expected rows of the parts 'train' and 'test' with labels, found \['train'\]"
    ):
        evaluate(x, y, split=["train"] * 120)
    with pytest.raises(ValueError, match=r"Expected `probe` in \['svm', 'logistic'\], found 'softmax'"):
        evaluate(x, y, probe="softmax")  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [None, np.where(np.arange(120) < 90, "train", "test")])
def test_what_cannot_be_judged(parts: np.ndarray | None) -> None:
    """Said alike, with given parts and with random ones."""
    x, y = blobs()
    with pytest.raises(ValueError, match="Expected finite values in `embedding`, found 480 NaN and 0 infinite"):
        evaluate(x * np.nan, y, split=parts)
    with pytest.raises(ValueError, match=r"Expected a 2-D array .* in `embedding`, found shape \(120,\)"):
        evaluate(x[:, 0], y, split=parts)
    with pytest.raises(ValueError, match="Expected `k` of at least 1, found 0"):
        evaluate(x, y, split=parts, k=0)
    with pytest.raises(ValueError, match="Expected at least (two|2) classes"):
        evaluate(x, 0 * y, split=parts)
    with pytest.raises(ValueError, match="Expected a label for every row in `labels`, found 1 missing"):
        evaluate(x, np.where(np.arange(120) == 3, np.nan, y), split=parts)


def test_kinds_of_labels_and_parts() -> None:
    x, y = blobs()
    split = np.where(np.arange(120) < 90, "train", "test")
    expected = evaluate(x, y, split=split)
    assert evaluate(x, np.array(["c", "a", "b"])[y], split=split.astype(bytes)).linear == expected.linear
    some = np.where(np.arange(120) % 10 == 0, -1, y)
    assert evaluate(x, some.astype(float), split=split) == evaluate(x, some, split=split) != expected
