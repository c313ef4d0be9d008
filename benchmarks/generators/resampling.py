"""Training cells drawn again within types, with counts thinned: no model at all."""

from __future__ import annotations

import time

import numpy as np
import scipy.sparse as sp

from generators.base import Made, Tool, dense, register, types_of
from generators.split import Split


@register(
    "resampling",
    Tool(
        "thinned",
        "thinned cells",
        "A training cell of the type, drawn with replacement; each of its counts is kept with probability 0.75.",
    ),
    Tool(
        "pooled",
        "thinned pairs",
        "The counts of two training cells of the type are added and thinned to the library size of the first.",
    ),
)
def resampling(split: Split, seed: int, *, kept: float = 0.75) -> dict[str, Made]:
    rng = np.random.default_rng(seed)
    counts, labels = np.rint(dense(split.train.X)).astype(np.int64), types_of(split)
    found = {}
    for name in ("thinned", "pooled"):
        begin = time.perf_counter()
        first, second = (drawn_within(labels, rng) for _ in range(2))
        if name == "thinned":
            made = thinned(counts[first], kept, rng)
        else:
            both = counts[first] + counts[second]
            made = thinned_to(both, counts[first].sum(axis=1), rng)
        found[name] = Made(sp.csr_matrix(made), labels, 0.0, time.perf_counter() - begin)
    return found


def drawn_within(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each cell a cell of its type, with replacement."""
    rows = np.empty(len(labels), dtype=int)
    for kind in np.unique(labels):
        own = np.flatnonzero(labels == kind)
        rows[own] = rng.choice(own, len(own))
    return rows


def thinned(counts: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    """Counts of which each was kept with this probability."""
    return rng.binomial(counts, kept)


def thinned_to(counts: np.ndarray, totals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``totals`` counts of each cell, drawn without replacement."""
    pairs = zip(counts, totals, strict=True)
    return np.array([rng.multivariate_hypergeometric(c, int(n), method="marginals") for c, n in pairs])
