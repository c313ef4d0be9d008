"""Whether filled groups are told apart better on cells that were held out: classifiers, gains and their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from diffaug.tl._library_sizes import spread

ARMS = ("none", "oversampling", "SMOTE", "DiffAug")
OURS = "DiffAug"
FEWEST_DONORS = 3
LEAST_HELD_OUT = 5
_N_COMPONENTS = 30
_N_NEIGHBORS = 5
_CONFIDENCE = 0.95

Array = NDArray[Any]


@dataclass(frozen=True)
class Outcome:
    """What classifiers said of held-out cells.

    Attributes
    ----------
    rows, truth
        Rows of the cells and their groups, shape ``(n,)``.
    said
        Group that each arm's classifiers took each cell for, shape ``(n_repeats, n)``.
    filled
        By group: whether it was filled in the training part that judged the cell, shape ``(n,)``.
    """

    rows: Array
    truth: Array
    said: dict[str, Array]
    filled: dict[str, Array]

    def right(self, arm: str, group: str | None = None) -> Array:
        """Share of the repeats in which the cell's group, or whether it is of ``group``, was said rightly."""
        said = self.said[arm]
        hit = said == self.truth if group is None else (said == group) == (self.truth == group)
        return np.asarray(hit.mean(axis=0))


@dataclass(frozen=True)
class Gain:
    """How much better synthetic cells are than the best other arm.

    Attributes
    ----------
    accuracy
        Balanced accuracy by arm: between all groups, or of telling one group from the rest.
    against
        The best other arm.
    gain, low, high
        Difference to it, with its 95 % interval; the ends are NaN where ``why`` says something.
    n_cells
        Held-out cells: all, or of the group.
    by_donor
        The difference on each donor; empty where there are no donors.
    why
        Why nothing can be judged; empty where it can.
    recall
        Of the group, by arm.
    """

    accuracy: dict[str, float]
    against: str
    gain: float
    low: float
    high: float
    n_cells: int
    by_donor: dict[str, float]
    why: str
    recall: dict[str, float]

    @property
    def is_shown(self) -> bool:
        return not self.why and self.low > 0

    @property
    def is_harm(self) -> bool:
        return not self.why and self.high < 0

    def __str__(self) -> str:
        if not np.isfinite(self.gain):
            return self.why
        ends = f"; {self.why}" if self.why else f", 95 % interval {self.low:+.3f} to {self.high:+.3f}"
        return (
            f"balanced accuracy {self.accuracy[OURS]:.3f} with synthetic cells against {self.accuracy[self.against]:.3f} "
            f"({self.against}), gain {self.gain:+.3f}{ends}"
        )


def classify(
    x: Array,
    labels: Array,
    held: Array,
    fill: Mapping[str, int],
    draw: Callable[[str, int, int], Any],
    seeds: Sequence[int],
) -> Outcome:
    """Learn from the cells that are not held out, with each arm's additions, and name the groups of those that are."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train, truth = labels[~held], labels[held]
    n_components = min(_N_COMPONENTS, x.shape[1], int((~held).sum()) - 1)
    pca = PCA(n_components, random_state=0).fit(x[~held])
    scaler = StandardScaler().fit(pca.transform(x[~held]))
    space = lambda values: scaler.transform(pca.transform(values))
    seen, unseen = space(x[~held]), space(x[held])
    said: dict[str, list[Array]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for arm in ARMS:
            extra = []
            for group, n in fill.items():
                own = seen[train == group]
                if arm == "oversampling":
                    extra.append(own[spread(np.arange(len(own)), n, rng)])
                elif arm == "SMOTE":
                    extra.append(smote(own, n, rng))
                elif arm == OURS:
                    values = draw(group, n, seed)
                    extra.append(space(np.asarray(values.toarray() if sp.issparse(values) else values)))
            names = np.repeat(list(fill), [len(e) for e in extra]) if extra else np.empty(0, dtype=train.dtype)
            of = np.concatenate([train, names])
            if (of == of[0]).all():  # one group alone is all that can be said
                said[arm].append(np.full(len(truth), of[0]))
                continue
            learner = LogisticRegression(max_iter=1000).fit(np.vstack([seen, *extra]), of)
            said[arm].append(learner.predict(unseen))
    return Outcome(
        np.flatnonzero(held),
        truth,
        {arm: np.stack(lines) for arm, lines in said.items()},
        {group: np.ones(len(truth), dtype=bool) for group in fill},
    )


def smote(own: Array, n: int, rng: np.random.Generator) -> Array:
    """Points at a random place between a row and one of its nearest others (Chawla et al. 2002)."""
    from sklearn.neighbors import NearestNeighbors

    k = min(_N_NEIGHBORS, len(own) - 1)
    near = NearestNeighbors(n_neighbors=k).fit(own).kneighbors(return_distance=False)  # without the row itself
    rows = spread(np.arange(len(own)), n, rng)
    others = near[rows, rng.integers(k, size=n)]
    return own[rows] + rng.random((n, 1)) * (own[others] - own[rows])


def joined(parts: Sequence[Outcome], groups: Sequence[str]) -> Outcome:
    """The cells of all parts, each of which was held out in one of them."""
    nowhere = [np.zeros(len(p.truth), dtype=bool) for p in parts]
    return Outcome(
        np.concatenate([p.rows for p in parts]),
        np.concatenate([p.truth for p in parts]),
        {arm: np.concatenate([p.said[arm] for p in parts], axis=1) for arm in ARMS},
        {g: np.concatenate([p.filled.get(g, none) for p, none in zip(parts, nowhere, strict=True)]) for g in groups},
    )


def pooled_gain(found: Outcome, donors: Array | None) -> Gain:
    """Gain in the mean recall of all groups."""
    judged = np.any(list(found.filled.values()), axis=0)
    right = {arm: found.right(arm)[judged] for arm in ARMS}
    return _gain(right, found.truth[judged], None if donors is None else donors[judged], int(judged.sum()), {})


def group_gain(found: Outcome, donors: Array | None, group: str) -> Gain:
    """Gain in telling one group from the rest: the mean of its recall and of the rest's."""
    own = found.truth == group
    judged = found.filled[group]
    if donors is not None:  # a donor without the group says nothing of its recall
        judged = judged & np.isin(donors, donors[judged & own])
    right = {arm: found.right(arm, group)[judged] for arm in ARMS}
    kinds = own[judged]
    of = None if donors is None else donors[judged]
    weights = _weights(np.zeros(len(kinds)), of) * kinds
    recall = {arm: float(weights @ right[arm] / weights.sum()) if kinds.any() else np.nan for arm in ARMS}
    return _gain(right, kinds, of, int(kinds.sum()), recall)


def _gain(right: dict[str, Array], strata: Array, donors: Array | None, n_cells: int, recall: dict[str, float]) -> Gain:
    nan = float("nan")
    if not n_cells:
        none = dict.fromkeys(ARMS, nan)
        return Gain(none, ARMS[0], nan, nan, nan, 0, {}, "no held-out cell of a part that could be filled", none)
    weights = _weights(strata, donors)
    accuracy = {arm: float(weights @ right[arm]) for arm in ARMS}
    against = max(ARMS[:-1], key=lambda arm: accuracy[arm])
    difference = right[OURS] - right[against]
    by_donor: dict[str, float] = {}
    why = f"{n_cells} held-out cells, fewer than {LEAST_HELD_OUT}: not judged" if n_cells < LEAST_HELD_OUT else ""
    if donors is not None:
        names = np.unique(donors)
        parts = [float((weights * difference)[donors == name].sum() * len(names)) for name in names]
        by_donor = dict(zip(names.tolist(), parts, strict=True))
        if len(names) < FEWEST_DONORS:
            why = f"{len(names)} held-out donors, fewer than {FEWEST_DONORS}: not judged over donors"
    gain = accuracy[OURS] - accuracy[against]
    half = nan if why else _half(difference, weights, strata, list(by_donor.values()))
    return Gain(accuracy, against, gain, gain - half, gain + half, n_cells, by_donor, why, recall)


def _weights(strata: Array, donors: Array | None) -> Array:
    """Weights of cells by which each donor counts alike, and within it each stratum."""
    donors = np.zeros(len(strata)) if donors is None else donors
    weights = np.zeros(len(strata))
    names = np.unique(donors)
    for name in names:
        of = donors == name
        _, codes, sizes = np.unique(strata[of], return_inverse=True, return_counts=True)
        weights[of] = 1 / (len(names) * len(sizes) * sizes[codes])
    return weights


def _half(difference: Array, weights: Array, strata: Array, by_donor: list[float]) -> float:
    """Half of the 95 % interval of a weighted mean: by Student's t over donors, and no shorter than the cells leave it.

    Equal differences of a few cells, or of a few donors with a cell each, have no spread and are no proof: within a
    stratum of n cells the variance of a difference counts as 1 / n at least, as if one cell had come out otherwise.
    """
    from scipy import stats

    quantile = lambda freedom: float(stats.t.ppf(0.5 + _CONFIDENCE / 2, freedom))
    parts, freedoms = [], []
    for stratum in np.unique(strata):
        of = strata == stratum
        n = int(of.sum())
        spread_of = float(difference[of].var(ddof=1)) if n > 1 else 0.0
        parts.append(float(np.square(weights[of]).sum()) * max(spread_of, 1 / n))
        freedoms.append(max(n - 1, 1))
    variance = sum(parts)
    freedom = variance**2 / sum(p**2 / f for p, f in zip(parts, freedoms, strict=True))  # Satterthwaite
    half = quantile(freedom) * variance**0.5
    if by_donor:
        n = len(by_donor)
        half = max(half, quantile(n - 1) * float(np.std(by_donor, ddof=1)) / n**0.5)
    return half
