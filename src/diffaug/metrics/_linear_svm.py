"""The linear support vector machine of the probes, also where there are thousands of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve, qr
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import LinearSVC
from sklearn.utils.validation import check_is_fitted, validate_data

Floats = NDArray[np.float64]

#: Above so many features liblinear's conjugate gradients need minutes to hours where features are correlated, as genes and
#: pixels are; Newton steps with a factorised Hessian need seconds. Below it liblinear is as fast.
_WIDE = 256
_MOST_STEPS, _TOL = 100, 1e-8


class LinearSVM(ClassifierMixin, BaseEstimator):
    """One-against-rest linear SVM with the squared hinge loss, C = 1: the objective of ``LinearSVC(dual=False)``.

    Up to 256 features it is scikit-learn's solver. Above, each class is solved by Newton steps to the optimum of the same
    objective, the intercept penalised as there (Chapelle, Neural Computation 2007). Nothing in it is random.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(40, 500))
    >>> y = np.repeat(["a", "b"], 20)
    >>> LinearSVM().fit(x, y).score(x, y)
    1.0
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> LinearSVM:
        """Fit to ``X`` of shape ``(n, d)`` and the labels ``y`` of shape ``(n,)``."""
        x, y = validate_data(self, X, y, dtype=np.float64)
        if x.shape[1] <= _WIDE:
            narrow = LinearSVC(dual=False).fit(x, y)
            self.classes_, self.coef_, self.intercept_ = narrow.classes_, narrow.coef_, narrow.intercept_
            return self
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(f"Expected at least 2 classes, found {str(self.classes_[0])!r} alone.")
        positive = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        x = np.column_stack([x, np.ones(len(x))])
        # The weights lie in the span of the rows: fewer rows than features are rotated into as many features.
        basis = qr(x.T, mode="economic")[0] if len(x) < x.shape[1] else None
        rows = x if basis is None else x @ basis
        weights = np.stack([_solve(rows, np.where(y == label, 1.0, -1.0)) for label in positive])
        weights = weights if basis is None else weights @ basis.T
        self.coef_, self.intercept_ = weights[:, :-1], weights[:, -1]
        return self

    def decision_function(self, X: ArrayLike) -> Floats:
        """Signed distances, shape ``(n, n_classes)``, or ``(n,)`` of the second of two classes."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        scores = np.asarray(x @ self.coef_.T + self.intercept_)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """The class with the largest distance, shape ``(n,)``."""
        scores = self.decision_function(X)
        found = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[found])


def _solve(x: Floats, sign: Floats) -> Floats:
    """Minimise ``w.w / 2 + sum(max(0, 1 - sign * x @ w) ** 2)``: quadratic while the same rows lie within the margin."""
    w = np.zeros(x.shape[1])
    margin = np.zeros(len(x))  # sign * x @ w
    loss = float(len(x))
    for _ in range(_MOST_STEPS):
        inside = margin < 1
        part = x[inside]
        hessian = 2 * part.T @ part
        hessian[np.diag_indices_from(hessian)] += 1
        step = cho_solve(cho_factor(hessian, lower=True, overwrite_a=True), 2 * part.T @ sign[inside]) - w
        along = sign * (x @ step)
        share, found = _line_search(w, step, margin, along, loss)
        w, margin = w + share * step, margin + share * along
        solved = share == 1 and np.array_equal(margin < 1, inside)  # the minimum of the quadratic that holds there
        if solved or loss - found <= _TOL * loss:
            return w
        loss = found
    raise RuntimeError(
        f"Expected the linear SVM to converge in {_MOST_STEPS} Newton steps, found none. Use classifier='logistic'."
    )


def _line_search(w: Floats, step: Floats, margin: Floats, along: Floats, loss: float) -> tuple[float, float]:
    """The largest of 1, 1/2, 1/4 ... by which a step lowers the loss, and the loss there."""
    share = 1.0
    while share > 1e-10:
        at = w + share * step
        found = float(at @ at / 2 + np.square(np.maximum(0, 1 - margin - share * along)).sum())
        if found < loss:
            return share, found
        share /= 2
    return 0.0, loss
