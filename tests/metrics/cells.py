"""Simulated cells of three types, and the frauds that a report has to catch."""

from __future__ import annotations

import numpy as np

TYPES = ("B", "NK", "T")
N_GENES = 60
_RNG = np.random.default_rng(42)
_BASE = _RNG.gamma(2.0, 1.2, size=N_GENES)
_FACTOR = np.exp(0.8 * _RNG.normal(size=(3, N_GENES)))  # types
_LOADING = 0.5 * _RNG.normal(size=(4, N_GENES))  # programmes within types


def counts(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and types; one distribution whatever the seed."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, size=n, p=[0.3, 0.2, 0.5])
    rate = _BASE * _FACTOR[kind] * np.exp(rng.normal(size=(n, 4)) @ _LOADING) * rng.gamma(8.0, 1 / 8, size=(n, 1))
    return rng.poisson(rate).astype(np.float32) + (np.arange(N_GENES) == 0), np.array(TYPES)[kind]


def logged(x: np.ndarray) -> np.ndarray:
    return np.log1p(1e3 * x / x.sum(axis=1, keepdims=True)).astype(np.float32)


def cells(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-normalised expression and types."""
    x, kind = counts(n, seed)
    return logged(x), kind


def small_noise(x: np.ndarray, seed: int = 7) -> np.ndarray:
    noisy = x + 0.1 * x.std(axis=0) * np.random.default_rng(seed).normal(size=x.shape)
    return np.where(x > 0, np.maximum(noisy, 0), 0).astype(np.float32)


def attenuated(x: np.ndarray, kind: np.ndarray, share: float = 0.7) -> np.ndarray:
    """Types drawn towards their common mean, everything within a type kept."""
    made = x.copy()
    mean = np.mean([x[kind == t].mean(axis=0) for t in TYPES], axis=0)
    for t in TYPES:
        own = x[kind == t].mean(axis=0)
        made[kind == t] += (share - 1) * (own - mean)
    return np.maximum(made, 0)


def swapped(kind: np.ndarray) -> np.ndarray:
    return np.where(kind == "B", "NK", np.where(kind == "NK", "B", kind))
