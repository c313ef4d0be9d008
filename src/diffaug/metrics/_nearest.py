"""Nearest rows by exact distances, a block at a time: near copies must not drown in rounding, nor big sets in memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from diffaug.metrics._checks import Matrix

_CHUNK = 1024


def nearest_rows(x: Matrix, reference: Matrix, *, k: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Distances and indices of the ``k`` nearest rows of ``reference``, nearest first."""
    k = min(k, reference.shape[0])
    queries = _dense(x)
    best = np.full((len(queries), k), np.inf)
    index = np.zeros((len(queries), k), dtype=np.intp)
    norms = (queries * queries).sum(axis=1)[:, None]
    for begin in range(0, reference.shape[0], _CHUNK):
        part = _dense(reference[begin : begin + _CHUNK])
        squares = norms + (part * part).sum(axis=1) - 2 * queries @ part.T
        order = np.argpartition(squares, min(k, len(part)) - 1, axis=1)[:, :k]
        # Taken again by subtraction: the expansion above cannot tell a near copy from a copy.
        exact = np.stack([np.linalg.norm(queries - part[column], axis=1) for column in order.T], axis=1)
        distance, place = np.hstack([best, exact]), np.hstack([index, begin + order])
        keep = np.argsort(distance, axis=1, kind="stable")[:, :k]
        best, index = np.take_along_axis(distance, keep, axis=1), np.take_along_axis(place, keep, axis=1)
    return best.astype(np.float64), index


def _dense(x: Matrix) -> NDArray:
    return (x.toarray() if sparse.issparse(x) else x).astype(np.float32)
