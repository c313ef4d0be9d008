"""Donors in the audit of memory: fair draws from them, and an attack on whole donors whose null is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from diffaug.metrics._checks import Matrix
from diffaug.metrics._nearest import nearest_rows

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

FEWEST = 3  # on each side; with fewer no arrangement of the donors is rarer than one in ten
_LEAST_ROWS = 5
_MOST_ARRANGEMENTS = 5000


@dataclass(frozen=True)
class DonorAttack:
    """Whether training donors' rows are nearer to synthetic rows than these donors' difference explains.

    Attributes
    ----------
    auc, low, high
        Of telling training from held-out donors by their shares; the interval is that of 0.5 by chance, around the value.
    chance
        Share of the arrangements of the donors with so great a difference of the two shares below, or a greater one.
    inside, outside
        Mean over the training, and over the held-out, donors of the share of rows that are nearer to a synthetic row than
        to another training row.
    """

    auc: float
    low: float
    high: float
    chance: float
    inside: float
    outside: float


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
    synthetic: Matrix,
    train: Matrix,
    held_out: Matrix,
    train_donors: NDArray,
    held_out_donors: NDArray,
    max_obs: int,
    rng: np.random.Generator,
) -> DonorAttack | str:
    """The attack on donors who are on one side only, or why there is none.

    Plain distances would accuse every honest generator: rows of the donors it learnt from are like its own. So each real
    row is asked whether a synthetic row or *another* training row, of equally many, is nearer. New rows of the training
    donors win half of the times for the training donors' rows (these two are alike but for the row itself, which is left
    out) and for the held-out donors' rows too; blurred rows lose, on both sides. Only rows that lean on the very training
    rows win more often among the training donors.
    """
    outside = np.flatnonzero(~np.isin(held_out_donors, np.unique(train_donors)))
    n_inside, n_outside = len(np.unique(train_donors)), len(np.unique(held_out_donors[outside]))
    if min(n_inside, n_outside) < FEWEST:
        return (
            f"Whole donors could not be attacked: that takes {FEWEST} training donors and {FEWEST} others, found "
            f"{n_inside} and {n_outside}."
        )
    n = min(synthetic.shape[0], train.shape[0] - 1, 2 * max_obs)
    made = synthetic[np.sort(rng.permutation(synthetic.shape[0])[:n])]
    order = rng.permutation(train.shape[0])[: n + 1]  # one more, as a training row is not compared with itself
    asked, held = rng.permutation(train.shape[0])[:max_obs], rng.permutation(outside)[:max_obs]
    inside = _shares(train[asked], train_donors[asked], made, train[order], itself=(asked, order))
    out = _shares(held_out[held], held_out_donors[held], made, train[order], itself=None)
    if min(len(inside), len(out)) < FEWEST:
        return (
            f"Whole donors could not be attacked: that takes {FEWEST} donors with {_LEAST_ROWS} cells on each side, found "
            f"{len(inside)} and {len(out)}."
        )
    auc = float((np.sign(inside[:, None] - out) + 1).mean() / 2)
    half = 1.96 * math.sqrt((len(inside) + len(out) + 1) / (12 * len(inside) * len(out)))
    return DonorAttack(
        auc,
        max(auc - half, 0.0),
        min(auc + half, 1.0),
        permutation_chance(inside, out, rng),
        float(inside.mean()),
        float(out.mean()),
    )


def _shares(x: Matrix, donors: NDArray, made: Matrix, reference: Matrix, *, itself: tuple[Rows, Rows] | None) -> Array:
    """Share of each donor's rows that are nearer to ``made`` than to ``reference``, without the row itself."""
    distance, index = nearest_rows(x, reference, k=2)
    other = distance[:, 0]
    if itself is not None:
        other = np.where(itself[1][index[:, 0]] == itself[0], distance[:, 1], other)
    near = nearest_rows(x, made, k=1)[0][:, 0]
    wins = np.where(near < other, 1.0, np.where(near > other, 0.0, 0.5))
    found = [wins[donors == name] for name in np.unique(donors)]
    return np.array([w.mean() for w in found if len(w) >= _LEAST_ROWS])


def permutation_chance(inside: Array, outside: Array, rng: np.random.Generator) -> float:
    """Share of the arrangements of the values in two such groups whose means differ so much, in this direction, or more."""
    values, k = np.concatenate([inside, outside]), len(inside)
    seen = values[:k].sum() - 1e-12
    if math.comb(len(values), k) <= _MOST_ARRANGEMENTS:
        return float(np.mean([values[list(c)].sum() >= seen for c in combinations(range(len(values)), k)]))
    drawn = [values[rng.permutation(len(values))[:k]].sum() >= seen for _ in range(_MOST_ARRANGEMENTS)]
    return (1 + sum(drawn)) / (1 + _MOST_ARRANGEMENTS)
