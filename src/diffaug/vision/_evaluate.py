"""How much of the classes an embedding of images holds: probes of frozen features, and clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from diffaug.metrics.probes import LinearClassifier


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
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    split: ArrayLike | None = None,
    probe: LinearClassifier = "svm",
    k: int = 15,
    random_state: int = 0,
) -> Scores:
    """Judge a frozen embedding by labels: a linear probe, neighbours and k-means.

    The linear probe learns from standardised features; the neighbours' vote and k-means take the embedding as it is. Clusters
    get the classes that suit them best, each another one (Hungarian matching). The paper's own protocol for images, in its
    Tables 7 and 8, was not at hand when this was written.

    Parameters
    ----------
    embedding
        Shape ``(n, d)``.
    labels
        Class of each row, shape ``(n,)``. Rows with the label -1 have none and are left out.
    split
        ``"train"`` or ``"test"`` for each row, shape ``(n,)``: the probes learn from the one part and are tested on the
        other, which k-means clusters too. Other parts are left out. Without it, the probes are
        scored on five random 90/10 splits, as :func:`diffaug.metrics.linear_probe` and :func:`diffaug.metrics.knn_probe` do,
        and k-means clusters all rows.
    probe
        The linear probe: ``"svm"``, a linear SVM, as for cells; or ``"logistic"``, multinomial logistic regression. What
        papers on images call linear evaluation is the latter, a linear layer under cross-entropy on frozen features. They
        train it by gradient descent, often on augmented images; here it is fitted to its optimum, with scikit-learn's
        default penalty (C = 1).
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
        Shapes do not fit, values are not finite, a part has no rows, the part ``"train"`` has one class only, or ``probe``
        is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.repeat([0, 1], 50)
    >>> x = np.random.default_rng(0).normal(size=(100, 3)) + 10 * y[:, None]
    >>> evaluate(x, y, split=np.tile(["train", "test"], 50)).linear
    1.0
    """
    from diffaug import metrics
    from diffaug.core.arguments import whole_number
    from diffaug.metrics._checks import as_codes, as_dense, check_choice
    from diffaug.metrics.probes import LinearClassifier
    from diffaug.vision._read import as_text

    check_choice(probe, "probe", get_args(LinearClassifier))
    whole_number("k", k, 1)
    x, y = as_dense(embedding, "embedding"), np.asarray(labels)
    parts = None if split is None else as_text(np.asarray(split))
    for name, value in (("labels", y), ("split", parts)):
        if value is not None and value.shape != (len(x),):
            raise ValueError(f"Expected `{name}` of shape ({len(x)},), one for each row, found {value.shape}.")
    if y.dtype.kind in "iuf":
        known = y != -1
        x, y, parts = x[known], y[known], None if parts is None else parts[known]
    as_codes(y, "labels", len(x))  # says where one is missing
    if parts is None:
        n_test, n_classes = -(-len(y) // 10), len(np.unique(y))
        if n_test < n_classes:
            raise ValueError(
                f"Expected a random tenth of at least {n_classes} rows to test on, one for each class, found {n_test} of {len(y)}. "
                "Hand over more rows with labels, or a `split` into 'train' and 'test'."
            )
        linear = metrics.linear_probe(x, y, classifier=probe, random_state=random_state)
        knn = metrics.knn_probe(x, y, k=k, random_state=random_state)
        scores, sizes = (linear.accuracy, knn.accuracy), (len(y) - n_test, n_test)
    else:
        train, test = parts == "train", parts == "test"
        if not (train.any() and test.any()):
            raise ValueError(
                f"Expected rows of the parts 'train' and 'test' with labels, found {sorted(set(parts.tolist()))}."
            )
        if len(np.unique(y[train])) < 2:
            raise ValueError(f"Expected at least 2 classes in the part 'train', found {str(y[train][0])!r} alone.")
        scores = _held_out(x[train], y[train], x[test], y[test], probe, k)
        sizes = (int(train.sum()), int(test.sum()))
        x, y = x[test], y[test]
    clusters = metrics.kmeans_scores(x, y, random_state=random_state)
    return Scores(*scores, clusters.accuracy, clusters.nmi, clusters.ari, *sizes)


def _held_out(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, probe: LinearClassifier, k: int
) -> tuple[float, float]:
    """Accuracies of the linear probe and of the neighbours on given parts."""
    from sklearn.neighbors import KNeighborsClassifier

    from diffaug.metrics.probes import linear_classifier

    linear = linear_classifier(probe).fit(x_train, y_train)
    near = KNeighborsClassifier(min(k, len(x_train))).fit(x_train, y_train)
    return float(linear.score(x_test, y_test)), float(near.score(x_test, y_test))
