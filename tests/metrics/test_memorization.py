"""The audit stops copies and lets honest rows pass; verdicts follow their rules."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import sparse

from diffaug.metrics import judge_synthetic, memorization_audit
from diffaug.metrics._donors import donor_attack, donor_memory, equal_draws
from diffaug.metrics._nearest import nearest_rows
from diffaug.metrics.catalogue import MEASURES, judged, normalised
from diffaug.metrics.nulls import make_null

T, H, S = np.random.default_rng(0).normal(size=(3, 150, 20))


def test_honest_rows_pass_whatever_the_seed() -> None:
    """The false-alarm rate over 40 draws: at most what the intervals' 95 % allow."""
    alarms = 0
    for seed in range(40):
        t, h, s = np.random.default_rng(seed).normal(size=(3, 120, 20))
        alarms += not memorization_audit(s, t, h).passed
    assert alarms <= 2


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("held_out", [True, False])
def test_copies_and_near_copies_fail(held_out: bool, form: object) -> None:
    near = T + 0.05 * np.random.default_rng(1).normal(size=T.shape)
    for made, word in ((T, "exact copies"), (near, "near copies")):
        audit = memorization_audit(form(made), form(T), form(H) if held_out else None)  # type: ignore[operator]
        assert not audit.passed and word in audit.reasons[0]
        assert math.isnan(audit.closer_share) is not held_out
    honest = memorization_audit(form(S), form(T), form(H) if held_out else None)  # type: ignore[operator]
    assert honest.passed and honest.near_share <= 0.02


def test_a_few_copies_among_many_are_found() -> None:
    made = np.vstack([S, T[:8]])
    audit = memorization_audit(made, T, H)
    assert not audit.passed and audit.exact_share == pytest.approx(8 / 158)


def test_smooth_cells_are_no_copies() -> None:
    """Local means lie near training and held-out rows alike; a rule on distances alone would call them copies."""
    audit = memorization_audit(0.3 * S, T, H)
    assert audit.passed and audit.near_share == 0


def test_more_training_than_held_out_rows_do_not_bias_the_share() -> None:
    t, s = np.random.default_rng(2).normal(size=(2, 900, 6))
    audit = memorization_audit(s, t, H[:, :6])
    assert abs(audit.closer_share - 0.5) < 0.08 and audit.closer_low < 0.5 < audit.closer_high


# --- donors ----------------------------------------------------------------------------------------------------------

N_DONORS, OF_A_DONOR = 6, 40


def from_donors(seed: int, part: int, names: str = "abcdef") -> tuple[np.ndarray, np.ndarray]:
    """Rows of donors that lie apart from each other; another part has other rows of the same donors."""
    places = {d: np.random.default_rng([seed, ord(d)]).normal(size=12) for d in "abcdefuvwxyz"}
    donors = np.repeat(list(names), OF_A_DONOR)
    noise = np.random.default_rng([seed, part]).normal(size=(len(donors), 12))
    return np.array([places[d] for d in donors]) + noise, donors


def with_donors(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Training rows, and the keyword arguments of an audit whose held-out rows are of other donors."""
    train, train_donors = from_donors(seed, 0)
    held_out, held_out_donors = from_donors(seed, 1, "uvwxyz")
    return train, {"held_out": held_out, "train_donors": train_donors, "held_out_donors": held_out_donors}


def remembered(train: np.ndarray) -> np.ndarray:
    """Training rows with so much noise that hardly any is a near copy."""
    return train + 0.7 * np.random.default_rng(3).normal(size=train.shape)


def unseen_too(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    train, known = with_donors(seed)
    return train, known | dict(zip(("unseen", "unseen_donors"), from_donors(seed, 4), strict=True))


def test_honest_rows_pass_where_donors_differ() -> None:
    """New rows of the training donors, in 40 worlds: closer to training rows by far, and that is no leak."""
    alarms, whole, closer = 0, [], []
    for seed in range(40):
        train, known = with_donors(seed)
        audit = memorization_audit(from_donors(seed, 2)[0], train, **known)
        alarms += not audit.passed
        whole.append(audit.donor_membership_auc)
        closer.append(audit.closer_share)
        assert not audit.memory_judged and math.isnan(audit.donor_memory_auc)
    assert alarms <= 2
    assert min(closer) > 0.7 and np.mean(whole) > 0.9  # control: these alone would accuse all of them
    assert not memorization_audit(from_donors(39, 2)[0], train, known["held_out"]).passed


@pytest.mark.parametrize("spread", [0.0, 0.4, 0.7, 1.0, 1.3])
def test_honest_rows_pass_however_blurred_or_noisy(spread: float) -> None:
    """Places of the donors as other rows show them, with too little or too much noise around them."""
    alarms, within, null = 0, [], []
    for seed in range(20):
        train, known = unseen_too(seed)
        rows, donors = from_donors(seed, 2)
        others = from_donors(seed, 5)[0]  # means of the training rows would be a small leak
        place = {d: others[donors == d].mean(axis=0) for d in "abcdef"}
        middle = np.array([place[d] for d in donors])
        own = np.array([rows[donors == d].mean(axis=0) for d in donors])
        audit = memorization_audit(middle + spread * (rows - own), train, **known)
        alarms += not audit.passed
        within.append(audit.donor_memory_auc)
        null.append(audit.donor_membership_auc - audit.donor_membership_null)
    assert alarms <= 2
    assert abs(np.mean(within) - 0.5) < 0.03 and abs(np.mean(null)) < 0.03


def test_unseen_rows_of_the_training_donors_judge_memory() -> None:
    for seed in range(10):
        train, known = unseen_too(seed)
        blind = memorization_audit(remembered(train), train, **with_donors(seed)[1])
        assert not any("tells training from" in r or "closer" in r for r in blind.reasons)  # what it was before
        thief = memorization_audit(remembered(train), train, **known)
        assert thief.memory_judged and thief.held_out_closer_share > 0.7 and thief.n_unseen == 240
        assert not thief.passed and thief.closer_low > 0.52 and thief.membership_low > 0.55
        assert any("closer to a training than to an unseen cell" in r for r in thief.reasons)
        assert any("Within donors" in r for r in thief.reasons) and thief.donor_memory_low > 0.5


def test_the_interval_over_donors_covers_one_half() -> None:
    """Donors of their own levels, seen and unseen rows alike."""
    donors = np.repeat(np.arange(8), 20)
    hits, leaks = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        level = 5 * rng.normal(size=8)[donors]
        seen, unseen = level + rng.normal(size=(2, 160))
        _, low, high = donor_memory(seen, donors, unseen, donors)  # type: ignore[misc]
        hits += low < 0.5 < high
        leaks += donor_memory(seen - 1, donors, unseen, donors)[1] > 0.5  # type: ignore[index]
    assert 180 <= hits <= 199 and leaks > 190
    assert donor_memory(seen[:40], donors[:40], unseen, donors) is None  # two donors


def test_the_attack_on_whole_donors_is_its_formula() -> None:
    near, far = np.repeat([1.0, 2.0, 4.0], 5), np.repeat([3.0, 5.0, 6.0], 5)
    names = np.repeat(["a", "b", "c"], 5)
    auc, low, high = donor_attack(near, names, far, names)  # type: ignore[misc]
    assert auc == pytest.approx(8 / 9) and (auc - low) == pytest.approx(1.96 * math.sqrt(7 / 108)) and high == 1
    assert donor_attack(near[:10], names[:10], far, names) is None


def test_some_donors_on_both_sides_judge_memory_by_their_own_rows() -> None:
    train, train_donors = from_donors(0, 0)
    held_out, held_out_donors = from_donors(0, 1, "efuvw")
    known = {"train_donors": train_donors, "held_out_donors": held_out_donors}
    honest = memorization_audit(from_donors(0, 2)[0], train, held_out, **known)
    assert honest.passed and honest.memory_judged
    assert "Donors on both sides: 2, of 6 trained on and 5 of the other cells." in honest.notes[0]
    assert honest.held_out_closer_share > 0.6  # control: all rows together would accuse it
    assert abs(honest.closer_share - 0.5) < 0.15
    assert not memorization_audit(remembered(train), train, held_out, **known).passed
    known["held_out_donors"] = np.repeat(["a", "u"], [5, 195])
    few = memorization_audit(train + 5, train, held_out, **known)
    assert not few.memory_judged and "Only 5 cells of training donors (of 1)" in few.notes[0]


def test_files_in_the_order_of_their_donors() -> None:
    """More rows than are drawn, donor by donor: the attack sees all donors, and so does the rule on them."""
    donors = np.repeat(list("abcd"), 500)
    rng = np.random.default_rng(0)
    places = 6 * rng.normal(size=(4, 8))
    train, held_out, new = (places.repeat(500, axis=0) + rng.normal(size=(2000, 8)) for _ in range(3))
    # It remembers the last two donors only.
    leak = np.vstack([new[:1000], train[1000:] + 0.4 * rng.normal(size=(1000, 8))])
    options = {"max_obs": 400, "train_donors": donors, "held_out_donors": donors}
    found = memorization_audit(leak, train, held_out, **options)
    every = memorization_audit(leak, train, held_out, **{**options, "max_obs": 2000})
    assert every.membership_auc > 0.6 and abs(found.membership_auc - every.membership_auc) < 0.05
    # Held-out donors start with another one: only the first rows have none in common.
    turned = np.r_[np.repeat("z", 500), donors[:1500]]
    shifted = np.vstack([held_out[:500] + 9, held_out[:1500]])
    partly = memorization_audit(new, train, shifted, **{**options, "held_out_donors": turned})
    assert partly.memory_judged and "Donors on both sides: 3" in partly.notes[0]


def test_draws_are_equal_and_random() -> None:
    a, b = np.repeat(["x", "y", "z"], [50, 10, 30]), np.repeat(["w", "x", "y"], [40, 20, 40])
    one, other = equal_draws(90, 100, (a, b), 1000, np.random.default_rng(0))
    assert sorted(a[one]) == sorted(b[other]) == ["x"] * 20 + ["y"] * 10
    assert len(set(one)) == len(set(other)) == 30
    first = [equal_draws(1000, 1000, None, 10, np.random.default_rng(s))[0].mean() for s in range(200)]
    assert abs(np.mean(first) - 499.5) < 25  # the first rows alone would give 4.5


def test_nearest_rows_are_exact() -> None:
    x = np.vstack([T[:5] + 1e-6, S[:30]]).astype(np.float32) + 100
    reference = (T + 100).astype(np.float32)
    distance, index = nearest_rows(x, reference, k=3)
    full = np.linalg.norm(x[:, None].astype(float) - reference, axis=2)
    np.testing.assert_array_equal(index[:, 0], full.argmin(axis=1))
    np.testing.assert_allclose(distance[:, 0], full.min(axis=1), rtol=1e-3, atol=1e-4)


def test_errors_of_the_audit() -> None:
    with pytest.raises(ValueError, match="Expected `synthetic` and `train` to have the same columns"):
        memorization_audit(S[:, 1:], T)
    with pytest.raises(ValueError, match="donors of the training and of the held-out rows together"):
        memorization_audit(S, T, H, train_donors=["a"] * 150)
    with pytest.raises(ValueError, match="at least 10 rows"):
        memorization_audit(S[:5], T)
    with pytest.raises(ValueError, match="Expected `unseen` and `train_donors` with `unseen_donors`"):
        memorization_audit(S, T, H, unseen=S, unseen_donors=["a"] * 150)
    with pytest.raises(ValueError, match="Expected `unseen` cells that were not trained on, found 20% of them"):
        memorization_audit(S, T, H, unseen=np.vstack([H[:120], T[:30]]))
    donors = {"train_donors": ["a"] * 150, "held_out_donors": ["b"] * 150}
    with pytest.raises(ValueError, match="at least 10 cells of training donors in `unseen`, found 0 of 150"):
        memorization_audit(S, T, H, unseen=S, unseen_donors=["c"] * 150, **donors)
    mixed = memorization_audit(S, T, H, unseen=H, unseen_donors=np.repeat(["a", "c"], 75), **donors)
    assert "75 of 150 unseen cells are of donors that were not trained on" in mixed.notes[0] and mixed.n_unseen == 75


# --- nulls and verdicts ----------------------------------------------------------------------------------------------


def test_nulls_keep_what_they_say() -> None:
    rng = np.random.default_rng(0)
    x = (rng.gamma(2.0, size=(400, 8)) @ rng.random((8, 8))).astype(np.float32)
    types = np.repeat(["a", "b"], 200)
    x[types == "b"] *= 2
    shuffled = make_null("shuffle", x, types, rng)
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(x, axis=0))
    gaussian = make_null("gaussian", x, types, rng)
    for t in "ab":
        np.testing.assert_allclose(gaussian[types == t].mean(0), x[types == t].mean(0), rtol=0.1)
        assert np.abs(np.corrcoef(gaussian[types == t].T) - np.corrcoef(x[types == t].T)).max() < 0.25
    assert gaussian.min() >= 0 and make_null("copies", x, types, rng) is x
    with pytest.raises(ValueError, match="Expected `kind` in"):
        make_null("other", x, types, rng)


def test_scores_and_verdicts() -> None:
    auc, mmd, slope = MEASURES["auc_pcs"], MEASURES["mmd"], MEASURES["lfc_slope"]
    assert normalised(auc, 0.6, 0.5, 1.0) == pytest.approx(0.8)
    assert normalised(slope, 0.5, 1.0, 0.0) == pytest.approx(0.5)
    assert normalised(slope, 1.5, 1.0, 0.0) == pytest.approx(0.5)  # exaggerated is no better than attenuated
    assert math.isnan(normalised(auc, 0.6, 0.52, 0.55))  # the null is no worse than real cells
    assert judged(auc, 0.3, 0.5, 0.0, math.nan) == "good"
    assert [judged(slope, v, 1.0, 0.01, 0.0) for v in (0.96, 0.9, 0.8, 1.2)] == ["good", "fair", "poor", "poor"]
    assert judged(slope, 0.8, 1.0, 0.5, 0.0) == "fair"  # too uncertain to condemn
    assert [judged(mmd, 0.1, 0.0, 0.01, s) for s in (0.95, 0.8, 0.2)] == ["good", "fair", "poor"]
    assert judged(mmd, 0.1, 0.0, 0.2, 0.2) == "good"  # not told apart from real cells
    assert judged(mmd, math.nan, 0.0, 0.0, math.nan) == "not judged"


def test_copies_of_the_projection_are_judged_and_real_overlap_is_refused() -> None:
    x = np.random.default_rng(4).gamma(2.0, size=(4, 60, 10))
    options = {"n_resamples": 4, "n_estimators": 40, "n_components": 4}
    found = judge_synthetic(x[3], x[0], x[1], projection=x[3], **options)
    assert {s.measure: s.verdict for s in found.scores}["energy"] == "good"
    assert all(dataclasses.is_dataclass(s) and s.group is None for s in found.scores)
    for name in ("train", "held_out"):
        with pytest.raises(ValueError, match=f"Expected `projection` and `{name}` to be apart, found 100%"):
            judge_synthetic(x[3], x[0], x[1], projection=x[0 if name == "train" else 1], **options)
    with pytest.raises(ValueError, match="Expected `n_estimators` of at least 40, found 5"):
        judge_synthetic(x[3], x[0], x[1], n_estimators=5)
