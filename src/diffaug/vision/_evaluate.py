"""How much of the classes an embedding of images holds: the protocols of the paper's tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Scores(NamedTuple):
    """Scores of an embedding: ``linear`` and ``knn`` (accuracies of probes), ``kmeans`` (accuracy), ``nmi`` and ``ari``.

    ``n_train`` and ``n_test`` are the rows that the probes learnt from and were tested on; of several random splits, those
    of one.
    """

    linear: float
    knn: float
    kmeans: float
    nmi: float
    ari: float
    n_train: int
    n_test: int


def evaluate(
    embedding: ArrayLike, labels: ArrayLike, *, split: ArrayLike | None = None, k: int = 15, random_state: int = 0
) -> Scores:
    """Judge a frozen embedding by labels: a linear probe and k-means (the paper's Tables 7 and 8), and neighbours.

    The linear probe is a linear SVM on standardised features, the neighbours' vote and k-means take the embedding as it is.

    Parameters
    ----------
    embedding
        Shape ``(n, d)``.
    labels
        Class of each row, shape ``(n,)``. Rows with the label -1 have none and are left out.
    split
        ``"train"`` or ``"test"`` for each row, shape ``(n,)``: the probes learn from the one part and are tested on the
        other, which k-means clusters too. Other parts are left out. Without it, the probes are
        :func:`diffaug.metrics.linear_probe` and :func:`diffaug.metrics.knn_probe` on five random 90/10 splits, and k-means
        clusters all rows.
    k
        Neighbours that vote.
    random_state
        Seed of the splits and of k-means.

    Returns
    -------
    :class:`Scores`.

    Raises
    ------
    ValueError
        Shapes do not fit, or a part has no rows.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.repeat([0, 1], 50)
    >>> x = np.random.default_rng(0).normal(size=(100, 3)) + 10 * y[:, None]
    >>> evaluate(x, y, split=np.tile(["train", "test"], 50)).linear
    1.0
    """
    from diffaug import metrics

    x, y = np.asarray(embedding), np.asarray(labels)
    parts = None if split is None else np.asarray(split).astype(str)
    for name, value in (("labels", y), ("split", parts)):
        if value is not None and value.shape != (len(x),):
            raise ValueError(f"Expected `{name}` of shape ({len(x)},), one for each row, found {value.shape}.")
    if y.dtype.kind in "iu":
        known = y != -1
        x, y, parts = x[known], y[known], None if parts is None else parts[known]
    if parts is None:
        linear = metrics.linear_probe(x, y, random_state=random_state)
        knn = metrics.knn_probe(x, y, k=k, random_state=random_state)
        n_test = -(-linear.n_obs // 10)
        scores, sizes = (linear.accuracy, knn.accuracy), (linear.n_obs - n_test, n_test)
    else:
        train, test = parts == "train", parts == "test"
        if not (train.any() and test.any()):
            raise ValueError(
                f"Expected rows of the parts 'train' and 'test' with labels, found {sorted(set(parts.tolist()))}."
            )
        scores = _held_out(x[train], y[train], x[test], y[test], k)
        sizes = (int(train.sum()), int(test.sum()))
        x, y = x[test], y[test]
    clusters = metrics.kmeans_scores(x, y, random_state=random_state)
    return Scores(*scores, clusters.accuracy, clusters.nmi, clusters.ari, *sizes)


def _held_out(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, k: int
) -> tuple[float, float]:
    """Accuracies of the linear probe and of the neighbours on given parts."""
    from sklearn.neighbors import KNeighborsClassifier

    from diffaug.metrics.probes import linear_svm

    linear = linear_svm().fit(x_train, y_train)
    near = KNeighborsClassifier(min(k, len(x_train))).fit(x_train, y_train)
    return float(linear.score(x_test, y_test)), float(near.score(x_test, y_test))
