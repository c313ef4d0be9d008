from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

import diffaug
from diffaug.pp import recipe


def dense(x: Any) -> np.ndarray:
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def plain_scanpy(
    adata: AnnData, n_top_genes: int, target_sum: float | None = None, batch_key: str | None = None
) -> AnnData:
    """The calls of the tutorials, on raw counts in X."""
    adata = adata.copy()
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=target_sum)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=n_top_genes, batch_key=batch_key)
    return adata


def assert_equal(ours: AnnData, theirs: AnnData) -> None:
    assert ours.X.dtype == theirs.X.dtype
    # Plain scanpy makes csr of csc.
    kept = ours.layers["counts"]
    assert sparse.issparse(ours.X) == sparse.issparse(theirs.X) == sparse.issparse(kept)
    assert getattr(ours.X, "format", "") == getattr(kept, "format", "")
    np.testing.assert_array_equal(dense(ours.X), dense(theirs.X))
    np.testing.assert_array_equal(dense(ours.layers["counts"]), dense(theirs.layers["counts"]))
    pd.testing.assert_frame_equal(ours.var, theirs.var)
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    uns = [{k: v for k, v in a.uns.items() if k != "diffaug_recipe"} for a in (ours, theirs)]
    assert uns[0] == uns[1]


# --- oracle: plain scanpy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_key", [None, "batch"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_matrix], ids=["dense", "csr", "csc"])
def test_equals_plain_scanpy(counts: AnnData, make: Callable, dtype: type, batch_key: str | None) -> None:
    counts.X = make(counts.X.toarray().astype(dtype))
    theirs = plain_scanpy(counts, 20, 5e3, batch_key)
    assert recipe(counts, n_top_genes=20, target_sum=5e3, batch_key=batch_key) is None
    assert_equal(counts, theirs)
    assert int(counts.var["highly_variable"].sum()) == 20
    assert counts.layers["counts"].dtype == dtype


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_array])
def test_sparse_arrays(counts: AnnData, make: Callable) -> None:
    """Plain scanpy 1.11 fails on them."""
    theirs = plain_scanpy(counts, 20)
    counts.X = make(counts.X)
    recipe(counts, n_top_genes=20)
    assert isinstance(counts.X, make) and isinstance(counts.layers["counts"], make)
    np.testing.assert_array_equal(counts.X.toarray(), theirs.X.toarray())
    pd.testing.assert_frame_equal(counts.var, theirs.var)


def test_batches_change_the_choice(counts: AnnData) -> None:
    """Otherwise the oracle above could not tell whether `batch_key` is used."""
    apart = recipe(counts, n_top_genes=20, batch_key="batch", copy=True)
    together = recipe(counts, n_top_genes=20, copy=True)
    assert (apart.var["highly_variable"] != together.var["highly_variable"]).any()


@pytest.mark.parametrize("name", ["mca_bladder", "tm_kidney_facs"])
def test_equals_plain_scanpy_on_real_cells(data_dir: Path, name: str) -> None:
    adata = diffaug.datasets.load(name)
    theirs = plain_scanpy(adata, 2000, 1e4)
    recipe(adata)
    assert_equal(adata, theirs)


def test_a_layer_with_counts(counts: AnnData) -> None:
    theirs = plain_scanpy(counts, 20)
    counts.layers["umi"] = counts.X.copy()
    counts.X = sparse.csr_matrix(counts.X / 3)
    recipe(counts, layer="umi", n_top_genes=20)
    np.testing.assert_array_equal(counts.X.toarray(), theirs.X.toarray())
    np.testing.assert_array_equal(counts.layers["umi"].toarray(), counts.layers["counts"].toarray())
    assert not np.shares_memory(counts.layers["umi"].data, counts.layers["counts"].data)


def test_batches_may_be_numbers_or_hold_unused_categories(counts: AnnData) -> None:
    theirs = recipe(counts, n_top_genes=20, batch_key="batch", copy=True)
    counts.obs["number"] = (counts.obs["batch"] == "batch_1").astype(int)
    counts.obs["more"] = counts.obs["batch"].cat.add_categories("batch_never")
    for key in ("number", "more"):
        ours = recipe(counts, n_top_genes=20, batch_key=key, copy=True)
        pd.testing.assert_frame_equal(ours.var, theirs.var)
    assert "batch_never" in counts.obs["more"].cat.categories


def test_the_embedded_example_is_log1p_of_its_counts(pbmc: AnnData) -> None:
    """The recipe on recovered counts, with the size factors of all genes, gives back the logarithms of scanpy's file."""
    size = pbmc.obs["n_counts"].to_numpy()
    again = np.log1p(pbmc.layers["counts"].toarray() / size[:, None] * 1e4)
    np.testing.assert_allclose(again, pbmc.X.toarray(), atol=2e-3)


# --- the total --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_copies", "is_panel"), [(1, True), (2, False)])
def test_panels_are_scaled_to_their_own_median(
    counts: AnnData, n_copies: int, is_panel: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """60 genes are one, 120 are none: these get 10,000, as ever."""
    wide = AnnData(sparse.csr_matrix(sparse.hstack([counts.X] * n_copies)))
    wide.var_names = [f"gene {i}" for i in range(wide.n_vars)]
    totals = np.asarray(wide.X.sum(axis=1)).ravel()
    with caplog.at_level(logging.INFO, logger="diffaug"):
        recipe(wide)
    expected = float(np.median(totals)) if is_panel else 1e4
    np.testing.assert_allclose(np.expm1(dense(wide.X)).sum(axis=1), expected, rtol=1e-4)
    assert wide.uns["diffaug_recipe"] == {"target_sum": expected}
    assert f"(normalised to {expected:g} counts per cell, logged)" in caplog.text
    assert expected != 1e4 or not is_panel


# --- what is written, and how -----------------------------------------------------------------------------------------


def test_all_genes_are_marked_where_there_are_few(counts: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="diffaug"):
        recipe(counts, n_top_genes=60)
    assert counts.var["highly_variable"].all() and counts.var["highly_variable"].dtype == bool
    assert "All 60 genes are marked highly variable, as `n_top_genes` is 60." in caplog.text
    assert "per cell, logged), `.layers['counts']`, `.var['highly_variable']` (60 of 60 genes)" in caplog.text


def test_copy_leaves_the_input_alone(counts: AnnData) -> None:
    before = counts.copy()
    ours = recipe(counts, n_top_genes=20, copy=True)
    assert_unchanged(counts, before)
    recipe(counts, n_top_genes=20)
    assert_equal(ours, counts)


def test_the_callers_array_is_not_written_to(counts: AnnData) -> None:
    x = counts.X.toarray()
    kept = x.copy()
    adata = AnnData(x)
    recipe(adata, n_top_genes=20)
    np.testing.assert_array_equal(x, kept)


def test_a_view_becomes_a_copy_and_its_parent_stays(counts: AnnData) -> None:
    before = counts.copy()
    view = counts[::2]
    expected = recipe(counts[::2].copy(), n_top_genes=20, copy=True)
    recipe(view, n_top_genes=20)
    assert not view.is_view
    assert_equal(view, expected)
    assert_unchanged(counts, before)


def test_twice_from_the_counts_layer_is_the_same(counts: AnnData) -> None:
    once = recipe(counts, n_top_genes=20, copy=True)
    assert_equal(recipe(once, layer="counts", n_top_genes=20, copy=True), once)


def test_a_counts_layer_equal_to_x_is_fine(counts: AnnData) -> None:
    counts.layers["counts"] = counts.X.toarray()  # equal values in another format
    recipe(counts, n_top_genes=20)
    assert counts.X.max() < 10


# --- errors: each says what to do, and leaves the input as it was -----------------------------------------------------


def assert_unchanged(adata: AnnData, before: AnnData) -> None:
    if before.X is None:
        assert adata.X is None
    else:
        assert adata.X.dtype == before.X.dtype and type(adata.X) is type(before.X)
        np.testing.assert_array_equal(dense(adata.X), dense(before.X))
    assert sorted(adata.layers) == sorted(before.layers)
    for name in before.layers:
        np.testing.assert_array_equal(dense(adata.layers[name]), dense(before.layers[name]))
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert dict(adata.uns) == dict(before.uns)


def with_x(change: Callable[[np.ndarray], Any]) -> Callable[[AnnData], AnnData]:
    def changed(adata: AnnData) -> AnnData:
        adata.X = change(adata.X.toarray())
        return adata

    return changed


def put(value: float, *cells: int, gene: int = 3) -> Callable[[np.ndarray], np.ndarray]:
    def changed(x: np.ndarray) -> np.ndarray:
        x[list(cells), gene] = value
        return x

    return changed


def prepared(adata: AnnData) -> AnnData:
    recipe(adata, n_top_genes=20)
    return adata


def own_counts_layer(adata: AnnData) -> AnnData:
    adata.layers["counts"] = adata.X * 2
    return adata


def object_x(adata: AnnData) -> AnnData:
    adata.layers["text"] = adata.X.toarray().astype(str)
    return adata


def doubled_names(adata: AnnData) -> AnnData:
    adata.var_names = ["gene_0", *adata.var_names[:-1]]
    return adata


def batches(**values: Any) -> Callable[[AnnData], AnnData]:
    def changed(adata: AnnData) -> AnnData:
        column = adata.obs["batch"].astype(object)
        for cell, value in values.items():
            column[cell] = value
        adata.obs["batch"] = column
        return adata

    return changed


def no_x(adata: AnnData) -> AnnData:
    return AnnData(X=None, obs=adata.obs, var=adata.var, layers={"umi": adata.X})


def masked_layer(adata: AnnData) -> AnnData:
    adata.layers["masked"] = np.ma.masked_equal(adata.X.toarray(), 1)
    return adata


DOUBLED = pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")


@pytest.mark.parametrize(
    ("change", "settings", "error", "message"),
    [
        pytest.param(
            with_x(lambda x: x - x.mean(axis=0)),
            {},
            ValueError,
            r"Expected raw counts in `adata.X`, found negative values down to -.*, as of scaled or centred data",
            id="scaled",
        ),
        pytest.param(
            with_x(put(-1, 0)),
            {},
            ValueError,
            "raw counts in `adata.X`, found negative values down to -1,",
            id="negative",
        ),
        pytest.param(
            with_x(np.log1p),
            {},
            ValueError,
            r"raw counts in `adata.X`, found fractions up to .*, as of log-normalised data\. "
            r"Pass the `layer` that holds them \(available layers: \[\]\)",
            id="log",
        ),
        pytest.param(
            prepared,
            {},
            ValueError,
            r"as of log-normalised data\. `adata.layers\['counts'\]` looks like counts: pass `layer='counts'`",
            id="prepared already",
        ),
        pytest.param(
            with_x(lambda x: x * 99.5), {}, ValueError, "found fractions up to .*[0-9]\\. Pass", id="fractions"
        ),
        pytest.param(
            with_x(put(np.nan, 1, 4, 7)),
            {},
            ValueError,
            "finite values in `adata.X`, found 3 NaN or infinite ones in 3 cells. Filter or impute",
            id="nan",
        ),
        pytest.param(
            with_x(lambda x: sparse.csr_matrix(put(np.inf, 5)(x))),
            {},
            ValueError,
            "found 1 NaN or infinite ones in 1 cells",
            id="infinite, sparse",
        ),
        pytest.param(
            with_x(lambda x: put(0, 2, 9, gene=slice(None))(x)),
            {},
            ValueError,
            r"counts in every cell of `adata.X`, found 2 cells without any, e.g. 'cell_2'.*filter_cells",
            id="empty cells",
        ),
        pytest.param(with_x(np.zeros_like), {}, ValueError, "found 150 cells without any", id="all zero"),
        pytest.param(
            lambda a: a,
            {"layer": "umi"},
            KeyError,
            r"Did not find `adata.layers\['umi'\]`. Available layers: \[\]",
            id="layer",
        ),
        pytest.param(no_x, {}, ValueError, r"in `adata.X`, found nothing. Available layers: \['umi'\]", id="no X"),
        pytest.param(lambda a: a[:1].copy(), {}, ValueError, "at least 2 cells in `adata`, found 1", id="one cell"),
        pytest.param(lambda a: a[:0].copy(), {}, ValueError, "at least 2 cells in `adata`, found 0", id="no cell"),
        pytest.param(lambda a: a[:, :1].copy(), {}, ValueError, "at least 2 genes in `adata`, found 1", id="one gene"),
        pytest.param(
            doubled_names,
            {},
            ValueError,
            "unique gene names in `adata.var_names`, found 1 more than once, e.g. 'gene_0'.*var_names_make_unique",
            id="doubled genes",
            marks=DOUBLED,
        ),
        pytest.param(
            object_x, {"layer": "text"}, TypeError, r"numbers in `adata.layers\['text'\]`, found dtype", id="text"
        ),
        pytest.param(
            masked_layer,
            {"layer": "masked"},
            TypeError,
            r"`adata.layers\['masked'\]` to be a numpy array or a scipy csr or csc matrix, found MaskedArray",
            id="masked array",
        ),
        pytest.param(
            own_counts_layer,
            {},
            ValueError,
            r"`adata.layers\['counts'\]` to be free or equal to `adata.X`, found other values there. Pass `layer='counts'`",
            id="other counts",
        ),
        pytest.param(
            lambda a: a,
            {"batch_key": "donor"},
            KeyError,
            r"Did not find `adata.obs\['donor'\]`. Available columns: \['cell_type', 'batch'\]",
            id="batch key",
        ),
        pytest.param(
            batches(cell_3=None, cell_5=None),
            {"batch_key": "batch"},
            ValueError,
            r"a batch for every cell in `adata.obs\['batch'\]`, found 2 without one",
            id="missing batch",
        ),
        pytest.param(
            batches(cell_3="alone"),
            {"batch_key": "batch"},
            ValueError,
            r"at least 2 cells in every batch of `adata.obs\['batch'\]`, found 1 in 'alone'",
            id="small batch",
        ),
        pytest.param(lambda a: a, {"n_top_genes": 0}, ValueError, "`n_top_genes` of at least 1, found 0", id="n_top 0"),
        pytest.param(
            lambda a: a, {"n_top_genes": 1.5}, TypeError, "`n_top_genes` to be a whole number", id="n_top 1.5"
        ),
        pytest.param(lambda a: a, {"n_top_genes": True}, TypeError, "whole number, found True", id="n_top True"),
        pytest.param(lambda a: a, {"target_sum": 0}, ValueError, "finite `target_sum` above 0, found 0", id="target 0"),
        pytest.param(lambda a: a, {"target_sum": np.inf}, ValueError, "finite `target_sum` above 0", id="target inf"),
        pytest.param(lambda a: a, {"target_sum": "1e4"}, TypeError, "`target_sum` to be a number", id="target text"),
    ],
)
def test_refuses_and_modifies_nothing(
    counts: AnnData,
    change: Callable[[AnnData], AnnData],
    settings: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    adata = change(counts)
    before = copy.deepcopy(adata)
    with pytest.raises(error, match=message):
        recipe(adata, **settings)
    assert_unchanged(adata, before)


@pytest.mark.parametrize("wrong", [np.ones((5, 5)), pd.DataFrame(np.ones((5, 5))), "data.h5ad", None])
def test_refuses_other_types(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"Expected `adata` to be an AnnData, found {type(wrong).__name__}"):
        recipe(wrong)


def test_refuses_backed(counts: AnnData, tmp_path: Path) -> None:
    counts.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with pytest.raises(ValueError, match=r"Expected `adata` in memory, found it backed by '.*cells.h5ad'. .*to_memory"):
        recipe(backed)
    backed.file.close()


def test_refuses_a_view_and_leaves_it_a_view(counts: AnnData) -> None:
    counts.X = np.log1p(counts.X)
    view = counts[:20]
    with pytest.raises(ValueError, match="as of log-normalised data"):
        recipe(view)
    assert view.is_view


def test_an_error_of_scanpys_modifies_nothing(counts: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise MemoryError("half-way")

    monkeypatch.setattr(sc.pp, "highly_variable_genes", fail)
    before = counts.copy()
    with pytest.raises(MemoryError, match="half-way"):
        recipe(counts, n_top_genes=20)
    assert_unchanged(counts, before)
