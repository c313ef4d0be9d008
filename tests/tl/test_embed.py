"""``tl.embed``: new cells through the same door as the training cells."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import diffaug
from diffaug import DiffAug
from diffaug.tl import embed, fit


def fitted(adata: anndata.AnnData, small: dict, **how: str) -> DiffAug:
    return fit(adata, config=small, device="cpu", progress=False, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("key_added", [None, "again"])
def test_fields_written_and_nothing_else(
    logged: anndata.AnnData, model: DiffAug, summarise: Callable, key_added: str | None
) -> None:
    before = summarise(logged)
    assert embed(logged, model, key_added=key_added) is None
    after = summarise(logged)
    semantic, uns = ("X_diffaug", "diffaug") if key_added is None else ("again", "again")
    assert set(after) - set(before) == {f"obsm/{semantic}", f"obsm/{semantic}_latent", f"uns/{uns}"}
    assert {k: after[k] for k in before} == before
    assert logged.uns[uns]["n_filled_genes"] == 0


def test_same_as_at_the_fit(logged: anndata.AnnData, small: dict, summarise: Callable) -> None:
    """Embedding the training cells again changes nothing, and above all keeps the history."""
    model = fitted(logged, small)
    before = summarise(logged)
    embed(logged, model)
    after = summarise(logged)
    added = {"n_filled_genes": after["uns/diffaug"].pop("n_filled_genes")}
    assert added == {"n_filled_genes": "0"}
    assert after == before


def test_genes_are_aligned_by_name(logged: anndata.AnnData, model: DiffAug) -> None:
    """Order and further genes make no difference, to the bit."""
    embed(logged, model)
    permuted = logged[:, np.random.default_rng(0).permutation(60)].copy()
    more = sp.csr_matrix(np.log1p(np.random.default_rng(1).poisson(3, size=(150, 40))).astype(np.float32))
    var = pd.DataFrame(index=[*(f"more_{i}" for i in range(40)), *permuted.var_names])
    extended = anndata.AnnData(sp.hstack([more, permuted.X]).tocsr(), obs=logged.obs, var=var)
    assert extended.n_vars == 100
    for adata in (permuted, extended):
        embed(adata, model)
        np.testing.assert_array_equal(adata.obsm["X_diffaug"], logged.obsm["X_diffaug"])
        np.testing.assert_array_equal(adata.obsm["X_diffaug_latent"], logged.obsm["X_diffaug_latent"])
    # The control: columns in another order under the same names are other cells.
    wrong = logged.copy()
    wrong.var_names = permuted.var_names
    embed(wrong, model)
    assert np.abs(wrong.obsm["X_diffaug"] - logged.obsm["X_diffaug"]).max() > 0.1


def test_cells_are_embedded_one_by_one(logged: anndata.AnnData, model: DiffAug) -> None:
    embed(logged, model)
    part = logged[[7, 3, 90]].copy()
    del part.obsm["X_diffaug"]
    embed(part, model)
    np.testing.assert_allclose(part.obsm["X_diffaug"], logged.obsm["X_diffaug"][[7, 3, 90]], rtol=1e-4, atol=1e-5)
    one = logged[5].copy()
    embed(one, model)
    np.testing.assert_allclose(one.obsm["X_diffaug"], logged.obsm["X_diffaug"][[5]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["csc", "dense", "float64"])
def test_format_makes_no_difference(logged: anndata.AnnData, model: DiffAug, form: str) -> None:
    embed(logged, model)
    other = logged.copy()
    dense = logged.X.toarray()
    other.X = {"csc": sp.csc_matrix(dense), "dense": dense, "float64": dense.astype(np.float64)}[form]
    embed(other, model)
    np.testing.assert_array_equal(other.obsm["X_diffaug"], logged.obsm["X_diffaug"])


def test_missing_genes(
    logged: anndata.AnnData, model: DiffAug, summarise: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    part = logged[:, 2:].copy()
    before = summarise(part)
    with pytest.raises(
        ValueError, match=r"fitted on 60 genes, found 58; missing e.g. 'gene_0', 'gene_1'. Pass missing='fill'"
    ):
        embed(part, model)
    assert summarise(part) == before
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        embed(part, model, missing="fill")
    assert "2 of 60 genes are missing and filled with their training mean" in caplog.text
    assert part.uns["diffaug"]["n_filled_genes"] == 2
    filled = logged.copy()
    x = filled.X.toarray()
    x[:, :2] = logged.X.toarray()[:, :2].mean(axis=0)
    filled.X = x
    embed(filled, model)
    np.testing.assert_allclose(part.obsm["X_diffaug"], filled.obsm["X_diffaug"], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"fitted on genes such as \['gene_0', 'gene_1'\], found none of them"):
        other = logged.copy()
        other.var_names = [f"ENSG{i}" for i in range(60)]
        embed(other, model, missing="fill")


def test_filling_dense_equals_filling_sparse(logged: anndata.AnnData, model: DiffAug) -> None:
    sparse = logged[:, ::-2].copy()
    dense = sparse.copy()
    dense.X = sparse.X.toarray()
    for adata in (sparse, dense):
        embed(adata, model, missing="fill")
    np.testing.assert_array_equal(sparse.obsm["X_diffaug"], dense.obsm["X_diffaug"])
    assert sparse.uns["diffaug"]["n_filled_genes"] == 30


def test_counts_are_normalised_as_at_the_fit(counts: anndata.AnnData, small: dict) -> None:
    model = fitted(counts, small)
    new = counts[::-1, ::-1].copy()
    embed(new, model)
    np.testing.assert_array_equal(new.obsm["X_diffaug"][::-1], counts.obsm["X_diffaug"])
    deep = counts[np.asarray(counts.X.sum(axis=1)).ravel() > 60].copy()
    assert np.median(np.asarray(deep.X.sum(axis=1))) > 1.1 * model.meta["target_sum"]  # their own median is another
    embedded = deep.obsm["X_diffaug"].copy()
    embed(deep, model)
    np.testing.assert_allclose(deep.obsm["X_diffaug"], embedded, rtol=1e-4, atol=1e-5)
    logged = diffaug.pp.recipe(counts, copy=True)
    embed(logged, model)  # already normalised: taken as they are
    np.testing.assert_array_equal(logged.obsm["X_diffaug"], counts.obsm["X_diffaug"])


@pytest.mark.parametrize("place", ["layer", "use_rep"])
def test_values_are_read_where_the_fit_read_them(logged: anndata.AnnData, small: dict, place: str) -> None:
    logged.layers["logged"] = logged.X
    logged.obsm["X_pca"] = logged.X.toarray()[:, :9]
    model = fitted(logged, small, **{place: {"layer": "logged", "use_rep": "X_pca"}[place]})
    new = logged[::2].copy()
    new.X = sp.csr_matrix(new.shape)
    embed(new, model, key_added="new")
    np.testing.assert_allclose(new.obsm["new"], logged.obsm["X_diffaug"][::2], rtol=1e-4, atol=1e-5)
    if place == "use_rep":
        new.var_names = [f"other_{i}" for i in range(60)]  # genes do not matter then
        embed(new, model)


def test_view_of_anndata(logged: anndata.AnnData, model: DiffAug, summarise: Callable) -> None:
    before = summarise(logged)
    view = logged[:40]
    embed(view, model)
    assert summarise(logged) == before
    assert view.obsm["X_diffaug"].shape == (40, 6)


def test_saved_and_loaded(logged: anndata.AnnData, model: DiffAug, tmp_path: Path) -> None:
    embed(logged, model)
    loaded = DiffAug.load(model.save(tmp_path / "model"), device="cpu")
    embed(logged, loaded, key_added="loaded")
    np.testing.assert_array_equal(logged.obsm["X_diffaug"], logged.obsm["loaded"])


def test_h5ad_round_trip(logged: anndata.AnnData, model: DiffAug, tmp_path: Path) -> None:
    embed(logged, model)
    logged.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(back.obsm["X_diffaug"], logged.obsm["X_diffaug"])
    assert int(back.uns["diffaug"]["n_filled_genes"]) == 0


def test_new_cells_land_among_their_type(logged: anndata.AnnData, small: dict) -> None:
    """The training cell that is nearest to a held-out one is of its type."""
    small["training"] |= {"warmup_epochs": 40, "n_cycles": 0}
    train, new = logged[:100].copy(), logged[100:].copy()
    model = fitted(train, small)
    embed(new, model)
    distance = ((new.obsm["X_diffaug"][:, None] - train.obsm["X_diffaug"][None]) ** 2).sum(-1)
    nearest = train.obs["cell_type"].to_numpy()[distance.argmin(axis=1)]
    assert (nearest == new.obs["cell_type"].to_numpy()).mean() > 0.75  # a third by chance


# --- cells of another total -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize(("factor", "warned"), [(1, False), (0.8, False), (0.5, True), (2, True)])
def test_logarithms_of_another_total_are_warned_of(
    counts: anndata.AnnData,
    model: DiffAug,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    factor: float,
    warned: bool,
    in_file: bool,
) -> None:
    """The model's cells are a panel and were scaled to their median."""
    counts.X = counts.layers["counts"]  # `logged`, of which the model was made, is the same cells
    sc.pp.normalize_total(counts, target_sum=factor * float(np.median(np.asarray(counts.X.sum(axis=1)))))
    sc.pp.log1p(counts)
    if in_file:
        counts.write_h5ad(tmp_path / "cells.h5ad")
        counts = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        embed(counts, model)
    assert ("they were normalised to another total" in caplog.text) == warned
    if factor == 2:
        assert "holds 2 times the expression of the training cells" in caplog.text


def test_the_recipes_totals_are_compared(
    counts: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture
) -> None:
    """Deeper cells of a panel have another median, and nothing else would tell: the level of the model's genes is not far off."""
    deep = counts.copy()
    deep.X.data = np.ceil(deep.X.data * 1.3)
    train = diffaug.pp.recipe(counts, copy=True)
    model = fitted(train, small)
    total = train.uns["diffaug_recipe"]["target_sum"]
    assert model.meta["kind"] == "log" and model.meta["target_sum"] == total
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        embed(train.copy(), model)
        embed(diffaug.pp.recipe(deep, target_sum=total, copy=True), model)
        assert "the training cells to" not in caplog.text
        embed(diffaug.pp.recipe(deep, copy=True), model)
    assert f"the training cells to {total:g}" in caplog.text and f"target_sum={total:g})" in caplog.text
    with pytest.raises(ValueError, match=rf"`diffaug.pp.recipe`, target_sum={total:g}"):
        embed(deep, model)


def test_genes_that_are_filled_do_not_count_for_the_total(
    logged: anndata.AnnData, model: DiffAug, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        embed(logged[:, 25:].copy(), model, missing="fill")
    assert "25 of 60 genes are missing" in caplog.text
    assert "another total" not in caplog.text


# --- cells in a file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [np.asarray, sp.csr_matrix], ids=["dense", "csr"])
@pytest.mark.parametrize("values", ["counts", "logged"])
@pytest.mark.parametrize("n_at_once", [7, 60, 10_000])
def test_cells_in_a_file_are_read_in_pieces(
    counts: anndata.AnnData,
    small: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store: Callable,
    values: str,
    n_at_once: int,
) -> None:
    """With extra genes, in another order; the last piece is a smaller one."""
    adata = counts
    if values == "logged":
        diffaug.pp.recipe(adata)
        del adata.var["highly_variable"]
    model = fitted(adata[:, 5:40].copy() if values == "logged" else adata, small)
    adata = adata[:, np.random.default_rng(0).permutation(60)].copy()
    adata.X = store(adata.X.toarray())
    adata.write_h5ad(tmp_path / "cells.h5ad")
    embed(adata, model)

    at_once: list[int] = []
    plain = DiffAug.embed
    monkeypatch.setattr(DiffAug, "embed", lambda self, x: at_once.append(x.shape[0]) or plain(self, x))
    monkeypatch.setattr("diffaug._new_cells._VALUES_AT_ONCE", n_at_once * 60)
    in_file = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    embed(in_file, model)
    assert in_file.isbacked
    assert sum(at_once) == 150
    assert max(at_once) == min(n_at_once, 150)
    for key in ("X_diffaug", "X_diffaug_latent"):
        np.testing.assert_allclose(in_file.obsm[key], adata.obsm[key], rtol=1e-4, atol=1e-5)
    in_file.file.close()


def test_what_the_values_are_is_decided_by_all_pieces(
    logged: anndata.AnnData, model: DiffAug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first piece of whole numbers does not make logarithms counts, and a NaN at the end is found before any result."""
    monkeypatch.setattr("diffaug._new_cells._VALUES_AT_ONCE", 10 * 60)
    x = logged.X.toarray()
    x[:10] = np.minimum(np.round(x[:10]), 3)
    logged.X = x
    logged.write_h5ad(tmp_path / "cells.h5ad")
    in_file = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    embed(in_file, model)
    embed(logged, model)
    np.testing.assert_allclose(in_file.obsm["X_diffaug"], logged.obsm["X_diffaug"], rtol=1e-4, atol=1e-5)
    in_file.file.close()

    x[-1, 3] = np.nan
    logged.X = x
    del logged.obsm["X_diffaug"]
    logged.write_h5ad(tmp_path / "broken.h5ad")
    broken = anndata.read_h5ad(tmp_path / "broken.h5ad", backed="r")
    with pytest.raises(ValueError, match="found 1 NaN or infinite in 1 cells"):
        embed(broken, model)
    assert "X_diffaug" not in broken.obsm
    broken.file.close()


def test_empty_cells_of_all_pieces_are_found_at_once(
    counts: anndata.AnnData, small: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted(counts, small)
    x = counts.X.toarray()
    x[[3, 60, 149]] = 0
    counts.X = sp.csr_matrix(x)
    counts.write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr("diffaug._new_cells._VALUES_AT_ONCE", 10 * 60)
    monkeypatch.setattr(DiffAug, "embed", lambda *_: pytest.fail("cells were embedded before all were looked at"))
    in_file = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with pytest.raises(ValueError, match="found 3 empty cells"):
        embed(in_file, model)
    in_file.file.close()


@pytest.mark.parametrize("how", [{"layer": "logged"}, {"use_rep": "X_pca"}])
def test_layers_and_representations_of_cells_in_a_file(
    logged: anndata.AnnData, small: dict, tmp_path: Path, how: dict[str, str]
) -> None:
    """Also where the file has no X at all."""
    logged.layers["logged"] = logged.X.copy()
    logged.obsm["X_pca"] = np.random.default_rng(0).normal(size=(150, 7)).astype(np.float32)
    model = fitted(logged, small, **how)
    logged.X = None
    logged.write_h5ad(tmp_path / "cells.h5ad")
    in_file = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    embed(in_file, model)
    np.testing.assert_array_equal(in_file.obsm["X_diffaug"], logged.obsm["X_diffaug"])
    in_file.file.close()


def test_genes_that_the_training_cells_never_had(
    logged: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no level to compare with."""
    x = logged.X.toarray()
    x[:, :3] = 0
    model = fitted(anndata.AnnData(x, var=logged.var), small)
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        embed(logged[:, :3].copy(), model, missing="fill")
    assert "another total" not in caplog.text
