"""What the generator of images is trained for, and in what batches: the same images seen, its views compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from _common import machine
from _vision_plan import Task, given, images, settings
from _vision_views import judged_images, oracle, pixel_distance

from diffaug import vision
from diffaug.core.config import Config

TARGETS = ("epsilon", "v", "x0")
SIZES = (128, 16)
#: Every variant, as its row is named.
VARIANTS = tuple(f"{target}, batches of {size}" for target in TARGETS for size in SIZES)


def variant_config(name: str, variant: str) -> Config:
    """The settings of a run with another target and other batches, and as many images for the generator."""
    target, size = variant.split(", batches of ")
    config = settings(name, diffusion={"prediction_type": target}, training={"mixed_steps": 0, "view_rate": 0.0})
    plan = config.training
    seen = plan.generator_steps * (plan.generator_batch_size or plan.batch_size)
    return config.updated(
        "training", generator_batch_size=int(size), generator_steps=seen // int(size), generator_passes=0
    )


def roughness(x: np.ndarray) -> float:
    """Mean difference of neighbouring pixels, in levels."""
    x = x.astype(np.float64)
    return float((np.abs(np.diff(x, axis=1)).mean() + np.abs(np.diff(x, axis=2)).mean()) / 2)


def measure_variant(name: str, variant: str, seed: int) -> dict[str, Any]:
    """Views of a generator that was trained so: class kept (the oracle's word), and how rough they are beside their images."""
    train = images(name).part("train").images
    model = vision.fit(
        train, config=variant_config(name, variant), random_state=seed, max_epochs=Task.max_epochs, device=Task.device,
        progress=False,
    )  # fmt: skip
    (x, y), judge = judged_images(name), oracle(name)
    views = model.augment(x, 2, random_state=seed)
    flat = views.reshape(-1, *views.shape[2:])
    trained = [row for row in model.history if row.phase == "B"]
    return {
        "class_kept": float((judge(flat) == np.repeat(y, 2)).mean()),
        "roughness": roughness(flat) / roughness(x),
        "pixel_distance": pixel_distance(views, x),
        "generator_seconds": sum(row.seconds for row in trained),
        "n": len(flat),
        **given(name),
        "machine": machine(),
    }
