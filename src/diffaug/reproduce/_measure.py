"""One run: train on a set with one seed, and judge. The same protocols for every arm; labels only judge."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from diffaug import metrics, tl
from diffaug._anndata import pack_obs, read_source
from diffaug._model import DiffAug
from diffaug.core.config import Config
from diffaug.core.plan import rate_in_force
from diffaug.reproduce._arms import DIFFAUG, Group
from diffaug.reproduce._sets import Data

logger = logging.getLogger(__name__)

#: Rows that a probe sees at most, drawn in the proportions of the classes.
MAX_PROBED = 12_000
N_COMPARED = 500
HAND_MADE = ("mixup", "feature_swap")
KINDS = ("diffaug", *HAND_MADE, "random_pair")
QUANTILES = (5, 25, 50, 75, 95)
Scores = dict[str, float | str]


def measure(
    method: str,
    config: Config,
    data: Data,
    *,
    groups: Collection[Group],
    seed: int,
    device: str = "auto",
    max_epochs: int | None = None,
) -> Scores:
    """Train and judge.

    Parameters
    ----------
    method
        ``"diffaug"`` or the name of a baseline.
    config
        Settings of the arm.
    data
        The set.
    groups
        Scores that are asked for.
    seed
        Of the training, the map and the views. The splits of the probes are the same for all seeds.
    device, max_epochs
        As of :func:`diffaug.tl.fit`.

    Returns
    -------
    Scores by name: accuracies in [0, 1].
    """
    begin = time.perf_counter()
    model = None
    if method == DIFFAUG:
        work = data.adata.copy()
        with_labels = config.diffusion.condition == "label"
        model = tl.fit(
            work,
            label_key=data.label_key if with_labels else None,
            config=config,
            max_epochs=max_epochs,
            random_state=seed,
            device=device,
            progress=False,
        )
        semantic, latent = work.obsm["X_diffaug"], work.obsm["X_diffaug_latent"]
    else:
        semantic, latent = _baseline(method, config, data, seed, device, max_epochs)
    seconds, view_rate = time.perf_counter() - begin, 0.0 if model is None else rate_in_force(model.history)
    generated = model is not None and any(r.phase in ("B", "joint") for r in model.history)
    return {
        "seconds": seconds,
        "view_rate": view_rate,
        **_judged(semantic, latent, data, groups=groups, seed=seed, model=model if generated else None),
    }


def measure_sweep(
    configs: Sequence[Config],
    data: Data,
    *,
    groups: Collection[Group],
    seed: int,
    device: str = "auto",
    max_epochs: int | None = None,
) -> Iterator[Scores]:
    """As :func:`measure` of DiffAug with each of some settings, for one warm-up and one generator.

    Parameters
    ----------
    configs
        Settings that differ in ``view_rate`` alone, which is above 0, of one alternating cycle.
    data, groups, seed, device, max_epochs
        As of :func:`measure`.

    Yields
    ------
    Scores of each, in the order of the settings, as soon as they are known. Their ``seconds`` are with the warm-up and
    the generator, as a fit of their own would have had them.
    """
    source = read_source(data.adata)
    labels = data.labels if configs[0].diffusion.condition == "label" else None
    rates = [config.training.view_rate for config in configs]
    begin = time.perf_counter()
    model = DiffAug(configs[0], random_state=seed, device=device)
    # What tl.fit keeps: views are compared through the same door.
    label_key = None if labels is None else data.label_key
    model.meta = {**source.meta, "batch_key": None, "label_key": label_key, "cells": pack_obs(data.adata.obs)}
    model.fit(source.x, labels=labels, max_epochs=max_epochs, sweep=rates[1:], progress=False)
    seconds = time.perf_counter() - begin
    found = {**model.sweep, rates[0]: model}
    mixed = {rate: sum(r.seconds for r in m.history if r.phase == "A" and r.cycle > 0) for rate, m in found.items()}
    trust = rate_in_force(model.history) / rates[0]
    for rate in rates:
        x = found[rate].embed(source.x)
        yield {
            "seconds": seconds - sum(mixed.values()) + mixed[rate],
            "view_rate": rate * trust,
            **_judged(x.semantic, x.latent, data, groups=groups, seed=seed, model=found[rate]),
        }


def _judged(
    semantic: np.ndarray,
    latent: np.ndarray,
    data: Data,
    *,
    groups: Collection[Group],
    seed: int,
    model: DiffAug | None,
) -> Scores:
    """Scores of an embedding, and of the views of the model that made it, where it has a generator."""
    scores = probes(semantic, data)
    if "map" in groups:
        is_map = latent.shape[1] == 2
        scores |= probes_2d(latent if is_map else umap(semantic, seed), data.labels)
        scores["map"] = "latent" if is_map else "umap"
    if "views" in groups and model is not None:
        scores |= views(model, data, seed)
    return scores


def _baseline(
    method: str, config: Config, data: Data, seed: int, device: str, max_epochs: int | None
) -> tuple[np.ndarray, np.ndarray]:
    from diffaug.baselines import Baseline

    x = data.adata.X
    x = np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float32)
    learner = Baseline(method, config, random_state=seed, device=device).fit(x, max_epochs=max_epochs, progress=False)
    found = learner.embed(x)
    return found.semantic, found.latent


def probes(x: np.ndarray, data: Data) -> Scores:
    """Scores of an embedding as it is."""
    linear = metrics.linear_probe(x, data.labels, max_obs=MAX_PROBED)
    rows = np.random.default_rng(0).permutation(len(x))[:MAX_PROBED]
    clusters = metrics.kmeans_scores(x[rows], data.labels[rows], n_init=5)
    found: Scores = {
        "linear": linear.accuracy,
        "linear_balanced": linear.balanced_accuracy,
        "knn": metrics.knn_probe(x, data.labels, max_obs=MAX_PROBED).accuracy,
        "kmeans": clusters.accuracy,
        "nmi": clusters.nmi,
        "ari": clusters.ari,
        "rank": metrics.effective_rank(x[rows]),
        "n_left_out": float(sum(linear.dropped.values())),
    }
    if data.groups is not None and len(np.unique(data.groups)) > 1:
        try:
            found["linear_grouped"] = metrics.linear_probe(
                x, data.labels, groups=data.groups, max_obs=MAX_PROBED
            ).accuracy
        except ValueError as error:  # too few classes in several groups
            logger.warning("%s: no score by group: %s", data.name, error)
    return found


def probes_2d(x: np.ndarray, labels: np.ndarray) -> Scores:
    """The paper's appendix: ten folds in two dimensions."""
    return {
        "linear_2d": metrics.linear_probe(x, labels, protocol="tenfold", max_obs=MAX_PROBED).accuracy,
        "knn_2d": metrics.knn_probe(x, labels, protocol="tenfold", max_obs=MAX_PROBED).accuracy,
    }


def umap(x: np.ndarray, seed: int) -> np.ndarray:
    """Map of an embedding, shape ``(n, 2)``, with scanpy's settings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        from umap import UMAP

    # One thread, because a seed needs that; said here, or umap-learn warns of it.
    reducer = UMAP(n_neighbors=min(15, len(x) - 1), min_dist=0.5, random_state=seed, n_jobs=1)
    return np.asarray(reducer.fit_transform(x), dtype=np.float32)


def views(model: DiffAug, data: Data, seed: int) -> Scores:
    """How near generated and hand-made views stay to their cells, and whether generated ones keep the class."""
    table = tl.view_similarity(data.adata, model, kinds=("diffaug", *HAND_MADE), n_cells=N_COMPARED, random_state=seed)
    found: Scores = {}
    for kind in KINDS:
        cosine = table.loc[table["kind"] == kind, "cosine"].to_numpy()
        found |= {f"cosine_{kind}_q{q:02}": float(np.quantile(cosine, q / 100)) for q in QUANTILES}
    return found | _kept(model, data, seed)


def _kept(model: DiffAug, data: Data, seed: int) -> Scores:
    """Share of views whose nearest real cell has the class of the source, on principal components; and of real cells."""
    from sklearn.decomposition import PCA

    x = data.adata.X
    x = np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float32)
    rows = np.sort(np.random.default_rng(seed).permutation(len(x))[:N_COMPARED])
    labels = data.labels[rows] if model.config.diffusion.condition == "label" else None
    made = model.augment(x[rows], 1, labels=labels, random_state=seed)[:, 0]
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std == 0] = 1
    pca = PCA(min(50, *x.shape), random_state=0).fit(np.clip((x - mean) / std, -10, 10))
    real, drawn = (pca.transform(np.clip((m - mean) / std, -10, 10)) for m in (x, made))
    own = data.labels[rows]
    return {
        "kept": metrics.class_kept_share(drawn, own, real, data.labels, source_index=rows),
        "kept_real": metrics.class_kept_share(real[rows], own, real, data.labels, source_index=rows),
    }
