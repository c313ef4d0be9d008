"""Cells in files, and one tiny model that all tests of the command line share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from diffaug.cli import main

TINY = """
[training]
n_encoders = 2
warmup_steps = 4
generator_steps = 4
mixed_steps = 4
encoder_passes = 0
generator_passes = 0

[domain]
generator_width = 32
"""


def make_cells(n_obs: int, seed: int) -> anndata.AnnData:
    """Raw counts of 24 genes in two types that differ in six of them; rows of one distribution whatever the seed."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_obs) % 2
    mean = np.tile(np.linspace(0.5, 6.0, 24), (n_obs, 1))
    mean[kind == 1, :6] *= 6
    counts = rng.negative_binomial(2.0, 2.0 / (2.0 + mean)).astype(np.float32)
    counts[:, -1] += 1  # no cell without counts
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(np.where(kind == 0, "NK", "B=1")),
            "batch": pd.Categorical((kind + 1).astype(str)),
        },
        index=[f"cell-{seed}-{i}" for i in range(n_obs)],
    )
    return anndata.AnnData(csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"gene{j}" for j in range(24)]))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with cells, settings, a fit of them, and synthetic cells. Read it only."""
    folder = tmp_path_factory.mktemp("cli")
    for name, seed in (("cells", 0), ("held_out", 1), ("other", 2)):
        make_cells(120, seed).write_h5ad(folder / f"{name}.h5ad")
    (folder / "tiny.toml").write_text(TINY)
    assert main(["fit", str(folder / "cells.h5ad"), "--config", str(folder / "tiny.toml"), "--quiet"]) == 0
    assert (
        main(["generate", str(folder / "cells.diffaug.model"), "--n-obs", "90", "-o", str(folder / "made.h5ad")]) == 0
    )
    return folder


@pytest.fixture
def work(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the folder, entered."""
    shutil.copytree(shared, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="session")
def listing() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder with its content: equal listings mean that nothing happened."""
    return lambda folder: {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="session")
def same_cells() -> Callable[[anndata.AnnData, anndata.AnnData], bool]:
    """Whether two sets of cells have equal values, names, annotations and embeddings."""

    def dense(x: object) -> np.ndarray:
        return x.toarray() if hasattr(x, "toarray") else np.asarray(x)

    def same(a: anndata.AnnData, b: anndata.AnnData) -> bool:
        return (
            np.array_equal(dense(a.X), dense(b.X))
            and list(a.obs_names) == list(b.obs_names)
            and list(a.var_names) == list(b.var_names)
            and a.obs.astype(str).equals(b.obs.astype(str))
            and set(a.obsm) == set(b.obsm)
            and all(np.array_equal(a.obsm[k], b.obsm[k]) for k in a.obsm)
        )

    return same
