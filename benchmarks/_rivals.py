"""Rows that images and DNA share: other learners on the same encoder, with views of one source or another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffaug import DiffAug
from diffaug.baselines import METHODS, VIEW_GENERATORS, Baseline, ViewGenerator
from diffaug.core.config import Config
from diffaug.reproduce._split_measure import N_VIEWS, VIEW_RATE


class Rival(NamedTuple):
    """A learner, and where its views come from: hand-made kinds, ``"diffaug"``, ``"vae"`` or ``"gan"``."""

    learner: str
    source: str | None = None

    @property
    def generates(self) -> bool:
        return self.source in ("diffaug", *VIEW_GENERATORS)


def rival(row: str) -> Rival | None:
    """What a row's name says: ``"moco"``, ``"simclr + mixup"``, ``"simclr + vae"``, ``"byol+"``; ``None`` for no learner."""
    name, plus, source = (part.strip() for part in row.partition("+"))
    if name not in METHODS:
        return None
    return Rival(name, (source or "diffaug") if plus else None)


def embedded(
    row: Rival,
    train: np.ndarray,
    everything: np.ndarray,
    config: Config | dict[str, Any] | str,
    *,
    backend: str,
    seed: int,
    device: str,
    views: list[str] | None,
    diffaug: Callable[[], DiffAug],
    augment_both: bool = False,
    max_epochs: int | None = None,
) -> tuple[np.ndarray, dict[str, float]]:
    """Semantic vectors of all events by a learner that was trained on some, its seconds, and its share of generated views.

    ``seconds`` are those of the epochs, as :func:`of_fit` has them; ``view_seconds`` are those of the VAE or GAN, with the
    drawing, which DiffAug's own row has among its seconds.
    """
    common = {"backend": backend, "random_state": seed, "device": device}
    generated, begin = None, time.perf_counter()
    if row.source in VIEW_GENERATORS:
        maker = ViewGenerator(row.source, config, **common).fit(train, max_epochs=max_epochs, progress=False)
        generated = maker.augment(train, N_VIEWS, random_state=seed)
    view_seconds = time.perf_counter() - begin
    if row.source == "diffaug":
        generated = diffaug().augment(train, N_VIEWS, random_state=seed)
    learner = Baseline(row.learner, config, views=views, augment_both=augment_both, **common)
    learner.fit(train, generated=generated, view_rate=VIEW_RATE, max_epochs=max_epochs, progress=False)
    x, seconds = learner.embed(everything).semantic, sum(r.seconds for r in learner.history)
    rate = VIEW_RATE if row.generates else 0.0
    return x, {"seconds": seconds, "view_seconds": view_seconds, "view_rate": rate}


def of_fit(model: DiffAug, role: str, everything: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """The same of ``"diffaug"`` or its twin, ``"loop_off"``, of one fit; the twin's seconds include the warm-up of both."""
    used = model if role == "diffaug" else model.twin
    assert used is not None
    rates = [r.view_rate for r in used.history if r.phase == "fill"]
    seconds = sum(r.seconds for r in used.history)
    return used.embed(everything).semantic, {
        "seconds": seconds,
        "view_seconds": 0.0,
        "view_rate": rates[-1] if rates else 0.0,  # the twin has no bank to fill
    }
