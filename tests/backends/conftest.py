"""Registers the toy domain, and says for each domain of the registry what to try it on."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


def load_toy() -> ModuleType:
    """The module ``toy.py`` beside this file, under a name of its own."""
    name = "diffaug_toy_domain"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("toy.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


load_toy()  # before the tests are collected, because they are parametrised over the registry


@dataclass(frozen=True)
class Case:
    """What the contract suite needs to know of a domain: how to make events of it, and small settings."""

    make: Callable[[int, int], Any]
    config: dict[str, dict[str, Any]]
    tolerance: float
    #: Hand-made kinds that leave nothing to chance.
    deterministic: frozenset[str] = frozenset()


def cells(n: int, seed: int) -> np.ndarray:
    """Log-normalised expression of three types."""
    rng = np.random.default_rng(seed)
    mean = rng.gamma(1.0, 1.0, size=20) + np.where(np.arange(n)[:, None] % 3 == np.arange(20) % 3, 4, 0)
    return np.log1p(rng.poisson(mean)).astype(np.float32)


def vectors(n: int, seed: int) -> np.ndarray:
    """Three clusters of vectors far from unit scale."""
    rng = np.random.default_rng(seed)
    return (100 * rng.normal(size=(n, 7)) + 300 * np.eye(3, 7)[np.arange(n) % 3]).astype(np.float32)


def sequences(n: int, seed: int) -> np.ndarray:
    """One-hot DNA of 24 to 32 bases and padding: rich in A and T, or in C and G, by turns; some bases are unknown."""
    rng = np.random.default_rng(seed)
    strong = (np.arange(n)[:, None] % 2 == 0) ^ (rng.random((n, 32)) < 0.1)
    base = np.where(strong, rng.integers(1, 3, size=(n, 32)), 3 * rng.integers(0, 2, size=(n, 32)))
    x = np.eye(4, dtype=np.float32)[base]
    x[::7, 5] = 0.25
    x[np.arange(32) >= rng.integers(24, 33, size=n)[:, None]] = 0
    return np.ascontiguousarray(x.transpose(0, 2, 1))


def images(n: int, seed: int) -> np.ndarray:
    """Small colour images of three kinds: one corner is bright, in a colour and a corner of its own."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 3
    x = rng.uniform(0, 0.25, size=(n, 8, 8, 3))
    for i, k in enumerate(kind):
        x[i, 4 * (k // 2) :, 4 * (k % 2) :, k] += rng.uniform(0.5, 0.75)
    return x.astype(np.float32)


SMALL = {
    "training": {
        "n_encoders": 1,
        "warmup_epochs": 2,
        "generator_epochs": 2,
        "mixed_epochs": 2,
        "batch_size": 32,
        "view_rate": 0.5,
    },
    "diffusion": {"n_steps": 4},
}
#: A new domain adds a line here, and the whole contract suite runs on it.
CASES = {
    "cells": Case(
        cells,
        {
            **SMALL,
            "domain": {
                "encoder_hidden": [24],
                "n_semantic": 6,
                "n_latent": 5,
                "generator_width": 16,
                "generator_depth": 1,
            },
        },
        1e-4,
    ),
    "dna": Case(
        sequences,
        {
            **SMALL,
            "domain": {
                "n_semantic": 8,
                "n_latent": 5,
                "filter_width": 4,
                "generator_widths": [4, 4, 8, 8],
                "n_neighbors": 3,
            },
        },
        0,
        frozenset({"reverse_complement"}),
    ),
    "vision": Case(
        images,
        {
            **SMALL,
            # In so few steps a network that predicts the clean image has not learnt to hand one through.
            "diffusion": {**SMALL["diffusion"], "prediction_type": "v"},
            "domain": {
                "encoder_width": 0.0625,
                "n_semantic": 6,
                "n_latent": 5,
                "generator_width": 4,
                "crop_scale": 0.3,
                "solarize_rate": 0.0,
            },
        },
        0.5 / 255 + 1e-6,
    ),
    "toy": Case(vectors, {**SMALL, "domain": {"n_semantic": 6}}, 1e-2),
}


@pytest.fixture
def case(backend: str) -> Case:
    """The domain's case; ``backend`` is a parameter of the test."""
    return CASES[backend]
