"""Words of sequences, where they stand, and shuffles that keep some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from diffaug.backends.dna import BASES
from diffaug.dna._sequences import check_sequences

_OTHER = 255


def letter_codes(sequences: Sequence[str]) -> NDArray[np.uint8]:
    """Codes 0 .. 3 of A, C, G, T, and 255 for N and after the end, shape ``(n, longest)``."""
    table = np.full(256, _OTHER, dtype=np.uint8)
    table[[ord(b) for b in BASES]] = np.arange(len(BASES))
    lengths = np.array([len(s) for s in sequences])
    codes = np.full((len(sequences), int(lengths.max(initial=0))), _OTHER, dtype=np.uint8)
    joined = np.frombuffer("".join(sequences).encode("ascii"), dtype=np.uint8)
    codes[np.arange(codes.shape[1]) < lengths[:, None]] = table[joined]
    return codes


def kmer_counts(sequences: Sequence[str], k: int) -> sparse.csr_array:
    """Numbers of every word of ``k`` bases.

    Parameters
    ----------
    sequences
        Text of the letters A, C, G, T and N.
    k
        Length of the words, 1 to 8. Words with an N are not counted.

    Returns
    -------
    Sparse, shape ``(n, 4**k)``, float32, words in the order of the alphabet.

    Raises
    ------
    TypeError, ValueError
        A sequence cannot be read, or ``k`` is outside of its range.

    Examples
    --------
    >>> kmer_counts(["AAC"], 2).toarray()[0, :2]  # AA, AC
    array([1., 1.], dtype=float32)
    """
    if not 1 <= k <= 8:
        raise ValueError(f"Expected `k` between 1 and 8, found {k}.")
    codes = letter_codes(check_sequences(sequences))
    n, width = codes.shape[0], max(0, codes.shape[1] - k + 1)
    word, whole = np.zeros((n, width), dtype=np.int64), np.ones((n, width), dtype=bool)
    for i in range(k):
        part = codes[:, i : i + width]
        word, whole = 4 * word + part % 4, whole & (part != _OTHER)
    rows = np.nonzero(whole)[0].astype(np.int32)  # scikit-learn's trees refuse indices of 64 bits
    ones = np.ones(len(rows), dtype=np.float32)
    return sparse.coo_array((ones, (rows, word[whole].astype(np.int32))), shape=(n, 4**k)).tocsr()


def kmer_frequencies(sequences: Sequence[str], k: int) -> sparse.csr_array:
    """Share of every word of ``k`` bases in each sequence.

    Parameters
    ----------
    sequences, k
        As for :func:`kmer_counts`.

    Returns
    -------
    Sparse, shape ``(n, 4**k)``, float32; rows add up to 1, or to 0 where a sequence is too short for a word.

    Raises
    ------
    TypeError, ValueError
        As :func:`kmer_counts`.
    """
    counts = kmer_counts(sequences, k)
    total = np.asarray(counts.sum(axis=1)).ravel()
    counts.data /= np.repeat(np.maximum(total, 1), np.diff(counts.indptr))
    return counts


def gc_content(sequences: Sequence[str]) -> NDArray[np.float64]:
    """Share of G and C among the known bases of each sequence.

    Parameters
    ----------
    sequences
        Text of the letters A, C, G, T and N.

    Returns
    -------
    Shape ``(n,)``.

    Raises
    ------
    TypeError, ValueError
        A sequence cannot be read.

    Examples
    --------
    >>> gc_content(["GGAT", "NC"])
    array([0.5, 1. ])
    """
    codes = letter_codes(check_sequences(sequences))
    return np.isin(codes, (1, 2)).sum(axis=1) / (codes != _OTHER).sum(axis=1)


def motif_frequency(sequences: Sequence[str], motif: str) -> NDArray[np.float64]:
    """Share of the sequences that have a motif at each position.

    Parameters
    ----------
    sequences
        Text of the letters A, C, G, T and N.
    motif
        Letters A, C, G, T; an N stands for any base.

    Returns
    -------
    Shape ``(longest - len(motif) + 1,)``: entry i is about the motif that starts at position i. Sequences too short to
    have it there do not count; where all are, it is NaN.

    Raises
    ------
    TypeError, ValueError
        The motif or a sequence cannot be read, or no sequence is as long as the motif.

    Examples
    --------
    >>> motif_frequency(["AGT", "GTT"], "GT")
    array([0.5, 0.5])
    """
    (motif,) = check_sequences([motif])
    text = check_sequences(sequences)
    codes, wanted = letter_codes(text), letter_codes([motif])[0]
    width = codes.shape[1] - len(motif) + 1
    if width < 1:
        raise ValueError(f"Expected sequences of at least {len(motif)} bases, found {codes.shape[1]} at most.")
    hit = np.ones((len(text), width), dtype=bool)
    for i, base in enumerate(wanted):
        if base != _OTHER:
            hit &= codes[:, i : i + width] == base
    fits = np.arange(width) <= np.array([len(s) for s in text])[:, None] - len(motif)
    n = fits.sum(axis=0)
    return np.where(n > 0, (hit & fits).sum(axis=0) / np.maximum(n, 1), np.nan)


def shuffle(sequences: Sequence[str], *, k: int = 1, random_state: int = 0) -> list[str]:
    """Shuffle each sequence: the controls of what is more than composition.

    Parameters
    ----------
    sequences
        Text of the letters A, C, G, T and N.
    k
        1 keeps the numbers of the letters; 2 keeps those of pairs of neighbours, and the first and the last letter
        (Altschul & Erickson 1985: every such sequence is drawn with the same probability).
    random_state
        Seed.

    Returns
    -------
    As many sequences of the same lengths.

    Raises
    ------
    TypeError, ValueError
        A sequence cannot be read, or ``k`` is another number.

    Examples
    --------
    >>> sorted(shuffle(["GATTACA"])[0])
    ['A', 'A', 'A', 'C', 'G', 'T', 'T']
    """
    if k not in (1, 2):
        raise ValueError(f"Expected `k` in [1, 2], found {k}.")
    rng = np.random.default_rng(random_state)
    text = check_sequences(sequences)
    if k == 1:
        return ["".join(rng.permutation(list(s))) for s in text]
    return [_shuffle_pairs(s, rng) for s in text]


def _shuffle_pairs(s: str, rng: np.random.Generator) -> str:
    """A random walk over all pairs: any order will do, as long as each letter's last exit leads towards the end."""
    exits: dict[str, list[str]] = {}
    for a, b in zip(s[:-1], s[1:], strict=True):
        exits.setdefault(a, []).append(b)
    for a in exits:
        exits[a] = list(rng.permutation(exits[a]))
    last = s[-1]
    while True:  # a random choice of last exits, until they form a tree with the last letter as its root
        choice = {a: int(rng.integers(len(b))) for a, b in exits.items() if a != last}
        if all(_reaches(a, last, exits, choice) for a in choice):
            break
    for a, i in choice.items():
        exits[a].append(exits[a].pop(i))
    walk, used = [s[0]], dict.fromkeys(exits, 0)
    for _ in range(len(s) - 1):
        here = walk[-1]
        walk.append(exits[here][used[here]])
        used[here] += 1
    return "".join(walk)


def _reaches(start: str, last: str, exits: dict[str, list[str]], choice: dict[str, int]) -> bool:
    here, seen = start, set[str]()
    while here != last:
        if here in seen:
            return False
        seen.add(here)
        here = exits[here][choice[here]]
    return True
