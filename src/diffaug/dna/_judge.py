"""How real synthetic sequences are, every number beside its floor: what real held-out ones get in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from diffaug.dna._kmers import gc_content, kmer_counts, kmer_frequencies, letter_codes
from diffaug.dna._sequences import check_sequences
from diffaug.metrics import discriminator_auc


@dataclass(frozen=True)
class Judged:
    """A number and its floor, the same number for real sequences."""

    value: float
    floor: float


@dataclass(frozen=True)
class Memorisation:
    """How near synthetic sequences are to those of the training.

    Attributes
    ----------
    copies
        Share that is identical to a training sequence; the floor is that of held-out ones.
    closer_to_train
        Share whose nearest real sequence is a training and not a held-out one, of equally many of each; 0.5 is right.
        Ties count half.
    distance
        Median share of positions that differ from the nearest training sequence; the floor is that of held-out ones.
    """

    copies: Judged
    closer_to_train: float
    distance: Judged


@dataclass(frozen=True)
class SequenceReport:
    """Synthetic sequences against real ones.

    Attributes
    ----------
    kmer
        Jensen-Shannon distance (base 2, in [0, 1]) to the words of the held-out sequences, by length of the words; the
        floor is that of the training sequences.
    gc
        Wasserstein distance of the GC contents, likewise.
    gc_mean, gc_std
        Of the synthetic sequences; the floor is that of the held-out ones.
    length
        Wasserstein distance of the lengths.
    discriminator
        AUC of a random forest on the shares of words of four bases, out of fold; 0.5 where the two cannot be told apart.
    memorisation
        See :class:`Memorisation`.
    n_synthetic, n_train, n_held_out
        Numbers of sequences.
    """

    kmer: dict[int, Judged]
    gc: Judged
    gc_mean: Judged
    gc_std: Judged
    length: Judged
    discriminator: Judged
    memorisation: Memorisation
    n_synthetic: int
    n_train: int
    n_held_out: int

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, ready for JSON."""
        return asdict(self)


def kmer_distance(a: Sequence[str], b: Sequence[str], k: int) -> float:
    """Jensen-Shannon distance between the words of two sets of sequences.

    Parameters
    ----------
    a, b
        Text of the letters A, C, G, T and N.
    k
        Length of the words.

    Returns
    -------
    The square root of the divergence in bits: 0 for equal shares of all words, 1 for no word in common.

    Raises
    ------
    TypeError, ValueError
        A sequence cannot be read, or no word of ``k`` bases is in one of the sets.

    Examples
    --------
    >>> kmer_distance(["AAAA"], ["CCCC"], 2)
    1.0
    """
    shares = []
    for sequences in (a, b):
        count = np.asarray(kmer_counts(sequences, k).sum(axis=0), dtype=np.float64).ravel()
        if count.sum() == 0:
            raise ValueError(f"Expected sequences with words of {k} known bases, found none. Choose a smaller `k`.")
        shares.append(count / count.sum())
    return float(jensenshannon(*shares, base=2))


def nearest_distance(sequences: Sequence[str], reference: Sequence[str], *, chunk: int = 512) -> NDArray[np.float64]:
    """Least Hamming distance of each sequence to a reference set, as a share of the positions.

    Parameters
    ----------
    sequences, reference
        Text of the letters A, C, G, T and N. Of two of different length the missing positions differ, and so does an N
        from everything.
    chunk
        Sequences that are compared at once; the result does not depend on it.

    Returns
    -------
    Shape ``(n,)``, in [0, 1].

    Raises
    ------
    TypeError, ValueError
        A sequence cannot be read.

    Examples
    --------
    >>> nearest_distance(["ACGT"], ["ACGA", "TTTT"])
    array([0.25])
    """
    text, others = check_sequences(sequences), check_sequences(reference)
    width = max(len(s) for s in (*text, *others))
    flat, flat_others = _flat(text, width), _flat(others, width)
    lengths, other_lengths = (np.array([len(s) for s in each]) for each in (text, others))
    nearest = []
    for begin in range(0, len(text), chunk):
        rows = slice(begin, begin + chunk)
        longer = np.maximum(lengths[rows, None], other_lengths)
        nearest.append(((longer - flat[rows] @ flat_others.T) / longer).min(axis=1))
    return np.concatenate(nearest).astype(np.float64)


def _flat(text: list[str], width: int) -> NDArray[np.float32]:
    codes = letter_codes(text)
    hot = np.zeros((len(text), width, 4), dtype=np.float32)
    for base in range(4):
        hot[:, : codes.shape[1], base] = codes == base
    return hot.reshape(len(text), -1)


def judge(
    synthetic: Sequence[str],
    *,
    train: Sequence[str],
    held_out: Sequence[str],
    ks: tuple[int, ...] = (1, 2, 3, 4, 5, 6),
    max_obs: int = 2000,
    random_state: int = 0,
) -> SequenceReport:
    """Judge synthetic sequences against real ones.

    Parameters
    ----------
    synthetic
        Generated sequences.
    train
        Real sequences that the generator was trained on.
    held_out
        Real sequences that it never saw.
    ks
        Lengths of words to compare.
    max_obs
        Most sequences of each set for the discriminator and for the memorisation, drawn at random.
    random_state
        Seed of the drawing and of the discriminator.

    Returns
    -------
    :class:`SequenceReport`.

    Raises
    ------
    TypeError, ValueError
        A sequence cannot be read, or a set has fewer than 10.
    """
    made, trained, held = (check_sequences(s) for s in (synthetic, train, held_out))
    for name, text in (("synthetic", made), ("train", trained), ("held_out", held)):
        if len(text) < 10:
            raise ValueError(f"Expected at least 10 sequences in `{name}`, found {len(text)}.")
    gc = [gc_content(s) for s in (made, trained, held)]
    lengths = [np.array([len(s) for s in text]) for text in (made, trained, held)]
    rng = np.random.default_rng(random_state)
    some = [[text[i] for i in rng.permutation(len(text))[:max_obs]] for text in (made, trained, held)]
    words = [kmer_frequencies(s, 4).toarray() for s in some]
    told = discriminator_auc(words[2], words[0], floor_reference=words[1], space="features", random_state=random_state)
    assert told.floor is not None  # there is a reference
    return SequenceReport(
        kmer={k: Judged(kmer_distance(made, held, k), kmer_distance(trained, held, k)) for k in ks},
        gc=_apart(gc),
        gc_mean=Judged(float(gc[0].mean()), float(gc[2].mean())),
        gc_std=Judged(float(gc[0].std()), float(gc[2].std())),
        length=_apart(lengths),
        discriminator=Judged(told.auc, told.floor),
        memorisation=_memorisation(made, trained, held, some),
        n_synthetic=len(made),
        n_train=len(trained),
        n_held_out=len(held),
    )


def _apart(numbers: list[NDArray[Any]]) -> Judged:
    """Wasserstein distance of synthetic and of training sequences to held-out ones."""
    made, trained, held = numbers
    return Judged(float(wasserstein_distance(made, held)), float(wasserstein_distance(trained, held)))


def _memorisation(made: list[str], trained: list[str], held: list[str], some: list[list[str]]) -> Memorisation:
    known = set(trained)
    n = min(len(some[1]), len(some[2]))  # the larger set would have the nearer neighbour
    to_train, to_held = nearest_distance(some[0], some[1][:n]), nearest_distance(some[0], some[2][:n])
    return Memorisation(
        copies=Judged(float(np.mean([s in known for s in made])), float(np.mean([s in known for s in held]))),
        closer_to_train=float((to_train < to_held).mean() + 0.5 * (to_train == to_held).mean()),
        distance=Judged(
            float(np.median(nearest_distance(some[0], some[1]))), float(np.median(nearest_distance(some[2], some[1])))
        ),
    )
