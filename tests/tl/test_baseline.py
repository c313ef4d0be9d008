"""``tl.baseline``: what it reads and writes, and DiffAug's views in it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

import diffaug
from diffaug import DiffAug
from diffaug.baselines import METHODS, Baseline
from diffaug.tl import augment, baseline, embed, fit


def run(adata: anndata.AnnData, method: str, config: dict, **more: Any) -> Baseline:
    return baseline(adata, method, **{"config": config, "device": "cpu", "progress": False, **more})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("key_added", [None, "mine"])
def test_fields_written_and_nothing_else(
    logged: anndata.AnnData, small: dict, summarise: Callable, method: str, key_added: str | None
) -> None:
    before = summarise(logged)
    model = run(logged, method, small, key_added=key_added)
    after = summarise(logged)
    semantic, uns = (f"X_{method}", method) if key_added is None else ("mine", "mine")
    assert set(after) - set(before) == {f"obsm/{semantic}", f"obsm/{semantic}_latent", f"uns/{uns}"}
    assert {k: after[k] for k in before} == before
    embedding = model.embed(logged.X)
    np.testing.assert_array_equal(logged.obsm[semantic], embedding.semantic)
    np.testing.assert_array_equal(logged.obsm[f"{semantic}_latent"], embedding.latent)
    assert logged.obsm[semantic].shape == (150, 6) and logged.obsm[semantic].dtype == np.float32


def test_record_and_h5ad(logged: anndata.AnnData, small: dict, tmp_path: Path) -> None:
    model = run(logged, "moco", small, views=("mixup", "thinning"), random_state=7)
    record = logged.uns["moco"]
    assert set(record) == {"params", "asked", "history", "versions", "genes", "method", "settings", "views", "n_views"}
    assert (record["method"], record["views"], record["n_views"]) == ("moco", ["mixup", "thinning"], 0)
    assert record["settings"] == {"temperature": 0.2, "queue_size": 4096, "momentum": 0.99}
    assert record["params"]["random_state"] == 7
    assert record["params"]["training"]["view_rate"] == 0
    assert record["params"]["input"] == {"kind": "log", "sparse": True, "target_sum": 78.5}
    assert record["genes"].tolist() == logged.var_names.tolist()
    history = pd.DataFrame(record["history"])
    assert len(history) == len(model.history) == 4  # 2 + 2, the generator's epochs left out
    assert (history["effective_rank"] > 1).all()
    for method in METHODS:
        run(logged, method, small)
    logged.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad")
    for method in METHODS:
        np.testing.assert_array_equal(back.obsm[f"X_{method}"], logged.obsm[f"X_{method}"])
        assert back.uns[method]["method"] == method
        assert list(back.uns[method]["views"]) == ["mask"]  # of a panel of few genes


def test_beside_a_fit_of_diffaug(logged: anndata.AnnData, small: dict) -> None:
    """The loop-off twin of one encoder and SimCLR are one and the same, through the AnnData as on arrays."""
    fit(logged, view_rate=0.0, n_encoders=1, config=small, device="cpu", progress=False)
    run(logged, "simclr", small)
    np.testing.assert_array_equal(logged.obsm["X_simclr"], logged.obsm["X_diffaug"])


def test_views_of_a_model(logged: anndata.AnnData, small: dict, model: DiffAug, summarise: Callable) -> None:
    """v1's BYOL+: its generated views are shown at the rate asked for, and nothing else changes."""
    state = {k: v.clone() for k, v in model._denoiser.state_dict().items()}
    plus = run(logged, "byol", small, model=model, view_rate=0.25, n_views=3, max_epochs=None)
    record = logged.uns["byol"]
    assert record["n_views"] == 3
    assert record["params"]["training"]["view_rate"] == 0.25
    shown, generated = (np.sum(record["history"][k]) for k in ("n_positives", "n_generated"))
    assert 0.15 < generated / shown < 0.35
    by_hand = Baseline("byol", small, device="cpu")
    by_hand.fit(logged.X, generated=model.augment(logged.X, 3), view_rate=0.25, progress=False)
    np.testing.assert_array_equal(plus.embed(logged.X).semantic, by_hand.embed(logged.X).semantic)
    assert all((state[k] == v).all() for k, v in model._denoiser.state_dict().items())


def test_raw_counts_and_their_model(counts: anndata.AnnData, small: dict) -> None:
    model = fit(counts, config=small, device="cpu", progress=False)
    run(counts, "simsiam", small, model=model, view_rate=1.0)
    history = counts.uns["simsiam"]["history"]
    assert (history["n_generated"] == history["n_positives"]).all()
    assert counts.uns["simsiam"]["params"]["input"]["kind"] == "counts"


def test_new_cells_are_embedded_by_name(counts: anndata.AnnData, small: dict, tmp_path: Path) -> None:
    """Genes in another order, counts normalised as in the training, and from a file."""
    model = run(counts, "byol", small)
    new = counts[:40, ::-1].copy()
    del new.obsm, new.uns
    embed(new, model)
    np.testing.assert_allclose(new.obsm["X_byol"], counts.obsm["X_byol"][:40], atol=1e-5)
    assert new.uns["byol"]["method"] == "byol" and new.uns["byol"]["n_filled_genes"] == 0
    new.write_h5ad(tmp_path / "new.h5ad")
    backed = anndata.read_h5ad(tmp_path / "new.h5ad", backed="r")
    embed(backed, model, key_added="mine")
    np.testing.assert_allclose(backed.obsm["mine"], new.obsm["X_byol"], atol=1e-5)
    with pytest.raises(TypeError, match="Expected `model` to be a DiffAug, found Baseline"):
        augment(new, model)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="Expected a fitted model, found one that was never fitted"):
        embed(new, Baseline("byol"))


def test_labels_of_a_supervised_generator(logged: anndata.AnnData, small: dict) -> None:
    small["diffusion"]["condition"] = "label"
    model = fit(logged, label_key="cell_type", config=small, device="cpu", progress=False)
    run(logged, "byol", small, model=model)
    assert logged.uns["byol"]["history"]["n_generated"].sum() > 0
    del logged.obs["cell_type"]
    with pytest.raises(KeyError, match=r"Did not find `adata.obs\['cell_type'\]` \(the model's label_key\)"):
        run(logged, "byol", small, model=model)


def test_batch_key_layer_and_use_rep(logged: anndata.AnnData, small: dict) -> None:
    run(logged, "simclr", small)
    run(logged, "simclr", small, batch_key="batch", key_added="batches")
    assert not np.allclose(logged.obsm["batches"], logged.obsm["X_simclr"], atol=1e-3)
    logged.layers["logged"] = logged.X.copy()
    logged.X = logged.layers["counts"]
    run(logged, "simclr", small, layer="logged", key_added="layer")
    np.testing.assert_array_equal(logged.obsm["layer"], logged.obsm["X_simclr"])
    logged.obsm["X_pca"] = np.random.default_rng(0).normal(size=(150, 9))
    assert run(logged, "dlme", small, use_rep="X_pca").embed(logged.obsm["X_pca"]).semantic.shape == (150, 6)


def test_max_epochs_is_that_of_the_fit(logged: anndata.AnnData, small: dict) -> None:
    fitted = fit(logged, max_epochs=4, n_encoders=1, config=small, device="cpu", progress=False)
    assert len(run(logged, "byol", small, max_epochs=4).history) == sum(r.phase == "A" for r in fitted.history)


def test_log_names_the_fields(logged: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="diffaug"):
        run(logged, "simsiam", small)
    assert "wrote .obsm['X_simsiam'], .obsm['X_simsiam_latent'] and .uns['simsiam']" in caplog.text


def test_the_embedded_example(pbmc: anndata.AnnData, small: dict) -> None:
    """Its values are log-normalised counts: every kind of view applies."""
    adata = pbmc.copy()
    for kind in diffaug.backends.get_backend("cells").view_kinds:  # type: ignore[attr-defined]
        model = run(adata, "simclr", small, views=kind, max_epochs=2)
        assert np.isfinite(adata.obsm["X_simclr"]).all() and model.views == (kind,)


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        ("simclrr", {}, ValueError, r"Expected `method` in \['simclr', .*\], found 'simclrr'. Did you mean 'simclr'\?"),
        ("byol", {"views": "mixupp"}, ValueError, r"found 'mixupp'. Did you mean 'mixup'\?"),
        ("byol", {"view_rate": 1.5}, ValueError, r"Expected `view_rate` in \[0, 1\], found 1.5"),
        ("byol", {"n_views": 0}, ValueError, "Expected `n_views` of at least 1, found 0"),
        ("byol", {"n_views": 1.5}, TypeError, "Expected `n_views` to be a whole number, found 1.5"),
        ("byol", {"batch_key": "batches"}, KeyError, r"\(batch_key\).*Did you mean 'batch'\?"),
        ("byol", {"layer": "lost"}, KeyError, r"Did not find `adata.layers\['lost'\]`"),
        ("byol", {"key_added": ""}, TypeError, "Expected `key_added` to be a non-empty string or None"),
        ("byol", {"model": "path"}, TypeError, "Expected `model` to be a DiffAug, found str"),
        ("byol", {"max_epochs": 0}, ValueError, "Expected `max_epochs` of at least 1, found 0"),
        ("byol", {"config": {"training": {"batchsize": 3}}}, KeyError, "Did you mean 'batch_size'"),
    ],
)
def test_bad_input_writes_nothing(
    logged: anndata.AnnData,
    small: dict,
    summarise: Callable,
    method: str,
    options: dict,
    error: type[Exception],
    message: str,
) -> None:
    before = summarise(logged)
    with pytest.raises(error, match=message):
        run(logged, method, options.pop("config", small), **options)
    assert summarise(logged) == before


def test_a_model_of_other_cells_is_refused(logged: anndata.AnnData, small: dict, model: DiffAug) -> None:
    with pytest.raises(
        ValueError, match=r"fitted on the 30 features \(log\) that are read here, found one fitted on 60"
    ):
        run(logged[:, :30].copy(), "byol", small, model=model)
    scaled = logged.copy()
    scaled.X = logged.X.toarray() - logged.X.toarray().mean(axis=0)
    with pytest.raises(
        ValueError, match=r"60 features \(scaled\) that are read here, found one fitted on 60 features \(log"
    ):
        run(scaled, "byol", small, model=model)
    small["training"]["n_cycles"] = 0
    alone = fit(logged.copy(), config=small, device="cpu", progress=False)
    with pytest.raises(RuntimeError, match="Expected a trained generator, found a model fitted with the encoder alone"):
        run(logged, "byol", small, model=alone)
    arrays = DiffAug(small, device="cpu").fit(logged.X, progress=False)
    with pytest.raises(ValueError, match="Expected a model fitted by `tl.fit`, found one fitted on arrays"):
        run(logged, "byol", small, model=arrays)
