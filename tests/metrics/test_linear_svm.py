"""The probes' linear SVM against scikit-learn's, below and above the width at which the solver changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import LinearSVC

from diffaug.metrics import _linear_svm
from diffaug.metrics._linear_svm import LinearSVM


def correlated(n: int, d: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap, in features of few common factors, as genes and pixels are."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    factors = rng.normal(size=(n, 12)) + rng.normal(size=(n_classes, 12))[y]
    x = factors @ rng.normal(size=(12, d)) + 0.3 * rng.normal(size=(n, d))
    return (x - x.mean(0)) / x.std(0), y


def loss(model: LinearSVM | LinearSVC, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Liblinear's objective of each class, the intercept penalised."""
    weights = np.column_stack([model.coef_, model.intercept_])
    margins = np.column_stack([x, np.ones(len(x))]) @ weights.T
    positive = model.classes_[1:] if len(weights) == 1 else model.classes_
    signs = np.where(y[:, None] == positive, 1, -1)
    return (weights**2).sum(1) / 2 + (np.maximum(0, 1 - signs * margins) ** 2).sum(0)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize(("n", "d"), [(400, 300), (150, 400)], ids=["more rows", "fewer rows"])
def test_wide_features_reach_the_optimum_of_liblinear(n: int, d: int, n_classes: int) -> None:
    x, y = correlated(n, d, n_classes)
    mine = LinearSVM().fit(x, y)
    theirs = LinearSVC(dual=False, tol=1e-8, max_iter=100_000).fit(x, y)
    np.testing.assert_allclose(mine.coef_, theirs.coef_, atol=2e-5)
    np.testing.assert_allclose(mine.intercept_, theirs.intercept_, atol=2e-5)
    assert (loss(mine, x, y) <= loss(theirs, x, y) * (1 + 1e-9)).all()
    new = correlated(100, d, n_classes, seed=1)[0]
    np.testing.assert_array_equal(mine.predict(new), theirs.predict(new))
    np.testing.assert_allclose(mine.decision_function(new), theirs.decision_function(new), atol=1e-3)


def test_narrow_features_are_scikit_learns() -> None:
    x, y = correlated(100, _linear_svm._WIDE, 3)
    mine, theirs = LinearSVM().fit(x, y), LinearSVC(dual=False).fit(x, y)
    np.testing.assert_array_equal(mine.coef_, theirs.coef_)
    np.testing.assert_array_equal(mine.predict(x), theirs.predict(x))
    np.testing.assert_array_equal(mine.decision_function(x), theirs.decision_function(x))


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 60), st.integers(257, 320), st.integers(2, 4), st.integers(0, 1000))
def test_no_step_away_from_the_optimum_lowers_the_loss(n: int, d: int, n_classes: int, seed: int) -> None:
    x, y = correlated(n, d, n_classes, seed)
    model = LinearSVM().fit(x, y)
    least = loss(model, x, y)
    rng = np.random.default_rng(seed)
    for size in (1e-4, 1e-2, 1):
        other = LinearSVM().fit(x, y)
        other.coef_ = model.coef_ + size * rng.normal(size=model.coef_.shape) / np.sqrt(d)
        assert (loss(other, x, y) >= least * (1 - 1e-9)).all()


def test_names_are_kept_and_one_class_is_refused() -> None:
    x, y = correlated(60, 300, 2)
    model = LinearSVM().fit(x, np.where(y == 1, "b cell", "a cell"))
    assert set(model.predict(x)) == {"a cell", "b cell"}
    assert model.decision_function(x).shape == (60,)
    with pytest.raises(ValueError, match="Expected at least 2 classes, found 'a' alone"):
        LinearSVM().fit(x, np.repeat("a", 60))


def test_a_fit_that_does_not_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_linear_svm, "_MOST_STEPS", 1)
    with pytest.raises(RuntimeError, match="Expected the linear SVM to converge in 1 Newton steps"):
        LinearSVM().fit(*correlated(400, 300, 2))
