"""Numbers about synthetic sequences, with sets of which the answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffaug import dna

N = 100


def markov(n: int, seed: int, stay: float = 0.6, length: int = 50) -> list[str]:
    """Sequences whose letters repeat with probability ``stay``: words of two tell different values apart."""
    rng = np.random.default_rng(seed)
    base = np.zeros((n, length), dtype=int)
    base[:, 0] = rng.integers(0, 4, n)
    for i in range(1, length):
        base[:, i] = np.where(rng.random(n) < stay, base[:, i - 1], rng.integers(0, 4, n))
    return ["".join("ACGT"[b] for b in row) for row in base]


def test_kmer_distance() -> None:
    assert dna.kmer_distance(["ACGT"], ["ACGT"], 2) == 0
    assert dna.kmer_distance(["AAAA"], ["CCCC"], 1) == 1
    # By the definition: shares (1/2, 1/2, 0, 0) and (1/2, 0, 1/2, 0), mean (1/2, 1/4, 1/4, 0).
    divergence = 0.5 * (0.5 * np.log2(2)) + 0.5 * (0.5 * np.log2(2))
    assert dna.kmer_distance(["AC"], ["AG"], 1) == pytest.approx(np.sqrt(divergence))
    with pytest.raises(ValueError, match="Expected sequences with words of 5 known bases, found none"):
        dna.kmer_distance(["ACGT"], ["ACGTA"], 5)


def test_nearest_distance() -> None:
    rng = np.random.default_rng(0)
    a, b = (
        ["".join(rng.choice(list("ACGTN"), rng.integers(3, 12), p=[0.24] * 4 + [0.04])) + "A" for _ in range(20)]
        for _ in range(2)
    )
    expected = []
    for s in a:
        shares = []
        for t in b:
            same = sum(p == q != "N" for p, q in zip(s, t, strict=False))
            shares.append(1 - same / max(len(s), len(t)))
        expected.append(min(shares))
    np.testing.assert_allclose(dna.nearest_distance(a, b), expected, atol=1e-6)
    np.testing.assert_allclose(dna.nearest_distance(a, b, chunk=3), expected, atol=1e-6)
    assert dna.nearest_distance(["ACGT"], ["ACGT", "A"]).tolist() == [0]


@pytest.fixture(scope="module")
def reports() -> dict[str, dna.SequenceReport]:
    """Judgements of good, of bad and of copied sequences."""
    train, held, fresh = (markov(N, seed) for seed in range(3))
    made = {"same": fresh, "copies": train[: N // 2] * 2, "shuffled": dna.shuffle(fresh)}
    return {name: dna.judge(s, train=train, held_out=held) for name, s in made.items()}


def test_sequences_of_the_same_source_reach_the_floor(reports: dict[str, dna.SequenceReport]) -> None:
    found = reports["same"]
    for k in (1, 2, 3):
        assert found.kmer[k].value < 1.5 * found.kmer[k].floor
    assert 0.35 < found.discriminator.value < 0.65
    assert 0.35 < found.discriminator.floor < 0.65
    assert 0.3 < found.memorisation.closer_to_train < 0.7
    assert found.memorisation.copies.value == 0
    assert found.gc_mean.value == pytest.approx(0.5, abs=0.05)
    assert (found.n_synthetic, found.n_train, found.n_held_out) == (N, N, N)


def test_others_do_not(reports: dict[str, dna.SequenceReport]) -> None:
    found = reports["shuffled"]
    assert found.kmer[2].value > 2 * found.kmer[2].floor
    assert found.discriminator.value > 0.8
    assert found.kmer[1].value == pytest.approx(reports["same"].kmer[1].value)  # letters were kept
    few = markov(20, 5)
    cut = dna.judge([s[:40] for s in few], train=few, held_out=few[::-1])
    assert (cut.length.value, cut.length.floor) == (10, 0)


def test_copies_are_found(reports: dict[str, dna.SequenceReport]) -> None:
    found = reports["copies"].memorisation
    assert found.copies.value == 1
    assert found.copies.floor == 0
    assert found.closer_to_train > 0.95
    assert found.distance.value == 0
    assert found.distance.floor > 0.3


def test_report_is_plain(reports: dict[str, dna.SequenceReport]) -> None:
    plain = json.loads(json.dumps(reports["same"].to_dict()))
    assert plain["discriminator"]["value"] == reports["same"].discriminator.value
    assert set(plain["kmer"]) == set("123456")


def test_judge_needs_some_of_each() -> None:
    some = markov(10, 0)
    with pytest.raises(ValueError, match="Expected at least 10 sequences in `train`, found 9"):
        dna.judge(some, train=some[:9], held_out=some)
    with pytest.raises(ValueError, match="found 'X'"):
        dna.judge(["X"] * 10, train=some, held_out=some)
