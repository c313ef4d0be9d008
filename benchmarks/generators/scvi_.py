"""scVI (Lopez et al. 2018) as a generator: around each training cell, and from a Gaussian of each type's latent cells."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from generators.base import Made, Tool, register, types_of
from generators.gaussian import normal_like
from generators.split import Split


@register(
    "scvi",
    Tool(
        "scvi",
        "scVI, posterior predictive",
        "scvi-tools' defaults, no batch key; one draw of `posterior_predictive_sample` for each training cell, at its "
        "library size.",
    ),
    Tool(
        "scvi_types",
        "scVI, from types",
        "The same model; latent cells are drawn from a Gaussian fitted to each type's latent cells, library sizes from the "
        "type's training cells, and counts are drawn from the decoder.",
    ),
    requires=("scvi",),
)
def scvi_cells(split: Split, seed: int, *, n_latent: int = 10, max_epochs: int | None = None) -> dict[str, Made]:
    import scvi
    import sparse  # noqa: F401 - what its samples come in; else its import would count as time to draw them

    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    scvi.settings.seed = seed
    train = AnnData(split.train.X.copy(), obs=split.train.obs[[]].copy(), var=split.train.var[[]].copy())
    labels = types_of(split)
    begin = time.perf_counter()
    scvi.model.SCVI.setup_anndata(train)
    model = scvi.model.SCVI(train, n_latent=n_latent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how often it logs, and how many processes load its data
        model.train(max_epochs=max_epochs, accelerator="cpu", enable_progress_bar=False)
    fit_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    around = _csr(model.posterior_predictive_sample(train, n_samples=1))
    middle = time.perf_counter()
    fresh = _from_types(model, train, labels, seed)
    end = time.perf_counter()
    return {
        "scvi": Made(around, labels, fit_seconds, middle - begin),
        "scvi_types": Made(fresh, labels, fit_seconds, end - middle),
    }


def _csr(found: Any) -> sp.csr_matrix:
    """The sample as csr; scvi-tools gives a matrix of the package sparse, or an array."""
    return sp.csr_matrix(found.to_scipy_sparse() if hasattr(found, "to_scipy_sparse") else np.asarray(found))


def _from_types(model: Any, train: AnnData, labels: np.ndarray, seed: int) -> sp.csr_matrix:
    import torch

    rng = np.random.default_rng(seed)
    z = model.get_latent_representation(train, give_mean=False)
    totals = np.asarray(train.X.sum(axis=1)).ravel()
    new_z, new_totals = np.empty_like(z), np.empty_like(totals)
    for kind in np.unique(labels):
        rows = np.flatnonzero(labels == kind)
        new_z[rows] = normal_like(z[rows], len(rows), rng)
        new_totals[rows] = rng.choice(totals[rows], len(rows))
    parts = []
    with torch.inference_mode():
        for some in np.array_split(np.arange(len(z)), max(1, len(z) // 500)):
            made = model.module.generative(
                z=torch.as_tensor(new_z[some], dtype=torch.float32),
                library=torch.log(torch.as_tensor(new_totals[some], dtype=torch.float32))[:, None],
                batch_index=torch.zeros((len(some), 1), dtype=torch.long),
            )
            parts.append(sp.csr_matrix(made["px"].sample().numpy()))
    return sp.vstack(parts, format="csr")
