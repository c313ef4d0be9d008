"""Train on synthetic cells, test on real ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from diffaug.metrics._checks import as_codes, as_dense, check_same_columns
from diffaug.metrics._resample import ones

Array = NDArray[np.float64]


def transfer_accuracy(
    train: ArrayLike, train_labels: ArrayLike, test: ArrayLike, test_labels: ArrayLike, *, random_state: int = 0
) -> float:
    """Balanced accuracy on ``test`` of a logistic regression that was trained on ``train``.

    Parameters
    ----------
    train, train_labels
        Synthetic rows, shape ``(m, d)``, dense, and their types. With real rows here, the result is the ceiling.
    test, test_labels
        Held-out real rows, shape ``(n, d)``, and their types. A type that ``train`` lacks is missed in whole.
    random_state
        Seed of the regression.

    Returns
    -------
    Mean recall over the types of ``test``, in [0, 1].

    Raises
    ------
    TypeError, ValueError
        If arrays and labels do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> types = np.repeat([0, 1], 30)
    >>> x = np.random.default_rng(0).normal(size=(60, 2)) + 9 * types[:, None]
    >>> transfer_accuracy(x, types, x, types)
    1.0
    """
    a, b = as_dense(train, "train"), as_dense(test, "test")
    check_same_columns(a, b, ("train", "test"))
    labels = []
    for name, values, x in (("train_labels", train_labels, a), ("test_labels", test_labels, b)):
        codes, names = as_codes(values, name, len(x))
        labels.append(names[codes].astype(str))
    hits = transfer_hits(a, labels[0], b, labels[1], random_state)
    return float(recall_values(hits, labels[1], ones(len(b)))[0])


def transfer_hits(
    train: NDArray, train_labels: NDArray, test: NDArray, test_labels: NDArray, random_state: int = 0
) -> NDArray[np.bool_]:
    """Which rows of ``test`` get their own type."""
    if len(np.unique(train_labels)) == 1:  # nothing to learn: everything is of the one type
        return test_labels == train_labels[0]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=random_state))
    return model.fit(train, train_labels).predict(test) == test_labels


def recall_values(hits: NDArray[np.bool_], labels: NDArray, weights: Array) -> Array:
    """Mean over types of the recall, for each line of weights."""
    recalls = []
    for name in np.unique(labels):
        w = weights[:, labels == name]
        total = w.sum(axis=1)
        seen = np.divide(w @ hits[labels == name].astype(float), total, out=np.full(len(w), np.nan), where=total > 0)
        recalls.append(seen)
    return np.nanmean(np.stack(recalls), axis=0)
