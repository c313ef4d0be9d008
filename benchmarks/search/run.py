"""Runs arms on sets and seeds: the generator is trained once for all arms of the mixed phase that still lack a row."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.protocols import K, crossval_scores
from harness.sets import Slice, prepared_file, read_prepared
from harness.store import now, settings_hash
from scipy import sparse

from diffaug import DiffAug, metrics
from diffaug.core.config import Config
from diffaug.core.devices import tuned_cpu
from diffaug.core.inference import encode
from diffaug.core.training import Trainer
from search.arms import Arm, EncoderArm, MixedArm, kind_of
from search.mixed import EncoderAlone, MixedPhase, Parts, with_full_bank
from search.rows import Key, SearchRows

logger = logging.getLogger("bench")

#: Starts of k-means, of which each keeps the best of a few; the mean over them is the score.
KMEANS_SEEDS, KMEANS_STARTS = 4, 3
_VERSIONS = ("diffaug", "torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Task:
    """A set as the arms get it, and a seed; see :class:`search.rows.Key`."""

    slice: Slice
    seed: int
    n_train: int = 0
    panel: int = 0


def settings_of(settings: Mapping[str, Any], kmeans_seeds: int = KMEANS_SEEDS) -> dict[str, Any]:
    """What all rows of a run have in common, so that they may be compared: the model's whole configuration and the judge."""
    judge = {"probes": "row_hits, five folds", "k": K, "kmeans_seeds": kmeans_seeds, "kmeans_starts": KMEANS_STARTS}
    return {"config": config_of(settings).to_dict(), "judge": judge}


def config_of(settings: Mapping[str, Any]) -> Config:
    """The default preset with settings on top, and one encoder: arms differ by what a single encoder learns from."""
    return DiffAug(dict(settings) or None, device="cpu").config.updated("training", n_encoders=1)


def own_settings(arm: Arm) -> dict[str, Any]:
    """What an encoder arm is, beside what its run has in common; the hash, which it shares with its twin, is without it."""
    if not isinstance(arm, EncoderArm):
        return {}
    if not arm.trained:
        return {"arm": "not trained"}
    own = {name: dict(values) for name, values in arm.settings.items()}
    return {"arm": own if arm.kind is EncoderAlone else {**own, arm.kind.__name__: dict(arm.options)}}


class Runner:
    """Runs arms and keeps their rows.

    Parameters
    ----------
    rows
        Rows that are there; what is there is not done again.
    cache
        Folder of the prepared sets.
    study
        Entry of the notebook that new rows belong to.
    settings
        Settings of the model on top of the default preset.
    kmeans_seeds
        Starts of k-means.
    """

    def __init__(
        self,
        rows: SearchRows,
        cache: Path,
        study: str,
        settings: Mapping[str, Any] | None = None,
        kmeans_seeds: int = KMEANS_SEEDS,
    ) -> None:
        self.rows, self.cache, self.study, self.kmeans_seeds = rows, cache, study, kmeans_seeds
        self._given = dict(settings or {})
        self.settings = settings_of(self._given, kmeans_seeds)
        self.hash = settings_hash(self.settings)

    def key(self, task: Task, arm: Arm) -> Key:
        one = task.slice
        size = (one.name, one.max_obs or 0, one.n_top_genes, task.panel, task.n_train)
        return Key(kind_of(arm), *size, task.seed, arm.name, self.hash)

    def run(self, tasks: Sequence[Task], arms: Sequence[Arm]) -> None:
        """Every arm on every task, those of a task together."""
        for task in tasks:
            missing = [arm for arm in arms if not self.rows.has(self.key(task, arm))]
            # Without training there is nothing that a seed could change.
            missing = [a for a in missing if task.seed == 0 or not (isinstance(a, EncoderArm) and not a.trained)]
            if missing:
                try:
                    with tuned_cpu():
                        self._run(task, missing)
                finally:
                    self.rows.write()

    def _run(self, task: Task, arms: Sequence[Arm]) -> None:
        x, labels = read(task.slice, self.cache, task.panel)
        train, test = split(len(labels), task.n_train, task.seed)

        def keep(arm: Arm, embedded: np.ndarray, begin: float, trainer: Trainer | None, before: float) -> None:
            seconds = time.perf_counter() - begin
            mixed = trainer if isinstance(trainer, MixedPhase) else None
            self.rows.put(
                self.key(task, arm),
                study=self.study,
                code=arm.code,
                twin=arm.twin,
                n_obs=len(labels),
                n_features=x.shape[1],
                trust=float("nan") if mixed is None else mixed.trust,
                rate=float("nan") if mixed is None else mixed.rate,
                seconds_before=before,
                seconds=seconds,
                **judged(embedded[test], labels[test], self.kmeans_seeds),
                settings=json.dumps(self.settings | own_settings(arm), sort_keys=True),
                versions=json.dumps({name: version(name) for name in _VERSIONS}),
                threads=torch.get_num_threads(),
                date=now(),
            )
            logger.info("%s, seed %d: %s in %.0f s", task.slice.name, task.seed, arm.code, seconds)

        self._mixed([arm for arm in arms if isinstance(arm, MixedArm)], x, train, task.seed, keep)
        for arm in arms:
            if isinstance(arm, EncoderArm):
                self._encoder(arm, x, train, task.seed, keep)

    def _mixed(self, arms: Sequence[MixedArm], x: Any, train: np.ndarray, seed: int, keep: Callable[..., None]) -> None:
        if not arms:
            return
        begin = time.perf_counter()
        parts = Parts.of(x[train], self._config(), seed)
        state, cells = with_full_bank(parts).state(), parts.backend.to_model(x)
        before = time.perf_counter() - begin
        for arm in arms:
            begin = time.perf_counter()
            trainer = parts.trainer(arm.kind, **arm.options)
            trainer.begin(state, parts)
            trainer.train()
            keep(arm, encode(trainer.encoder, cells).semantic.numpy(), begin, trainer, before)

    def _encoder(self, arm: EncoderArm, x: Any, train: np.ndarray, seed: int, keep: Callable[..., None]) -> None:
        begin = time.perf_counter()
        if not arm.trained:
            keep(arm, standardised(x, train), begin, None, 0.0)
            return
        parts = Parts.of(x[train], self._config(arm.settings), seed)
        trainer = parts.trainer(arm.kind, **arm.options)
        trainer.train()
        keep(arm, encode(trainer.encoder, parts.backend.to_model(x)).semantic.numpy(), begin, trainer, 0.0)

    def _config(self, more: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
        sections = {name: dict(values) for name, values in self._given.items()}
        for name, values in (more or {}).items():
            sections[name] = {**sections.get(name, {}), **values}
        return config_of(sections)


def read(one: Slice, cache: Path, panel: int = 0) -> tuple[Any, np.ndarray]:
    """Events and labels; with ``panel`` only so many features, those of the greatest variance."""
    adata = read_prepared(prepared_file(one, cache))
    x, labels = adata.X, adata.obs["label"].astype(str).to_numpy()
    if panel:
        if panel > x.shape[1]:
            raise ValueError(f"Expected a panel of at most the {x.shape[1]} features of {one.name}, found {panel}.")
        dense = _dense(x)
        x = dense[:, np.sort(np.argsort(-dense.var(axis=0))[:panel])]
    return x, labels


def split(n_obs: int, n_train: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to judge; with ``n_train`` of 0 all are both."""
    if not n_train:
        return np.arange(n_obs), np.arange(n_obs)
    if n_train >= n_obs:
        raise ValueError(f"Expected n_train below the {n_obs} cells of the set, found {n_train}.")
    order = np.random.default_rng(seed).permutation(n_obs)
    return np.sort(order[:n_train]), np.sort(order[n_train:])


def judged(x: np.ndarray, labels: np.ndarray, kmeans_seeds: int = KMEANS_SEEDS) -> dict[str, float]:
    """Scores of an embedding, each cell tested once."""
    found = [metrics.kmeans_scores(x, labels, n_init=KMEANS_STARTS, random_state=seed) for seed in range(kmeans_seeds)]
    return {
        **crossval_scores(x, labels),
        "kmeans": float(np.mean([f.accuracy for f in found])),
        "nmi": float(np.mean([f.nmi for f in found])),
        "ari": float(np.mean([f.ari for f in found])),
    }


def standardised(x: Any, train: np.ndarray) -> np.ndarray:
    """Features by mean and standard deviation of the training cells; constant ones stay at zero."""
    dense = _dense(x)
    spread = dense[train].std(axis=0)
    return (dense - dense[train].mean(axis=0)) / np.where(spread > 1e-8, spread, 1)


def _dense(x: Any) -> np.ndarray:
    return np.asarray(x.toarray() if sparse.issparse(x) else x, dtype=np.float32)
