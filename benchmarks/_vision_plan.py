"""What all parts of the benchmark of images share: the sizes of a run, its sets, and the models of a set and a seed."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import numpy as np
from _budget import budget, with_steps, without_conditions
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import diffaug
from diffaug import vision
from diffaug.backends import get_backend
from diffaug.baselines import VIEW_GENERATORS, ViewGenerator
from diffaug.core.config import Config, config_from_dict

SETS = ("digits", "cifar10_12k")
#: What is known of a set without its labels: a mirrored digit is another sign, and of eight pixels little can be taken.
DOMAIN: dict[str, dict[str, Any]] = {
    "digits": {"flip_rate": 0.0, "crop_scale": 0.5, "blur_rate": 0.0, "solarize_rate": 0.0}
}


class Task:
    """Sizes of the run, from the command line."""

    max_obs: int | None = None
    max_epochs: int | None = None
    steps: tuple[int, int, int] | None = None
    device = "auto"

    @classmethod
    def about(cls, name: str) -> dict[str, Any]:
        """What a row depends on beside its key: the changes of the preset, and sizes; steps where they are given."""
        steps = {} if cls.steps is None else {"steps": list(cls.steps)}
        return {
            "preset": "default", "domain": DOMAIN.get(name, {}), "max_obs": cls.max_obs, "max_epochs": cls.max_epochs, **steps
        }  # fmt: skip


@lru_cache(maxsize=1)
def whole(name: str) -> vision.ImageSet:
    """A set with the parts train and test."""
    if name == "digits":
        x, y = load_digits().images, load_digits().target
        test = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)[1]
        split = np.where(np.isin(np.arange(len(y)), test), "test", "train")
        return vision.ImageSet(x, y, tuple(map(str, range(10))), split)
    return vision.load(name)


@lru_cache(maxsize=1)
def images(name: str) -> vision.ImageSet:
    """A set, or the random part of it that the run asks for."""
    found = whole(name)
    if Task.max_obs is not None and len(found) > Task.max_obs:
        rows = np.sort(np.random.default_rng(0).permutation(len(found))[: Task.max_obs])
        found = vision.ImageSet(found.images[rows], found.labels[rows], found.classes, found.split[rows])
    return found


def settings(name: str, **sections: dict[str, Any]) -> Config:
    backend = get_backend("vision")
    domain = {**DOMAIN.get(name, {}), **sections.pop("domain", {})}
    base = with_steps(backend.preset("default"), Task.steps)
    return config_from_dict({"domain": domain, **sections}, backend.Settings, base)


def given(name: str) -> dict[str, Any]:
    """Columns of every row of a set: what a fit is given."""
    n, n_full = (int((part.split == "train").sum()) for part in (images(name), whole(name)))
    full = get_backend("vision").preset("default")
    return budget(settings(name), n, full=full, n_train_full=n_full, max_epochs=Task.max_epochs)


@lru_cache(maxsize=1)
def fitted(name: str, seed: int) -> diffaug.DiffAug:
    """The default fit with its loop-off twin; the last one is kept, because several rows come from it."""
    x = images(name).part("train").images
    return vision.fit(
        x, config=settings(name), twin=True, random_state=seed, max_epochs=Task.max_epochs, device=Task.device,
        progress=False,
    )  # fmt: skip


@lru_cache(maxsize=1)
def told_nothing(name: str, seed: int) -> diffaug.DiffAug:
    """The same generator under random conditions (ablation A2), the control of its views."""
    x = images(name).part("train").images
    config = without_conditions(settings(name), len(x), Task.max_epochs)
    return vision.fit(x, config=config, random_state=seed, device=Task.device, progress=False)


@lru_cache(maxsize=len(VIEW_GENERATORS))
def view_generator(kind: str, name: str, seed: int) -> tuple[ViewGenerator, float]:
    """A VAE or a GAN, and the seconds that it took: one for the learners and for its views."""
    begin = time.perf_counter()
    maker = ViewGenerator(kind, settings(name), backend="vision", random_state=seed, device=Task.device)
    maker.fit(images(name).part("train").images, max_epochs=Task.max_epochs, progress=False)
    return maker, time.perf_counter() - begin
