"""Variational autoencoders of counts, through scvi-tools."""

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
