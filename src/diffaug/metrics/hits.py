"""Which rows a classifier on an embedding gets right, so that two embeddings can be compared row by row."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from diffaug.core.arguments import whole_number
from diffaug.metrics._checks import as_codes, as_dense, check_choice
from diffaug.metrics.probes import linear_classifier

HitProbe = Literal["linear", "knn"]
HIT_PROBES: tuple[HitProbe, ...] = ("linear", "knn")


def row_hits(
    x: ArrayLike,
    y: ArrayLike,
    *,
    probe: HitProbe = "linear",
    k: int = 15,
    n_folds: int = 5,
    random_state: int = 0,
) -> NDArray[np.float64]:
    """Whether each row's label is predicted by a classifier that was fitted on the other folds.

    A mean of one fold's accuracies hides most of what two embeddings of the same rows have in common. Row by row they can
    be paired: :func:`diffaug.metrics.paired_difference` of two such arrays is several times sharper.

    Parameters
    ----------
    x
        Embedding, shape ``(n, d)``, dense.
    y
        Label of each row, shape ``(n,)``; numbers or text.
    probe
        ``"linear"``: linear SVM on standardised features; ``"knn"``: a vote among the ``k`` nearest (Euclidean).
    k
        Neighbours that vote.
    n_folds
        Folds, stratified by class.
    random_state
        Seed of the folds; equal seeds give equal folds, whatever the embedding.

    Returns
    -------
    1.0 for a hit and 0.0 for a miss, shape ``(n,)``; NaN for rows of classes with fewer than ``n_folds`` rows, which are
    left out.

    Raises
    ------
    TypeError
        If ``x`` is sparse or not numeric, or the labels are of mixed kinds.
    ValueError
        If shapes do not fit, values are not finite, fewer than two classes are large enough, or a training fold has fewer
        than ``k`` rows.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.repeat(["a", "b"], 50)
    >>> x = np.random.default_rng(0).normal(size=(100, 3)) + 10 * (y == "a")[:, None]
    >>> row_hits(x, y).mean()
    np.float64(1.0)
    """
    check_choice(probe, "probe", HIT_PROBES)
    whole_number("k", k, 1)
    whole_number("n_folds", n_folds, 2)
    x = as_dense(x, "x")
    codes, _ = as_codes(y, "y", len(x))
    rows = np.flatnonzero(np.bincount(codes)[codes] >= n_folds)
    if len(np.unique(codes[rows])) < 2:
        raise ValueError(
            f"Expected at least two classes of {n_folds} rows or more, found {len(np.unique(codes[rows]))}. "
            "Give more rows, or fewer folds."
        )
    if probe == "knn" and k > len(rows) * (n_folds - 1) // n_folds:
        raise ValueError(f"Expected `k` of at most {len(rows) * (n_folds - 1) // n_folds}, found {k}.")
    model = linear_classifier() if probe == "linear" else KNeighborsClassifier(k)
    hits = np.full(len(x), np.nan)
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=random_state)
    for train, test in folds.split(rows[:, None], codes[rows]):
        predicted = model.fit(x[rows[train]], codes[rows[train]]).predict(x[rows[test]])
        hits[rows[test]] = predicted == codes[rows[test]]
    return hits
