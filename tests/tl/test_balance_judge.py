"""The measurement behind ``tl.balance``: gains of known size, intervals that hold, and what is too little to judge by."""

from __future__ import annotations

import numpy as np
import pytest

from diffaug.tl._balance_judge import ARMS, Outcome, classify, group_gain, joined, pooled_gain, smote


def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two overlapping groups in two dimensions; the rare one has 4 training cells and 150 held-out ones."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["many", "rare"], [450, 154])
    x = rng.normal(size=(604, 12))
    x[labels == "rare", :2] += [1.5, 1.5]
    held = np.zeros(604, dtype=bool)
    held[300:450] = held[454:] = True
    return x.astype(np.float32), labels, held


def test_real_help_is_shown_and_false_help_is_not() -> None:
    """Fresh cells of the truth help against four repeated ones; cells of the other group do harm."""
    x, labels, held = planted()

    def truth(group: str, n: int, seed: int) -> np.ndarray:
        fresh = np.random.default_rng(seed).normal(size=(n, 12))
        fresh[:, :2] += 1.5
        return fresh

    def wrong(group: str, n: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(n, 12)) - 1.0

    good, bad = (classify(x, labels, held, {"rare": 296}, draw, [1, 2]) for draw in (truth, wrong))
    assert pooled_gain(good, None).is_shown and pooled_gain(good, None).low > 0.02
    assert group_gain(good, None, "rare").is_shown
    harm = pooled_gain(bad, None)
    assert not harm.is_shown and harm.gain < 0 and harm.is_harm and not group_gain(bad, None, "rare").is_shown
    assert (
        harm.accuracy["none"] == pooled_gain(good, None).accuracy["none"] < pooled_gain(good, None).accuracy["DiffAug"]
    )


def outcome(truth: np.ndarray, ours: np.ndarray, others: np.ndarray, filled: tuple[str, ...] = ("b",)) -> Outcome:
    """One repeat; cells where an arm is wrong are taken for the group ``"?"``."""
    said = {arm: np.where(ours if arm == "DiffAug" else others, truth, "?")[None] for arm in ARMS}
    return Outcome(np.arange(len(truth)), truth, said, {g: np.ones(len(truth), dtype=bool) for g in filled})


def test_the_gain_is_the_difference_of_mean_recalls() -> None:
    truth = np.repeat(["a", "b"], [80, 20])
    others = np.ones(100, dtype=bool)
    others[80:90] = False  # half of b
    every = np.ones(100, dtype=bool)
    found = pooled_gain(outcome(truth, every, others), None)
    assert (found.gain, found.accuracy["none"]) == pytest.approx((0.25, 0.75))
    assert 0 < found.low < 0.25 < found.high < 0.5
    own = group_gain(outcome(truth, every, others), None, "b")  # nothing but b was taken wrongly, so this is the same
    assert own.gain == pytest.approx(0.25) and own.recall["none"] == pytest.approx(0.5) and own.n_cells == 20
    same = pooled_gain(outcome(truth, others, others), None)
    assert same.gain == 0 and same.low < 0 < same.high and not same.is_shown


def test_cells_taken_for_the_group_count_against_it() -> None:
    """Recall alone would praise whoever calls everything b."""
    truth = np.repeat(["a", "b"], [80, 20])
    found = outcome(truth, np.ones(100, dtype=bool), truth == "a")
    found.said["DiffAug"][:] = "b"
    gain = group_gain(found, None, "b")
    assert (gain.recall["DiffAug"], gain.recall["none"]) == (1, 0)
    assert gain.gain == pytest.approx(0) and not gain.is_shown


def by_donor(gains: list[int], n: int = 10) -> tuple[Outcome, np.ndarray]:
    """Donors with 40 cells of ``a`` and ``n`` of ``b``, of which ours gets so many right and the others none."""
    truth = np.tile(np.repeat(["a", "b"], [40, n]), len(gains))
    donors = np.repeat([f"d{i}" for i in range(len(gains))], 40 + n)
    ours = np.concatenate([np.arange(40 + n) < 40 + gain for gain in gains])
    return outcome(truth, ours, truth == "a"), donors


def test_a_gain_on_one_donor_is_not_shown() -> None:
    """Over cells it would be: ten of forty are plenty."""
    found, donors = by_donor([10, 0, 0, 0])
    for gain in (pooled_gain(found, donors), group_gain(found, donors, "b")):
        assert gain.gain == pytest.approx(0.125) and not gain.is_shown and gain.low < 0
        assert gain.by_donor == pytest.approx({"d0": 0.5, "d1": 0, "d2": 0, "d3": 0})
    assert group_gain(found, None, "b").is_shown
    found, donors = by_donor([10, 8, 9, 7])
    assert pooled_gain(found, donors).is_shown and group_gain(found, donors, "b").is_shown


def test_the_interval_over_donors_is_students() -> None:
    """Where the donors differ by more than their cells explain."""
    found, donors = by_donor([50, 10, 30, 40, 25], n=50)
    gain = group_gain(found, donors, "b")
    values = np.array([50, 10, 30, 40, 25]) / 100
    half = 2.7764 * values.std(ddof=1) / np.sqrt(5)  # quantile .975 of Student's t with 4 degrees of freedom
    assert (gain.low, gain.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-4)


@pytest.mark.parametrize(("n_donors", "n"), [(1, 40), (2, 40), (3, 1), (4, 1)])
def test_too_little_to_judge_by(n_donors: int, n: int) -> None:
    """All of it is gain, with no spread: that is no proof."""
    found, donors = by_donor([n] * n_donors, n=n)
    for gain in (pooled_gain(found, donors), group_gain(found, donors, "b")):
        assert gain.gain == pytest.approx(0.5)
        assert not group_gain(found, donors, "b").is_shown
    assert group_gain(found, donors, "b").why
    assert n_donors > 2 or "not judged over donors" in pooled_gain(found, donors).why


def test_a_single_cell_decides_nothing() -> None:
    for sizes in ([1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]):
        found, donors = by_donor(sizes, n=6)
        assert not group_gain(found, donors, "b").is_shown and not pooled_gain(found, donors).is_shown
        assert not group_gain(found, None, "b").is_shown


@pytest.mark.parametrize("over_donors", [True, False])
def test_chance_is_seldom_taken_for_help(over_donors: bool) -> None:
    """Two arms that are right about the same share of cells: at most about one in forty is called help; real help is found."""
    rng = np.random.default_rng(1)
    truth = np.tile(np.repeat(["a", "b"], [40, 8]), 5)
    donors = np.repeat(np.arange(5).astype(str), 48) if over_donors else None
    shown = {}
    for better, n_draws in ((0.0, 400), (0.4, 50)):
        hits = 0
        for _ in range(n_draws):
            of_donor = np.repeat(rng.uniform(0.3, 0.5, size=5), 48)  # some donors are easier
            chance = np.where(truth == "b", of_donor, 0.95)
            ours, others = (rng.random(240) < chance + extra * (truth == "b") for extra in (better, 0.0))
            hits += group_gain(outcome(truth, ours, others), donors, "b").is_shown
        shown[better] = hits / n_draws
    assert shown[0.0] <= 0.04 and shown[0.4] > 0.6


def test_parts_that_could_not_be_filled_say_nothing_of_the_group() -> None:
    truth = np.repeat(["a", "b"], [10, 6])
    right = np.ones(16, dtype=bool)
    first, second = outcome(truth, right, right), outcome(truth, right, truth == "a", filled=())
    both = joined([first, second], ["b"])
    assert both.filled["b"].tolist() == [True] * 16 + [False] * 16 and len(both.rows) == 32
    assert group_gain(both, None, "b").gain == pooled_gain(both, None).gain == 0
    nowhere = joined([second, second], ["b"])
    gain = group_gain(nowhere, None, "b")
    assert np.isnan(gain.gain) and "could be filled" in gain.why == str(gain) and not gain.is_shown


def test_smote_stays_between_two_cells() -> None:
    own = np.random.default_rng(0).normal(size=(7, 3))
    for point in smote(own, 30, np.random.default_rng(1)):
        # On a segment, the distances to its ends add up to its length.
        to = np.linalg.norm(own - point, axis=1)
        detour = to[:, None] + to[None] - np.linalg.norm(own[:, None] - own[None], axis=2)
        np.fill_diagonal(detour, np.inf)
        assert detour.min() < 1e-9
