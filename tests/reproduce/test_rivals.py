"""Rivals: what a row's name means, and where its views come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffaug import DiffAug
from diffaug.baselines import ViewGenerator
from diffaug.reproduce._rivals import Rival, embedded, of_fit, rival

TINY: dict[str, Any] = {
    "training": {"n_encoders": 1, "warmup_epochs": 1, "generator_epochs": 1, "mixed_epochs": 1, "batch_size": 16},
    "diffusion": {"n_steps": 2},
    "domain": {"encoder_hidden": [8], "n_semantic": 6, "n_latent": 4, "generator_width": 8, "generator_depth": 1},
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("moco", Rival("moco")),
        ("dino", Rival("dino")),
        ("simclr + mixup", Rival("simclr", "mixup")),
        ("simclr + vae", Rival("simclr", "vae")),
        ("simclr + diffaug", Rival("simclr", "diffaug")),
        ("byol+", Rival("byol", "diffaug")),
        ("raw", None),
        ("kmer4", None),
    ],
)
def test_a_name_says_learner_and_views(name: str, expected: Rival | None) -> None:
    assert rival(name) == expected


@pytest.mark.parametrize(
    ("name", "backend", "expected"),
    [
        ("simclr", "vision", None),
        ("simclr + vae", "vision", None),
        ("simclr+", "dna", None),
        ("simclr + mixup", "vision", ["standard", "mixup"]),  # half of the views; by mixup alone it would learn no crop
        ("simclr + insertion", "dna", ["insertion"]),
    ],
)
def test_hand_made_views_of_a_row(name: str, backend: str, expected: list[str] | None) -> None:
    found = rival(name)
    assert found is not None and found.hand_views(backend) == expected


def test_views_are_those_of_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """DiffAug's model is asked for its views only where a row needs them, and the twin has none."""
    x = np.random.default_rng(0).gamma(1.0, size=(48, 9)).astype(np.float32)
    model, asked, kinds = DiffAug(TINY, device="cpu").fit(x, twin=True, progress=False), [], []
    inner = ViewGenerator.fit

    def spied(self: ViewGenerator, *given: Any, **options: Any) -> ViewGenerator:
        kinds.append(self.kind)
        return inner(self, *given, **options)

    monkeypatch.setattr(ViewGenerator, "fit", spied)

    def diffaug() -> DiffAug:
        asked.append(1)
        return model

    found = {}
    for name in ("simclr", "simclr + vae", "simclr + gan", "simclr+"):
        row = rival(name)
        assert row is not None
        common = {"backend": "cells", "seed": 0, "device": "cpu", "diffaug": diffaug}
        found[name], seconds = embedded(row, x[:32], x, TINY, **common)
        assert found[name].shape == (48, 6)
        assert seconds["view_rate"] == (0 if name == "simclr" else 0.5)
        assert (seconds["view_seconds"] > 1e-3) == (row.source in ("vae", "gan"))
    assert (len(asked), kinds) == (1, ["vae", "gan"])
    for a in found:
        assert all(a == b or not np.allclose(found[a], found[b], atol=1e-6) for b in found)
    ours, of_ours = of_fit(model, "diffaug", x)
    twin, of_twin = of_fit(model, "loop_off", x)
    assert not np.allclose(ours, twin, atol=1e-6)
    assert of_ours["view_rate"] > 0 == of_twin["view_rate"]
    assert of_twin["seconds"] < of_ours["seconds"]
