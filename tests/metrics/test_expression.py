"""Gene-gene agreement, markers and transfer, each with an oracle and a control."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from diffaug.metrics import correlation_agreement, marker_agreement, transfer_accuracy
from diffaug.metrics import expression as e
from diffaug.metrics._forest import forest_auc_values
from diffaug.metrics._resample import ones
from diffaug.metrics.markers import RealHalves, random_half, slope_values, type_means

RNG = np.random.default_rng(0)
TYPES = np.repeat(["a", "b", "c"], 60)
SHIFT = 2 * RNG.normal(size=(3, 40))
MIX = RNG.normal(size=(40, 40))


def rows(seed: int, strength: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(180, 40)) @ MIX / 6
    return noise + strength * np.repeat(SHIFT, 60, axis=0)


def test_correlation_agreement_is_numpys() -> None:
    a, b = rows(0), rows(1)
    upper = np.triu_indices(40, 1)
    expected = np.corrcoef(np.corrcoef(a.T)[upper], np.corrcoef(b.T)[upper])[0, 1]
    assert correlation_agreement(a, b) == pytest.approx(expected)


def test_within_types_the_shifts_do_not_flatter() -> None:
    """Genes shuffled within types keep the types' means, and with them much of the pooled correlation."""
    made = rows(1)
    for t in "abc":
        made[TYPES == t] = RNG.permuted(made[TYPES == t], axis=0)
    assert correlation_agreement(rows(0), made) > 0.5
    assert abs(correlation_agreement(rows(0), made, labels=(TYPES, TYPES))) < 0.2
    assert correlation_agreement(rows(0), rows(2), labels=(TYPES, TYPES)) > 0.5  # 60 cells a type


@pytest.mark.parametrize("strength", [1.0, 0.6, 1.3])
def test_the_slope_is_the_strength_of_the_shift(strength: float) -> None:
    """Genes are chosen on other cells, so that real cells get a slope of 1 and not less."""
    found = marker_agreement(
        rows(0), rows(1, strength), TYPES, TYPES, reference=rows(2), reference_labels=TYPES, n_slope=20
    )
    assert found.types == ("a", "b", "c")
    np.testing.assert_allclose(found.slope, strength, atol=0.12)


def few_cells(seed: int, part: int, n_genes: int = 300) -> np.ndarray:
    """Sixty cells a type of many genes whose changes are hardly larger than their noise."""
    shift = 0.3 * np.random.default_rng(seed).normal(size=(3, n_genes))
    return np.repeat(shift, 60, axis=0) + np.random.default_rng([seed, 1 + part]).normal(size=(180, n_genes))


def mean_slope(made: str, reference: str | None = None) -> float:
    """Over 20 worlds of held-out ("h"), training ("t") and other ("s") real cells."""
    found = []
    for seed in range(20):
        cells = {name: few_cells(seed, part) for part, name in enumerate("hts")}
        options = {} if reference is None else {"reference": cells[reference], "reference_labels": TYPES}
        found.append(marker_agreement(cells["h"], cells[made], TYPES, TYPES, **options).slope.mean())
    return float(np.mean(found))


def test_the_slope_of_real_cells_is_one_however_few_they_are() -> None:
    assert mean_slope("s") == pytest.approx(1, abs=0.03)
    assert mean_slope("t") == pytest.approx(mean_slope("s"), abs=0.05)  # training cells, and a thief who has them
    # Controls: genes chosen on the held-out cells, or on the training cells, and least squares.
    assert mean_slope("s", "h") < 0.9
    assert mean_slope("t", "t") > mean_slope("s", "t") + 0.1


def test_halves_are_of_different_donors_where_types_allow_it() -> None:
    labels, donors = np.tile(np.repeat(["a", "b"], 10), 4), np.repeat(["u", "v", "w", "x"], 20)
    rng = np.random.default_rng(0)
    first, apart = random_half(labels, donors, ["a", "b"], rng)
    assert apart and not set(donors[first]) & set(donors[~first]) and first.sum() == 40
    one = np.where(donors == "u", "b", "a")  # a type of one donor
    first, apart = random_half(one, donors, ["a", "b"], rng)
    assert not apart and [int(((one == t) & first).sum()) for t in "ab"] == [30, 10]


def test_the_peculiarities_of_donors_draw_the_slope_down_unless_they_are_apart() -> None:
    donors = np.tile(np.repeat(list("uvwxyz"), 10), 3)
    found: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(20):
        rng = np.random.default_rng([seed, 9])
        x = few_cells(seed, 0)
        for t in "abc":  # each donor's types have changes of their own
            for d in "uvwxyz":
                x[(TYPES == t) & (donors == d)] += 0.3 * rng.normal(size=x.shape[1])
        for apart in found:
            first = random_half(TYPES, donors if apart else None, ["a", "b", "c"], rng)[0]
            halves = RealHalves.of(x, TYPES, ones(180), ["a", "b", "c"], first, 50)
            found[apart].append(
                slope_values(halves, type_means(few_cells(seed, 2), TYPES, ones(180), ["a", "b", "c"])).mean()
            )
    assert np.mean(found[True]) == pytest.approx(1, abs=0.05) and np.mean(found[False]) < 0.9


def test_types_without_enough_cells_have_no_slope() -> None:
    keep = np.r_[0:60, 60:69, 120:180]
    slope = marker_agreement(rows(0)[keep], rows(1), TYPES[keep], TYPES).slope
    assert np.isfinite(slope).tolist() == [True, False, True]
    x = np.random.default_rng(0).normal(size=(180, 40))  # no differences between types
    assert np.isnan(marker_agreement(x, rows(1), TYPES, TYPES).slope).all()


def test_another_composition_changes_no_marker() -> None:
    keep = np.r_[0:60, 60:80, 120:180]
    full = marker_agreement(rows(0), rows(1), TYPES, TYPES, n_markers=5)
    part = marker_agreement(rows(0), rows(1)[keep], TYPES, TYPES[keep], n_markers=5)
    np.testing.assert_allclose(part.slope, full.slope, atol=0.1)
    assert full.recall.min() > 0.5


def test_transfer_of_right_swapped_and_missing_types() -> None:
    swap = np.where(TYPES == "a", "b", np.where(TYPES == "b", "a", "c"))
    assert transfer_accuracy(rows(1), TYPES, rows(0), TYPES) > 0.95
    assert transfer_accuracy(rows(1), swap, rows(0), TYPES) == pytest.approx(1 / 3, abs=0.05)
    assert transfer_accuracy(rows(1)[60:], TYPES[60:], rows(0), TYPES) == pytest.approx(2 / 3, abs=0.05)
    assert transfer_accuracy(rows(1)[:60], TYPES[:60], rows(0), TYPES) == pytest.approx(1 / 3)


def test_marginals_are_numpys() -> None:
    a, b = np.maximum(rows(0), 0), np.maximum(rows(1), 0)
    w = ones(180)
    assert e.mean_values(a, b, w, w)[0] == pytest.approx(np.abs(a.mean(0) - b.mean(0)).sum() / a.mean(0).sum())
    assert e.variance_values(a, b, w, w)[0] == pytest.approx(np.abs(a.var(0) - b.var(0)).sum() / a.var(0).sum())
    assert e.zero_values(a, b, w, w)[0] == pytest.approx(np.abs((a == 0).mean(0) - (b == 0).mean(0)).mean())


def test_the_forests_auc_is_sklearns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pairs' form of the AUC, on judgements that are known."""
    from sklearn.ensemble import RandomForestClassifier

    judged = np.round(np.random.default_rng(5).random(60), 1)  # with ties

    def fit(self: RandomForestClassifier, *_: object) -> RandomForestClassifier:
        self.oob_decision_function_ = np.stack([1 - judged, judged], axis=1)
        return self

    monkeypatch.setattr(RandomForestClassifier, "fit", fit)
    weights = np.random.default_rng(6).integers(0, 4, size=(3, 60)).astype(float)
    found = forest_auc_values(np.zeros((25, 2)), np.ones((35, 2)), weights[:, :25], weights[:, 25:], max_depth=None)
    truth = np.repeat([0, 1], [25, 35])
    np.testing.assert_allclose(found, [roc_auc_score(truth, judged, sample_weight=w) for w in weights])


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least two types on both sides, found 1"):
        marker_agreement(rows(0), rows(1), TYPES, np.repeat("a", 180))
    with pytest.raises(ValueError, match="`reference` and `reference_labels` together"):
        marker_agreement(rows(0), rows(1), TYPES, TYPES, reference=rows(2))
    with pytest.raises(ValueError, match="Expected `train` and `test` to have the same columns"):
        transfer_accuracy(rows(0), TYPES, rows(1)[:, 1:], TYPES)
