"""Images: read, fit, judge and draw. The model is the same :class:`diffaug.DiffAug` as for cells; arrays in, arrays out.

Nothing here imports torch, scanpy or matplotlib before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from diffaug.vision._evaluate import Scores, evaluate
from diffaug.vision._fit import fit
from diffaug.vision._load import load
from diffaug.vision._pictures import plot_images, plot_views
from diffaug.vision._read import ImageSet, read_images

if TYPE_CHECKING:
    from diffaug.backends._resnet import ResNet
    from diffaug.backends.vision import VisionConfig

__all__ = [
    "ImageSet",
    "ResNet",
    "Scores",
    "VisionConfig",
    "evaluate",
    "fit",
    "load",
    "plot_images",
    "plot_views",
    "read_images",
]

_LAZY = {"ResNet": "diffaug.backends._resnet", "VisionConfig": "diffaug.backends.vision"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'diffaug.vision' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
