"""How well plain k-means finds a known labelling."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from diffaug.core.arguments import whole_number
from diffaug.metrics._checks import as_codes, as_dense

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterScores:
    """Agreement of clusters with labels.

    Attributes
    ----------
    accuracy
        Share of rows whose cluster is the one matched to their class, under the best one-to-one matching.
    nmi
        Normalised mutual information (arithmetic mean of the entropies), in [0, 1].
    ari
        Adjusted Rand index: 0 on average for random clusters, 1 for equal partitions.
    """

    accuracy: float
    nmi: float
    ari: float


def kmeans_scores(
    x: ArrayLike, y: ArrayLike, *, n_clusters: int | None = None, n_init: int = 10, random_state: int = 0
) -> ClusterScores:
    """Cluster an embedding by k-means and compare with labels.

    The embedding is taken as it is, not standardised. Clusters are matched to classes by the Hungarian method
    (Kuhn 1955); clusters or classes in excess stay unmatched and their rows count as wrong.

    Parameters
    ----------
    x
        Embedding, shape ``(n, d)``, dense.
    y
        Label of each row, shape ``(n,)``; numbers or text.
    n_clusters
        By default the number of classes.
    n_init
        Starts (k-means++) of which the one with the least inertia is kept.
    random_state
        Seed of the starts.

    Returns
    -------
    The three scores. An embedding with fewer distinct points than clusters is scored all the same, with a logged
    warning.

    Raises
    ------
    TypeError
        If ``x`` is sparse or not numeric, or the labels are of mixed kinds.
    ValueError
        If shapes do not fit, values are missing or not finite, there is one class only, or more clusters than rows.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.repeat(["a", "b"], 50)
    >>> x = np.random.default_rng(0).normal(size=(100, 3)) + 10 * (y == "a")[:, None]
    >>> kmeans_scores(x, y).accuracy
    1.0
    """
    x = as_dense(x, "x")
    codes, classes = as_codes(y, "y", len(x))
    if len(classes) < 2:
        raise ValueError(f"Expected at least two classes in `y`, found {len(classes)}.")
    n_clusters = len(classes) if n_clusters is None else n_clusters
    whole_number("n_clusters", n_clusters, 1)
    whole_number("n_init", n_init, 1)
    if n_clusters > len(x):
        raise ValueError(f"Expected at most {len(x)} clusters, the number of rows, found n_clusters={n_clusters}.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        found = KMeans(n_clusters, n_init=n_init, random_state=random_state).fit_predict(x)
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            logger.warning("k-means: %s", warning.message)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    table = contingency_matrix(codes, found)
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    return ClusterScores(
        accuracy=float(matched / len(x)),
        nmi=float(np.clip(normalized_mutual_info_score(codes, found), 0.0, 1.0)),
        ari=float(adjusted_rand_score(codes, found)),
    )
