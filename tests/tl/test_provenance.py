"""The audit of ``tl.generate``, not stubbed: copies are stopped, honest cells pass, and what is returned is what is judged."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from diffaug import DiffAug, metrics
from diffaug._model import Samples
from diffaug.tl import fit, generate
from diffaug.tl._library_sizes import as_counts, as_log, log_scale
from diffaug.tl._provenance import LEAST_AUDITED, nearest_training, training_cells


def drawing(cells: anndata.AnnData, source: np.ndarray | None = None) -> Any:
    """In place of ``DiffAug.generate``: these cells, conditioned on the training cells ``source``."""
    rows = np.arange(cells.n_obs) if source is None else source
    return lambda self, *_, **__: Samples(cells.X.toarray(), rows)


@pytest.fixture
def parts(logged: anndata.AnnData, small: dict) -> tuple[DiffAug, anndata.AnnData, anndata.AnnData, anndata.AnnData]:
    """A model of 90 cells, these cells, and twice 30 cells of the same kinds that it never saw."""
    train, fresh, held_out = (logged[a:b].copy() for a, b in ((0, 90), (90, 120), (120, 150)))
    return fit(train, config=small, device="cpu", progress=False), train, fresh, held_out


def test_cells_of_one_name_cannot_be_told_apart(parts: tuple) -> None:
    model, train, *_ = parts
    train.obs_names = [train.obs_names[0], *train.obs_names[:-1]]
    with pytest.raises(ValueError, match=r"Expected unique names of cells in `train`, found .* more than once"):
        generate(model, 5, train=train, strength=0.5)


@pytest.mark.parametrize("output", ["log", "counts"])
def test_a_generator_that_copies_is_stopped(parts: tuple, output: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: fresh real cells, drawn in the same way, pass."""
    model, train, fresh, held_out = parts
    monkeypatch.setattr(DiffAug, "generate", drawing(train[:30]))
    for more in ({}, {"held_out": held_out}):
        with pytest.raises(RuntimeError, match="100.0% of the synthetic cells are exact copies.*Nothing is returned"):
            generate(model, 30, train=train, audit=True, output=output, **more)
    assert generate(model, 30, train=train, output=output).obs["distance_percentile"].max() == 0
    monkeypatch.setattr(DiffAug, "generate", drawing(fresh))
    for more in ({}, {"held_out": held_out}):
        made = generate(model, 30, train=train, audit=True, output=output, **more)
        assert made.uns["diffaug_made"]["audit"]["passed"]
        assert made.uns["diffaug_made"]["audit"]["exact_share"] == 0
        assert made.obs["distance_percentile"].mean() > 20


def test_a_low_strength_is_stopped(logged: anndata.AnnData, model: DiffAug) -> None:
    """Nothing is patched: cells that are nearly their conditioning cells, and cells from pure noise."""
    with pytest.raises(RuntimeError, match="near copies of a training cell"):
        generate(model, 80, train=logged, strength=0.02, audit=True)
    found = generate(model, 80, train=logged, audit=True).uns["diffaug_made"]["audit"]
    assert found["passed"] and found["n_synthetic"] == 80 and found["n_train"] == 150


def test_copies_that_rounding_makes_are_found(parts: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values a little beside those of training cells are no copies; the counts rounded from them are."""
    model, train, _, _ = parts
    near = train[:60].copy()
    near.X.data *= np.random.default_rng(0).choice([1 - 1e-6, 1 + 1e-6], size=near.X.nnz).astype("float32")
    assert metrics.memorization_audit(near.X, train.X).exact_share == 0
    monkeypatch.setattr(DiffAug, "generate", drawing(near))
    made = generate(model, 60, train=train, output="counts")
    np.testing.assert_array_equal(made.X.toarray(), train.layers["counts"][:60].toarray())
    with pytest.raises(RuntimeError, match="100.0% of the synthetic cells are exact copies"):
        generate(model, 60, train=train, output="counts", audit=True)
    # Conditioned on other cells of as many counts, they are the same copies.
    size = np.asarray(train.layers["counts"].sum(axis=1)).ravel()
    other = np.array([np.flatnonzero(size == s)[-1] for s in size[:60]])
    assert (other != np.arange(60)).any()
    monkeypatch.setattr(DiffAug, "generate", drawing(near, other))
    with pytest.raises(RuntimeError, match="100.0% of the synthetic cells are exact copies"):
        generate(model, 60, train=train, output="counts", audit=True)


@pytest.mark.parametrize("how", [{}, {"depth": 60}, {"like": True}])
def test_distances_are_of_the_counts_that_are_returned(logged: anndata.AnnData, model: DiffAug, how: dict) -> None:
    """The oracle is scanpy: normalise the returned counts as the training cells were, and look there."""
    if "like" in how:
        how = {"like": logged[20:60]}
    made = generate(model, 40, train=logged, output="counts", **how)
    again = anndata.AnnData(made.X.astype(np.float32))
    sc.pp.normalize_total(again, target_sum=float(np.expm1(logged.X[0].toarray().astype(float)).sum()))
    sc.pp.log1p(again)
    near = nearest_training(again.X, training_cells(logged, model), model)
    np.testing.assert_allclose(made.obs["nearest_distance"], near.distance, rtol=1e-4)
    assert made.obs["nearest_cell"].tolist() == near.cell.tolist()
    # Control: the values that the counts were rounded from lie elsewhere.
    log = generate(model, 40, train=logged, **{k: v for k, v in how.items() if k == "like"})
    assert np.abs(log.obs["nearest_distance"] / made.obs["nearest_distance"] - 1).max() > 0.01


def test_counts_of_some_genes_come_back_on_the_models_scale(logged: anndata.AnnData, small: dict) -> None:
    """Raw counts with selected genes: the library size is of all genes, and so is the scale."""
    raw = anndata.AnnData(logged.layers["counts"].copy(), obs=logged.obs, var=logged.var)
    raw.var["highly_variable"] = np.arange(60) < 25
    model = fit(raw, config=small, device="cpu", progress=False)
    made = generate(model, 40, train=raw, output="counts", audit=True)
    total = model.meta["target_sum"]
    values = np.log1p(made.X.toarray() * (total / made.obs["library_size"].to_numpy())[:, None])
    near = nearest_training(values.astype("float32"), training_cells(raw, model), model)
    np.testing.assert_allclose(made.obs["nearest_distance"], near.distance, rtol=1e-4)


def test_counts_and_values_are_inverse(logged: anndata.AnnData) -> None:
    counts = logged.layers["counts"]
    size = np.asarray(counts.sum(axis=1)).ravel()
    scale = log_scale(logged.X, (size, size))
    assert np.unique(scale).size == 1
    back = as_counts(logged.X, (size, size))
    np.testing.assert_array_equal(back.toarray(), counts.toarray())
    np.testing.assert_allclose(as_log(back, size, scale).toarray(), logged.X.toarray(), atol=2e-5)
    # Cells that were scaled to other sums keep their own scale; one without counts stays empty.
    uneven = sp.csr_matrix(np.log1p(np.expm1(logged.X.toarray().astype(float)) * np.linspace(0.5, 2, 150)[:, None]))
    np.testing.assert_allclose(log_scale(uneven, (size, size)), scale * np.linspace(0.5, 2, 150), rtol=1e-4)
    none = log_scale(sp.csr_matrix((2, 5)), (np.zeros(2, int), np.zeros(2, int)), 7.0)
    assert none.tolist() == [7, 7] and as_counts(sp.csr_matrix((2, 5)), (np.zeros(2), np.zeros(2))).nnz == 0


def test_scales_of_cells_that_are_not_at_hand(parts: tuple, small: dict) -> None:
    """Each cell scaled to a sum of its own: those of all conditioning cells are needed, and are asked for before the work."""
    _, train, _, _ = parts
    values = np.expm1(train.X.toarray().astype(float)) * np.linspace(0.5, 2, 90)[:, None]
    train.X = sp.csr_matrix(np.log1p(values).astype("float32"))
    model = fit(train, config=small, device="cpu", progress=False)
    made = generate(model, 90, train=train, output="counts")
    own = log_scale(train.X, (np.asarray(train.layers["counts"].sum(axis=1)).ravel(),) * 2)
    at = train.obs_names.get_indexer(made.obs["condition_cell"])
    values = np.log1p(made.X.toarray() * (own[at] / made.obs["library_size"].to_numpy())[:, None])
    near = nearest_training(values.astype("float32"), training_cells(train, model), model)
    np.testing.assert_allclose(made.obs["nearest_distance"], near.distance, rtol=1e-4)
    with pytest.raises(ValueError, match="every cell that conditions a synthetic one in `train`"):
        generate(model, 5, train=train[:40].copy(), output="counts")


def test_too_few_cells_are_refused_before_sampling(
    logged: anndata.AnnData, model: DiffAug, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sampled(*_: object, **__: object) -> None:
        raise AssertionError("sampled")

    monkeypatch.setattr(DiffAug, "generate", sampled)
    monkeypatch.setattr(DiffAug, "augment", sampled)
    few: list[tuple[dict, str]] = [
        ({"n_obs": 9}, "synthetic cells"),
        ({"groupby": "cell_type", "n": 3}, "synthetic cells"),
        ({"n_obs": 9, "batch": "batch_0", "batch_key": "batch"}, "synthetic cells"),
        ({"like": logged[:9]}, "synthetic cells"),
        ({"n_obs": 10, "train": logged[:9].copy()}, "training cells in `train`"),
        ({"n_obs": 10, "held_out": logged[:9].copy()}, "cells in `held_out`"),
    ]
    for how, what in few:
        with pytest.raises(ValueError, match=rf"at least 10 {re.escape(what)} with audit=True, found 9"):
            generate(model, **{"train": logged, "audit": True, **how})
    with pytest.raises(AssertionError, match="sampled"):
        generate(model, 10, train=logged, audit=True)


def test_the_least_is_that_of_the_audit() -> None:
    cells = np.random.default_rng(0).normal(size=(2, LEAST_AUDITED, 5))
    metrics.memorization_audit(*cells)
    with pytest.raises(ValueError, match=rf"found shape \({LEAST_AUDITED - 1}, 5\)"):
        metrics.memorization_audit(cells[0][1:], cells[1])


def test_notes_are_kept_and_said_once(
    logged: anndata.AnnData, model: DiffAug, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        made = generate(model, 40, train=logged, audit=True)
    note = "No held-out rows were given: only copies and near copies could be judged."
    assert made.uns["diffaug_made"]["audit"]["notes"].tolist() == [note]
    assert caplog.text.count(note) == 1
    made.write_h5ad(tmp_path / "made.h5ad")
    back = anndata.read_h5ad(tmp_path / "made.h5ad").uns["diffaug_made"]
    assert list(back["audit"]["notes"]) == [note] and bool(back["audit"]["passed"])


def test_cells_of_other_donors_are_not_judged_as_memory(
    parts: tuple, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Fresh cells of the training donors lie nearer to these than to donors that differ: that is honest, once donors are named."""
    model, train, fresh, held_out = parts
    same = held_out.copy()
    held_out.X = held_out.X[:, np.random.default_rng(0).permutation(60)]
    train.obs["donor"] = np.where(np.arange(90) < 45, "d0", "d1")
    held_out.obs["donor"] = "d2"
    monkeypatch.setattr(DiffAug, "generate", drawing(fresh))
    how: dict[str, Any] = {"train": train, "held_out": held_out, "audit": True, "random_state": 1}
    with pytest.raises(RuntimeError, match="closer to a training than to a held-out cell"):
        generate(model, 30, **how)
    for output in ("log", "counts"):
        with caplog.at_level(logging.WARNING, logger="diffaug"):
            found = generate(model, 30, donor_key="donor", output=output, **how).uns["diffaug_made"]["audit"]
        assert found["passed"] and found["closer_share"] > 0.9
        assert any("are of different donors" in note for note in found["notes"])
        assert all(note in caplog.text for note in found["notes"])
    # Copies are judged whatever the donors.
    monkeypatch.setattr(DiffAug, "generate", drawing(train[:30]))
    with pytest.raises(RuntimeError, match="exact copies"):
        generate(model, 30, donor_key="donor", **how)
    # Where the donors are the same all is judged, and none is said to differ.
    same.obs["donor"] = "d1"
    monkeypatch.setattr(DiffAug, "generate", drawing(fresh))
    made = generate(model, 30, donor_key="donor", **{**how, "held_out": same})
    made.write_h5ad(tmp_path / "made.h5ad")
    back = anndata.read_h5ad(tmp_path / "made.h5ad").uns["diffaug_made"]
    assert not any("of different donors" in note for note in back["audit"]["notes"]) and back["donor_key"] == "donor"
    generate(model, 30, train=train, held_out=same, audit=True).write_h5ad(tmp_path / "made.h5ad")
    assert len(anndata.read_h5ad(tmp_path / "made.h5ad").uns["diffaug_made"]["audit"]["notes"]) == 0
    del held_out.obs["donor"]
    with pytest.raises(KeyError, match="donor_key, of `held_out`"):
        generate(model, 30, donor_key="donor", **how)


def test_the_fingerprint_is_the_models(logged: anndata.AnnData, model: DiffAug, small: dict, tmp_path: Path) -> None:
    """The same whatever is drawn, also in the file; another model has another one."""
    ways: list[dict] = [{"n_obs": 3}, {"like": logged[:3]}, {"n_obs": 3, "output": "counts", "random_state": 4}]
    for how in ways:
        generate(model, **how).write_h5ad(tmp_path / "made.h5ad")
        found = anndata.read_h5ad(tmp_path / "made.h5ad").uns["diffaug_made"]["model_fingerprint"]
        assert found == model.fingerprint and re.fullmatch("[0-9a-f]{64}", found)
    loaded = DiffAug.load(model.save(tmp_path / "model"), device="cpu")
    assert generate(loaded, 3).uns["diffaug_made"]["model_fingerprint"] == model.fingerprint
    other = fit(logged.copy(), config=small, device="cpu", progress=False, random_state=1)
    assert generate(other, 3).uns["diffaug_made"]["model_fingerprint"] != model.fingerprint
