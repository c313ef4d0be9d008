"""Sets of DNA and images: which stand for the paper's, and their events, labels and official split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffaug.dna import SequenceTable
from diffaug.dna._load import benchmark_place

#: FASTA files of coordinates, by the name of the set: one, or one for each class. That of the name ``""`` serves the sets
#: that have none of their own.
References = Mapping[str, Path | Mapping[str, Path]]

#: Sets whose question is like the paper's; none of them is one of the paper's. Of the large ones the smaller cut.
OTHER_DNA = (
    "gue_splice_small",
    "gue_prom_core_tata",
    "gue_prom_300_notata_small",
    "gue_human_tf_0",
    "gue_mouse_tf_2",
    "gue_emp_H3_small",
    "mouse_tata_promoters",
    "bacillus_promoters",
)
#: Longer sequences lose their ends, as the encoder's settings ask.
LONGEST = 1024


@dataclass(frozen=True, eq=False)
class SplitData:
    """A set made ready.

    Attributes
    ----------
    name
        Of its manifest.
    x
        Events, shape ``(n, *event)``; one-hot for DNA.
    labels
        Class of each; -1 for images without one.
    split
        ``"train"``, ``"test"`` or, for images without a label, ``"unlabeled"``.
    table
        The text of DNA, for peers that read it.
    """

    name: str
    x: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    table: SequenceTable | None = None

    @property
    def train(self) -> np.ndarray:
        """Events to train on: all but the test part."""
        return self.x[self.split != "test"]

    @property
    def n_obs(self) -> int:
        """Number of events."""
        return len(self.x)

    @property
    def n_features(self) -> int:
        """Numbers of an event."""
        return int(np.prod(self.x.shape[1:]))


def prepare(name: str, domain: str, *, max_obs: int | None, references: References | None = None) -> SplitData:
    """Load a set, and keep ``max_obs`` of its events, drawn at random in the proportions of its parts.

    Raises
    ------
    ValueError
        Its parts or classes are too few to be judged.
    """
    found = _sequences(name, max_obs, references or {}) if domain == "dna" else _images(name, max_obs)
    known = found.labels != -1 if found.labels.dtype.kind in "iu" else np.ones(found.n_obs, dtype=bool)
    for part in ("train", "test"):
        rows = known & (found.split == part)
        n_classes = len(np.unique(found.labels[rows]))
        if n_classes < 2:
            raise ValueError(
                f"Expected events of two or more classes in the part {part!r} of {name!r}, found {n_classes} "
                f"class{'es' * (n_classes != 1)} in {rows.sum()} events. Take more of them."
            )
    return found


def _chosen(split: np.ndarray, max_obs: int | None) -> np.ndarray:
    """Row numbers, in their order; of more than ``max_obs`` a random part of each part of the split."""
    if max_obs is None or len(split) <= max_obs:
        return np.arange(len(split))
    rng, share = np.random.default_rng(0), max_obs / len(split)
    parts = (np.flatnonzero(split == part) for part in np.unique(split))
    return np.sort(np.concatenate([rng.permutation(rows)[: max(1, round(share * len(rows)))] for rows in parts]))


def _images(name: str, max_obs: int | None) -> SplitData:
    from diffaug import vision

    found = vision.load(name)
    assert found.labels is not None and found.split is not None
    rows = _chosen(found.split, max_obs)
    return SplitData(name, found.images[rows], found.labels[rows], found.split[rows].astype(str))


def _sequences(name: str, max_obs: int | None, references: References) -> SplitData:
    from diffaug import dna

    # The other sets of the same call have their sequences, and `load` refuses a reference for them.
    reference = references.get(name, references.get("")) if benchmark_place(name) is not None else None
    table = dna.load(name, reference=reference)
    assert table.split is not None
    table = table.subset(np.isin(table.split, ("train", "test")))  # a validation part is used for nothing
    assert table.split is not None
    table = table.subset(_chosen(table.split, max_obs))
    assert table.split is not None and table.labels is not None
    # As wide as the training part needs; a longer test sequence loses its ends.
    width = min(LONGEST, max(len(s) for s in table.part("train").sequences))
    x = dna.encode(dna.crop(table.sequences, width), length=width)
    return SplitData(name, x, table.labels.astype(str), table.split.astype(str), table)
