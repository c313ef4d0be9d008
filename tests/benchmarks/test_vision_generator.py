"""Variants of the generator of images: what differs between them, and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from _vision_generator import VARIANTS, roughness, variant_config
from _vision_plan import Task


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_see_as_many_images(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Task, "steps", (10, 2000, 1))
    config = variant_config("digits", variant)
    target, size = variant.split(", batches of ")
    plan = config.training.resolve(1437)
    assert config.diffusion.prediction_type == target
    assert plan.batch_sizes(1437) == (128, int(size))
    assert plan.generator_epochs is not None and plan.mixed_epochs == 0 and plan.view_rate == 0
    seen = plan.generator_epochs * (1437 // int(size)) * int(size)
    assert 2000 * 16 <= seen < 2000 * 16 + 1437  # a whole epoch more at most


def test_roughness() -> None:
    flat, stripes = np.ones((2, 8, 8, 3)), np.ones((2, 8, 8, 3))
    stripes[:, ::2] = 3
    assert roughness(flat) == 0
    assert roughness(stripes) == 1  # two levels down, none across
