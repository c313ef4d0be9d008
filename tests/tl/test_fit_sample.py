"""``tl.fit(max_obs=...)``: a training on some cells, and an embedding of all, also from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffaug import DiffAug
from diffaug.tl import embed, fit
from diffaug.tl._sample import even_shares


def run(adata: anndata.AnnData, small: dict, **how: Any) -> DiffAug:
    return fit(adata, config=small, device="cpu", progress=False, **how)


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=12), share=st.floats(0, 1))
def test_even_shares(sizes: list[int], share: float) -> None:
    total = int(share * sum(sizes))
    found = even_shares(np.array(sizes), total)
    assert found.sum() == total and (found >= 0).all() and (found <= sizes).all()
    cut = found[found < sizes]  # groups of which some cells are left out have as many as any, but for one
    assert cut.size == 0 or found.max() - cut.min() <= 1


@pytest.mark.parametrize("twin", [False, True])
def test_it_is_a_fit_on_the_sample_that_embeds_all(
    logged: anndata.AnnData, small: dict, tmp_path: Path, twin: bool
) -> None:
    model = run(logged, small, max_obs=90, twin=twin)
    names = model.meta["cells"]["names"]
    assert model.n_obs == len(set(names)) == 90 and names == [n for n in logged.obs_names if n in set(names)]
    assert logged.uns["diffaug"]["n_obs_trained"] == 90
    alone = logged[names].copy()
    same = run(alone, small, twin=twin)
    embed(alone, same)
    np.testing.assert_allclose(logged[names].obsm["X_diffaug"], alone.obsm["X_diffaug"], atol=1e-5)
    assert logged.obsm["X_diffaug"].shape == (150, 6) and np.isfinite(logged.obsm["X_diffaug"]).all()
    assert ("X_diffaug_twin" in logged.obsm) == twin == ("loop_gain" in logged.uns["diffaug"])
    if twin:
        assert logged.obsm["X_diffaug_twin"].shape == (150, 6)
        assert not np.allclose(logged.obsm["X_diffaug_twin"], logged.obsm["X_diffaug"])
    logged.write_h5ad(tmp_path / "out.h5ad")


def test_from_a_file(counts: anndata.AnnData, small: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts in pieces of a few cells: as from memory, and the file stays as it was."""
    monkeypatch.setattr("diffaug._new_cells._VALUES_AT_ONCE", 7 * counts.n_vars)
    counts.write_h5ad(tmp_path / "cells.h5ad")
    before = (tmp_path / "cells.h5ad").read_bytes()
    cells = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    run(cells, small, max_obs=60)
    run(counts, small, max_obs=60)
    np.testing.assert_allclose(cells.obsm["X_diffaug"], counts.obsm["X_diffaug"], atol=1e-5)
    assert cells.isbacked and (tmp_path / "cells.h5ad").read_bytes() == before
    assert run(cells, small, max_obs=1000).n_obs == 150  # all there are


def test_rare_groups_are_drawn_whole(logged: anndata.AnnData, small: dict) -> None:
    logged.obs["donor"] = ["few"] * 8 + ["some"] * 42 + ["many"] * 100
    cells = run(logged, small, max_obs=60, sample_by="donor").meta["cells"]
    names = logged.obs.loc[cells["names"], "donor"].value_counts().to_dict()
    assert names == {"few": 8, "some": 26, "many": 26}
    other = run(logged, small, max_obs=60, sample_by="donor", random_state=1).meta["cells"]["names"]
    assert other != cells["names"]


@pytest.mark.parametrize("scale", ["counts", "log"])
def test_an_even_sample_of_uneven_groups(
    counts: anndata.AnnData, small: dict, scale: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of the genes take other shares of the counts in the sample than in all cells: nothing is wrong with that."""
    counts.X = counts.X.toarray().astype(np.float32)
    counts.X[15:, :30] = np.minimum(counts.X[15:, :30], 1)
    counts.X[:15, 30:] = np.minimum(counts.X[:15, 30:], 1)
    counts.var["highly_variable"] = np.arange(60) >= 30
    counts.obs["group"] = ["rare"] * 15 + ["common"] * 135
    if scale == "log":
        counts.X = np.log1p(1e4 * counts.X / counts.X.sum(axis=1, keepdims=True))
    run(counts, small, max_obs=30, sample_by="group")
    assert np.isfinite(counts.obsm["X_diffaug"]).all()
    assert not [r for r in caplog.records if "training cells" in r.getMessage()]


def test_only_what_is_asked_for_is_read(logged: anndata.AnnData, small: dict, tmp_path: Path) -> None:
    """A file without a matrix has its representation; and cells that a model made are trained on as any."""
    logged.obsm["X_pca"] = np.random.default_rng(0).normal(size=(150, 7))
    del logged.X
    logged.write_h5ad(tmp_path / "cells.h5ad")
    for n in (60, 1000):
        cells = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
        cells.uns["diffaug_made"] = {"made_by": "generate"}
        run(cells, small, max_obs=n, use_rep="X_pca")
        assert cells.obsm["X_diffaug"].shape == (150, 6) and cells.uns["diffaug"]["n_obs_trained"] == min(n, 150)


def test_names_are_looked_at_in_all_cells(
    logged: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture
) -> None:
    logged.obs_names = ["one"] * 2 + list(logged.obs_names[2:])
    run(logged, small, max_obs=20, random_state=3)
    assert "1 cells have the name of another" in caplog.text


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"sample_by": "batch"}, ValueError, "Expected `max_obs` with sample_by='batch', found none"),
        ({"max_obs": 0}, ValueError, "Expected `max_obs` of at least 1, found 0"),
        ({"max_obs": 5.0}, TypeError, "Expected `max_obs` to be a whole number"),
        ({"max_obs": 5}, ValueError, "Expected at least 10 cells to train on, found 5"),
        ({"max_obs": 20, "sample_by": "cell"}, ValueError, "at least one cell for each of the 30 groups of 'cell'"),
        ({"max_obs": 60, "groupby": "cell_type"}, ValueError, "Expected twin=True with groupby='cell_type'"),
        ({"max_obs": 60, "sample_by": "dono"}, KeyError, "Did not find `adata.obs\\['dono'\\]` \\(sample_by\\)"),
        ({"max_obs": 600, "sample_by": "dono"}, KeyError, "Did not find `adata.obs\\['dono'\\]` \\(sample_by\\)"),
    ],
)
def test_wrong_arguments(
    logged: anndata.AnnData, small: dict, how: dict, error: type, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged.obs["cell"] = [f"c{i % 30}" for i in range(150)]
    with monkeypatch.context() as patch:
        patch.setattr("diffaug.tl._fit.check_like", lambda *_, **__: pytest.fail("read all cells"))
        with pytest.raises(error, match=message):
            run(logged, small, **how)
    assert not logged.obsm


@pytest.mark.parametrize("kind", ["empty", "nan", "other"])
def test_what_could_not_be_embedded_is_said_before_the_training(
    counts: anndata.AnnData, small: dict, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = set(run(counts.copy(), small, max_obs=60).meta["cells"]["names"])
    row = next(i for i, name in enumerate(counts.obs_names) if name not in drawn)
    counts.X = counts.X.toarray().astype(np.float32)
    counts.X[row] = {"empty": 0, "nan": np.nan, "other": -1.5}[kind]
    monkeypatch.setattr(DiffAug, "fit", lambda *_, **__: pytest.fail("trained"))
    said = {"empty": "found 1 empty cells", "nan": "found 60 NaN", "other": "found counts in the cells that were drawn"}
    with pytest.raises(ValueError, match=said[kind]):
        run(counts, small, max_obs=60)


def test_files_that_cannot_be_read_in_pieces(counts: anndata.AnnData, small: dict, tmp_path: Path) -> None:
    counts.X = counts.X.tocsc()
    counts.write_h5ad(tmp_path / "cells.h5ad")
    cells = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with pytest.raises(ValueError, match=r"stored cell by cell .* found it stored gene by gene"):
        run(cells, small, max_obs=60)
    with pytest.raises(ValueError, match=r"or `max_obs` with one that is backed by a file, found neither"):
        run(cells, small)
