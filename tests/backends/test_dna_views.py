"""Hand-made views of DNA, read as text: every view must be one that the definition allows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from diffaug.backends import _dna_views as views

BASES = "ACGT"
LARGEST = 6
LENGTHS = [40, 33, 40, 25, 40, 8, 36, 40]


def text(x: torch.Tensor) -> list[str]:
    """One-hot rows up to their last base; asserts that they are one-hot with padding behind."""
    found = []
    for row in x:
        n = int(row.sum())
        assert torch.equal(row.sum(dim=0), (torch.arange(row.shape[1]) < n).float())
        assert ((row == 0) | (row == 1)).all()
        found.append("".join(BASES[b] for b in row[:, :n].argmax(dim=0)))
    return found


def rows(seed: int = 0, times: int = 25) -> tuple[torch.Tensor, torch.Tensor]:
    """Random sequences of mixed lengths, and the lengths."""
    lengths = torch.tensor(LENGTHS * times)
    base = torch.randint(4, (len(lengths), max(LENGTHS)), generator=torch.Generator().manual_seed(seed))
    x = torch.nn.functional.one_hot(base, 4).transpose(1, 2).float()
    return x * (torch.arange(x.shape[2]) < lengths[:, None])[:, None], lengths


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def complement(s: str) -> str:
    return s[::-1].translate(str.maketrans(BASES, BASES[::-1]))


def largest(s: str) -> int:
    return min(LARGEST, max(1, len(s) // 4))


def is_translocation(s: str, view: str) -> bool:
    return any(view == s[i:] + s[:i] for m in range(1, largest(s) + 1) for i in (m, len(s) - m))


def is_insertion(s: str, view: str) -> bool:
    """``view`` is the middle of ``s`` with a segment put in."""
    for m in range(1, largest(s) + 1):
        for place in range(len(s)):
            longer = [*s[:place], *[None] * m, *s[place:]][m // 2 :][: len(s)]
            if all(b is None or b == a for a, b in zip(view, longer, strict=True)):
                return True
    return False


def is_deletion(s: str, view: str) -> bool:
    for m in range(1, largest(s) + 1):
        for start in range(len(s) - m + 1):
            left = s[:start] + s[start + m :]
            if view[m // 2 : m // 2 + len(left)] == left:
                return True
    return False


def is_inversion(s: str, view: str) -> bool:
    return any(
        view == s[:i] + complement(s[i : i + m]) + s[i + m :]
        for m in range(1, largest(s) + 1)
        for i in range(len(s) - m + 1)
    )


@pytest.mark.parametrize("kind", ["translocation", "insertion", "deletion", "inversion"])
def test_every_view_is_of_its_kind(kind: str) -> None:
    x, lengths = rows()
    allowed: Callable[[str, str], bool] = globals()[f"is_{kind}"]
    made = text(getattr(views, kind)(x, lengths, generator(), LARGEST))
    originals = text(x)
    assert [len(v) for v in made] == lengths.tolist()
    assert all(allowed(s, v) for s, v in zip(originals, made, strict=True))
    assert np.mean([s != v for s, v in zip(originals, made, strict=True)]) > 0.9
    # Control: views of other sequences of the same length are not taken for views of these.
    long = [i for i, n in enumerate(LENGTHS * 25) if n == 40]
    wrong = sum(allowed(originals[i], made[j]) for i, j in zip(long, np.roll(long, 1), strict=True))
    assert wrong <= 0.02 * len(long)


@pytest.mark.parametrize("kind", ["insertion", "deletion", "inversion"])
def test_places_are_everywhere(kind: str) -> None:
    """A sequence that numbers its positions in the channel of A: any may change, and both ends do as often."""
    n, length = 4000, 20
    x = torch.zeros(n, 4, length)
    x[:, 0] = torch.arange(2, length + 2)
    made = getattr(views, kind)(x, torch.full((n,), length), generator(), 4)[:, 0]
    if kind == "deletion":  # which numbers are gone
        changed = 1 - torch.stack([(made == i).any(dim=1).float().mean() for i in range(2, length + 2)])
    elif kind == "insertion":  # where there is none
        changed = (made < 2).float().mean(dim=0)
    else:
        changed = (made == 0).float().mean(dim=0)
    assert (changed > 0.02).all()
    assert abs(float(changed[: length // 2].mean() - changed[length // 2 :].mean())) < 0.04


def test_segment_sizes() -> None:
    """Uniform from 1 to the least of the limit and a quarter of the row."""
    lengths = torch.tensor([100, 8, 3, 1] * 2000)
    sizes = views.segment_sizes(lengths, 5, generator()).reshape(-1, 4)
    assert torch.equal(sizes[:, 1:].amax(dim=0), torch.tensor([2, 1, 1]))
    assert torch.equal(sizes.amin(dim=0), torch.ones(4, dtype=torch.long))
    share = torch.bincount(sizes[:, 0])[1:] / 2000
    torch.testing.assert_close(share, torch.full((5,), 0.2), atol=0.04, rtol=0)


def test_mutation() -> None:
    x, lengths = rows(times=100)
    made, originals = text(views.mutation(x, lengths, generator(), 0.2)), text(x)
    assert [len(v) for v in made] == lengths.tolist()
    changed = np.array([sum(a != b for a, b in zip(s, v, strict=True)) for s, v in zip(originals, made, strict=True)])
    assert (changed <= np.round(0.2 / 0.75 * lengths.numpy())).all()
    assert (changed / lengths.numpy()).mean() == pytest.approx(0.2, abs=0.01)
    # Every position, and every base into every other.
    pairs = {(a, b) for s, v in zip(originals, made, strict=True) for a, b in zip(s, v, strict=True) if a != b}
    assert len(pairs) == 12
    at = np.bincount(
        [i for s, v in zip(originals, made, strict=True) for i in range(25) if s[i : i + 1] != v[i : i + 1]]
    )
    assert at.min() > 0.5 * at.mean()


def test_reverse_complement() -> None:
    x, lengths = rows()
    made = views.reverse_complement(x, lengths, generator())
    assert text(made) == [complement(s) for s in text(x)]
    assert torch.equal(views.reverse_complement(made, lengths, generator()), x)


def test_noise() -> None:
    x, lengths = rows()
    added = views.noise(x, lengths, generator(), 0.3) - x
    real = (torch.arange(x.shape[2]) < lengths[:, None])[:, None].expand_as(x)
    assert float(added[real].std()) == pytest.approx(0.3, rel=0.03)
    assert abs(float(added[real].mean())) < 0.01
    assert not added[~real].any()


def test_mixed() -> None:
    """On the line between the two, and as long as the row itself."""
    x, lengths = rows()
    other = x.roll(1, dims=0)
    made = views.mixed(x, other, generator())
    real = torch.arange(x.shape[2]) < lengths[:, None]
    torch.testing.assert_close(made.sum(dim=1), real.float())
    both = real & (torch.arange(x.shape[2]) < lengths.roll(1)[:, None])
    torch.testing.assert_close(made[(real & ~both)[:, None].expand_as(x)], x[(real & ~both)[:, None].expand_as(x)])
    differ = both & (x * other).sum(dim=1).eq(0)
    weight = (made * other).sum(dim=1)  # at positions where the two differ, the share of the other
    for row in range(len(x)):
        values = weight[row][differ[row]]
        assert float(values.max() - values.min()) < 1e-6
    means = torch.stack([weight[row][differ[row]].mean() for row in range(len(x))])
    assert means.min() < 0.1
    assert means.max() > 0.9


@pytest.mark.parametrize(
    "kind", ["translocation", "insertion", "deletion", "inversion", "mutation", "reverse_complement"]
)
def test_unknown_bases_stay_unknown_or_go(kind: str) -> None:
    """An N is moved as it is: every position of a view adds up to one."""
    x, lengths = rows()
    x[::3, :, 4] = 0.25
    made = getattr(views, kind)(x, lengths, generator())
    assert torch.equal(made.sum(dim=1), (torch.arange(x.shape[2]) < lengths[:, None]).float())
    assert (made == 0.25).any()


@pytest.mark.parametrize(
    "kind", ["translocation", "insertion", "deletion", "inversion", "mutation", "reverse_complement"]
)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_shortest_sequences(kind: str, length: int) -> None:
    x = torch.zeros(50, 4, 5)
    x[:, 1, :length] = 1
    made = getattr(views, kind)(x, torch.full((50,), length), generator())
    assert [len(s) for s in text(made)] == [length] * 50


@pytest.mark.parametrize("k", [1, 2, 4])
def test_kmer_counts(k: int) -> None:
    x, _ = rows(times=2)
    x[0, :, 7] = 0.25
    found = views.kmer_counts(x, k)
    for row, counts in zip(x, found, strict=True):
        n = int((row != 0).any(dim=0).sum())
        s = "".join("N" if col.max() < 0.5 else BASES[int(col.argmax())] for col in row[:, :n].T)
        expected = np.zeros(4**k)
        for i in range(len(s) - k + 1):
            word = s[i : i + k]
            if "N" not in word:
                expected[sum(BASES.index(b) * 4 ** (k - 1 - j) for j, b in enumerate(word))] += 1
        np.testing.assert_array_equal(counts.numpy(), expected)


def test_kmer_counts_of_too_short_sequences() -> None:
    assert not views.kmer_counts(torch.ones(2, 4, 3) / 4, 4).any()
    assert views.kmer_counts(torch.ones(2, 4, 3), 4).shape == (2, 256)
