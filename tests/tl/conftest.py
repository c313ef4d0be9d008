"""A small model of log-normalised counts."""

from __future__ import annotations

from typing import Any

import anndata
import pytest

import diffaug
from diffaug import DiffAug

SMALL: dict[str, Any] = {
    "training": {
        "n_encoders": 2,
        "warmup_epochs": 2,
        "generator_epochs": 3,
        "mixed_epochs": 2,
        "batch_size": 50,
        "view_rate": 0.5,
    },
    "diffusion": {"n_steps": 4},
    "domain": {"encoder_hidden": [24], "n_semantic": 6, "n_latent": 5, "generator_width": 16, "generator_depth": 1},
}


@pytest.fixture
def small() -> dict[str, Any]:
    """Settings of a fit that takes a tenth of a second."""
    return {section: dict(values) for section, values in SMALL.items()}


@pytest.fixture
def logged(counts: anndata.AnnData) -> anndata.AnnData:
    """Log-normalised counts, sparse, with the counts in a layer."""
    diffaug.pp.recipe(counts)
    del counts.var["highly_variable"]
    return counts


_CACHE: dict[str, DiffAug] = {}


@pytest.fixture
def model(logged: anndata.AnnData) -> DiffAug:
    """A model fitted on ``logged``; shared, so tests only read it."""
    if "model" not in _CACHE:
        _CACHE["model"] = diffaug.tl.fit(logged.copy(), config=SMALL, device="cpu", progress=False)
    return _CACHE["model"]
