"""A Gaussian for each type on log-normalised values, turned into counts by the library's own step."""

from __future__ import annotations

import time

import numpy as np
import scanpy as sc
from anndata import AnnData

from diffaug.backends._cell_counts import drawn_counts
from generators.base import Made, Tool, dense, register, types_of
from generators.split import Split


@register(
    "gaussian",
    Tool(
        "gaussian",
        "Gaussian by type",
        "Mean and full covariance of each type's log-normalised cells; negative values become 0, and counts are made by the "
        "library's own step at the library size of a training cell of the type.",
    ),
)
def gaussian(split: Split, seed: int) -> dict[str, Made]:
    rng = np.random.default_rng(seed)
    labels = types_of(split)
    begin = time.perf_counter()
    scratch = AnnData(split.train.X.copy())
    sc.pp.normalize_total(scratch, target_sum=1e4)
    sc.pp.log1p(scratch)
    x = dense(scratch.X).astype(np.float64)
    fit_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    values = np.empty_like(x)
    for kind in np.unique(labels):
        rows = np.flatnonzero(labels == kind)
        values[rows] = normal_like(x[rows], len(rows), rng)
    totals = np.asarray(split.train.X.sum(axis=1)).ravel().astype(np.int64)
    counts = drawn_counts(np.maximum(values, 0), totals, totals, rng)
    return {"gaussian": Made(counts, labels, fit_seconds, time.perf_counter() - begin)}


def normal_like(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from the Gaussian with the mean and the whole covariance of these rows.

    Random sums of the centred rows have that covariance, singular or not, without any matrix of genes x genes.
    """
    mean = x.mean(axis=0)
    weights = rng.standard_normal((n, len(x))) / np.sqrt(max(len(x) - 1, 1))
    return mean + weights @ (x - mean)
