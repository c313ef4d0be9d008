"""One run on a set with an official split: train on one part without labels, judge on the other."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np

from diffaug import dna, metrics, vision
from diffaug._model import DiffAug
from diffaug.baselines import METHODS
from diffaug.core.config import Config
from diffaug.reproduce._arms import DIFFAUG
from diffaug.reproduce._checkpoints import Checkpoints
from diffaug.reproduce._rivals import Rival, embedded, of_fit, rival, trainable
from diffaug.reproduce._split_sets import SplitData

SUPERVISED = ("kmer4", "cnn")
Scores = dict[str, float | str]


def check(method: str, config: Config, domain: str, device: str) -> None:
    """Refuse a method or settings before anything is run."""
    if method in (DIFFAUG, *SUPERVISED, "raw"):
        return
    trainable(_rival_of(method), config, backend=domain, seed=0, device=device)


def measure(
    method: str,
    config: Config,
    data: SplitData,
    *,
    domain: str,
    seed: int,
    device: str,
    max_epochs: int | None,
    kept: Checkpoints | None = None,
) -> Scores:
    """Train and judge.

    Parameters
    ----------
    method
        ``"diffaug"``, a learner of :mod:`diffaug.baselines`, one with views (``"simclr + vae"``, ``"simclr + diffaug"``),
        ``"random"``, ``"raw"`` or, for DNA, a peer that learns from labels.
    config
        Settings of the arm.
    data
        The set.
    domain
        ``"dna"`` or ``"vision"``.
    seed, device, max_epochs
        As of :class:`diffaug.DiffAug`.
    kept
        Where its trainings are kept; by default nowhere. Peers that learn from labels are not kept.

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
    x, rate = features(method, config, data, domain=domain, seed=seed, device=device, max_epochs=max_epochs, kept=kept)
    seconds = time.perf_counter() - begin + (kept.earlier_seconds if kept else 0.0)
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
    method: str,
    config: Config,
    data: SplitData,
    *,
    domain: str,
    seed: int,
    device: str,
    max_epochs: int | None,
    kept: Checkpoints | None = None,
) -> tuple[np.ndarray, float]:
    """Vectors of all events, and the share of generated views in force (NaN where there is no training).

    Every method is a run of its own: for its views under another learner DiffAug is fitted anew, as its own row is.
    """
    if method == "raw":
        return data.x.reshape(len(data.x), -1).astype(np.float32), math.nan

    def diffaug() -> DiffAug:
        model = DiffAug(config, backend=domain, random_state=seed, device=device)
        file = kept.file(DIFFAUG) if kept else None
        return model.fit(data.train, max_epochs=max_epochs, checkpoint=file, progress=False)

    if method == DIFFAUG:
        x, about = of_fit(diffaug(), DIFFAUG, data.x)
        return x, about["view_rate"]
    settings = config
    if method == "random":
        untrained = dataclasses.replace(config.training, warmup_epochs=0, mixed_epochs=0, n_cycles=0)
        settings = dataclasses.replace(config, training=untrained)
    x, about = embedded(
        _rival_of(method),
        data.train,
        data.x,
        settings,
        backend=domain,
        seed=seed,
        device=device,
        diffaug=diffaug,
        max_epochs=max_epochs,
        kept=kept,
    )
    return x, about["view_rate"]


def _rival_of(method: str) -> Rival:
    """The learner of a method's name; the untrained encoder is that of any learner."""
    found = rival("simclr" if method == "random" else method)
    if found is None:
        name = method.partition("+")[0].strip()
        raise ValueError(f"Expected a learner among {list(METHODS)}, found {name!r} in {method!r}.")
    return found
