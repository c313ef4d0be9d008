"""One run on a set with an official split: train on one part without labels, judge on the other."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np

from diffaug import dna, metrics, vision
from diffaug._model import DiffAug
from diffaug.baselines import METHODS, VIEW_GENERATORS, Baseline, ViewGenerator
from diffaug.core.config import Config
from diffaug.reproduce._arms import DIFFAUG
from diffaug.reproduce._split_sets import SplitData

#: Share of generated views under a learner, and how many of each event.
VIEW_RATE, N_VIEWS = 0.5, 2
SUPERVISED = ("kmer4", "cnn")
BACKENDS = {"dna": "dna", "vision": "vision"}
Scores = dict[str, float | str]


def check(method: str, config: Config, domain: str, device: str) -> None:
    """Refuse a method or settings before anything is run."""
    if method in (DIFFAUG, *SUPERVISED, "raw"):
        return
    learner, views, _ = _learner_of(method, domain)
    Baseline(learner, config, views=views, backend=BACKENDS[domain], device=device)


def measure(
    method: str, config: Config, data: SplitData, *, domain: str, seed: int, device: str, max_epochs: int | None
) -> Scores:
    """Train and judge.

    Parameters
    ----------
    method
        ``"diffaug"``, a learner of :mod:`diffaug.baselines`, one with views (``"simclr + vae"``), ``"random"``, ``"raw"``
        or, for DNA, a peer that learns from labels.
    config
        Settings of the arm.
    data
        The set.
    domain
        ``"dna"`` or ``"vision"``.
    seed, device, max_epochs
        As of :class:`diffaug.DiffAug`.

    Returns
    -------
    Scores by name: accuracies in [0, 1].
    """
    begin = time.perf_counter()
    if method in SUPERVISED:
        assert data.table is not None
        score = dna.peer_score(data.table, method, random_state=seed, device=device)
        seconds = time.perf_counter() - begin
        return {
            "seconds": seconds,
            "linear": score.accuracy,
            "linear_balanced": score.balanced_accuracy,
            "n_left_out": 0.0,
        }
    x, rate = features(method, config, data, domain=domain, seed=seed, device=device, max_epochs=max_epochs)
    seconds = time.perf_counter() - begin
    scores = vision.evaluate(x, data.labels, split=data.split)
    rows = np.random.default_rng(0).permutation(len(x))[:5000]
    # The same probe as `linear`, whose classes are of unequal size in some sets of DNA.
    balanced = {} if data.table is None else {"linear_balanced": dna.split_probe(x, data.table).balanced_accuracy}
    return {
        "seconds": seconds,
        **{name: float(getattr(scores, name)) for name in ("linear", "knn", "kmeans", "nmi", "ari")},
        **balanced,
        "rank": metrics.effective_rank(x[rows]),
        "view_rate": rate,
        "n_left_out": 0.0,
    }


def features(
    method: str, config: Config, data: SplitData, *, domain: str, seed: int, device: str, max_epochs: int | None
) -> tuple[np.ndarray, float]:
    """Vectors of all events, and the share of generated views in force (NaN where there is no training)."""
    backend = BACKENDS[domain]
    if method == "raw":
        return data.x.reshape(len(data.x), -1).astype(np.float32), math.nan
    if method == DIFFAUG:
        model = DiffAug(config, backend=backend, random_state=seed, device=device)
        model.fit(data.train, max_epochs=max_epochs, progress=False)
        rates = [r.view_rate for r in model.history if r.phase == "fill"]
        return model.embed(data.x).semantic, rates[-1] if rates else 0.0
    name, views, source = _learner_of(method, domain)
    if method == "random":
        untrained = dataclasses.replace(config.training, warmup_epochs=0, mixed_epochs=0, n_cycles=0)
        config = dataclasses.replace(config, training=untrained)
    generated = None
    if source is not None:
        maker = ViewGenerator(source, config, backend=backend, random_state=seed, device=device)
        maker.fit(data.train, max_epochs=max_epochs, progress=False)
        generated = maker.augment(data.train, N_VIEWS, random_state=seed)
    learner = Baseline(
        name, config, views=views, augment_both=domain == "vision", backend=backend, random_state=seed, device=device
    )
    learner.fit(data.train, generated=generated, view_rate=VIEW_RATE, max_epochs=max_epochs, progress=False)
    return learner.embed(data.x).semantic, VIEW_RATE if source is not None else 0.0


def _learner_of(method: str, domain: str) -> tuple[str, list[str] | None, str | None]:
    """Learner, hand-made views and generator of a method's name; the untrained encoder is that of any learner."""
    if method == "random":
        return "simclr", None, None
    name, _, source = (part.strip() for part in method.partition("+"))
    if name not in METHODS:
        raise ValueError(f"Expected a learner among {list(METHODS)}, found {name!r} in {method!r}.")
    if not source or source in VIEW_GENERATORS:
        return name, None, source or None
    return name, ["standard", source] if domain == "vision" else [source], None
