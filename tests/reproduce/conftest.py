"""Settings of a few steps, and rows that need no run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from diffaug.backends.cells import CellsConfig, default_config
from diffaug.core.config import config_from_dict
from diffaug.reproduce._rows import Settings

TINY = {
    "training": {
        "n_encoders": 1,
        "warmup_steps": 4,
        "generator_steps": 4,
        "mixed_steps": 8,
        "encoder_passes": 0,
        "generator_passes": 0,
        "view_rate": 0.5,
    },
    "domain": {"generator_width": 32, "encoder_hidden": [32]},
}
EMBEDDED = "pbmc68k_reduced_scanpy"


@pytest.fixture
def tiny() -> Settings:
    """150 cells, a few steps."""
    return Settings(config_from_dict(TINY, CellsConfig, default_config()), max_obs=150)


@pytest.fixture
def row() -> dict[str, Any]:
    """A row as a run leaves it."""
    return {
        "set": "a",
        "seed": 0,
        "run": "0123456789ab",
        "arm": "table4: A1",
        "method": "diffaug",
        "settings": '{"loss": {"name": "soft"}}',
        "measured": "probes",
        "device": "cpu",
        "versions": "diffaug=0.1.0 torch=2",
        "linear": 0.1 + 0.2,
    }


@pytest.fixture
def made_up() -> Callable[..., pd.DataFrame]:
    """Maker of rows of arms with scores of shape ``(n_sets, n_seeds)``; sets are called a, b, ..."""

    def make(values: dict[str, Any], score: str = "linear") -> pd.DataFrame:
        return pd.DataFrame(
            [
                {"arm": arm, "set": "abcdef"[i], "seed": seed, score: value}
                for arm, grid in values.items()
                for i, line in enumerate(np.asarray(grid))
                for seed, value in enumerate(line)
            ]
        )

    return make
