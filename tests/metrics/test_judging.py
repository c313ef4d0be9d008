"""Absent types, the mean score, and resamples of donors: each rule beside a case that breaks it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import fisher_exact

from diffaug.metrics import Judgement, Score, _cell_measures, judge_synthetic
from diffaug.metrics._absent import absent_types
from diffaug.metrics._cells import Cells
from diffaug.metrics._resample import resampling_weights
from diffaug.metrics._score import finished, mean_score
from diffaug.metrics.catalogue import MEASURES, judged

OPTIONS = {"n_resamples": 30, "n_estimators": 40, "n_components": 4}


@pytest.fixture(autouse=True)
def no_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about forests, which take most of the time."""
    monkeypatch.setattr(_cell_measures, "forest_auc_values", lambda a, b, w, *_, **__: np.full(len(w), 0.5))


def cells(n: int, seed: int, n_genes: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Two types in equal parts."""
    rng = np.random.default_rng(seed)
    types = np.resize(["a", "b"], n)
    x = rng.gamma(2.0, size=(n, n_genes)) + 2.0 * (types == "b")[:, None] * (np.arange(n_genes) < 6)
    return x, types


# --- absent types ----------------------------------------------------------------------------------------------------


def test_rare_types_are_named_with_what_was_to_be_expected() -> None:
    train = np.repeat(["common", "rare", "rarer", "rarest"], [1969, 20, 8, 3])
    (rare, rarer, rarest) = absent_types(np.repeat("common", 1000), train)
    assert (rare.name, rare.share, rare.expected, rare.found) == ("rare", 0.01, 10.0, 0)
    assert [t.verdict for t in (rare, rarer, rarest)] == ["poor", "fair", "not judged"]
    assert str(rare) == (
        "rare (1.00% of the training cells, 10.0 synthetic ones expected, none found; by chance: 0.00029)"
    )
    for t, n in ((rare, 20), (rarer, 8), (rarest, 3)):
        assert t.chance == pytest.approx(fisher_exact([[0, 1000], [n, 2000 - n]], "less").pvalue)


def test_types_that_are_there_are_not_named_and_hardly_any_is_as_none() -> None:
    train = np.repeat(["common", "rare"], [1900, 100])
    assert absent_types(np.repeat(["common", "rare"], [970, 30]), train) == ()
    (few,) = absent_types(np.repeat(["common", "rare"], [998, 2]), train)
    assert few.verdict == "poor" and few.found == 2 and "50.0 synthetic ones expected, 2 found" in str(few)


def test_types_of_honest_cells_are_hardly_ever_called_absent() -> None:
    rng = np.random.default_rng(0)
    share = np.r_[np.full(20, 0.004), 0.92]
    verdicts = [
        {t.verdict for t in absent_types(rng.choice(21, 1000, p=share), rng.choice(21, 1000, p=share))}
        for _ in range(100)
    ]
    assert sum("poor" in v for v in verdicts) <= 5


def test_a_rare_type_is_missed_by_the_judgement() -> None:
    """One in a hundred training cells: too few to be judged alone, and not to be overlooked."""
    sets = [cells(n, s) for n, s in ((400, 2), (1600, 0), (200, 1))]
    train_types = sets[1][1].astype("U4")
    train_types[:24] = "rare"
    labels = (sets[0][1], train_types, sets[2][1])
    found = judge_synthetic(*(x for x, _ in sets), labels=labels, max_obs=100, **OPTIONS)
    assert found.missing_types == ("rare",) and found.absent_types[0].expected == 6
    assert {s.measure: s.verdict for s in found.scores if s.group is None}["composition"] == "poor"
    assert any("Types that the synthetic cells lack: rare (1.50% of the training cells, 6.0" in n for n in found.notes)


# --- the mean score --------------------------------------------------------------------------------------------------


def scored(measure: str, value: float, noise: float, seed: int) -> tuple[Score, np.ndarray]:
    rng = np.random.default_rng(seed)
    nulls = {k: np.array([v]) for k, v in {"gaussian": 0.6, "shuffle": 1.0, "noise": 0.8, "copies": 0.1}.items()}
    made, floor = (np.r_[v, v + noise * rng.normal(size=200)] for v in (value, 0.1))
    return finished(measure, None, 50, {"synthetic": made, "train": floor, **nulls}, poor=False)


def test_luck_above_one_makes_up_for_no_loss() -> None:
    found = [scored("mmd", 0.01, 0.0, 0), scored("energy", 0.28, 0.0, 1)]
    assert [s.score for s, _ in found] == pytest.approx([1.1, 0.8])
    mean = mean_score(found)
    assert mean.value == pytest.approx(0.9) and (mean.n_measures, mean.n_above) == (2, 1)
    assert found[1][0].score_median == pytest.approx((0.8 - 0.28) / (0.8 - 0.1))
    assert mean.median_null == pytest.approx((1 + found[1][0].score_median) / 2)


def test_the_interval_of_the_mean_is_that_of_its_resamples() -> None:
    """Two independent measures with excesses of standard deviation 0.05 sqrt 2, on a room of 0.9."""
    found = [scored("mmd", 0.3, 0.05, 0), scored("energy", 0.4, 0.05, 1)]
    mean = mean_score(found)
    half = 1.96 * 0.05 * math.sqrt(2) / 0.9
    assert (found[0][0].score_high - found[0][0].score_low) / 2 == pytest.approx(half, rel=0.12)
    assert mean.value - mean.low == pytest.approx(half / math.sqrt(2), rel=0.12)
    assert mean.value - mean.low == pytest.approx(mean.high - mean.value)
    assert mean_score([scored("mmd", 0.1, 0.05, 0)]).high == 1


def test_no_score_no_mean() -> None:
    assert math.isnan(mean_score([]).value)


def test_without_an_interval_nothing_is_poor() -> None:
    slope, mmd = MEASURES["lfc_slope"], MEASURES["mmd"]
    assert judged(slope, 0.5, 1.0, 0.01, 0.0) == judged(mmd, 0.5, 0.0, 0.01, 0.1) == "poor"
    assert judged(slope, 0.5, 1.0, math.nan, 0.0) == judged(mmd, 0.5, 0.0, math.nan, 0.1) == "fair"
    assert judged(slope, 0.98, 1.0, math.nan, 0.0) == "good"


# --- donors ----------------------------------------------------------------------------------------------------------


def by_donors(donors: np.ndarray, effect: float = 1.5, labels: np.ndarray | None = None) -> Judgement:
    held, types = cells(120, 1)
    held = held + effect * np.random.default_rng(5).normal(size=(9, 12))[np.unique(donors, return_inverse=True)[1]]
    (made, s), (train, t) = cells(120, 2), cells(160, 0)
    types = types if labels is None else labels
    return judge_synthetic(made, train, held, labels=(s, t, types), held_out_donors=donors, **OPTIONS)


def half_of(found: Judgement, measure: str, group: str | None) -> float:
    (score,) = (s for s in found.scores if (s.measure, s.group) == (measure, group))
    return (score.high - score.low) / 2


def test_two_donors_are_no_sample_and_the_notes_say_so() -> None:
    few, many = by_donors(np.resize(["u", "v"], 120)), by_donors(np.resize(list("uvwxyz"), 120))
    assert (few.resampled, many.resampled) == ("cells", "donors")
    assert any("of fewer than 3 donors: cells were resampled" in n for n in few.notes)
    assert not any("fewer than 3" in n for n in many.notes)
    assert half_of(many, "gene_mean", None) > 2 * half_of(few, "gene_mean", None)


def test_resamples_without_a_type_are_struck_out() -> None:
    """Taken as the data themselves, they would narrow the interval: a third of all, for a type of one donor in six."""
    donors = np.repeat(list("uvwxyz"), 20)
    weights = resampling_weights(120, 100, np.random.default_rng(0), donors)
    x = cells(120, 1)[0].astype(np.float32)
    real = Cells(x, x.astype(float), x.sum(axis=1, dtype=float), None, weights, donors)
    made = Cells(
        x, x.astype(float), x.sum(axis=1, dtype=float), None, resampling_weights(120, 100, np.random.default_rng(1))
    )
    rows = np.flatnonzero(donors == "z")
    found = _cell_measures.for_all(
        _cell_measures.gene_measures()["gene_mean"], real.of(rows), {"synthetic": made, "train": made}
    )
    empty = weights[:, rows].sum(axis=1) == 0
    assert 20 < empty.sum() < 50
    np.testing.assert_array_equal(np.isnan(found["synthetic"]), empty)
    again = real.of(rows).head(10, 0)  # and they stay so when cells are drawn from these
    np.testing.assert_array_equal(again.alive, ~empty)


def test_types_of_few_donors_are_named() -> None:
    donors = np.repeat(list("uvwxyz"), 20)
    found = by_donors(donors, labels=np.where(donors == "z", "b", "a"))
    assert any("Types of fewer than 3 held-out donors: b. Within these, cells were resampled" in n for n in found.notes)
    assert half_of(found, "gene_mean", "b") > 0
    assert math.isnan(half_of(found, "lfc_slope", "b")) and not math.isnan(half_of(found, "gene_mean", "a"))


# --- the slope -------------------------------------------------------------------------------------------------------


def test_the_slope_owes_nothing_to_the_training_cells() -> None:
    """Many weak genes, few cells: chosen on training cells they flatter a thief, and real cells fall below 1."""
    honest, thief = [], []
    for seed in range(12):
        shift = 0.22 * np.random.default_rng(seed).normal(size=(2, 150))
        types = np.resize(["a", "b"], 160)
        x = [
            3 + shift[(types == "b").astype(int)] + np.random.default_rng([seed, 1 + i]).normal(size=(160, 150))
            for i in range(3)
        ]
        for made, slopes in ((x[2], honest), (x[0], thief)):
            found = judge_synthetic(made, x[0], x[1], labels=(types,) * 3, n_resamples=2, n_estimators=40)
            slopes += [s.value for s in found.scores if s.measure == "lfc_slope" and s.group is None]
    assert np.mean(honest) == pytest.approx(1, abs=0.06)  # 0.87 with genes of the training cells
    assert np.mean(thief) == pytest.approx(np.mean(honest), abs=0.06)  # and 1.00
