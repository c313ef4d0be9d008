"""A small model of log-normalised counts, and a summary of an AnnData that notices any change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import diffaug
from diffaug import DiffAug

SMALL: dict[str, Any] = {
    "training": {"warmup_epochs": 2, "generator_epochs": 3, "mixed_epochs": 2, "batch_size": 50, "view_rate": 0.5},
    "diffusion": {"n_steps": 4},
    "domain": {"encoder_hidden": [24], "n_semantic": 6, "n_latent": 5, "generator_width": 16, "generator_depth": 1},
}


def fingerprint(value: Any) -> Any:
    """Bytes, types and formats of anything that an AnnData holds."""
    if sp.issparse(value):
        parts = (value.indptr, value.indices, value.data) if value.format in ("csr", "csc") else (value.toarray(),)
        return (type(value).__name__, value.shape, tuple(fingerprint(p) for p in parts))
    if isinstance(value, np.ndarray):
        raw = repr(value.tolist()).encode() if value.dtype.kind == "O" else np.ascontiguousarray(value).tobytes()
        return (value.dtype.str, value.shape, hashlib.sha256(raw).hexdigest())
    if isinstance(value, pd.DataFrame):
        return (tuple(map(str, value.dtypes)), value.to_csv())
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(k): fingerprint(v) for k, v in value.items()}
    return repr(value)


def summary(adata: anndata.AnnData) -> dict[str, Any]:
    """Everything of an AnnData, by its address."""
    found = {"X": fingerprint(adata.X), "obs": fingerprint(adata.obs), "var": fingerprint(adata.var)}
    for name in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        for key, value in getattr(adata, name).items():
            if key is not None:  # anndata 0.13 lists X among the layers
                found[f"{name}/{key}"] = fingerprint(value)
    return found


@pytest.fixture(scope="session")
def summarise() -> Callable[[anndata.AnnData], dict[str, Any]]:
    return summary


@pytest.fixture
def small() -> dict[str, Any]:
    """Settings of a fit that takes a tenth of a second."""
    return {section: dict(values) for section, values in SMALL.items()}


@pytest.fixture
def logged(counts: anndata.AnnData) -> anndata.AnnData:
    """Log-normalised counts, sparse, with the counts in a layer."""
    diffaug.pp.recipe(counts)
    del counts.var["highly_variable"]
    return counts


_CACHE: dict[str, DiffAug] = {}


@pytest.fixture
def model(logged: anndata.AnnData) -> DiffAug:
    """A model fitted on ``logged``; shared, so tests only read it."""
    if "model" not in _CACHE:
        _CACHE["model"] = diffaug.tl.fit(logged.copy(), config=SMALL, device="cpu", progress=False)
    return _CACHE["model"]
