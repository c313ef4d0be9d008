"""Threads, Ctrl-C, the plotting backend, and the data sets that tests share."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable

# Before numpy, numba and torch are imported. Tests that compare bits need a fixed number of threads, and more than one
# on a busy machine is slower.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from anndata import AnnData

torch.set_num_threads(1)

# A shell's background job is begun with Ctrl-C ignored, and so are the processes that it starts; tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the real data sets; the test is skipped where there is none."""
    value = os.environ.get("DIFFAUG_DATA_DIR")
    if not value:
        pytest.skip("needs real data sets: set DIFFAUG_DATA_DIR to the folder that holds them")
    folder = Path(value)
    # A wrong path is a mistake of the caller's, and skipping would hide it.
    assert folder.is_dir(), f"Expected DIFFAUG_DATA_DIR to be a folder, found {value!r}."
    return folder


@pytest.fixture
def counts() -> AnnData:
    """Raw counts of three cell types in two batches: 150 cells x 60 genes, sparse, fresh for every test.

    Negative-binomial with dispersion 2. Each type has eight marker genes of its own, eight times as high as in the
    others; the second batch has half as many counts.
    """
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    n_obs, n_vars, n_types, n_markers = 150, 60, 3, 8
    rng = np.random.default_rng(0)
    kind = np.arange(n_obs) % n_types
    batch = np.arange(n_obs) // n_types % 2
    mean = np.tile(rng.gamma(2.0, 0.5, size=n_vars), (n_obs, 1))
    for k in range(n_types):
        mean[np.ix_(kind == k, range(k * n_markers, (k + 1) * n_markers))] *= 8
    mean[batch == 1] /= 2
    dispersion = 2.0
    x = rng.negative_binomial(dispersion, dispersion / (dispersion + mean)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical([f"type_{k}" for k in kind]),
            "batch": pd.Categorical([f"batch_{b}" for b in batch]),
        },
        index=[f"cell_{i}" for i in range(n_obs)],
    )
    return anndata.AnnData(csr_matrix(x), obs=obs, var=pd.DataFrame(index=[f"gene_{j}" for j in range(n_vars)]))


@pytest.fixture(scope="session")
def pbmc() -> AnnData:
    """The embedded example, 700 real cells. It is shared by all tests: copy it before writing to it."""
    import diffaug

    return diffaug.datasets.pbmc68k_reduced()


def fingerprint(value: Any) -> Any:
    """Bytes, types and formats of anything that an AnnData holds."""
    import pandas as pd
    import scipy.sparse as sp

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


def summary(adata: AnnData) -> dict[str, Any]:
    """Everything of an AnnData, by its address."""
    found = {"X": fingerprint(adata.X), "obs": fingerprint(adata.obs), "var": fingerprint(adata.var)}
    for name in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        for key, value in getattr(adata, name).items():
            if key is not None:  # anndata 0.13 lists X among the layers
                found[f"{name}/{key}"] = fingerprint(value)
    return found


@pytest.fixture(scope="session")
def summarise() -> Callable[[AnnData], dict[str, Any]]:
    """Summary of an AnnData that notices any change, by address."""
    return summary
