"""Types of the training cells that synthetic cells lack, and how likely that is by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from diffaug.metrics.catalogue import Verdict

_FEW = 0.25  # of the expected number
_CHANCE = 0.05


@dataclass(frozen=True)
class AbsentType:
    """A type with none, or hardly any, synthetic cells.

    Attributes
    ----------
    name
        The type.
    share
        Of the training cells.
    expected, found
        Synthetic cells that share would give, and those there are.
    chance
        That so few would be found if synthetic cells were drawn like the training ones (Fisher's exact test, one side).
    verdict
        "poor": under 5 % divided by the number of types; "fair": under 5 %; "not judged": too few were to be expected.
    """

    name: str
    share: float
    expected: float
    found: int
    chance: float
    verdict: Verdict

    def __str__(self) -> str:
        found = f"{self.found}" if self.found else "none"
        return (
            f"{self.name} ({self.share:.2%} of the training cells, {self.expected:.1f} synthetic ones expected, {found} "
            f"found; by chance: {self.chance:.2g})"
        )


def absent_types(made: NDArray, train: NDArray) -> tuple[AbsentType, ...]:
    """Training types with no synthetic cells, or with at most a quarter of the expected number; the surest first.

    A rule on shares alone would overlook rare types among many cells, or accuse the luck of few.
    """
    names, counts = np.unique(train, return_counts=True)
    absent = []
    for name, n in zip(names, counts, strict=True):
        share, found = n / len(train), int((made == name).sum())
        expected = share * len(made)
        if found > _FEW * expected:
            continue
        chance = float(hypergeom.cdf(found, len(made) + len(train), n + found, len(made)))
        verdict: Verdict = "poor" if chance < _CHANCE / len(names) else "fair" if chance < _CHANCE else "not judged"
        absent.append(AbsentType(str(name), float(share), float(expected), found, chance, verdict))
    return tuple(sorted(absent, key=lambda t: (t.chance, t.name)))
