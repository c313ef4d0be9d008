"""How much of a labelling a simple classifier reads off a frozen embedding."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from diffaug.core.arguments import whole_number
from diffaug.metrics._checks import as_codes, as_dense, check_choice
from diffaug.metrics._linear_svm import LinearSVM

Protocol = Literal["holdout", "repeated", "tenfold", "rbf", "groups"]
PROTOCOLS: tuple[Protocol, ...] = ("holdout", "repeated", "tenfold", "rbf", "groups")
LinearClassifier = Literal["svm", "logistic"]
_FOLDS = {"repeated": (5, 5), "tenfold": (10, 1), "rbf": (5, 1)}  # folds, repeats
_HOLDOUT_SPLITS, _HOLDOUT_SHARE = 5, 0.1
_MOST_GROUP_FOLDS = 10

Split = tuple[NDArray[np.intp], NDArray[np.intp]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """Scores of a probe on rows that it was not fitted on.

    Attributes
    ----------
    accuracy
        Mean over the folds.
    balanced_accuracy
        Mean over the folds of the mean recall over the classes that the fold tests.
    accuracy_std
        Sample standard deviation of ``folds``. Folds share training rows: this is no standard error.
    n_folds
        Fits made.
    folds
        Accuracy of each fold, shape ``(n_folds,)``.
    protocol
        How the rows were split.
    n_obs, n_classes
        Rows and classes that were scored.
    dropped
        Classes too small for the protocol, with the number of their rows; those rows were not used.
    """

    accuracy: float
    balanced_accuracy: float
    accuracy_std: float
    n_folds: int
    folds: NDArray[np.float64]
    protocol: str
    n_obs: int
    n_classes: int
    dropped: dict[Any, int] = field(default_factory=dict)


def linear_probe(
    x: ArrayLike,
    y: ArrayLike,
    *,
    protocol: Protocol = "holdout",
    classifier: LinearClassifier = "svm",
    groups: ArrayLike | None = None,
    max_obs: int | None = None,
    random_state: int = 0,
) -> ProbeResult:
    """Accuracy of a linear classifier on standardised features.

    The scaling is fitted on the training rows of each fold. All protocols but ``"rbf"`` use ``classifier``.

    ===========  =======================================================================================
    protocol     rows
    ===========  =======================================================================================
    "holdout"    90 % for training, 10 % for testing, five random splits. The 90/10 of DiffAug's main
                 text, which does not say how often it was drawn.
    "repeated"   five times 5-fold cross-validation
    "tenfold"    10-fold cross-validation: DiffAug's appendix, which runs it on two-dimensional embeddings
    "rbf"        5-fold cross-validation of an RBF SVM (C = 1, gamma "scale"), as the authors' code does
    "groups"     every one of ``groups`` is tested once, by a model that has not seen it: leave one donor
                 out. More than ten are gathered into ten folds of about equal size. Nothing is random.
    ===========  =======================================================================================

    Splits keep the class proportions, unless ``groups`` is given.

    Parameters
    ----------
    x
        Embedding, shape ``(n, d)``, dense.
    y
        Label of each row, shape ``(n,)``; numbers or text.
    protocol
        See above.
    classifier
        ``"svm"``, a linear SVM (squared hinge loss, C = 1, one against the rest, solved in the primal, which has no random
        part), or ``"logistic"``, multinomial logistic regression at its optimum (C = 1).
    groups
        Donor, batch or subject of each row, shape ``(n,)``. A group is then never on both sides of a split.
        "holdout" draws 10 % of the groups (rounded up); "repeated", "tenfold" and "rbf" also balance the classes as
        far as whole groups allow; "groups" needs them. A class that is missing from the training groups of a fold
        counts as missed.
    max_obs
        Score at most this many rows, drawn at random in the proportions of the classes. By default all.
    random_state
        Seed of the splits and of the drawing.

    Returns
    -------
    Classes with fewer rows than the protocol has folds (two for "holdout" and "groups"), or, with ``groups``, found in fewer than
    two groups, are left out; a warning is logged and ``ProbeResult.dropped`` holds them.

    Raises
    ------
    TypeError
        If ``x`` is sparse or not numeric, or the labels are of mixed kinds.
    ValueError
        If shapes do not fit, values are missing or not finite, fewer than two classes remain, or the groups do not
        fill the folds.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.repeat(["a", "b"], 50)
    >>> x = np.random.default_rng(0).normal(size=(100, 3)) + 10 * (y == "a")[:, None]
    >>> linear_probe(x, y).accuracy
    1.0
    """
    check_choice(protocol, "protocol", PROTOCOLS)
    check_choice(classifier, "classifier", get_args(LinearClassifier))
    if protocol == "rbf" and classifier != "svm":
        raise ValueError(
            f"Expected `classifier` 'svm' with protocol 'rbf', found {classifier!r}. Leave out the one or the other."
        )
    model = make_pipeline(StandardScaler(), SVC(kernel="rbf")) if protocol == "rbf" else linear_classifier(classifier)
    return _probe(model, x, y, protocol, groups, max_obs, random_state)


def linear_classifier(name: LinearClassifier = "svm") -> BaseEstimator:
    """The classifier of every linear probe, on standardised features; neither has a random part."""
    model = LinearSVM() if name == "svm" else LogisticRegression(max_iter=1000)
    return make_pipeline(StandardScaler(), model)


def knn_probe(
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 15,
    protocol: Literal["holdout", "repeated", "tenfold", "groups"] = "holdout",
    groups: ArrayLike | None = None,
    max_obs: int | None = None,
    random_state: int = 0,
) -> ProbeResult:
    """Accuracy of a vote among the ``k`` nearest training rows (Euclidean, equal votes).

    The embedding is taken as it is, not standardised: its distances are what is judged.

    Parameters
    ----------
    x
        Embedding, shape ``(n, d)``, dense.
    y
        Label of each row, shape ``(n,)``; numbers or text.
    k
        Number of neighbours that vote.
    protocol, groups, max_obs, random_state
        As in :func:`linear_probe`.

    Returns
    -------
    As :func:`linear_probe`, with the same rule for small classes.

    Raises
    ------
    TypeError
        If ``x`` is sparse or not numeric, or the labels are of mixed kinds.
    ValueError
        As :func:`linear_probe`; and if a training fold has fewer than ``k`` rows.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.repeat(["a", "b"], 50)
    >>> x = np.random.default_rng(0).normal(size=(100, 3)) + 10 * (y == "a")[:, None]
    >>> knn_probe(x, y, k=5).accuracy
    1.0
    """
    whole_number("k", k, 1)
    check_choice(protocol, "protocol", ("holdout", "repeated", "tenfold", "groups"))
    return _probe(KNeighborsClassifier(k), x, y, protocol, groups, max_obs, random_state)


def _probe(
    model: BaseEstimator,
    x: ArrayLike,
    y: ArrayLike,
    protocol: Protocol,
    groups: ArrayLike | None,
    max_obs: int | None,
    random_state: int,
) -> ProbeResult:
    x = as_dense(x, "x")
    codes, classes = as_codes(y, "y", len(x))
    group_codes = None if groups is None else as_codes(groups, "groups", len(x))[0]
    if protocol == "groups" and group_codes is None:
        raise ValueError("Expected `groups` for protocol 'groups', found none. Name the donor or batch of each row.")
    if max_obs is not None:
        whole_number("max_obs", max_obs, 2)
        rows = _stratified_rows(codes, max_obs, np.random.default_rng(random_state))
        x, codes = x[rows], codes[rows]
        group_codes = None if group_codes is None else group_codes[rows]

    usable = _usable_classes(codes, group_codes, len(classes), protocol)
    sizes = np.bincount(codes, minlength=len(classes))
    too_small = ~usable & (sizes > 0)
    dropped = dict(zip(classes[too_small].tolist(), sizes[too_small].tolist(), strict=True))
    if usable.sum() < 2:
        raise ValueError(
            f"Expected at least two classes that are large enough for protocol {protocol!r}, found {usable.sum()} "
            f"among {np.count_nonzero(sizes)}. Give more rows, or a protocol with fewer folds."
        )
    if dropped:
        keep = usable[codes]
        x, codes = x[keep], codes[keep]
        group_codes = None if group_codes is None else group_codes[keep]
        n_left_out = sum(dropped.values())
        logger.warning("Left out %d rows of classes too small for protocol %r: %s", n_left_out, protocol, dropped)

    splits = _splits(codes, group_codes, protocol, random_state)
    if isinstance(model, KNeighborsClassifier):
        smallest = min(len(train) for train, _ in splits)
        if model.n_neighbors > smallest:
            raise ValueError(
                f"Expected `k` of at most {smallest}, the rows of the smallest training fold, "
                f"found {model.n_neighbors}."
            )
    scores = np.array([_score_fold(model, x, codes, split) for split in splits])
    return ProbeResult(
        accuracy=float(scores[:, 0].mean()),
        balanced_accuracy=float(scores[:, 1].mean()),
        accuracy_std=float(scores[:, 0].std(ddof=1)),
        n_folds=len(splits),
        folds=scores[:, 0],
        protocol=protocol,
        n_obs=len(x),
        n_classes=int(usable.sum()),
        dropped=dropped,
    )


def _stratified_rows(codes: NDArray[np.intp], max_obs: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """At most ``max_obs`` rows in the proportions of the classes (largest remainders), in their old order."""
    n = len(codes)
    if n <= max_obs:
        return np.arange(n)
    sizes = np.bincount(codes)
    share = sizes * (max_obs / n)
    quota = np.floor(share).astype(np.intp)
    quota[np.argsort(quota - share, kind="stable")[: max_obs - quota.sum()]] += 1
    shuffled = rng.permutation(n)
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    rank = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(by_class[rank < np.repeat(quota, sizes)])


def _usable_classes(
    codes: NDArray[np.intp], groups: NDArray[np.intp] | None, n_classes: int, protocol: Protocol
) -> NDArray[np.bool_]:
    """Which classes can be split as the protocol asks."""
    least = _FOLDS[protocol][0] if protocol in _FOLDS else 2
    usable = np.bincount(codes, minlength=n_classes) >= least
    if groups is not None:
        class_of_pair = np.unique(np.stack([codes, groups]), axis=1)[0]
        usable &= np.bincount(class_of_pair, minlength=n_classes) >= 2
    return usable


def _splits(
    codes: NDArray[np.intp], groups: NDArray[np.intp] | None, protocol: Protocol, random_state: int
) -> list[Split]:
    """Pairs of training and test rows."""
    rows = np.zeros((len(codes), 1))  # the splitters want the rows but look only at their number
    n_groups = None if groups is None else len(np.unique(groups))
    rng = np.random.RandomState(random_state)
    if protocol == "holdout":
        if n_groups is not None:
            _check_groups(n_groups, 2, protocol)
            shuffle = GroupShuffleSplit(_HOLDOUT_SPLITS, test_size=_HOLDOUT_SHARE, random_state=rng)
            return list(shuffle.split(rows, codes, groups))
        n_test, n_classes = int(np.ceil(_HOLDOUT_SHARE * len(codes))), len(np.unique(codes))
        if n_test < n_classes:
            raise ValueError(
                f"Expected a 10 % test set of at least {n_classes} rows, one per class, "
                f"found {n_test} of {len(codes)}. Use protocol='repeated'."
            )
        return list(
            StratifiedShuffleSplit(_HOLDOUT_SPLITS, test_size=_HOLDOUT_SHARE, random_state=rng).split(rows, codes)
        )
    if protocol == "groups":
        assert groups is not None and n_groups is not None
        _check_groups(n_groups, 2, protocol)
        return list(GroupKFold(min(n_groups, _MOST_GROUP_FOLDS)).split(rows, codes, groups))
    n_folds, n_repeats = _FOLDS[protocol]
    if n_groups is not None:
        _check_groups(n_groups, n_folds, protocol)
        group_folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=rng)
        splits = [split for _ in range(n_repeats) for split in group_folds.split(rows, codes, groups)]
        if min(len(test) for _, test in splits) == 0:  # rare; the splitter balances the classes, not the groups
            raise ValueError(
                f"Expected test rows in each of {n_folds} folds, found a fold without: {n_groups} groups are too few "
                "or too uneven. Use protocol='holdout'."
            )
        return splits
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=rng)
    return [split for _ in range(n_repeats) for split in folds.split(rows, codes)]


def _check_groups(n_groups: int, least: int, protocol: Protocol) -> None:
    if n_groups < least:
        hint = " Use protocol='holdout', which needs two." if n_groups >= 2 else ""
        raise ValueError(f"Expected at least {least} groups for protocol {protocol!r}, found {n_groups}.{hint}")


def _score_fold(model: BaseEstimator, x: NDArray[Any], codes: NDArray[np.intp], split: Split) -> tuple[float, float]:
    """Accuracy and balanced accuracy on the test rows of one split."""
    train, test = split
    truth = codes[test]
    if (codes[train] == codes[train[0]]).all():
        hit = truth == codes[train[0]]  # whoever saw one class predicts it; a support vector machine refuses to fit
    else:
        hit = model.fit(x[train], codes[train]).predict(x[test]) == truth
    sizes = np.bincount(truth)
    recall = np.bincount(truth, weights=hit)[sizes > 0] / sizes[sizes > 0]
    return float(hit.mean()), float(recall.mean())
