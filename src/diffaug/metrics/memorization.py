"""Whether synthetic rows are copies of the rows that the generator was trained on, and give these away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.metrics import roc_auc_score

from diffaug.metrics._checks import Matrix, as_codes, as_matrix, check_count, check_same_columns

Array = NDArray[np.float64]

NEAR = 0.5  # so much nearer to a training row than to any other real row: a near copy
_MOST_EXACT = 0.01  # above the floor; cells of a few counts may be equal by chance
_MOST_NEAR = 0.02  # above the floor
_MOST_CLOSER = 0.52
_MOST_MEMBERSHIP = 0.55
_CHUNK = 1024
_LEAST = 10


@dataclass(frozen=True)
class MemorizationAudit:
    """What gives training rows away, beside what real rows would show.

    Values are NaN where they need held-out rows, or donors, that were not given.

    Attributes
    ----------
    passed
        Whether no test failed.
    reasons
        One sentence for each failed test.
    notes
        One sentence for each value that could not be judged.
    exact_share, exact_floor
        Share of synthetic rows that equal a training row; the same for held-out rows.
    near_share, near_floor
        Share of synthetic rows that are less than half as far from their nearest training row as from the nearest other
        real row: a held-out one, or without these the second nearest training row. The floor is of real rows.
    distance_ratio, distance_ratio_floor
        Median of that ratio of distances, and the same for real rows.
    closer_share, closer_low, closer_high
        Share of synthetic rows that are closer to a training row than to a held-out one, from equally many of each, and
        its 95 % interval. 0.5 is right.
    membership_auc, membership_low, membership_high
        AUC of an attacker who takes real rows near a synthetic one for training rows; 0.5 is right.
    donor_membership_auc
        The same for whole donors, by the median distance of their rows.
    n_synthetic, n_train, n_held_out
        Rows that were given. Distances are of ``n_judged`` synthetic rows, to all training rows.
    n_judged
        See above.
    """

    passed: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    exact_share: float
    exact_floor: float
    near_share: float
    near_floor: float
    distance_ratio: float
    distance_ratio_floor: float
    closer_share: float
    closer_low: float
    closer_high: float
    membership_auc: float
    membership_low: float
    membership_high: float
    donor_membership_auc: float
    n_synthetic: int
    n_train: int
    n_held_out: int
    n_judged: int


def memorization_audit(
    synthetic: Matrix,
    train: Matrix,
    held_out: Matrix | None = None,
    *,
    train_donors: ArrayLike | None = None,
    held_out_donors: ArrayLike | None = None,
    max_obs: int = 2000,
    random_state: int = 0,
) -> MemorizationAudit:
    """Look for copies, near copies and leaks of training rows among synthetic ones.

    With donors on both sides and none in common, training and held-out rows differ by more than membership: honest
    synthetic rows resemble the training donors. The closer-to-train share and the membership attack are then reported
    and not judged; copies and near copies are.

    Parameters
    ----------
    synthetic
        Generated rows, shape ``(m, d)``; dense or ``scipy.sparse``.
    train
        Rows that the generator was trained on, all of them, on the same scale.
    held_out
        Real rows that it never saw. Without them only copies and near copies can be judged.
    train_donors, held_out_donors
        Donor of each row; both or none.
    max_obs
        Greatest number of synthetic, and of held-out, rows whose distances are taken.
    random_state
        Seed of the drawing.

    Returns
    -------
    :class:`MemorizationAudit`; ``passed`` says whether the rows may be handed out.

    Raises
    ------
    TypeError, ValueError
        If the matrices do not fit, have fewer than ten rows, or donors are given on one side only.

    Examples
    --------
    >>> import numpy as np
    >>> train, held_out, other = np.random.default_rng(0).normal(size=(3, 100, 20))
    >>> memorization_audit(other, train, held_out).passed, memorization_audit(train, train, held_out).passed
    (True, False)
    """
    check_count(max_obs, "max_obs", least=_LEAST)
    if (train_donors is None) != (held_out_donors is None) or (held_out is None and held_out_donors is not None):
        raise ValueError("Expected the donors of the training and of the held-out rows together, found one of them.")
    made, seen = as_matrix(synthetic, "synthetic", min_rows=_LEAST), as_matrix(train, "train", min_rows=_LEAST)
    check_same_columns(made, seen, ("synthetic", "train"))
    rng = np.random.default_rng(random_state)
    all_made = made
    made = _drawn(made, max_obs, rng)
    to_train = _nearest(made, seen, k=2)[0]
    nan, notes = float("nan"), []
    exact_floor = closer = closer_half = auc = auc_half = donor_auc = nan
    seen_prints = row_fingerprints(seen)
    exact = float(np.isin(row_fingerprints(all_made), seen_prints).mean())
    donors_differ = False
    if held_out is None:
        notes.append("No held-out rows were given: only copies and near copies could be judged.")
        ratio = _ratio(to_train[:, 0], to_train[:, 1])
        own = _nearest(_drawn(seen, max_obs, rng), seen, k=3)[0]
        ratio_floor = _ratio(own[:, 1], own[:, 2])  # 0 is the row itself
        exact_floor = float(1 - len(np.unique(seen_prints)) / len(seen_prints))
    else:
        unseen = as_matrix(held_out, "held_out", min_rows=_LEAST)
        check_same_columns(made, unseen, ("synthetic", "held_out"))
        exact_floor = float(np.isin(row_fingerprints(unseen), seen_prints).mean())
        some = _drawn(unseen, max_obs, rng)
        ratio = _ratio(to_train[:, 0], _nearest(made, unseen, k=1)[0][:, 0])
        ratio_floor = _ratio(_nearest(some, seen, k=1)[0][:, 0], _nearest(some, unseen, k=2)[0][:, 1])
        n = min(seen.shape[0], unseen.shape[0], 2 * max_obs)
        rows_t, rows_h = (np.sort(rng.permutation(x.shape[0])[:n]) for x in (seen, unseen))
        closer, closer_half = _closer(made, seen[rows_t], unseen[rows_h])
        rows_t, rows_h = rows_t[:max_obs], rows_h[:max_obs]
        if train_donors is not None and held_out_donors is not None:
            donors_t = _names(train_donors, "train_donors", seen.shape[0])[rows_t]
            donors_h = _names(held_out_donors, "held_out_donors", unseen.shape[0])[rows_h]
            donors_differ = not set(donors_t) & set(donors_h)
        distance_t, distance_h = (_nearest(x, all_made, k=1)[0][:, 0] for x in (seen[rows_t], unseen[rows_h]))
        auc = _attack(distance_t, distance_h)
        auc_half = 1.96 * float(
            np.sqrt((2 * len(rows_t) + 1) / (12 * len(rows_t) ** 2))
        )  # Mann-Whitney's, without a leak
        if donors_differ:
            medians = [
                np.array([np.median(d[who == name]) for name in np.unique(who)])
                for d, who in ((distance_t, donors_t), (distance_h, donors_h))
            ]
            donor_auc = _attack(*medians)
            notes.append(
                "Training and held-out cells are of different donors, so that being closer to training cells need not "
                "be memory: the closer-to-train share and the membership attack are shown and not judged."
            )
    near, near_floor = float((ratio < NEAR).mean()), float((ratio_floor < NEAR).mean())
    near_half = 1.96 * np.sqrt(max(near * (1 - near), 1 / len(ratio)) / len(ratio))
    reasons = []
    if exact > exact_floor + _MOST_EXACT:
        reasons.append(f"{exact:.1%} of the synthetic cells are exact copies of training cells.")
    if near > near_floor + _MOST_NEAR and near - near_half > near_floor:
        reasons.append(
            f"{near:.1%} of the synthetic cells are near copies of a training cell; {near_floor:.1%} of real ones are."
        )
    if not donors_differ and closer - closer_half > _MOST_CLOSER:
        reasons.append(
            f"{closer:.1%} of the synthetic cells are closer to a training than to a held-out cell; 50% is right."
        )
    if not donors_differ and auc - auc_half > _MOST_MEMBERSHIP:
        reasons.append(
            f"The distance to the nearest synthetic cell tells training from held-out cells (AUC {auc:.2f}; 0.50 is right)."
        )
    return MemorizationAudit(
        passed=not reasons,
        reasons=tuple(reasons),
        notes=tuple(notes),
        exact_share=exact,
        exact_floor=exact_floor,
        near_share=near,
        near_floor=near_floor,
        distance_ratio=float(np.median(ratio)),
        distance_ratio_floor=float(np.median(ratio_floor)),
        closer_share=closer,
        closer_low=closer - closer_half,
        closer_high=closer + closer_half,
        membership_auc=auc,
        membership_low=auc - auc_half,
        membership_high=auc + auc_half,
        donor_membership_auc=donor_auc,
        n_synthetic=all_made.shape[0],
        n_train=seen.shape[0],
        n_held_out=0 if held_out is None else held_out.shape[0],
        n_judged=made.shape[0],
    )


def row_fingerprints(x: Matrix) -> Array:
    """One number per row: equal rows have equal numbers, others do not (up to a vanishing chance)."""
    # The sparse product adds the entries of a row in order, whatever rows stand around it; BLAS does not promise that.
    weights = np.random.default_rng(0).normal(size=x.shape[1])
    return sparse.csr_array(x, dtype=np.float64) @ weights


def _closer(made: Matrix, seen: Matrix, unseen: Matrix) -> tuple[float, float]:
    """Share of rows whose nearest real row is a training one, and half of its interval.

    Rows with the same nearest real row are one witness and not many: the variance sums the squares of their numbers.
    """
    (d_t, i_t), (d_h, i_h) = _nearest(made, seen, k=1), _nearest(made, unseen, k=1)
    wins = np.where(d_t[:, 0] < d_h[:, 0], 1.0, np.where(d_t[:, 0] > d_h[:, 0], 0.0, 0.5))
    share = float(wins.mean())
    nearest = np.where(wins > 0.5, i_t[:, 0], seen.shape[0] + i_h[:, 0])
    squares = float((np.unique(nearest, return_counts=True)[1] ** 2).sum())
    return share, 1.96 * float(np.sqrt(max(share * (1 - share), 1 / len(wins)) * squares)) / len(wins)


def _attack(inside: Array, outside: Array) -> float:
    return float(roc_auc_score(np.repeat([1, 0], [len(inside), len(outside)]), -np.concatenate([inside, outside])))


def _ratio(near: Array, far: Array) -> Array:
    """Quotients of distances; 1 where both are 0, for a row that is everywhere gives nobody away."""
    return np.divide(near, far, out=np.ones_like(near), where=far > 0)


def _nearest(x: Matrix, reference: Matrix, *, k: int) -> tuple[Array, NDArray[np.intp]]:
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


def _drawn(x: Matrix, n: int, rng: np.random.Generator) -> Matrix:
    return x if x.shape[0] <= n else x[np.sort(rng.permutation(x.shape[0])[:n])]


def _dense(x: Matrix) -> NDArray:
    return (x.toarray() if sparse.issparse(x) else x).astype(np.float32)


def _names(values: ArrayLike, name: str, n: int) -> NDArray:
    codes, names = as_codes(values, name, n)
    return names[codes].astype(str)
