"""Generators that know little: what any score of synthetic cells has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NULLS = ("gaussian", "shuffle", "noise", "copies")
_RANK = 30
_NOISE = 0.5


def make_null(
    kind: str, x: NDArray[np.float32], labels: NDArray | None, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Rows as a null would make them, with the labels of ``x`` row by row.

    Parameters
    ----------
    kind
        "gaussian" (a Gaussian for each type: its means, its main directions and what is left as independent noise),
        "shuffle" (every gene shuffled over all rows), "noise" (rows plus noise of half a gene's standard deviation) or
        "copies" (the rows themselves).
    x
        Real training rows, shape ``(n, g)``.
    labels
        Their types; without them all are of one type.
    rng
        Source of the randomness.

    Returns
    -------
    Shape ``(n, g)``. Where ``x`` has no negative values, the null has none.
    """
    if kind == "copies":
        return x
    if kind == "shuffle":
        return rng.permuted(x, axis=0)
    if kind == "noise":
        made = x + (_NOISE * x.std(axis=0)) * rng.standard_normal(x.shape, dtype=np.float32)
    elif kind == "gaussian":
        made = np.empty_like(x)
        types = np.zeros(len(x)) if labels is None else labels
        for name in np.unique(types):
            rows = np.flatnonzero(types == name)
            made[rows] = _gaussian(x[rows], rng)
    else:
        raise ValueError(f"Expected `kind` in {list(NULLS)}, found {kind!r}.")
    return np.maximum(made, 0) if x.min() >= 0 else made


def _gaussian(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    mean = x.mean(axis=0)
    centred = x - mean
    n, g = x.shape
    rank = min(_RANK, n - 1, g)
    if rank < 1:
        return np.tile(mean, (n, 1))
    # Leading directions by one randomised range finder with a power step: an exact SVD would take most of the report's time.
    basis = np.linalg.qr(centred.T @ (centred @ rng.standard_normal((g, min(rank + 10, g)), dtype=np.float32)))[0]
    _, s, vt = np.linalg.svd(centred @ basis, full_matrices=False)
    axes = (vt[:rank] @ basis.T).astype(np.float32)
    sd = (s[:rank] / np.sqrt(n)).astype(np.float32)
    left = np.sqrt(np.maximum(centred.var(axis=0) - (sd[:, None] ** 2 * axes**2).sum(axis=0), 0))
    low = (rng.standard_normal((n, rank), dtype=np.float32) * sd[:rank]) @ axes
    return mean + low + left * rng.standard_normal((n, g), dtype=np.float32)
