"""Learnt embeddings of single cells, through their own packages."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from peers._registry import register


@register(
    "scvi", "scVI", requires=("scvi",), extra="bench", needs_counts=True, note="scvi-tools' defaults, no batch key."
)
def scvi(adata: AnnData, seed: int, *, n_latent: int = 10, max_epochs: int | None = None) -> np.ndarray:
    return scvi_latent(adata, seed, n_latent=n_latent, max_epochs=max_epochs)


def scvi_latent(
    adata: AnnData, seed: int, *, n_latent: int = 10, max_epochs: int | None = None, batch_key: str | None = None
) -> np.ndarray:
    """scVI on ``.layers["counts"]``, told the batches where a column of ``.obs`` is named."""
    import scvi

    scvi.settings.seed = seed
    scratch = AnnData(adata.layers["counts"].copy(), obs=_told(adata, batch_key), var=adata.var[[]].copy())
    scvi.model.SCVI.setup_anndata(scratch, batch_key=batch_key)
    model = scvi.model.SCVI(scratch, n_latent=n_latent)
    model.train(max_epochs=max_epochs, enable_progress_bar=False)
    return model.get_latent_representation()


@register(
    "concord",
    "CONCORD",
    requires=("concord",),
    extra="bench",
    note="Its own defaults, no domain key.",
)
def concord(adata: AnnData, seed: int, *, latent_dim: int = 100, n_epochs: int = 15) -> np.ndarray:
    return concord_embedding(adata, seed, latent_dim=latent_dim, n_epochs=n_epochs)


def concord_embedding(
    adata: AnnData, seed: int, *, latent_dim: int = 100, n_epochs: int = 15, domain_key: str | None = None
) -> np.ndarray:
    """CONCORD on ``.X``, told the batches where a column of ``.obs`` is named."""
    from concord import Concord

    scratch = AnnData(adata.X.copy(), obs=_told(adata, domain_key), var=adata.var[[]].copy())
    model = Concord(scratch, save_dir=None, seed=seed, latent_dim=latent_dim, n_epochs=n_epochs, domain_key=domain_key)
    model.fit_transform(output_key="x")
    return scratch.obsm["x"]


def _told(adata: AnnData, key: str | None) -> pd.DataFrame:
    """What a method sees of ``.obs``: the column of this name, or nothing."""
    return adata.obs[[] if key is None else [key]].copy()
