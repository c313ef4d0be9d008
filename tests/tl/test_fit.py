"""``tl.fit``: what it reads and what it writes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import diffaug
from diffaug import DiffAug
from diffaug.tl import fit


def run(adata: anndata.AnnData, config: dict, **more: Any) -> DiffAug:
    return fit(adata, **{"config": config, "device": "cpu", "progress": False, **more})


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_added", [None, "mine"])
def test_fields_written_and_nothing_else(
    logged: anndata.AnnData, small: dict, summarise: Callable, key_added: str | None
) -> None:
    before = summarise(logged)
    model = run(logged, small, key_added=key_added)
    after = summarise(logged)
    semantic, uns = ("X_diffaug", "diffaug") if key_added is None else ("mine", "mine")
    assert set(after) - set(before) == {f"obsm/{semantic}", f"obsm/{semantic}_latent", f"uns/{uns}"}
    assert {k: after[k] for k in before} == before
    embedding = model.embed(logged.X)
    np.testing.assert_array_equal(logged.obsm[semantic], embedding.semantic)
    np.testing.assert_array_equal(logged.obsm[f"{semantic}_latent"], embedding.latent)
    assert logged.obsm[semantic].shape == (150, 6)
    assert logged.obsm[semantic].dtype == np.float32


def test_record(logged: anndata.AnnData, small: dict) -> None:
    model = run(logged, small, random_state=7, n_cycles=2, view_rate=0.25)
    record = logged.uns["diffaug"]
    assert set(record) == {"params", "asked", "history", "versions", "genes"}
    params = record["params"]
    assert params["random_state"] == 7
    assert params["training"]["n_cycles"] == model.config.training.n_cycles == 2
    assert params["training"]["view_rate"] == 0.25
    assert params["training"]["warmup_epochs"] == 2
    assert params["domain"]["n_semantic"] == 6
    assert params["input"] == {"kind": "log", "sparse": True, "target_sum": 78.5}
    assert record["versions"]["diffaug"] == diffaug.__version__
    assert record["genes"].tolist() == logged.var_names.tolist()
    history = pd.DataFrame(record["history"])
    assert history["phase"].tolist() == [r.phase for r in model.history]
    assert history["phase"].tolist() == ["A"] * 4 + (["B"] * 3 + ["fill", "A", "A"] * 2) * 2
    assert history["member"].tolist() == [0, 0, 1, 1] + ([0] * 6 + [1] * 3) * 2
    assert (history["seconds"] > 0).all()
    assert history.loc[history["phase"] == "A", "n_generated"].tolist()[:4] == [0] * 4
    assert (history.loc[(history["phase"] == "A") & (history["cycle"] > 0), "n_generated"] > 0).all()


def test_two_fits_side_by_side(logged: anndata.AnnData, small: dict, summarise: Callable) -> None:
    run(logged, small)
    before = summarise(logged)
    run(logged, small, key_added="other", random_state=1)
    after = summarise(logged)
    assert {k: after[k] for k in before} == before
    assert not np.array_equal(logged.obsm["X_diffaug"], logged.obsm["other"])
    run(logged, small)  # the same again gives the same bits
    assert summarise(logged)["obsm/X_diffaug"] == before["obsm/X_diffaug"]


@pytest.mark.parametrize("use", ["X", "layer", "use_rep", "counts"])
def test_h5ad_round_trip(logged: anndata.AnnData, small: dict, summarise: Callable, tmp_path: Path, use: str) -> None:
    logged.obsm["X_pca"] = logged.X.toarray()[:, :10]
    if use == "counts":
        logged.X = logged.layers["counts"]
    how = {"layer": {"layer": "counts"}, "use_rep": {"use_rep": "X_pca"}}.get(use, {})
    run(logged, small, **how)
    logged.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad")
    before, after = summarise(logged), summarise(back)
    assert after["obsm/X_diffaug"] == before["obsm/X_diffaug"]
    record = back.uns["diffaug"]
    assert set(record) == {"params", "asked", "history", "versions", "genes"}
    expected = pd.DataFrame(logged.uns["diffaug"]["history"])
    pd.testing.assert_frame_equal(pd.DataFrame(record["history"])[expected.columns], expected, check_dtype=False)
    assert list(record["genes"]) == list(logged.uns["diffaug"]["genes"])
    assert list(record["params"]["domain"]["encoder_hidden"]) == [24]
    assert record["params"]["training"]["view_rate"] == 0.5


def test_log_names_the_fields(logged: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="diffaug"):
        run(logged, small)
    assert "wrote .obsm['X_diffaug'], .obsm['X_diffaug_latent'] and .uns['diffaug']" in caplog.text


def test_nothing_is_printed(logged: anndata.AnnData, small: dict, capfd: pytest.CaptureFixture) -> None:
    run(logged, small)
    assert capfd.readouterr() == ("", "")


def test_view_becomes_a_copy_and_its_parent_stays(
    logged: anndata.AnnData, small: dict, summarise: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    before = summarise(logged)
    part = logged[20:120, ::-1]
    assert part.is_view
    with caplog.at_level(logging.INFO, logger="diffaug"):
        run(part, small)
    assert part.obsm["X_diffaug"].shape == (100, 6)
    assert summarise(logged) == before
    assert "`adata` is a view of another AnnData: it becomes a copy" in caplog.text
    copied = logged[20:120, ::-1].copy()
    run(copied, small)
    np.testing.assert_array_equal(copied.obsm["X_diffaug"], part.obsm["X_diffaug"])


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csr", "csc", "dense", "float64", "csr64", "fortran"])
def test_format_of_the_matrix_makes_no_difference(
    logged: anndata.AnnData, small: dict, summarise: Callable, form: str
) -> None:
    reference = logged.copy()
    reference.X = logged.X.toarray()
    run(reference, small)
    dense = logged.X.toarray()
    logged.X = {
        "csr": sp.csr_matrix(dense),
        "csc": sp.csc_matrix(dense),
        "dense": dense,
        "float64": dense.astype(np.float64),
        "csr64": sp.csr_matrix(dense.astype(np.float64)),
        "fortran": np.asfortranarray(dense),
    }[form]
    before = summarise(logged)
    model = run(logged, small)
    assert summarise(logged)["X"] == before["X"]
    tolerance = 0.0 if form in ("dense", "float64", "fortran") else 0.01  # sums in another order
    np.testing.assert_allclose(logged.obsm["X_diffaug"], reference.obsm["X_diffaug"], atol=tolerance, rtol=tolerance)
    assert model.meta["sparse"] == (form in ("csr", "csc", "csr64"))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint16", "float64"])
def test_counts_of_any_dtype(counts: anndata.AnnData, small: dict, dtype: str) -> None:
    reference = counts.copy()
    run(reference, small)
    counts.X = counts.X.astype(dtype)
    run(counts, small)
    assert counts.X.dtype == dtype
    np.testing.assert_array_equal(counts.obsm["X_diffaug"], reference.obsm["X_diffaug"])


def test_layer(logged: anndata.AnnData, small: dict) -> None:
    other = logged.copy()
    other.X, other.layers["logged"] = sp.csr_matrix(np.ones(other.shape)), other.X
    run(logged, small)
    model = run(other, small, layer="logged")
    np.testing.assert_array_equal(other.obsm["X_diffaug"], logged.obsm["X_diffaug"])
    assert model.meta["layer"] == "logged"
    assert other.uns["diffaug"]["params"]["input"]["layer"] == "logged"


@pytest.mark.parametrize("form", ["array", "frame", "sparse"])
def test_use_rep(logged: anndata.AnnData, small: dict, form: str) -> None:
    """Other dimensions than genes; negative values, no normalisation, no gene selection."""
    scores = np.random.default_rng(0).normal(size=(150, 7)) + 3 * np.eye(3, 7)[np.arange(150) % 3]
    frame = pd.DataFrame(scores, index=logged.obs_names, columns=[f"pc{i}" for i in range(7)])
    logged.obsm["X_pca"] = {"array": scores, "frame": frame, "sparse": sp.csr_matrix(scores)}[form]
    logged.var["highly_variable"] = False  # not looked at
    model = run(logged, small, use_rep="X_pca")
    assert model.event_shape == (7,)
    assert model.meta["features"] == [f"X_pca_{i}" for i in range(7)]
    assert logged.uns["diffaug"]["params"]["input"]["use_rep"] == "X_pca"
    no_panel = {**small, "domain": {**small["domain"], "views": "mixup", "linear_path": False}}
    expected = DiffAug(no_panel, device="cpu").fit(scores.astype(np.float32), progress=False)
    tolerance = 0.01 if form == "sparse" else 0
    found = logged.obsm["X_diffaug"]
    np.testing.assert_allclose(found, expected.embed(scores).semantic, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("n_vars", [60, 2300])
def test_raw_counts_are_prepared_as_by_the_recipe(
    counts: anndata.AnnData, small: dict, summarise: Callable, caplog: pytest.LogCaptureFixture, n_vars: int
) -> None:
    """On a copy; it is said; and the result is that of the explicit way, to the bit, gene selection included."""
    if n_vars > 60:
        rng = np.random.default_rng(0)
        more = sp.csr_matrix(rng.poisson(rng.gamma(2.0, size=n_vars - 60), size=(150, n_vars - 60)).astype(np.float32))
        var = pd.DataFrame(index=[*counts.var_names, *(f"more_{i}" for i in range(n_vars - 60))])
        counts = anndata.AnnData(sp.hstack([counts.X, more]).tocsr(), obs=counts.obs, var=var)
    before = summarise(counts)
    explicit = diffaug.pp.recipe(counts, copy=True)
    run(explicit, small)
    with caplog.at_level(logging.INFO, logger="diffaug"):
        model = run(counts, small)
    total = model.meta["target_sum"]
    assert total == (np.median(np.asarray(counts.X.sum(axis=1))) if n_vars == 60 else 1e4)
    said = f"`adata.X` holds raw counts: training on a copy normalised to {total:g} per cell and log-transformed"
    assert said in caplog.text
    assert {k: summarise(counts)[k] for k in before} == before
    np.testing.assert_array_equal(counts.obsm["X_diffaug"], explicit.obsm["X_diffaug"])
    assert model.meta["kind"] == "counts"
    assert len(model.meta["features"]) == min(n_vars, 2000)
    assert model.meta["features"] == explicit.var_names[explicit.var["highly_variable"]].tolist()


def test_raw_counts_with_batches(counts: anndata.AnnData, small: dict) -> None:
    explicit = diffaug.pp.recipe(counts, copy=True, batch_key="batch")
    run(explicit, small, batch_key="batch")
    run(counts, small, batch_key="batch")
    np.testing.assert_array_equal(counts.obsm["X_diffaug"], explicit.obsm["X_diffaug"])


@pytest.mark.parametrize("dtype", [bool, int, object])
def test_highly_variable_genes_are_used(logged: anndata.AnnData, small: dict, dtype: type) -> None:
    mask = np.arange(60) % 4 == 0
    logged.var["highly_variable"] = mask.astype(dtype)
    model = run(logged, small)
    assert model.meta["features"] == logged.var_names[mask].tolist() == logged.uns["diffaug"]["genes"].tolist()
    selected = logged[:, mask].copy()
    del selected.var["highly_variable"]
    run(selected, small)
    np.testing.assert_array_equal(selected.obsm["X_diffaug"], logged.obsm["X_diffaug"])


def test_raw_counts_with_selected_genes_are_normalised_over_all(counts: anndata.AnnData, small: dict) -> None:
    """The library size is that of the cell, not of its variable genes."""
    counts.var["highly_variable"] = np.arange(60) < 20
    explicit = counts.copy()
    total = explicit.X.sum(axis=1)
    explicit.X = sp.csr_matrix(np.log1p(explicit.X.toarray() / np.asarray(total) * np.median(np.asarray(total))))
    run(counts, small)
    run(explicit, small)
    np.testing.assert_allclose(counts.obsm["X_diffaug"], explicit.obsm["X_diffaug"], rtol=0.01, atol=0.01)


def test_many_genes_are_advised_against(small: dict, caplog: pytest.LogCaptureFixture) -> None:
    x = np.log1p(np.random.default_rng(0).poisson(1.0, size=(30, 5001))).astype(np.float32)
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        run(anndata.AnnData(x), small, n_cycles=0)
    assert "training on all 5001 genes. Mark highly variable ones first" in caplog.text
    assert "`scanpy.pp.highly_variable_genes(adata, n_top_genes=2000)`" in caplog.text


@pytest.mark.parametrize("key", ["batch", "number", "more"])
def test_genes_of_counts_are_chosen_by_batches(
    counts: anndata.AnnData, small: dict, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Batches that are numbers, or of which one is never there, choose as those that scanpy takes."""
    monkeypatch.setattr("diffaug._anndata.N_TOP_GENES", 20)
    counts.obs["number"] = (counts.obs["batch"] == "batch_1").astype(int)
    counts.obs["more"] = counts.obs["batch"].cat.add_categories("batch_never")
    genes = run(counts, small, batch_key=key, n_cycles=0).meta["features"]
    theirs = diffaug.pp.recipe(counts, n_top_genes=20, batch_key="batch", copy=True)
    assert theirs is not None
    assert genes == theirs.var_names[theirs.var["highly_variable"]].tolist()


def test_a_batch_of_one_cell_cannot_choose_genes(
    counts: anndata.AnnData, small: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffaug._anndata.N_TOP_GENES", 20)
    counts.obs["batch"] = ["alone", *["other"] * 149]
    with pytest.raises(
        ValueError, match="Expected at least 2 cells in every batch .* found 1 in 'alone'. Merge or drop"
    ):
        run(counts, small, batch_key="batch")


@pytest.mark.parametrize("where", ["nowhere", "raw", "layer"])
def test_scaled_values_are_warned_of(
    logged: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """The end of many a notebook: z-scores in X, what they were made of elsewhere."""
    del logged.layers["counts"]
    if where == "raw":
        logged.raw = logged.copy()
    if where == "layer":
        logged.layers["kept"] = logged.X.copy()
    logged.X = logged.X.toarray()
    sc.pp.scale(logged)
    logged.layers["words"] = np.full(logged.shape, "text")  # nobody asked for it
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        run(logged, small, n_cycles=0)
    assert "`adata.X` holds values below 0, as scaled data do" in caplog.text
    assert ("fit on `adata.raw.to_adata()`" in caplog.text) == (where == "raw")
    assert ("`adata.layers['kept']` looks like them: pass layer='kept'" in caplog.text) == (where == "layer")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: np.where(np.arange(60) == 3, 0, x), "1 of 60 features are the same in all cells and carry nothing"),
        (lambda x: np.where(np.arange(60) % 2, 7.5, x), "30 of 60 features are the same in all cells"),
        (lambda x: x * 100, "`adata.X` is neither counts nor log-normalised"),
    ],
)
@pytest.mark.parametrize("sparse", [True, False])
def test_odd_values_are_warned_of(
    logged: anndata.AnnData,
    small: dict,
    caplog: pytest.LogCaptureFixture,
    change: Callable,
    message: str,
    sparse: bool,
) -> None:
    x = change(logged.X.toarray()).astype(np.float32)
    logged.X = sp.csr_matrix(x) if sparse else x
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        run(logged, small)
    assert message in caplog.text
    assert np.isfinite(logged.obsm["X_diffaug"]).all()


def test_good_values_are_not_warned_of(logged: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture) -> None:
    small["training"]["adapt_view_rate"] = False  # of what so short a training draws there is something to say
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        run(logged, small)
    assert caplog.text == ""


@pytest.mark.parametrize("n_obs", [10, 11, 150])
def test_few_cells_are_one_batch(
    logged: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture, n_obs: int
) -> None:
    small["training"]["batch_size"] = 151
    part = logged[:n_obs].copy()
    with caplog.at_level(logging.INFO, logger="diffaug"):
        run(part, small)
    assert f"batch_size=151 is more than {n_obs} cells: a batch holds all" in caplog.text
    assert part.uns["diffaug"]["history"]["n_positives"].max() == n_obs


def test_batch_key(logged: anndata.AnnData, small: dict) -> None:
    """It reaches the views, whatever the column's type, and only the grouping counts."""
    results = []
    logged.obs["as_number"] = logged.obs["batch"].cat.codes.to_numpy()
    logged.obs["as_text"] = logged.obs["batch"].astype(str).astype(object)
    logged.obs["as_bool"] = logged.obs["as_number"] == 1
    for key in (None, "batch", "as_number", "as_text", "as_bool"):
        model = run(logged, small, batch_key=key)
        assert model.meta["batch_key"] == key
        results.append(logged.obsm["X_diffaug"].copy())
    assert all(np.array_equal(results[1], r) for r in results[2:])
    assert not np.array_equal(results[0], results[1])


# --- labels ----------------------------------------------------------------------------------------------------------


def test_labels_are_not_read(logged: anndata.AnnData, small: dict) -> None:
    """Shuffled, absent or named: without ``condition="label"`` no label changes a bit."""
    results = []
    shuffled = logged.copy()
    shuffled.obs["cell_type"] = shuffled.obs["cell_type"].to_numpy()[::-1]
    absent = logged.copy()
    absent.obs = absent.obs[[]]
    for adata, label_key in ((logged, None), (logged, "cell_type"), (shuffled, "cell_type"), (absent, None)):
        run(adata, small, label_key=label_key)
        results.append(adata.obsm["X_diffaug"].copy())
    assert all(np.array_equal(results[0], r) for r in results)


def test_label_condition(logged: anndata.AnnData, small: dict) -> None:
    small["diffusion"]["condition"] = "label"
    model = run(logged, small, label_key="cell_type")
    assert model.meta["condition_labels"] == ["type_0", "type_1", "type_2"]
    assert model._conditions.shape == (150, 3)
    views = diffaug.tl.augment(logged, model)
    assert views.n_obs == 150
    logged.obs = logged.obs.drop(columns="cell_type")
    with pytest.raises(KeyError, match=r"Did not find `adata.obs\['cell_type'\]`"):
        diffaug.tl.augment(logged, model)
    diffaug.tl.augment(logged, model, kind="mixup")  # needs no condition


# --- settings --------------------------------------------------------------------------------------------------------


def test_arguments_override_the_config(logged: anndata.AnnData, small: dict) -> None:
    model = run(logged, small, n_cycles=0, view_rate=0.0, n_encoders=1, max_epochs=1)
    assert [r.phase for r in model.history] == ["A", "A"]
    config = diffaug.Config(training=diffaug.TrainingConfig(**small["training"]))
    assert run(logged, config, n_cycles=0).config.training.n_cycles == 0  # type: ignore[arg-type]
    assert config.training.n_cycles == 1  # the caller's own is as it was


def test_max_epochs_caps_the_sum(logged: anndata.AnnData, small: dict) -> None:
    small["training"] |= {"warmup_epochs": 40, "generator_epochs": 40, "mixed_epochs": 40}
    model = run(logged, small, max_epochs=6)
    two = ["fill", "A", "A"]
    assert [r.phase for r in model.history] == [*"AAAA", "B", "B", *two, *two]  # the second encoder as the first


def test_equal_seeds(logged: anndata.AnnData, small: dict) -> None:
    results = {}
    for name, seed in (("first", 5), ("again", np.int64(5)), ("other", 6)):
        run(logged, small, random_state=seed)
        results[name] = logged.obsm["X_diffaug"].copy()
    np.testing.assert_array_equal(results["first"], results["again"])
    assert not np.array_equal(results["first"], results["other"])


def test_same_as_the_model_on_arrays(logged: anndata.AnnData, small: dict) -> None:
    run(logged, small, random_state=2)
    model = DiffAug(small, random_state=2, device="cpu").fit(logged.X, progress=False)
    np.testing.assert_array_equal(model.embed(logged.X).semantic, logged.obsm["X_diffaug"])


def test_real_cells_embed_better_than_by_an_untrained_encoder(pbmc: anndata.AnnData) -> None:
    """The short way of the example: k-NN of the cell types, with no label in training."""
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    adata = pbmc.copy()
    key = next(k for k in ("bulk_labels", "cell_type") if k in adata.obs)
    scores = {}
    for name, epochs in (("trained", 30), ("untrained", 0)):
        config = {"training": {"n_cycles": 0, "warmup_epochs": epochs, "mixed_epochs": 0}}
        fit(adata, config=config, device="cpu", progress=False)
        knn = KNeighborsClassifier(15)
        scores[name] = cross_val_score(knn, adata.obsm["X_diffaug"], adata.obs[key].astype(str), cv=5).mean()
    assert scores["trained"] > scores["untrained"] + 0.02
    assert scores["trained"] > 0.75


def test_names_that_cells_share_are_said(
    logged: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture
) -> None:
    logged.obs_names = ["one", "one", *logged.obs_names[2:]]
    run(logged, small, max_epochs=1)
    assert "1 cells have the name of another" in caplog.text and "obs_names_make_unique" in caplog.text


def test_labels_that_are_not_used_are_said(
    logged: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture
) -> None:
    run(logged, small, label_key="cell_type", max_epochs=1)
    assert "label_key='cell_type' is not used" in caplog.text
    caplog.clear()
    small["diffusion"]["condition"] = "label"
    run(logged, small, label_key="cell_type", max_epochs=1)
    assert "is not used" not in caplog.text


def test_a_boolean_representation(logged: anndata.AnnData, small: dict) -> None:
    logged.obsm["open"] = np.random.default_rng(0).random((150, 12)) < 0.3
    run(logged, small, use_rep="open", max_epochs=1)
    assert np.isfinite(logged.obsm["X_diffaug"]).all()
