"""The main job on the embedded cells: fit, embed, generate, draw, and judge beside PCA."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scanpy as sc
from anndata import AnnData

from diffaug import datasets, metrics, pl, tl
from diffaug.core.storage import FolderKind, written_whole

logger = logging.getLogger(__name__)

PROBES = "probes.json"
LABELS = "cell_type"
#: All that a demo writes.
FOLDER = FolderKind(
    "a demo's folder",
    PROBES,
    (
        "cells.h5ad",
        "cosine_similarity.png",
        "embedding.png",
        "history.png",
        "model",
        "synthetic.h5ad",
        "violin.png",
    ),
)
_N_PCS = 50


@dataclass(frozen=True)
class Made:
    """What a demo wrote, and its table of probes."""

    files: list[Path]
    table: str


def run(output: Path, *, device: str, seed: int, overwrite: bool, progress: bool) -> Made:
    """Do everything, into a folder that appears whole or not at all."""
    start = time.perf_counter()
    adata = datasets.pbmc68k_reduced()
    logger.info("fitting %d cells x %d genes with the default settings; no label is read in training", *adata.shape)
    with written_whole(output, kind=FOLDER, overwrite=overwrite) as folder:
        model = tl.fit(adata, twin=True, groupby=LABELS, random_state=seed, device=device, progress=progress)
        model.save(folder / "model")
        logger.info("generating %d synthetic cells", adata.n_obs)
        synthetic = tl.generate(model, adata.n_obs, random_state=seed, progress=progress)
        synthetic.write_h5ad(folder / "synthetic.h5ad")
        logger.info("drawing")
        pl.embedding(adata, color=LABELS, save=folder / "embedding.png", show=False)
        pl.violin(adata, synthetic, save=folder / "violin.png", show=False)
        pl.cosine_similarity(adata, model, save=folder / "cosine_similarity.png", show=False)
        pl.history(adata, save=folder / "history.png", show=False)
        logger.info("probing with the labels, which the training did not see")
        scores = {
            "X_diffaug": probe(adata.obsm["X_diffaug"], adata.obs[LABELS].to_numpy(), seed),
            "loop_off": probe(adata.obsm["X_diffaug_twin"], adata.obs[LABELS].to_numpy(), seed),
            f"PCA-{_N_PCS}": probe(principal_components(adata), adata.obs[LABELS].to_numpy(), seed),
        }
        (folder / PROBES).write_text(json.dumps(scores, indent=1), encoding="utf-8")
        adata.write_h5ad(folder / "cells.h5ad")
        names = sorted(p.name for p in folder.iterdir())
    logger.info("done in %.0f s", time.perf_counter() - start)
    return Made([output / name for name in names], table(scores))


def principal_components(adata: AnnData) -> np.ndarray:
    """PCA of the genes that the model saw, z-scored and clipped as usual, shape ``(n_obs, 50)``."""
    scaled = AnnData(adata.X.toarray())
    sc.pp.scale(scaled, max_value=10)
    sc.pp.pca(scaled, n_comps=_N_PCS)
    return scaled.obsm["X_pca"]


def probe(x: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """Scores of an embedding under labels: 5 x 5-fold accuracies, and k-means on all cells."""
    clusters = metrics.kmeans_scores(x, labels, random_state=seed)
    return {
        "linear SVM, accuracy": metrics.linear_probe(x, labels, protocol="repeated", random_state=seed).accuracy,
        "k-NN (k = 15), accuracy": metrics.knn_probe(x, labels, protocol="repeated", random_state=seed).accuracy,
        "k-means, accuracy": clusters.accuracy,
        "k-means, NMI": clusters.nmi,
        "k-means, ARI": clusters.ari,
    }


def table(scores: dict[str, dict[str, float]]) -> str:
    """Probes as rows, embeddings as columns."""
    rows = list(next(iter(scores.values())))
    width = max(map(len, rows))
    lines = [f"{f'labels: {LABELS}':{width}}  " + "  ".join(f"{name:>9}" for name in scores)]
    lines += [f"{row:{width}}  " + "  ".join(f"{s[row]:9.3f}" for s in scores.values()) for row in rows]
    return "\n".join(lines)
