"""A model beside its loop-off twin, on arrays of any domain: what the generated views did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from diffaug._gain_said import CLUSTERS, LABEL_FREE, MIXING
from diffaug._model import DiffAug
from diffaug.core.arguments import whole_number
from diffaug.metrics import kmeans_scores, neighbor_batch_entropy, paired_difference, row_hits

#: Folds of the labelled probes, and so the smallest class that can be judged.
N_FOLDS = 5
#: Events that are judged by default; the labels that a fit looks at before the training are theirs.
MAX_OBS = 5000
#: One clustering moves by points with its start, so that a mean over some is compared.
_N_STARTS = 5
_K = 15
#: Of fewer events each one is a neighbour of each other, and every embedding finds all of them.
_LEAST = 3


def require_twin(model: DiffAug) -> DiffAug:
    """The model's twin, or a clear error."""
    if not isinstance(model, DiffAug):
        raise TypeError(f"Expected `model` to be a fitted DiffAug, found {type(model).__name__}.")
    if model.twin is None:
        raise ValueError(
            "Expected a model with its loop-off twin, found one without. Fit with twin=True, and hand over that model: one that "
            "was loaded from a folder has no twin."
        )
    return model.twin


def drawn_rows(n_obs: int, max_obs: int, random_state: int) -> np.ndarray:
    """Rows of the events that are judged by their labels."""
    max_obs, random_state = whole_number("max_obs", max_obs, 2), whole_number("random_state", random_state)
    return np.sort(np.random.default_rng(random_state).permutation(n_obs)[:max_obs])


def compare_with_twin(
    model: DiffAug,
    x: Any,
    labels: np.ndarray | None,
    *,
    batch: np.ndarray | None = None,
    max_obs: int = MAX_OBS,
    random_state: int = 0,
) -> pd.DataFrame:
    """The table of :func:`diffaug.tl.loop_gain`, on events of any domain.

    Parameters
    ----------
    model
        A model with its twin.
    x
        Events, as :meth:`diffaug.DiffAug.embed` takes them.
    labels
        Label of each event, shape ``(n,)``, or ``None`` for the readings without labels alone.
    batch
        Batch of each event, shape ``(n,)``: how well they are mixed is then read too, where those drawn are of two at least.
    max_obs
        Of more events so many are drawn.
    random_state
        Seed.

    Raises
    ------
    ValueError
        The model has no twin, or there are fewer than three events.
    """
    twin = require_twin(model)
    n_obs = min(x.shape[0], whole_number("max_obs", max_obs, 2))
    if n_obs < _LEAST:
        events = model.backend.events
        raise ValueError(f"Expected at least {_LEAST} {events} to compare a model with its twin on, found {n_obs}.")
    # With k near the number of events the halves agree whatever the embedding is.
    k = min(_K, (n_obs - 1) // 2)
    pairs = {
        LABEL_FREE: [m.split_half_overlap(x, k=k, max_obs=max_obs, random_state=random_state) for m in (model, twin)]
    }
    rows = drawn_rows(x.shape[0], max_obs, random_state)
    table, embedded = [], []
    if labels is not None or batch is not None:
        embedded = [m.embed(x[rows]).semantic for m in (model, twin)]
    if labels is not None:
        _, codes, sizes = np.unique(labels[rows], return_inverse=True, return_counts=True)
        judged = sizes[codes] >= N_FOLDS
        most = int(judged.sum()) * (N_FOLDS - 1) // N_FOLDS
        for probe in ("linear", "knn"):
            both = [
                row_hits(e, labels[rows], probe=probe, k=min(_K, most), n_folds=N_FOLDS, random_state=random_state)
                for e in embedded
            ]
            pairs[probe] = [hits[judged] for hits in both]
    for name, (a, b) in pairs.items():
        found = paired_difference(a, b)
        table.append(_row(name, a.mean(), b.mean(), found.low, found.high))
    if batch is not None and len(np.unique(batch[rows])) > 1 and len(rows) > k:
        mixed = [neighbor_batch_entropy(e, batch[rows], k=max(2, k)) for e in embedded]
        table.insert(1, _row(MIXING, mixed[0], mixed[1], np.nan, np.nan))
    if labels is not None:
        found_by = [_clusters_found(e[judged], labels[rows][judged], random_state) for e in embedded]
        table.append(_row(CLUSTERS, found_by[0], found_by[1], np.nan, np.nan))
    return pd.DataFrame(table).set_index("measure")


def _row(name: str, model: float, twin: float, low: float, high: float) -> dict[str, Any]:
    return {
        "measure": name,
        "model": model,
        "twin": twin,
        "difference": model - twin,
        "low": low,
        "high": high,
        "labelled": name not in (LABEL_FREE, MIXING),
    }


def _clusters_found(x: np.ndarray, labels: np.ndarray, random_state: int) -> float:
    """Accuracy of k-means, mean over starts, the same starts for every embedding."""
    seeds = np.random.default_rng(random_state).integers(2**31, size=_N_STARTS).tolist()
    return float(np.mean([kmeans_scores(x, labels, n_init=1, random_state=seed).accuracy for seed in seeds]))
