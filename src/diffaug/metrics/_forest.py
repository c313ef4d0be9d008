"""A random forest's out-of-bag verdict on two sets of rows: one fit in place of five folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from diffaug.metrics._resample import pair_mean

SHALLOW = 4


def forest_auc_values(
    a: NDArray,
    b: NDArray,
    weights_a: NDArray[np.float64],
    weights_b: NDArray[np.float64],
    *,
    max_depth: int | None,
    n_estimators: int = 100,
    random_state: int = 0,
) -> NDArray[np.float64]:
    """AUC of telling ``b`` from ``a`` for each line of weights; every row is judged by trees that did not see it."""
    rows = np.vstack([a, b]).astype(np.float32)
    truth = np.repeat([0, 1], [len(a), len(b)])
    # 100 trees leave a row without a judge with a chance of 1e-20.
    forest = RandomForestClassifier(
        n_estimators, max_depth=max_depth, oob_score=True, random_state=random_state, min_samples_leaf=2
    )
    judged = forest.fit(rows, truth).oob_decision_function_[:, 1]
    # The AUC is the share of pairs in the right order, so one matrix of pairs serves every resample.
    ahead = 0.5 * (1 + np.sign(judged[None, len(a) :] - judged[: len(a), None]))
    return pair_mean(ahead, weights_a, weights_b)
