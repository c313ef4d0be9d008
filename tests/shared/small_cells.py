"""Small settings and cells for the tests of the model, which pytest finds by ``pythonpath`` in ``pyproject.toml``."""

from __future__ import annotations

from typing import Any

import numpy as np

#: A fit of two warm-up, three generator and two mixed epochs, in a tenth of a second.
CONFIG: dict[str, Any] = {
    "training": {
        "n_encoders": 1,
        "warmup_epochs": 2,
        "generator_epochs": 3,
        "mixed_epochs": 2,
        "batch_size": 32,
        "view_rate": 0.5,
    },
    "diffusion": {"n_steps": 4},
    "domain": {"encoder_hidden": [24], "n_semantic": 6, "n_latent": 5, "generator_width": 16, "generator_depth": 1},
}
#: Phases of two cycles, for trainings that are to have as many epochs as DiffAug's.
TWO_CYCLES: dict[str, Any] = {
    "n_encoders": 1,
    "warmup_epochs": 3,
    "generator_epochs": 2,
    "mixed_epochs": 2,
    "n_cycles": 2,
    "batch_size": 32,
}


def expression(n: int = 80, seed: int = 0) -> np.ndarray:
    """Log counts of 15 genes in three types of cells, by turns. The genes' means are those of every seed."""
    rng = np.random.default_rng(seed)
    mean = np.random.default_rng(9).gamma(1.0, size=15) + 3 * (np.arange(n)[:, None] % 3 == np.arange(15) % 3)
    return np.log1p(rng.poisson(mean)).astype(np.float32)
