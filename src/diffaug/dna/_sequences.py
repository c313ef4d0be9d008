"""Text to one-hot and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffaug.backends.dna import BASES

UNKNOWN = "N"
_PADDING = 5  # a code of its own: 0 .. 3 are the bases, 4 is N
_INVALID = 255
_IUPAC = "RYSWKMBDHV"
#: Letters of amino acids that stand for no nucleotide. X is left out: it also masks bases.
_PROTEIN = "EFIJLOPQZ"
#: Code of every byte, in upper and lower case.
_CODES = np.full(256, _INVALID, dtype=np.uint8)
for _code, _letter in enumerate(BASES + UNKNOWN):
    _CODES[[ord(_letter), ord(_letter.lower())]] = _code
#: Weights of A, C, G and T for each code.
_WEIGHTS = np.vstack([np.eye(4), np.full((1, 4), 0.25), np.zeros((1, 4))]).astype(np.float32)
_COMPLEMENT = str.maketrans("ACGTNacgtn", "TGCANtgcan")


def check_sequences(sequences: Any, names: Sequence[str] | None = None) -> list[str]:
    """A list of sequences in upper case; raises for everything else.

    Parameters
    ----------
    sequences
        List, array or column of text.
    names
        One of each, for the errors.

    Raises
    ------
    TypeError
        If it is no list (or array, or column) of text.
    ValueError
        If there is none, or one is empty, holds other letters than A, C, G, T and N, or nothing but N.
    """
    if isinstance(sequences, str | bytes):
        raise TypeError(
            f"Expected a list of sequences, found a single {type(sequences).__name__}: {sequences[:20]!r}. "
            "Put it in a list, or give a file as a Path."
        )
    if getattr(sequences, "ndim", 1) != 1:
        raise TypeError(
            f"Expected a list of sequences, found {type(sequences).__name__} of shape {sequences.shape}. "
            "One-hot arrays are for the methods of `DiffAug`; `diffaug.dna.decode` makes text of them."
        )
    if hasattr(sequences, "tolist"):  # arrays of numpy, columns of pandas
        sequences = sequences.tolist()
    if not isinstance(sequences, Sequence):
        raise TypeError(f"Expected a list of sequences, found {type(sequences).__name__}.")
    if not len(sequences):
        raise ValueError("Expected at least 1 sequence, found none.")
    for i, s in enumerate(sequences):
        if not isinstance(s, str):
            raise TypeError(f"Expected sequences as text, found {s!r} ({type(s).__name__}) at place {_at(i, names)}.")
        if not s:
            raise ValueError(f"Expected sequences of at least 1 base, found an empty one at place {_at(i, names)}.")
    joined = "".join(sequences)
    codes = _codes(joined)
    if codes is None or (codes == _INVALID).any():
        _complain(sequences, names)
    only_unknown = [i for i, s in enumerate(sequences) if not s.upper().strip(UNKNOWN)]
    if only_unknown:
        raise ValueError(
            f"Expected at least one known base in a sequence, found only N at place {_at(only_unknown[0], names)}."
        )
    return [s.upper() for s in sequences]


def _at(i: int, names: Sequence[str] | None) -> str:
    """A sequence by its number and, where there are names, by its name."""
    return str(i) if names is None else f"{i}, {names[i]!r}"


def _codes(text: str) -> NDArray[np.uint8] | None:
    """Code of each letter; ``None`` if a letter is not even ASCII."""
    if not text.isascii():
        return None
    return _CODES[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]


def _complain(sequences: Sequence[str], names: Sequence[str] | None) -> None:
    known = set(BASES + BASES.lower() + UNKNOWN + UNKNOWN.lower())
    for i, s in enumerate(sequences):
        for position, letter in enumerate(s):
            if letter not in known:
                raise ValueError(
                    f"Expected the letters A, C, G, T and N, found {letter!r} at position {position} of sequence "
                    f"{_at(i, names)}.{_hint(letter, sequences)}"
                )


def _hint(letter: str, sequences: Sequence[str]) -> str:
    """What to do about a letter that is not read."""
    text = "".join(sequences).upper()
    counts = {amino: text.count(amino) for amino in _PROTEIN}
    if 20 * sum(counts.values()) >= len(text):  # in proteins a third of all letters; one by mistake in DNA is fewer
        return f" This looks like protein ({max(counts, key=counts.__getitem__)} stands for no nucleotide). Give DNA."
    if letter.upper() == "U":
        return " This looks like RNA: write T for U."
    if letter.upper() in _IUPAC:
        return " Ambiguous letters other than N are not read: replace them by N, or leave the sequence out."
    if letter in "-.*":
        return " This looks like an alignment: take the gaps out."
    return " Strip white space first." if letter.isspace() else ""


def encode(sequences: Sequence[str], *, length: int | None = None) -> NDArray[np.float32]:
    """Sequences as one-hot arrays, the form in which ``DiffAug`` takes them.

    Parameters
    ----------
    sequences
        Text of the letters A, C, G, T and N, upper or lower case.
    length
        Columns of the result; by default as many as the longest sequence has bases.

    Returns
    -------
    Shape ``(n, 4, length)``, channels in the order A, C, G, T. An N has a quarter in each; after the end of a sequence all
    four are zero.

    Raises
    ------
    TypeError, ValueError
        If a sequence is no text, is empty, has other letters, or is longer than ``length``.

    Examples
    --------
    >>> encode(["ACN", "g"])[:, :, 0]
    array([[1., 0., 0., 0.],
           [0., 0., 1., 0.]], dtype=float32)
    """
    checked = check_sequences(sequences)
    lengths = np.array([len(s) for s in checked])
    width = int(lengths.max()) if length is None else length
    if lengths.max() > width:
        row = int(np.argmax(lengths > width))
        raise ValueError(
            f"Expected sequences of at most {width} bases, found {lengths[row]} at place {row}. "
            "Crop them, e.g. with `diffaug.dna.crop`."
        )
    padded = np.full((len(checked), width), _PADDING, dtype=np.uint8)
    joined = _codes("".join(checked))
    assert joined is not None  # check_sequences lets ASCII pass only
    padded[np.arange(width) < lengths[:, None]] = joined
    return np.ascontiguousarray(_WEIGHTS[padded].transpose(0, 2, 1))


def decode(x: NDArray[Any]) -> list[str]:
    """One-hot arrays as text; inverse of :func:`encode`.

    Parameters
    ----------
    x
        Shape ``(n, 4, length)``. Of weights that are not one-hot the largest counts.

    Returns
    -------
    Upper-case sequences, each up to its last position with a weight; N where no base has more weight than all others.

    Raises
    ------
    ValueError
        If the shape is another.

    Examples
    --------
    >>> decode(encode(["ACN", "g"]))
    ['ACN', 'G']
    """
    x = np.asarray(x)
    if x.ndim != 3 or x.shape[1] != 4:
        raise ValueError(f"Expected an array of shape (n, 4, length), found {x.shape}.")
    ordered = np.sort(x, axis=1)
    letters = np.array(list(BASES))[x.argmax(axis=1)]
    letters[ordered[:, 3] <= ordered[:, 2]] = UNKNOWN
    some = (x != 0).any(axis=1)
    ends = np.where(some.any(axis=1), x.shape[2] - some[:, ::-1].argmax(axis=1), 0)
    return ["".join(row[:end]) for row, end in zip(letters, ends, strict=True)]


def reverse_complement(sequence: str) -> str:
    """The other strand.

    Parameters
    ----------
    sequence
        Letters A, C, G, T and N; their case stays.

    Returns
    -------
    Text of the same length.

    Examples
    --------
    >>> reverse_complement("AACN")
    'NGTT'
    """
    return sequence.translate(_COMPLEMENT)[::-1]


def crop(sequences: Sequence[str], length: int) -> list[str]:
    """The middle ``length`` bases of each sequence; shorter ones stay whole.

    Parameters
    ----------
    sequences
        Text.
    length
        Most bases to keep. Of an odd rest the last base goes.

    Returns
    -------
    As many sequences.

    Raises
    ------
    ValueError
        If ``length`` is less than 1.

    Examples
    --------
    >>> crop(["AACGG", "T"], 3)
    ['ACG', 'T']
    """
    if length < 1:
        raise ValueError(f"Expected `length` of at least 1, found {length}.")
    starts = [max(0, (len(s) - length) // 2) for s in sequences]
    return [s[start : start + length] for s, start in zip(sequences, starts, strict=True)]
