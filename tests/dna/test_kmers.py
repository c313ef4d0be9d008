"""Words, motifs and shuffles."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffaug import dna

text = st.text("ACGTN", min_size=1, max_size=25).filter(lambda s: s.strip("N"))


def words(s: str, k: int) -> Counter[str]:
    found = [s[i : i + k] for i in range(len(s) - k + 1)]
    return Counter(w for w in found if "N" not in w)


@settings(max_examples=40, deadline=None)
@given(st.lists(text, min_size=1, max_size=4), st.integers(1, 6))
def test_kmer_counts(sequences: list[str], k: int) -> None:
    counts = dna.kmer_counts(sequences, k).toarray()
    assert counts.shape == (len(sequences), 4**k)
    for s, row in zip(sequences, counts, strict=True):
        found = {
            "".join("ACGT"[code // 4 ** (k - 1 - j) % 4] for j in range(k)): int(n) for code, n in enumerate(row) if n
        }
        assert found == dict(words(s, k))
    share = dna.kmer_frequencies(sequences, k).toarray()
    np.testing.assert_allclose(share.sum(axis=1), [float(bool(words(s, k))) for s in sequences], rtol=1e-5)


def test_kmer_limits() -> None:
    for k in (0, 9):
        with pytest.raises(ValueError, match=f"Expected `k` between 1 and 8, found {k}"):
            dna.kmer_counts(["ACGT"], k)


def test_gc_content() -> None:
    np.testing.assert_allclose(dna.gc_content(["GCGC", "ATTA", "GATN", "acgt"]), [1, 0, 1 / 3, 0.5])


def test_motif_frequency() -> None:
    sequences = ["AGTAG", "GTTTT", "AGT"]
    np.testing.assert_allclose(dna.motif_frequency(sequences, "GT"), [1 / 3, 2 / 3, 0, 0])
    np.testing.assert_allclose(dna.motif_frequency(sequences, "ANT"), [2 / 3, 0, 0])
    with pytest.raises(ValueError, match="Expected sequences of at least 6 bases, found 5 at most"):
        dna.motif_frequency(sequences, "ACGTAC")


def test_splice_sites_have_their_motif_at_the_centre() -> None:
    """A planted set: GT at position 10 of each, elsewhere by chance."""
    rng = np.random.default_rng(0)
    planted = ["".join(rng.choice(list("ACGT"), 10)) + "GT" + "".join(rng.choice(list("ACGT"), 10)) for _ in range(400)]
    share = dna.motif_frequency(planted, "GT")
    assert share[10] == 1
    assert np.delete(share, 10).max() < 0.15
    assert dna.motif_frequency(dna.shuffle(planted), "GT").max() < 0.2


@settings(max_examples=30, deadline=None)
@given(text, st.integers(0, 5))
def test_shuffles_keep_what_they_promise(s: str, seed: int) -> None:
    (one,), (two,) = (dna.shuffle([s], k=k, random_state=seed) for k in (1, 2))
    assert Counter(one) == Counter(s)
    assert Counter(zip(two[:-1], two[1:], strict=True)) == Counter(zip(s[:-1], s[1:], strict=True))
    assert (two[0], two[-1]) == (s[0], s[-1])


def test_pair_shuffles_are_uniform() -> None:
    """All sequences with the pairs of ACACGA, as often as each other: there are two, and the oracle counts them."""
    s = "AACAGAATA"
    pairs = Counter(zip(s[:-1], s[1:], strict=True))

    def walks(left: Counter[tuple[str, str]], here: str) -> list[str]:
        if not left.total():
            return [here]
        found = []
        for (a, b), n in left.items():
            if a == here and n:
                found += [here + rest for rest in walks(left - Counter({(a, b): 1}), b)]
        return found

    allowed = set(walks(pairs, s[0]))
    assert len(allowed) > 10
    n = 100 * len(allowed)
    counts = Counter(dna.shuffle([s] * n, k=2))
    assert set(counts) == allowed
    spread = np.array([counts[w] for w in allowed])
    assert ((spread - 100) ** 2 / 100).sum() < 2 * len(allowed)  # chi-squared


def test_shuffles_shuffle() -> None:
    s = "ACGTTGCA" * 5
    for k in (1, 2):
        assert dna.shuffle([s], k=k)[0] != s
        assert dna.shuffle([s], k=k) == dna.shuffle([s], k=k)
        assert dna.shuffle([s], k=k) != dna.shuffle([s], k=k, random_state=1)
    assert dna.kmer_distance([s], dna.shuffle([s], k=2), 2) == 0
    assert dna.kmer_distance([s], dna.shuffle([s], k=1), 2) > 0.1
    with pytest.raises(ValueError, match=r"Expected `k` in \[1, 2\], found 3"):
        dna.shuffle([s], k=3)
