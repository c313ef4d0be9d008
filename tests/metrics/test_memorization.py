"""The audit stops copies and lets honest rows pass; verdicts follow their rules."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import sparse

from diffaug.metrics import judge_synthetic, memorization_audit
from diffaug.metrics.catalogue import MEASURES, judged, normalised
from diffaug.metrics.memorization import _nearest
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


def test_donors_are_judged_by_copies_only() -> None:
    """Training donors lie elsewhere: honest synthetic rows are close to them, and that is no leak."""
    shift = np.eye(20)[0] * 3
    donors = {"train_donors": np.resize(["a", "b"], 150), "held_out_donors": np.resize(["c", "d"], 150)}
    audit = memorization_audit(S + shift, T + shift, H, **donors)
    assert audit.passed and audit.closer_low > 0.52 and audit.donor_membership_auc == 1
    assert not memorization_audit(S + shift, T + shift, H).passed  # control: without donors it has to be taken for one
    assert not memorization_audit(T + shift, T + shift, H, **donors).passed


def test_nearest_rows_are_exact() -> None:
    x = np.vstack([T[:5] + 1e-6, S[:30]]).astype(np.float32) + 100
    reference = (T + 100).astype(np.float32)
    distance, index = _nearest(x, reference, k=3)
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
