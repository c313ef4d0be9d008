"""Hits row by row: the same numbers as scikit-learn's, the same folds for every embedding."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from diffaug.metrics import paired_difference, row_hits


def clusters(n: int = 120, apart: float = 1.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return rng.normal(size=(n, 4)) + apart * np.eye(4)[y], np.array(["a", "b", "c"])[y]


@pytest.mark.parametrize("probe", ["linear", "knn"])
def test_hits_are_those_of_cross_validation(probe: str) -> None:
    x, y = clusters()
    model = KNeighborsClassifier(15) if probe == "knn" else make_pipeline(StandardScaler(), LinearSVC(dual=False))
    expected = cross_val_score(model, x, y, cv=StratifiedKFold(5, shuffle=True, random_state=3))
    hits = row_hits(x, y, probe=probe, random_state=3)
    assert set(np.unique(hits)) == {0.0, 1.0}
    assert hits.mean() == pytest.approx(expected.mean())
    assert 0.5 < hits.mean() < 1


def test_pairs_are_sharper_than_two_means() -> None:
    """The reason for rows: what both embeddings miss cancels."""
    x, y = clusters(600)
    better, worse = x, x + np.random.default_rng(1).normal(size=x.shape) * 0.4
    a, b = (row_hits(e, y) for e in (better, worse))
    found = paired_difference(a, b)
    unpaired = 1.96 * np.sqrt((a.var() + b.var()) / len(a))
    assert (found.high - found.low) / 2 < 0.75 * unpaired


def test_small_classes_are_left_out() -> None:
    x, y = clusters()
    y[:4] = "rare"
    hits = row_hits(x, y)
    assert np.isnan(hits[:4]).all()
    assert not np.isnan(hits[4:]).any()


def test_rows_keep_their_order() -> None:
    """A row that lies in another class's cluster is the one that is missed."""
    x, y = clusters(apart=20)
    x[7] = x[8]
    assert np.flatnonzero(row_hits(x, y) == 0).tolist() == [7]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"probe": "svm"}, ValueError, r"Expected `probe` in \['linear', 'knn'\], found 'svm'"),
        ({"k": 0}, ValueError, "`k`"),
        ({"n_folds": 1}, ValueError, "`n_folds`"),
        ({"probe": "knn", "k": 97}, ValueError, "Expected `k` of at most 96, found 97"),
        ({"y": np.repeat("a", 120)}, ValueError, "Expected at least two classes of 5 rows or more, found 1"),
        ({"x": np.full((120, 2), np.nan)}, ValueError, "finite"),
    ],
)
def test_bad_input(change: dict, error: type[Exception], message: str) -> None:
    x, y = clusters()
    given = {"x": x, "y": y, **change}
    with pytest.raises(error, match=message):
        row_hits(given.pop("x"), given.pop("y"), **given)
