"""Whether synthetic rows are copies of the rows that the generator was trained on, and give these away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.metrics import roc_auc_score

from diffaug.core.arguments import whole_number
from diffaug.metrics._checks import Matrix, as_codes, as_matrix, check_same_columns
from diffaug.metrics._donors import donor_attack, donor_memory, equal_draws
from diffaug.metrics._nearest import nearest_rows

Array = NDArray[np.float64]

NEAR = 0.5  # so much nearer to a training row than to any other real row: a near copy
_MOST_EXACT = 0.01  # above the floor; cells of a few counts may be equal by chance
_MOST_NEAR = 0.02  # above the floor
_MOST_CLOSER = 0.52
_MOST_MEMBERSHIP = 0.55
_LEAST = 10
_LEAST_SHARED = 20


@dataclass(frozen=True)
class MemorizationAudit:
    """What gives training rows away, beside what real rows would show.

    Values are NaN where they need held-out rows, or donors, that were not given. *Unseen* rows are ``unseen`` where given,
    else the held-out ones.

    Attributes
    ----------
    passed
        Whether no test failed.
    reasons
        One sentence for each failed test.
    notes
        One sentence for each value that could not be judged, or was judged in another way.
    exact_share, exact_floor
        Share of synthetic rows that equal a training row; the same for unseen rows.
    near_share, near_floor
        Share of synthetic rows that are less than half as far from their nearest training row as from the nearest other
        real row, be it an unseen or a training one. The floor is of real rows.
    distance_ratio, distance_ratio_floor
        Median of that ratio of distances, and the same for real rows.
    closer_share, closer_low, closer_high
        Share of synthetic rows that are closer to a training row than to an unseen one, from equally many of each (of each
        donor, where donors were given), and its 95 % interval. 0.5 is right.
    held_out_closer_share
        The same with held-out rows, whoever their donors are; never judged.
    membership_auc, membership_low, membership_high
        AUC of an attacker who takes real rows near a synthetic one for training rows, on the rows of the closer-to-train
        share; 0.5 is right.
    donor_membership_auc, donor_membership_low, donor_membership_high
        AUC of an attacker who takes donors near synthetic rows, by the median distance of their rows, for training donors.
        Never judged: it is high for honest rows too if donors differ.
    donor_membership_null
        The same attack by *unseen* rows of the training donors: what resemblance alone gives away.
    donor_memory_auc, donor_memory_low, donor_memory_high
        How well that distance tells seen from unseen rows of the same donor: mean over donors, with its interval over donors.
        0.5 is right, however much donors differ.
    n_synthetic, n_train, n_held_out, n_unseen
        Rows that were given. Distances are of ``n_judged`` synthetic rows, to all training rows.
    n_judged
        See above.
    memory_judged
        Whether the closer-to-train share and the membership attack count.
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
    held_out_closer_share: float
    membership_auc: float
    membership_low: float
    membership_high: float
    donor_membership_auc: float
    donor_membership_low: float
    donor_membership_high: float
    donor_membership_null: float
    donor_memory_auc: float
    donor_memory_low: float
    donor_memory_high: float
    n_synthetic: int
    n_train: int
    n_held_out: int
    n_unseen: int
    n_judged: int
    memory_judged: bool


def memorization_audit(
    synthetic: Matrix,
    train: Matrix,
    held_out: Matrix | None = None,
    *,
    unseen: Matrix | None = None,
    train_donors: ArrayLike | None = None,
    held_out_donors: ArrayLike | None = None,
    unseen_donors: ArrayLike | None = None,
    max_obs: int = 2000,
    random_state: int = 0,
) -> MemorizationAudit:
    """Look for copies, near copies and leaks of training rows among synthetic ones.

    With donors on both sides and none in common, training and held-out rows differ by more than membership: honest
    synthetic rows resemble the training donors. Then ``unseen`` rows of the *training* donors judge memory. Without them
    the closer-to-train share and the membership attack are reported and not judged; copies and near copies are. Where some
    donors are on both sides, their rows alone judge memory. Within three or more donors the attack has an interval over
    donors, and is judged. What gives whole donors away is reported beside what their resemblance alone gives away.

    Parameters
    ----------
    synthetic
        Generated rows, shape ``(m, d)``; dense or ``scipy.sparse``.
    train
        Rows that the generator was trained on, all of them, on the same scale.
    held_out
        Real rows that it never saw. Without them only copies and near copies can be judged.
    unseen
        Real rows like the training ones that it never saw either: best a random part of the training donors' rows that was
        set apart before the training. In all but the attack on whole donors they take the place of ``held_out``.
    train_donors, held_out_donors
        Donor of each row; both or none.
    unseen_donors
        Donors of ``unseen``. Rows of donors that were not trained on are left out, with a note.
    max_obs
        Greatest number of synthetic, and of held-out, rows whose distances are taken; drawn at random.
    random_state
        Seed of the drawing.

    Returns
    -------
    :class:`MemorizationAudit`; ``passed`` says whether the rows may be handed out.

    Raises
    ------
    TypeError, ValueError
        If the matrices do not fit, have fewer than ten rows, donors are given on one side only, or training rows are among
        ``unseen``.

    Examples
    --------
    >>> import numpy as np
    >>> train, held_out, other = np.random.default_rng(0).normal(size=(3, 100, 20))
    >>> memorization_audit(other, train, held_out).passed, memorization_audit(train, train, held_out).passed
    (True, False)
    """
    whole_number("max_obs", max_obs, _LEAST)
    if (train_donors is None) != (held_out_donors is None) or (held_out is None and held_out_donors is not None):
        raise ValueError("Expected the donors of the training and of the held-out rows together, found one of them.")
    if unseen_donors is not None and (unseen is None or train_donors is None):
        raise ValueError("Expected `unseen` and `train_donors` with `unseen_donors`, found none.")
    everything, seen = (as_matrix(x, n, min_rows=_LEAST) for x, n in ((synthetic, "synthetic"), (train, "train")))
    check_same_columns(everything, seen, ("synthetic", "train"))
    held = _checked(held_out, "held_out", everything)
    other = _checked(unseen, "unseen", everything)
    donors_t = _names(train_donors, "train_donors", seen)
    donors_h = _names(held_out_donors, "held_out_donors", held)
    donors_u = _names(unseen_donors, "unseen_donors", other)
    notes: list[str] = []
    seen_prints = row_fingerprints(seen)
    if other is not None:
        _refuse_seen(other, seen_prints)
        if donors_u is not None and donors_t is not None:
            known = np.isin(donors_u, donors_t)
            if known.sum() < _LEAST:
                raise ValueError(
                    f"Expected at least {_LEAST} cells of training donors in `unseen`, found {int(known.sum())} of "
                    f"{len(known)}. Pass cells of the donors that were trained on."
                )
            if not known.all():
                notes.append(
                    f"{int((~known).sum())} of {len(known)} unseen cells are of donors that were not trained on; they took "
                    "no part."
                )
                other, donors_u = other[np.flatnonzero(known)], donors_u[known]
    rng = np.random.default_rng(random_state)
    made = _drawn(everything, max_obs, rng)
    to_train = nearest_rows(made, seen, k=2)[0]
    nan = float("nan")
    exact = float(np.isin(row_fingerprints(everything), seen_prints).mean())
    closer = closer_low = closer_high = held_closer = auc = auc_half = nan
    attack = memory = null = None
    fresh, donors = (other, donors_u) if other is not None else (held, donors_h)
    pair, judged, said = _pairing(donors_t, donors)
    notes += said
    others = to_train[:, 1]
    if fresh is None:
        judged = False
        notes.append("No held-out rows were given: only copies and near copies could be judged.")
        exact_floor = float(1 - len(np.unique(seen_prints)) / len(seen_prints))
    else:
        exact_floor = float(np.isin(row_fingerprints(fresh), seen_prints).mean())
        others = np.minimum(others, nearest_rows(made, fresh, k=1)[0][:, 0])
    ratio = _ratio(to_train[:, 0], others)
    # Held-out rows of other donors are far from the training rows: training rows themselves then show what is usual.
    like_train = fresh is not None and judged and (pair is None or other is not None)
    some = _drawn(fresh if like_train else seen, max_obs, rng)
    own = nearest_rows(some, seen, k=2 if like_train else 3)[0][:, 0 if like_train else 1 :]  # without the row itself
    if fresh is not None:
        own = np.column_stack([own, nearest_rows(some, fresh, k=2)[0][:, int(like_train)]])
    ratio_floor = _ratio(own[:, 0], own[:, 1:].min(axis=1))
    if fresh is not None:
        n_rows = (seen.shape[0], fresh.shape[0])
        rows_t, rows_h = equal_draws(*n_rows, pair, 2 * max_obs, rng)
        closer, closer_low, closer_high = _closer(made, seen[np.sort(rows_t)], fresh[np.sort(rows_h)])
        held_closer = closer
        if held is not None and (other is not None or pair is not None):
            rows = equal_draws(seen.shape[0], held.shape[0], None, 2 * max_obs, rng)
            held_closer = _closer(made, seen[rows[0]], held[rows[1]])[0]
        elif held is None:
            held_closer = nan
        # In random order: the first of sorted rows would be the first cells of a file, and so of a few donors.
        rows_t, rows_h = rows_t[:max_obs], rows_h[:max_obs]
        near_t, near_h = (nearest_rows(x, everything, k=1)[0][:, 0] for x in (seen[rows_t], fresh[rows_h]))
        auc = _attack(near_t, near_h)
        auc_half = 1.96 * float(
            np.sqrt((2 * len(rows_t) + 1) / (12 * len(rows_t) ** 2))
        )  # Mann-Whitney's, without a leak
        if donors_t is not None and donors is not None and pair is not None:
            memory = donor_memory(near_t, donors_t[rows_t], near_h, donors[rows_h])
        if held is not None and donors_t is not None and donors_h is not None:
            strange = rng.permutation(np.flatnonzero(~np.isin(donors_h, donors_t)))[:max_obs]
            far = nearest_rows(held[strange], everything, k=1)[0][:, 0] if len(strange) else np.empty(0)
            attack = donor_attack(near_t, donors_t[rows_t], far, donors_h[strange])
            if other is not None and donors_u is not None:
                null = donor_attack(near_h, donors_u[rows_h], far, donors_h[strange])
            if attack is None and len(strange):
                notes.append("Whole donors could not be attacked: that takes three training donors, and three others.")
    near, near_floor = float((ratio < NEAR).mean()), float((ratio_floor < NEAR).mean())
    near_half = 1.96 * np.sqrt(max(near * (1 - near), 1 / len(ratio)) / len(ratio))
    reasons = []
    if exact > exact_floor + _MOST_EXACT:
        reasons.append(f"{exact:.1%} of the synthetic cells are exact copies of training cells.")
    if near > near_floor + _MOST_NEAR and near - near_half > near_floor:
        reasons.append(
            f"{near:.1%} of the synthetic cells are near copies of a training cell; {near_floor:.1%} of real ones are."
        )
    word = "a held-out" if other is None else "an unseen"
    if judged and closer_low > _MOST_CLOSER:
        reasons.append(
            f"{closer:.1%} of the synthetic cells are closer to a training than to {word} cell; 50% is right."
        )
    if judged and auc - auc_half > _MOST_MEMBERSHIP:
        reasons.append(
            f"The distance to the nearest synthetic cell tells training from {word.split()[1]} cells (AUC {auc:.2f}; 0.50 is "
            "right)."
        )
    if judged and memory is not None and memory[1] > 0.5 and memory[0] > _MOST_MEMBERSHIP:
        reasons.append(
            f"Within donors, the distance to the nearest synthetic cell tells training from {word.split()[1]} cells (AUC "
            f"{memory[0]:.2f}, over donors {memory[1]:.2f} to {memory[2]:.2f}; 0.50 is right)."
        )
    whole, within = attack or (nan, nan, nan), memory or (nan, nan, nan)
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
        closer_low=closer_low,
        closer_high=closer_high,
        held_out_closer_share=held_closer,
        membership_auc=auc,
        membership_low=auc - auc_half,
        membership_high=auc + auc_half,
        donor_membership_auc=whole[0],
        donor_membership_low=whole[1],
        donor_membership_high=whole[2],
        donor_membership_null=nan if null is None else null[0],
        donor_memory_auc=within[0],
        donor_memory_low=within[1],
        donor_memory_high=within[2],
        n_synthetic=everything.shape[0],
        n_train=seen.shape[0],
        n_held_out=0 if held is None else held.shape[0],
        n_unseen=0 if other is None else other.shape[0],
        n_judged=made.shape[0],
        memory_judged=judged,
    )


def _pairing(train: NDArray | None, other: NDArray | None) -> tuple[tuple[NDArray, NDArray] | None, bool, list[str]]:
    """Donors to draw equally from, whether memory can be judged, and what has to be said of it."""
    if train is None or other is None:
        return None, True, []
    shared = np.intersect1d(train, other)
    n = sum(min(int((train == d).sum()), int((other == d).sum())) for d in shared)
    shown = "the closer-to-train share and the membership attack are shown and not judged."
    if len(shared) == 0:
        text = (
            "Training and held-out cells are of different donors, so that being closer to training cells need not be "
            f"memory: {shown} Cells of the training donors that were not trained on (`unseen`, --unseen) would judge it."
        )
        return None, False, [text]
    if n < _LEAST_SHARED:
        text = f"Only {n} cells of training donors (of {len(shared)}) are among the held-out ones: {shown}"
        return None, False, [text]
    said = []
    if set(train) != set(other):
        said.append(
            f"Donors on both sides: {len(shared)}, of {len(np.unique(train))} trained on and {len(np.unique(other))} of the "
            "other cells. Memory was judged by the cells of these, equally many of each on both sides."
        )
    return (train, other), True, said


def _checked(x: Matrix | None, name: str, made: Matrix) -> Matrix | None:
    if x is None:
        return None
    found = as_matrix(x, name, min_rows=_LEAST)
    check_same_columns(made, found, ("synthetic", name))
    return found


def _refuse_seen(unseen: Matrix, seen_prints: Array) -> None:
    share = float(np.isin(row_fingerprints(unseen), seen_prints).mean())
    if share > _MOST_EXACT:
        raise ValueError(
            f"Expected `unseen` cells that were not trained on, found {share:.0%} of them among the training cells. "
            "Pass others."
        )


def row_fingerprints(x: Matrix) -> Array:
    """One number per row: equal rows have equal numbers, others do not (up to a vanishing chance)."""
    # The sparse product adds the entries of a row in order, whatever rows stand around it; BLAS does not promise that.
    weights = np.random.default_rng(0).normal(size=x.shape[1])
    return sparse.csr_array(x, dtype=np.float64) @ weights


def _closer(made: Matrix, seen: Matrix, unseen: Matrix) -> tuple[float, float, float]:
    """Share of rows whose nearest real row is a training one, and its interval (Wilson's).

    Rows with the same nearest real row are one witness and not many: the squares of their numbers say how many there are.
    """
    (d_t, i_t), (d_h, i_h) = nearest_rows(made, seen, k=1), nearest_rows(made, unseen, k=1)
    wins = np.where(d_t[:, 0] < d_h[:, 0], 1.0, np.where(d_t[:, 0] > d_h[:, 0], 0.0, 0.5))
    share = float(wins.mean())
    nearest = np.where(wins > 0.5, i_t[:, 0], seen.shape[0] + i_h[:, 0])
    n = len(wins) ** 2 / float((np.unique(nearest, return_counts=True)[1] ** 2).sum())
    z = 1.96**2 / n
    middle, half = (share + z / 2) / (1 + z), float(np.sqrt(z * (share * (1 - share) + z / 4))) / (1 + z)
    return share, middle - half, middle + half


def _attack(inside: Array, outside: Array) -> float:
    return float(roc_auc_score(np.repeat([1, 0], [len(inside), len(outside)]), -np.concatenate([inside, outside])))


def _ratio(near: Array, far: Array) -> Array:
    """Quotients of distances; 1 where both are 0, for a row that is everywhere gives nobody away."""
    return np.divide(near, far, out=np.ones_like(near), where=far > 0)


def _drawn(x: Matrix, n: int, rng: np.random.Generator) -> Matrix:
    return x if x.shape[0] <= n else x[np.sort(rng.permutation(x.shape[0])[:n])]


def _names(values: ArrayLike | None, name: str, x: Matrix | None) -> NDArray | None:
    """Donors as text; none without rows that they could belong to."""
    if values is None or x is None:
        return None
    codes, names = as_codes(values, name, x.shape[0])
    return names[codes].astype(str)
