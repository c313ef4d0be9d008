"""How an embedding is judged: each protocol turns it into a few numbers, with the same splits for every method."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from _common import z_scored
from anndata import AnnData
from peers.maps import umap_of

from diffaug import metrics
from diffaug.core.storage import written_file
from harness.sets import read_prepared
from harness.store import Entry

#: Starts of k-means, of which each keeps the best of a few; the mean over them is the score.
KMEANS_SEEDS, KMEANS_STARTS = 5, 5
K = 15
#: Resolutions of Leiden below scanpy's default of 1.
COARSE = (0.5, 0.25)


@dataclass
class Judged:
    """An embedding and what it is judged by."""

    entry: Entry
    flat: Literal["native", "first", "umap"]
    data: AnnData
    first: Entry | None = None  # the same method with seed 0

    @cached_property
    def x(self) -> np.ndarray:
        return self.entry.array("x")

    @cached_property
    def labels(self) -> np.ndarray:
        return self.data.obs["label"].astype(str).to_numpy()

    @cached_property
    def groups(self) -> np.ndarray:
        return self.data.obs["group"].astype(str).to_numpy()

    @cached_property
    def map(self) -> np.ndarray:
        """The embedding in two dimensions; a map that has to be made is kept."""
        if self.flat in ("native", "first") or self.x.shape[1] <= 2:
            return self.x[:, :2]
        file = self.entry.map_file
        if not file.exists():
            made = umap_of(self.x, self.entry.seed)
            with written_file(file) as fresh:
                np.savez(fresh, x=made)
        with np.load(file) as arrays:
            return arrays["x"]


@dataclass(frozen=True)
class Protocol:
    """A name, a function, and what it takes."""

    name: str
    score: Callable[[Judged], dict[str, float]]
    grouped: bool = False
    against_first: bool = False
    said: str = ""


def _accuracies(found: metrics.ProbeResult) -> dict[str, float]:
    return {"accuracy": found.accuracy, "balanced_accuracy": found.balanced_accuracy}


def crossval_scores(x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Share of the cells that each probe of :data:`diffaug.metrics.hits.HIT_PROBES` gets right, each cell tested once."""
    return {
        probe: float(np.nanmean(metrics.row_hits(x, labels, probe=probe, k=K))) for probe in metrics.hits.HIT_PROBES
    }


def kmeans_means(x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores of k-means, mean over starts."""
    found = [
        dataclasses.asdict(metrics.kmeans_scores(x, labels, n_init=KMEANS_STARTS, random_state=seed))
        for seed in range(KMEANS_SEEDS)
    ]
    return {name: float(np.mean([scores[name] for scores in found])) for name in found[0]}


def leiden_scores(x: np.ndarray, labels: np.ndarray, resolutions: Sequence[float]) -> dict[float, dict[str, float]]:
    """What a user of scanpy gets at each resolution: the number of clusters is not told."""
    import scanpy as sc
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    cells = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(x))]), obsm={"x": x})
    sc.pp.neighbors(cells, n_neighbors=K, use_rep="x")
    means = {}
    for resolution in resolutions:
        found = []
        for seed in range(KMEANS_SEEDS):
            sc.tl.leiden(cells, resolution, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
            clusters = cells.obs["leiden"].to_numpy()
            nmi = normalized_mutual_info_score(labels, clusters)
            found.append((nmi, adjusted_rand_score(labels, clusters), len(np.unique(clusters))))
        means[resolution] = dict(zip(("nmi", "ari", "n_clusters"), np.mean(found, axis=0).tolist(), strict=True))
    return means


def _leiden_coarse(judged: Judged) -> dict[str, float]:
    found = leiden_scores(judged.x, judged.labels, COARSE)
    return {f"{name}_{resolution:g}": value for resolution, scores in found.items() for name, value in scores.items()}


def _structure(judged: Judged) -> dict[str, float]:
    genes = z_scored(judged.data)
    return {
        "effective_rank": metrics.effective_rank(judged.x),
        "trustworthiness": metrics.trustworthiness(genes, judged.x, k=K),
        "neighbor_overlap": metrics.neighbor_overlap(genes, judged.x, k=K),
    }


def _stability(judged: Judged) -> dict[str, float]:
    assert judged.first is not None
    return {"neighbor_overlap": metrics.neighbor_overlap(judged.first.array("x"), judged.x, k=K)}


def _mixing(judged: Judged) -> dict[str, float]:
    return {"batch_entropy": metrics.neighbor_batch_entropy(judged.x, judged.groups, k=K)}


def scib_scores(x: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """All scores of scib-metrics that need no other embedding to compare with, as they are (not rescaled)."""
    from scib_metrics.benchmark import BatchCorrection, Benchmarker

    obs = pd.DataFrame({"label": pd.Categorical(labels), "group": pd.Categorical(groups)})
    run = Benchmarker(
        AnnData(x, obs=obs.set_axis(obs.index.astype(str)), obsm={"x": x}),
        batch_key="group",
        label_key="label",
        embedding_obsm_keys=["x"],
        batch_correction_metrics=BatchCorrection(pcr_comparison=False),
        n_jobs=1,
        progress_bar=False,
    )
    run.benchmark()
    found = run.get_results(min_max_scale=False).loc["x"]
    return {str(name): float(value) for name, value in found.items()}


def _scib(judged: Judged) -> dict[str, float]:
    return scib_scores(judged.x, judged.labels, judged.groups)


#: All protocols by name, in the order in which they run.
PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "linear",
            lambda j: _accuracies(metrics.linear_probe(j.x, j.labels)),
            said="linear SVM on standardised features, five stratified 90/10 splits",
        ),
        Protocol(
            "linear5x5",
            lambda j: _accuracies(metrics.linear_probe(j.x, j.labels, protocol="repeated")),
            said="the same, five times 5-fold",
        ),
        Protocol(
            "knn",
            lambda j: _accuracies(metrics.knn_probe(j.x, j.labels, k=K)),
            said=f"k nearest neighbours, k = {K}, the splits of `linear`",
        ),
        Protocol(
            "crossval",
            lambda j: crossval_scores(j.x, j.labels),
            said=f"linear SVM and k nearest neighbours (k = {K}) over five folds, each cell tested once",
        ),
        Protocol(
            "kmeans",
            lambda j: kmeans_means(j.x, j.labels),
            said=f"k-means with as many clusters as classes, Hungarian matching, mean over {KMEANS_SEEDS} seeds",
        ),
        Protocol(
            "leiden",
            lambda j: leiden_scores(j.x, j.labels, [1.0])[1.0],
            said=f"Leiden clusters as scanpy makes them ({K} neighbours, resolution 1), mean over {KMEANS_SEEDS} seeds",
        ),
        Protocol(
            "leiden_coarse",
            _leiden_coarse,
            said=f"the same at resolutions {' and '.join(f'{r:g}' for r in COARSE)}",
        ),
        Protocol(
            "rbf",
            lambda j: _accuracies(metrics.linear_probe(j.x, j.labels, protocol="rbf")),
            said="RBF SVM, 5-fold: the protocol of the authors' code",
        ),
        Protocol(
            "linear2d",
            lambda j: _accuracies(metrics.linear_probe(j.map, j.labels, protocol="tenfold")),
            said="linear SVM in two dimensions, 10-fold: the protocol of the paper's appendix",
        ),
        Protocol(
            "knn2d",
            lambda j: _accuracies(metrics.knn_probe(j.map, j.labels, k=K, protocol="tenfold")),
            said="k nearest neighbours in two dimensions, 10-fold",
        ),
        Protocol("kmeans2d", lambda j: kmeans_means(j.map, j.labels), said="k-means in two dimensions"),
        Protocol(
            "linear_grouped",
            lambda j: _accuracies(metrics.linear_probe(j.x, j.labels, protocol="groups", groups=j.groups)),
            grouped=True,
            said="linear SVM, tested on donors, batches or subjects that it has not seen, each once",
        ),
        Protocol(
            "knn_grouped",
            lambda j: _accuracies(metrics.knn_probe(j.x, j.labels, k=K, protocol="groups", groups=j.groups)),
            grouped=True,
            said="k nearest neighbours, as `linear_grouped`",
        ),
        Protocol(
            "structure",
            _structure,
            said=f"effective rank; trustworthiness and overlap of {K} neighbours against z-scored genes",
        ),
        Protocol(
            "stability",
            _stability,
            against_first=True,
            said=f"share of {K} neighbours that two seeds have in common",
        ),
        Protocol(
            "mixing", _mixing, grouped=True, said=f"entropy of the batches of {K} neighbours, 1 for perfect mixing"
        ),
        Protocol("scib", _scib, grouped=True, said="the scores of scib-metrics for bio-conservation and batches"),
    )
}
#: Those that run unless told otherwise; scib-metrics is large and slow.
DEFAULT = tuple(name for name in PROTOCOLS if name != "scib")

_data: dict[Path, AnnData] = {}


def score(
    name: str, entry: Entry, first: Entry | None, flat: Literal["native", "first", "umap"], data: Path
) -> dict[str, float]:
    """Scores of an embedding by one protocol."""
    logging.getLogger("diffaug").setLevel(logging.ERROR)  # classes too small for a protocol are the same for everybody
    if data not in _data:
        _data.clear()  # one set at a time
        _data[data] = read_prepared(data)
    return PROTOCOLS[name].score(Judged(entry, flat, _data[data], first))
