"""Maps in two dimensions, through their own packages, of 50 principal components and with their own defaults."""

from __future__ import annotations

import numpy as np
from _common import pca_50
from anndata import AnnData

from peers._registry import register

_MAP = {"flat": "native", "extra": "bench"}


@register("umap", "UMAP", requires=("umap",), flat="native", compiles=True)
def umap(adata: AnnData, seed: int, *, n_neighbors: int = 15, min_dist: float = 0.1) -> np.ndarray:
    return umap_of(pca_50(adata), seed, n_neighbors=n_neighbors, min_dist=min_dist)


def umap_of(x: np.ndarray, seed: int, *, n_neighbors: int = 15, min_dist: float = 0.1) -> np.ndarray:
    """UMAP of any embedding: the one map for all methods that have none of their own."""
    from umap import UMAP

    # A seed makes UMAP run in one thread; saying so spares its warning.
    model = UMAP(n_neighbors=min(n_neighbors, len(x) - 1), min_dist=min_dist, random_state=seed, n_jobs=1)
    return model.fit_transform(x)


@register("pacmap", "PaCMAP", requires=("pacmap",), compiles=True, **_MAP)
def pacmap(adata: AnnData, seed: int, *, n_neighbors: int = 10) -> np.ndarray:
    from pacmap import PaCMAP

    model = PaCMAP(n_components=2, n_neighbors=n_neighbors, random_state=seed)
    return model.fit_transform(pca_50(adata), init="pca")


@register("hnne", "hNNE", requires=("hnne",), compiles=True, **_MAP)
def hnne(adata: AnnData, seed: int) -> np.ndarray:
    from hnne import HNNE

    return HNNE(n_components=2, random_state=seed).fit_transform(pca_50(adata))


@register("phate", "PHATE", requires=("phate",), **_MAP)
def phate(adata: AnnData, seed: int) -> np.ndarray:
    from phate import PHATE

    return PHATE(n_components=2, n_pca=None, random_state=seed, n_jobs=1, verbose=0).fit_transform(pca_50(adata))


@register("opentsne", "t-SNE (openTSNE)", requires=("openTSNE",), **_MAP)
def opentsne(adata: AnnData, seed: int, *, perplexity: float = 30.0) -> np.ndarray:
    from openTSNE import TSNE

    return np.asarray(TSNE(perplexity=perplexity, random_state=seed, n_jobs=1).fit(pca_50(adata)))


_TENSORFLOW = {
    "flat": "native",
    "extra": "bench-tensorflow",
    "note": "The extra `bench-tensorflow` brings what it needs; see `pyproject.toml` on why that is apart.",
}


@register("parametric_umap", "Parametric UMAP", requires=("tensorflow", "umap.parametric_umap"), **_TENSORFLOW)
def parametric_umap(adata: AnnData, seed: int) -> np.ndarray:
    import keras
    from umap.parametric_umap import ParametricUMAP

    keras.utils.set_random_seed(seed)
    model = ParametricUMAP(random_state=seed, n_jobs=1, keras_fit_kwargs={"verbose": 0})
    return model.fit_transform(pca_50(adata))


@register("ivis", "ivis", requires=("peers._legacy_keras", "tensorflow", "ivis"), **_TENSORFLOW)
def ivis(adata: AnnData, seed: int) -> np.ndarray:
    import tensorflow
    from ivis import Ivis

    tensorflow.keras.utils.set_random_seed(seed)
    return Ivis(embedding_dims=2, k=min(150, adata.n_obs - 1), verbose=0).fit_transform(pca_50(adata))
