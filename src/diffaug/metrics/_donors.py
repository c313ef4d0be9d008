"""Donors in the audit of memory: fair draws from them, and what an attacker learns of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

FEWEST = 3
_LEAST_ROWS = 5


def equal_draws(
    n_train: int, n_other: int, donors: tuple[NDArray, NDArray] | None, most: int, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Equally many training and other rows at random, in random order; with donors, equally many of each one.

    Synthetic rows of a donor of whom one side has more would be nearer to that side, and that is no memory.
    """
    rows = [rng.permutation(n) for n in (n_train, n_other)]
    if donors is not None:
        kept: tuple[list[Rows], list[Rows]] = ([], [])
        for name in sorted(set(donors[0]) & set(donors[1])):
            both = [r[d[r] == name] for r, d in zip(rows, donors, strict=True)]
            n = min(map(len, both))
            for part, found in zip(kept, both, strict=True):
                part.append(found[:n])
        rows = [rng.permutation(np.concatenate(part)) if part else np.empty(0, np.intp) for part in kept]
    n = min(*map(len, rows), most)
    return rows[0][:n], rows[1][:n]


def donor_attack(
    inside: Array, donors_in: NDArray, outside: Array, donors_out: NDArray
) -> tuple[float, float, float] | None:
    """AUC of taking donors whose median distance is small for training ones, and its interval; none with few donors.

    The interval is that of an AUC of one half by chance (Mann and Whitney), around the value.
    """
    near, far = _medians(inside, donors_in), _medians(outside, donors_out)
    if min(len(near), len(far)) < FEWEST:
        return None
    auc = float((np.sign(far - near[:, None]) + 1).mean() / 2)
    half = 1.96 * math.sqrt((len(near) + len(far) + 1) / (12 * len(near) * len(far)))
    return auc, max(auc - half, 0.0), min(auc + half, 1.0)


def donor_memory(
    seen: Array, donors_seen: NDArray, unseen: Array, donors_unseen: NDArray
) -> tuple[float, float, float] | None:
    """Mean over donors of the AUC that tells a donor's seen from its unseen rows by distance, with Student's interval.

    One half for every generator that remembers no row, be it blurred, noisy, or faithful to the donors that it learnt
    from: seen and unseen rows of a donor are exchangeable then. None with few donors.
    """
    found = []
    for name in np.intersect1d(donors_seen, donors_unseen):
        near, far = seen[donors_seen == name], unseen[donors_unseen == name]
        if min(len(near), len(far)) >= _LEAST_ROWS:
            found.append(float((np.sign(far - near[:, None]) + 1).mean() / 2))
    if len(found) < FEWEST:
        return None
    mean = float(np.mean(found))
    half = float(student.ppf(0.975, len(found) - 1) * np.std(found, ddof=1) / math.sqrt(len(found)))
    return mean, mean - half, mean + half


def _medians(distances: Array, donors: NDArray) -> Array:
    groups = [distances[donors == name] for name in np.unique(donors)]
    return np.array([np.median(g) for g in groups if len(g) >= _LEAST_ROWS])
