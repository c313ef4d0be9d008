"""Learnt embeddings of single cells, through their own packages."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from peers._registry import register


@register(
    "scvi", "scVI", requires=("scvi",), extra="bench", needs_counts=True, note="scvi-tools' defaults, no batch key."
)
def scvi(adata: AnnData, seed: int, *, n_latent: int = 10, max_epochs: int | None = None) -> np.ndarray:
    import scvi

    scvi.settings.seed = seed
    scratch = AnnData(adata.layers["counts"].copy(), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())
    scvi.model.SCVI.setup_anndata(scratch)
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
    from concord import Concord

    scratch = AnnData(adata.X.copy(), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())
    model = Concord(scratch, save_dir=None, seed=seed, latent_dim=latent_dim, n_epochs=n_epochs)
    model.fit_transform(output_key="x")
    return scratch.obsm["x"]
