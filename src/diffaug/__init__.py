"""Embeddings of single cells without labels, and synthetic cells, from one loop of contrast and diffusion."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from diffaug import _log

if TYPE_CHECKING:
    from diffaug import backends, baselines, core, datasets, dna, metrics, pl, pp, tl, vision
    from diffaug._model import DiffAug
    from diffaug.core.config import Config, DiffusionConfig, LossConfig, TrainingConfig

__version__ = version("diffaug")

_log.set_up()

__all__ = [
    "Config",
    "DiffAug",
    "DiffusionConfig",
    "LossConfig",
    "TrainingConfig",
    "backends",
    "baselines",
    "core",
    "datasets",
    "dna",
    "metrics",
    "pl",
    "pp",
    "tl",
    "vision",
]

_SUBMODULES = ("backends", "baselines", "core", "datasets", "dna", "metrics", "pl", "pp", "tl", "vision")


def __getattr__(name: str) -> Any:
    # Lazy, so that `diffaug-cells --help` does not wait for torch and scanpy.
    if name in _SUBMODULES:
        return import_module(f"diffaug.{name}")
    if name == "DiffAug":
        return import_module("diffaug._model").DiffAug
    if name in __all__:
        return getattr(import_module("diffaug.core.config"), name)
    raise AttributeError(f"module 'diffaug' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
