"""Other learners on the same encoder, with views of one source or another: rows of Tables 1 and 3, and of benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffaug._model import DiffAug
from diffaug.baselines import METHODS, VIEW_GENERATORS, Baseline, ViewGenerator
from diffaug.core.config import Config
from diffaug.core.plan import rate_in_force
from diffaug.reproduce._arms import DIFFAUG
from diffaug.reproduce._checkpoints import Checkpoints

#: Share of generated views under a learner, and how many of each event: the same, whoever made them.
VIEW_RATE, N_VIEWS = 0.5, 2


class Rival(NamedTuple):
    """A learner, and where its views come from: a hand-made kind, ``"diffaug"``, ``"vae"`` or ``"gan"``."""

    learner: str
    source: str | None = None

    @property
    def generates(self) -> bool:
        """Whether a trained generator makes views for it."""
        return self.source in (DIFFAUG, *VIEW_GENERATORS)

    def hand_views(self, backend: str) -> list[str] | None:
        """Its hand-made kinds of views; ``None`` for those that DiffAug has too."""
        if self.source is None or self.generates:
            return None
        return ["standard", self.source] if backend == "vision" else [self.source]


def rival(row: str) -> Rival | None:
    """What a row's name says; ``None`` if it names no learner.

    ``"moco"``, ``"simclr + mixup"``, ``"simclr + vae"``; ``"simclr + diffaug"``, or ``"simclr+"`` for short.
    """
    name, plus, source = (part.strip() for part in row.partition("+"))
    if name not in METHODS:
        return None
    return Rival(name, (source or DIFFAUG) if plus else None)


def trainable(row: Rival, config: Config | dict[str, Any] | str, *, backend: str, seed: int, device: str) -> Baseline:
    """The learner of a row, before its training. Both sides of a pair of images are views, as in the learners' papers."""
    return Baseline(
        row.learner,
        config,
        views=row.hand_views(backend),
        augment_both=backend == "vision",
        backend=backend,
        random_state=seed,
        device=device,
    )


def embedded(
    row: Rival,
    train: np.ndarray,
    everything: np.ndarray,
    config: Config | dict[str, Any] | str,
    *,
    backend: str,
    seed: int,
    device: str,
    diffaug: Callable[[], DiffAug],
    max_epochs: int | None = None,
    kept: Checkpoints | None = None,
    view_generator: Callable[[str], tuple[ViewGenerator, float]] | None = None,
) -> tuple[np.ndarray, dict[str, float]]:
    """Train a learner on some events and embed all of them.

    Parameters
    ----------
    row
        The learner, and the source of its views.
    train, everything
        Events, shape ``(n, *event)``.
    config
        Settings of the learner, and of the VAE or GAN.
    backend, seed, device, max_epochs
        As of :class:`diffaug.DiffAug`.
    diffaug
        Gives the model that makes DiffAug's views, fitted on ``train``; called for rows that have these.
    kept
        Where the trainings are kept, that of the model of ``diffaug`` apart.
    view_generator
        Gives the VAE or the GAN of a kind, fitted on ``train``, and the seconds of its training, for callers that need it
        more than once. By default it is trained here.

    Returns
    -------
    Semantic vectors, and the row's ``seconds`` (those of the epochs, as :func:`of_fit` has them), ``view_seconds`` (those
    of the VAE or GAN with the drawing; DiffAug's are among the seconds of its own row) and ``view_rate``.
    """

    def trained(kind: str) -> tuple[ViewGenerator, float]:
        begin = time.perf_counter()
        maker = ViewGenerator(kind, config, backend=backend, random_state=seed, device=device)
        maker.fit(train, max_epochs=max_epochs, checkpoint=kept.file(kind) if kept else None, progress=False)
        return maker, time.perf_counter() - begin

    generated, view_seconds = None, 0.0
    if row.source in VIEW_GENERATORS:
        maker, view_seconds = (view_generator or trained)(row.source)
        begin = time.perf_counter()
        generated = maker.augment(train, N_VIEWS, random_state=seed)
        view_seconds += time.perf_counter() - begin
    if row.source == DIFFAUG:
        generated = diffaug().augment(train, N_VIEWS, random_state=seed)
    learner = trainable(row, config, backend=backend, seed=seed, device=device)
    learner.fit(
        train,
        generated=generated,
        view_rate=VIEW_RATE,
        max_epochs=max_epochs,
        checkpoint=kept.file("learner") if kept else None,
        progress=False,
    )
    return learner.embed(everything).semantic, {
        "seconds": sum(r.seconds for r in learner.history),
        "view_seconds": view_seconds,
        "view_rate": VIEW_RATE if row.generates else 0.0,
    }


def of_fit(model: DiffAug, role: str, everything: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """The same of ``"diffaug"`` or its twin, ``"loop_off"``, of one fit; the twin's seconds include the warm-up of both."""
    used = model if role == DIFFAUG else model.twin
    assert used is not None
    return used.embed(everything).semantic, {
        "seconds": sum(r.seconds for r in used.history),
        "view_seconds": 0.0,
        "view_rate": rate_in_force(used.history),  # the twin has no bank to fill
    }
