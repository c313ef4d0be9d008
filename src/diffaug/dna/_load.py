"""Labelled sets by name, and splits without what leaks from training to test."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from diffaug.datasets import manifest, path
from diffaug.datasets._files import data_folder
from diffaug.dna._files import SequenceTable, read_sequences
from diffaug.dna._genomic_benchmarks import read_genomic_benchmark
from diffaug.dna._labels import without_label
from diffaug.dna._sequences import reverse_complement

logger = logging.getLogger(__name__)

SplitName = Literal["official", "deduplicated"]
_ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")


def load(
    name: str,
    *,
    split: SplitName = "official",
    reference: str | Path | Mapping[str, str | Path] | None = None,
    progress: bool = True,
) -> SequenceTable:
    """Load a data set of domain ``"dna"``.

    The eight sets of Genomic Benchmarks have no file with a known checksum. They are looked for as
    ``dna/<name>``, a folder, or ``dna/<name>.zip`` (or .tar, .tar.gz, .tgz) in the folder that ``DIFFAUG_DATA_DIR`` names,
    and read by :func:`diffaug.dna.read_genomic_benchmark`.

    Parameters
    ----------
    name
        One of the names of ``diffaug.datasets.list_datasets("dna")``.
    split
        ``"official"``: as published. ``"deduplicated"``: without the test sequences that :func:`leaked` finds, and
        without repeated ones.
    reference
        For coordinates of Genomic Benchmarks: the FASTA file that they are of, or one for each class. Where the set lies
        there as sequences it is not read, and a warning says so.
    progress
        Show a bar while downloading.

    Returns
    -------
    Sequences with ``labels`` and ``split``.

    Raises
    ------
    ValueError
        If the set is of another domain, or there is a reference and it is not one of Genomic Benchmarks; besides the errors of
        :func:`diffaug.datasets.path` and :func:`diffaug.dna.read_genomic_benchmark`.
    """
    if split not in get_args(SplitName):
        raise ValueError(f"Expected `split` in {list(get_args(SplitName))}, found {split!r}.")
    m = manifest(name)
    if m.domain != "dna":
        raise ValueError(f"Expected a data set of domain 'dna', found {name!r} of domain {m.domain!r}.")
    place = benchmark_place(name) if m.status == "unavailable" else None
    if place is not None:
        logger.warning("No checksum of %s is known: %r is read as it is.", name, str(place))
        table = read_genomic_benchmark(place, reference=reference)
    elif reference is not None:
        raise ValueError(f"Expected `reference` for coordinates of Genomic Benchmarks only, found it for {name!r}.")
    else:
        file = path(name, progress=progress)
        table = read_sequences(file, label_key=m.label_key)
        if table.split is None:
            raise ValueError(f"Expected a column 'split' in {str(file)!r}, found none.")
    return deduplicated(table) if split == "deduplicated" else table


def benchmark_place(name: str) -> Path | None:
    """Folder or archive of a set that has no manifest of a file."""
    folder = data_folder()
    if folder is None:
        return None
    places = [folder / "dna" / name, *(folder / "dna" / f"{name}{ending}" for ending in _ARCHIVES)]
    return next((place for place in places if place.exists()), None)


def leaked(table: SequenceTable, *, min_overlap: int | None = None) -> NDArray[np.bool_]:
    """Which rows outside of the training part repeat it: the same sequence, its other strand, or an overlap.

    Parameters
    ----------
    table
        Sequences with a ``split``.
    min_overlap
        Also rows that share a run of so many bases, on either strand, with a training sequence: intervals that overlap
        in the genome do. By default only whole sequences count.

    Returns
    -------
    Shape ``(n,)``; false for training rows.

    Raises
    ------
    ValueError
        If there is no split, or ``min_overlap`` is less than 1.
    """
    train = set(table.part("train").sequences)
    train |= {reverse_complement(s) for s in train}
    assert table.split is not None  # part() has said so
    outside = table.split != "train"
    found = np.array([o and s in train for s, o in zip(table.sequences, outside, strict=True)])
    if min_overlap is None:
        return found
    if min_overlap < 1:
        raise ValueError(f"Expected `min_overlap` of at least 1, found {min_overlap}.")
    # A shared run of m bases holds a run of m // 2 that starts at a multiple of m // 2 in the training sequence: few
    # words are kept, and each hit is looked at in full.
    step = max(1, min_overlap // 2)
    words: dict[str, list[tuple[str, int]]] = {}
    for s in train:
        for start in range(0, len(s) - step + 1, step):
            words.setdefault(s[start : start + step], []).append((s, start))
    for i in np.flatnonzero(outside & ~found):
        found[i] = _overlaps(table.sequences[i], words, step, min_overlap)
    return found


def _overlaps(s: str, words: dict[str, list[tuple[str, int]]], step: int, least: int) -> bool:
    for place in range(len(s) - step + 1):
        for other, start in words.get(s[place : place + step], ()):
            left = 0
            while min(place, start) > left and s[place - left - 1] == other[start - left - 1]:
                left += 1
            right = step
            while place + right < len(s) and start + right < len(other) and s[place + right] == other[start + right]:
                right += 1
            if left + right >= least:
                return True
    return False


def deduplicated(table: SequenceTable, *, min_overlap: int | None = None) -> SequenceTable:
    """The table without rows that :func:`leaked` finds, and without repetitions of a sequence inside of a part.

    Parameters
    ----------
    table
        Sequences with a ``split``.
    min_overlap
        See :func:`leaked`.

    Returns
    -------
    The other rows, in their order. Of a repeated sequence the first stays; where its labels differ, none does, as nobody
    can know which is right.

    Raises
    ------
    ValueError
        If there is no split, or nothing is left of a part.

    Examples
    --------
    >>> import numpy as np
    >>> split = np.array(["train", "train", "test", "test"])
    >>> table = SequenceTable(["ACG", "ACG", "CGT", "TTT"], list("abcd"), split=split)
    >>> deduplicated(table).names  # CGT is the other strand of ACG
    ['a', 'd']
    """
    keep = ~leaked(table, min_overlap=min_overlap)
    assert table.split is not None
    labels: list[object] = []
    if table.labels is not None:  # None for those without one: of two NaN neither is equal to the other
        labels = [
            None if none else label for none, label in zip(without_label(table.labels), table.labels, strict=True)
        ]
    first: dict[tuple[str, str], int] = {}
    for i, (s, part) in enumerate(zip(table.sequences, table.split.tolist(), strict=True)):
        earlier = first.setdefault((part, s), i)
        if earlier != i:
            keep[i] = False
            if labels and labels[i] != labels[earlier]:
                keep[earlier] = False
    for part in sorted(set(table.split.tolist())):
        if not (keep & (table.split == part)).any():
            raise ValueError(f"Expected sequences of their own in the part {part!r}, found none: all repeat others.")
    return table.subset(keep)
