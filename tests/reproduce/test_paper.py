"""The paper's numbers: as written down, with their source, and none made up."""

from __future__ import annotations

import numpy as np
import pytest

from diffaug import datasets
from diffaug.reproduce._arms import ARTEFACTS
from diffaug.reproduce._paper import TABLE2_BY_SET, TABLE2_MEAN, not_at_hand

NUMBERS = [arm.paper for a in ARTEFACTS.values() for arm in a.arms if arm.paper is not None]


def test_the_mean_of_the_sets_is_the_papers_mean() -> None:
    mean = np.mean([number.value for number in TABLE2_BY_SET.values()])
    assert TABLE2_MEAN["DiffAug"].value == pytest.approx(mean, abs=0.05)


def test_the_sets_agree_with_their_manifests() -> None:
    for name, number in TABLE2_BY_SET.items():
        assert str(number.value) in datasets.manifest(name).notes
        assert datasets.manifest(name).status == "unavailable"


def test_every_number_has_a_source() -> None:
    for number in [*NUMBERS, *TABLE2_BY_SET.values(), *TABLE2_MEAN.values()]:
        assert "Zang et al. 2024" in number.source
        assert number.value is None or 0 < number.value < 100


def test_what_is_not_at_hand_has_no_value() -> None:
    number = not_at_hand("Table 4")
    assert number.value is None and "Table 4" in number.source and "not at hand" in number.source
    for name in ("table4", "table5", "fig5", "fig6", "fig7"):
        assert all(arm.paper is None or arm.paper.value is None for arm in ARTEFACTS[name].arms)
