from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

import diffaug
from diffaug._matrix import describe_matrix


def test_contents(pbmc: AnnData) -> None:
    m = diffaug.datasets.manifest("pbmc68k_reduced_scanpy")
    assert pbmc.shape == m.shape
    assert pbmc.obs[m.label_key].nunique() == m.n_classes
    assert describe_matrix(pbmc.X).kind == m.kind == "log"
    assert describe_matrix(pbmc.layers["counts"]).kind == "counts"
    assert pbmc.X.dtype == pbmc.layers["counts"].dtype == np.float32
    assert pbmc.X.has_canonical_format and pbmc.layers["counts"].has_canonical_format
    np.testing.assert_array_equal(pbmc.X.indices, pbmc.layers["counts"].indices)
    pd.testing.assert_series_equal(pbmc.obs["cell_type"], pbmc.obs["bulk_labels"], check_names=False)


def test_nothing_of_the_old_analysis_is_left(pbmc: AnnData) -> None:
    for slot in (pbmc.obsm, pbmc.varm, pbmc.obsp, pbmc.varp):
        assert len(slot) == 0
    assert list(pbmc.uns) == ["log1p"] and list(pbmc.var) == [] and pbmc.raw is None
    assert "louvain" not in pbmc.obs


def test_values_are_those_of_scanpys_file(pbmc: AnnData) -> None:
    old = sc.datasets.pbmc68k_reduced()
    np.testing.assert_array_equal(pbmc.X.toarray(), old.raw.X.toarray())
    assert pbmc.obs_names.equals(old.obs_names) and pbmc.var_names.equals(old.raw.var_names)
    recovered = np.expm1(old.raw.X.toarray().astype(float)) * old.obs["n_counts"].to_numpy(float)[:, None] / 1e4
    assert np.abs(pbmc.layers["counts"].toarray() - recovered).max() < 0.09


def test_counts_are_those_of_the_original_file(data_dir: Path, pbmc: AnnData) -> None:
    """Oracle: the counts that scanpy's repository holds beside the reduced file."""
    original = diffaug.datasets.load("pbmc68k_reduced")
    assert original.obs_names.equals(pbmc.obs_names) and original.var_names.equals(pbmc.var_names)
    np.testing.assert_array_equal(pbmc.layers["counts"].toarray(), original.X.toarray())
    assert (original.obs["cell_type"].astype(str) == pbmc.obs["cell_type"].astype(str)).all()


def test_every_call_gives_a_new_object(pbmc: AnnData) -> None:
    again = diffaug.datasets.pbmc68k_reduced()
    again.X.data[:] = 0
    assert diffaug.datasets.pbmc68k_reduced().X.max() == pbmc.X.max() > 0


def test_refuses_a_changed_file(monkeypatch: pytest.MonkeyPatch) -> None:
    old = sc.datasets.pbmc68k_reduced()
    shifted = SimpleNamespace(raw=SimpleNamespace(X=old.raw.X * 1.05, var=old.raw.var), obs=old.obs)
    monkeypatch.setattr(sc.datasets, "pbmc68k_reduced", lambda: shifted)
    with pytest.raises(RuntimeError, match="Expected whole counts behind .* found values .* away from them"):
        diffaug.datasets.pbmc68k_reduced()
