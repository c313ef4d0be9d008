"""Text to one-hot and back, and the letters that are refused."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffaug import dna
from diffaug.dna._sequences import check_sequences

known = st.builds(lambda a, s: a + s, st.sampled_from("ACGTacgt"), st.text("ACGTacgtNn", max_size=20))


@settings(deadline=None, max_examples=50)
@given(st.lists(known, min_size=1, max_size=4))
def test_there_and_back(sequences: list[str]) -> None:
    x = dna.encode(sequences)
    assert x.dtype == np.float32
    assert x.shape == (len(sequences), 4, max(map(len, sequences)))
    assert dna.decode(x) == [s.upper() for s in sequences]
    assert dna.decode(dna.encode(sequences, length=40)) == [s.upper() for s in sequences]


def test_encode() -> None:
    x = dna.encode(["ACGT", "nA"], length=5)
    assert x[0].tolist() == np.eye(4, 5).tolist()
    assert x[1].T.tolist() == [[0.25] * 4, [1, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4]


@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, pd.Series, lambda s: pd.Series(s, index=[7, 3]).astype("string")]
)
def test_lists_arrays_and_columns(kind: Any) -> None:
    assert check_sequences(kind(["acg", "TT"])) == ["ACG", "TT"]


@pytest.mark.parametrize(
    ("sequences", "error", "message"),
    [
        ("ACGT", TypeError, r"Expected a list of sequences, found a single str: 'ACGT'. Put it in a list"),
        (b"ACGT", TypeError, "found a single bytes"),
        ({"a": "ACGT"}, TypeError, "Expected a list of sequences, found dict"),
        (7, TypeError, "Expected a list of sequences, found int"),
        ([], ValueError, "Expected at least 1 sequence, found none"),
        (["ACG", 3], TypeError, r"Expected sequences as text, found 3 \(int\) at place 1"),
        (["ACG", None], TypeError, r"found None \(NoneType\) at place 1"),
        (pd.Series(["ACG", np.nan]), TypeError, r"found nan \(float\) at place 1"),
        (["ACG", ""], ValueError, "Expected sequences of at least 1 base, found an empty one at place 1"),
        (["ACG", "ACXG"], ValueError, "Expected the letters A, C, G, T and N, found 'X' at position 2 of sequence 1"),
        (
            ["ACG", "ACRG"],
            ValueError,
            "found 'R' at position 2 of sequence 1. Ambiguous letters other than N are not read",
        ),
        (["acgu"], ValueError, "found 'u' at position 3 of sequence 0. This looks like RNA"),
        (["AC-G"], ValueError, "found '-' at position 2.*alignment"),
        (["AC G"], ValueError, "found ' ' at position 2.*white space"),
        (["ACÄG"], ValueError, "found 'Ä' at position 2"),
        (["ACG", "NNN"], ValueError, "Expected at least one known base in a sequence, found only N at place 1"),
    ],
)
def test_bad_sequences(sequences: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dna.encode(sequences)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (["MKVLAAG"], r"found 'M' at position 0 of sequence 0. This looks like protein \(L stands for no nucleotide\)"),
        (["MKV", "ACG", "EEFG"], r"found 'M' .* protein \(E stands"),  # the first has nothing but codes of nucleotides
        (["ACGT" * 30, "ACGRE"], "found 'R' .* Ambiguous letters"),  # one by mistake makes no protein
        (["ACGX"], "found 'X' at position 3 of sequence 0.$"),  # masked bases
    ],
)
def test_protein(sequences: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_sequences(sequences)


def test_every_letter_is_of_a_nucleotide_or_not() -> None:
    """The IUPAC codes of nucleotides, X (which masks bases), and letters of amino acids alone: the alphabet, each once."""
    from diffaug.dna._sequences import _IUPAC, _PROTEIN

    assert sorted("ACGTNUX" + _IUPAC + _PROTEIN) == list(ascii_uppercase)


def test_errors_name_the_sequence() -> None:
    for wrong in ("", "NN", "ACR", 3):
        with pytest.raises((TypeError, ValueError), match="(sequence|place) 1, 'q'"):
            check_sequences(["ACG", wrong], ["p", "q"])


def test_too_long_for_the_array() -> None:
    with pytest.raises(ValueError, match=r"Expected sequences of at most 3 bases, found 4 at place 1. Crop them"):
        dna.encode(["ACG", "ACGT"], length=3)


def test_decode_of_soft_letters() -> None:
    x = np.zeros((1, 4, 4))
    x[0, :, 0] = [0.4, 0.6, 0, 0]
    x[0, :, 1] = [0.5, 0.5, 0, 0]
    x[0, :, 2] = [-0.1, 0.2, 0.1, 0.1]
    assert dna.decode(x) == ["CNC"]
    with pytest.raises(ValueError, match=r"Expected an array of shape \(n, 4, length\), found \(4, 4\)"):
        dna.decode(x[0])


def test_reverse_complement() -> None:
    assert dna.reverse_complement("AACGTn") == "nACGTT"


@settings(deadline=None, max_examples=50)
@given(known)
def test_reverse_complement_twice(s: str) -> None:
    assert dna.reverse_complement(dna.reverse_complement(s)) == s
    # On one-hot arrays it is the array turned around both ways.
    np.testing.assert_array_equal(dna.encode([dna.reverse_complement(s)])[0], dna.encode([s])[0, ::-1, ::-1])


def test_crop() -> None:
    assert dna.crop(["ABCDEF", "ABCDE", "AB"], 4) == ["BCDE", "ABCD", "AB"]
    with pytest.raises(ValueError, match="Expected `length` of at least 1, found 0"):
        dna.crop(["ACGT"], 0)


@pytest.mark.parametrize(
    "wrong", [dna.encode(["ACGT", "AC"]), np.array([["ACG"], ["TTT"]]), pd.DataFrame({"s": ["A"]})]
)
def test_arrays_of_another_shape_are_named_and_not_printed(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"Expected a list of sequences, found (ndarray|DataFrame) of shape \(\d, "
    ) as e:
        check_sequences(wrong)
    assert "`diffaug.dna.decode` makes text of them" in str(e.value)
