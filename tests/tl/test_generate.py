"""``tl.generate``: synthetic cells, and where each came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from diffaug import DiffAug
from diffaug.tl import augment, fit, generate


@pytest.mark.parametrize("n_obs", [1, 149, 150, 400])
def test_by_number(logged: anndata.AnnData, model: DiffAug, n_obs: int) -> None:
    made = generate(model, n_obs, random_state=3)
    assert made.shape == (n_obs, 60)
    assert made.var_names.equals(logged.var_names)
    assert made.obs_names.tolist() == [f"synthetic-{i}" for i in range(n_obs)]
    assert made.obs["synthetic"].all()
    counts = made.obs["condition_cell"].value_counts().reindex(logged.obs_names, fill_value=0)
    assert counts.min() >= n_obs // 150
    assert counts.max() <= -(-n_obs // 150)  # each training cell about equally often
    expected = logged.obs.loc[made.obs["condition_cell"], ["cell_type", "batch"]]
    assert made.obs["cell_type"].tolist() == expected["cell_type"].tolist()
    assert made.obs["batch"].tolist() == expected["batch"].tolist()
    record = made.uns["diffaug_made"]
    assert (record["made_by"], record["random_state"], record["n_obs_trained"]) == ("generate", 3, 150)
    assert record["params"]["training"]["view_rate"] == 0.5


def test_values(logged: anndata.AnnData, model: DiffAug) -> None:
    made = generate(model, 300)
    assert sp.issparse(made.X)
    assert made.X.format == "csr"
    assert made.X.dtype == np.float32
    assert made.X.min() == 0
    assert made.X.max() <= logged.X.max() * 1.001
    assert (made.X.data > 1e-3).all()
    found, expected = 1 - made.X.nnz / np.prod(made.shape), 1 - logged.X.nnz / np.prod(logged.shape)
    assert found == pytest.approx(expected, abs=0.03)
    assert len(np.unique(made.X.toarray(), axis=0)) == 300


def test_dense_in_dense_out(logged: anndata.AnnData, small: dict) -> None:
    logged.X = logged.X.toarray()
    model = fit(logged, config=small, device="cpu", progress=False)
    assert isinstance(generate(model, 5).X, np.ndarray)


def test_scaled_in_scaled_out(logged: anndata.AnnData, small: dict) -> None:
    x = logged.X.toarray()
    logged.X = (x - x.mean(axis=0)) / x.std(axis=0)
    model = fit(logged, config=small, device="cpu", progress=False)
    made = generate(model, 300)
    assert model.meta["kind"] == "scaled"
    assert made.X.min() < 0
    assert "log1p" not in made.uns
    np.testing.assert_allclose(made.X.mean(axis=0), 0, atol=0.35)


def test_use_rep(logged: anndata.AnnData, small: dict) -> None:
    logged.obsm["X_pca"] = np.random.default_rng(0).normal(size=(150, 7))
    model = fit(logged, config=small, use_rep="X_pca", device="cpu", progress=False)
    made = generate(model, 20)
    assert made.var_names.tolist() == [f"X_pca_{i}" for i in range(7)]
    assert made.X.min() < 0


def test_from_counts_comes_log_normalised(counts: anndata.AnnData, small: dict) -> None:
    """The scale is that on which the model works; ``uns`` says so the way scanpy does."""
    model = fit(counts, config=small, device="cpu", progress=False)
    made = generate(model, 200)
    assert "log1p" in made.uns
    total = model.meta["target_sum"]
    assert total == np.median(np.asarray(counts.X.sum(axis=1))) and made.uns["diffaug_recipe"] == {"target_sum": total}
    assert np.median(np.expm1(made.X.toarray()).sum(axis=1)) == pytest.approx(total, rel=0.15)
    assert not np.allclose(made.X.data, np.rint(made.X.data))


def test_groups_are_those_of_the_model_whatever_is_asked_for(logged: anndata.AnnData, small: dict) -> None:
    """A batch of floats, and cluster numbers that so few cells could not tell from counts of something."""
    logged.obs["batch"] = np.arange(150) % 2 + 1.0
    logged.obs["cluster"] = np.arange(150) % 4
    logged.obs["reads"] = np.arange(150)
    model = fit(logged, config=small, batch_key="batch", device="cpu", progress=False)
    made = generate(model, 6, batch="1.0")
    assert made.obs["batch"].tolist() == ["1.0"] * 6 and "reads" not in made.obs
    few = logged[:6].copy()
    for cells in (generate(model, like=few), augment(few, model)):
        assert cells.obs["cluster"].tolist() == list("012301") and cells.obs["batch"].tolist() == ["1.0", "2.0"] * 3
    wanted = generate(model, groupby="cluster", n={1: 2, "3": 1}).obs["cluster"]
    assert wanted.tolist() == ["1", "1", "3"]


def test_seeds(model: DiffAug) -> None:
    first, again, other = (generate(model, 20, random_state=s) for s in (1, np.int64(1), 2))
    np.testing.assert_array_equal(first.X.toarray(), again.X.toarray())
    assert first.obs.equals(again.obs)
    assert not np.array_equal(first.X.toarray(), other.X.toarray())
    assert first.obs["condition_cell"].tolist() != other.obs["condition_cell"].tolist()


def test_like(logged: anndata.AnnData, model: DiffAug, summarise: Callable) -> None:
    part = logged[[3, 99]].copy()
    before = summarise(part)
    made = generate(model, like=part)
    assert summarise(part) == before
    assert made.obs["condition_cell"].tolist() == ["cell_3", "cell_99"]
    assert made.obs["cell_type"].tolist() == part.obs["cell_type"].tolist()
    assert made.uns["diffaug_made"]["like"]
    many = generate(model, 9, like=part)
    assert sorted(many.obs["condition_cell"].value_counts().tolist()) == [4, 5]
    assert len(np.unique(many.X.toarray(), axis=0)) == 9
    new = part.copy()
    new.obs_names = ["stranger_a", "stranger_b"]
    del new.obs["batch"]
    made = generate(model, like=new)  # cells that the model has never seen
    assert made.obs["condition_cell"].tolist() == ["stranger_a", "stranger_b"]
    assert "batch" not in made.obs


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (None, {"type_0": 50, "type_1": 50, "type_2": 50}),
        (7, {"type_0": 7, "type_1": 7, "type_2": 7}),
        ({"type_1": 3}, {"type_1": 3}),
        ({"type_2": 120, "type_0": 1}, {"type_0": 1, "type_2": 120}),  # more than there are cells
        ({"type_0": np.int64(2), "type_1": 0}, {"type_0": 2}),
    ],
)
def test_by_group(logged: anndata.AnnData, model: DiffAug, n: Any, expected: dict[str, int]) -> None:
    made = generate(model, groupby="cell_type", n=n)
    assert made.obs["cell_type"].value_counts().loc[lambda c: c > 0].to_dict() == expected
    sources = made.obs["condition_cell"]
    assert (logged.obs.loc[sources, "cell_type"].to_numpy() == made.obs["cell_type"].to_numpy()).all()
    for group, count in expected.items():
        used = sources[made.obs["cell_type"] == group].value_counts()
        assert used.max() <= -(-count // 50)  # spread over the group's cells
    assert made.uns["diffaug_made"]["groupby"] == "cell_type"


def test_groups_with_gaps(logged: anndata.AnnData, small: dict) -> None:
    """Cells without a group condition nothing when groups are asked for, and have none when they do."""
    kinds = logged.obs["cell_type"].astype(object).to_numpy()
    kinds[::2] = None
    logged.obs["kind"] = pd.Categorical(kinds, categories=["type_0", "type_1", "type_2", "never_seen"])
    model = fit(logged, config=small, device="cpu", progress=False)
    made = generate(model, groupby="kind")
    assert made.obs["kind"].notna().all()
    assert made.n_obs == 75
    whole = generate(model, 150)
    assert whole.obs["kind"].isna().sum() == 75
    with pytest.raises(KeyError, match="found 'never_seen'"):
        generate(model, groupby="kind", n={"never_seen": 3})


def test_unknown_names_come_with_the_nearest(model: DiffAug) -> None:
    with pytest.raises(
        KeyError, match=r"Expected groupby among \['cell_type', 'batch'\], found 'celltype'. Did you mean 'cell_type'"
    ):
        generate(model, groupby="celltype")
    with pytest.raises(
        KeyError, match=r"Expected a group of 'cell_type' among .*found 'Type_1'. Did you mean 'type_1'"
    ):
        generate(model, groupby="cell_type", n={"Type_1": 3})


def test_too_many_names_are_not_kept(logged: anndata.AnnData, small: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of barcodes is no group, and the model must not carry it."""
    monkeypatch.setattr("diffaug._anndata._MAX_CATEGORIES", 100)
    logged.obs["barcode"] = [f"AACG-{i}" for i in range(150)]
    model = fit(logged, config=small, device="cpu", progress=False)
    assert set(generate(model, 3).obs) == {"cell_type", "batch", "condition_cell", "synthetic"}


def test_without_obs(logged: anndata.AnnData, small: dict) -> None:
    logged.obs = logged.obs[[]]
    model = fit(logged, config=small, device="cpu", progress=False)
    assert set(generate(model, 3).obs) == {"condition_cell", "synthetic"}


def test_saved_and_loaded(model: DiffAug, tmp_path: Path) -> None:
    """What is needed is in the model: it generates on a machine that has not the training cells."""
    loaded = DiffAug.load(model.save(tmp_path / "model"), device="cpu")
    for how in ({"n_obs": 20}, {"groupby": "cell_type", "n": 4}):
        here, there = generate(model, **how), generate(loaded, **how)  # type: ignore[arg-type]
        np.testing.assert_array_equal(here.X.toarray(), there.X.toarray())
        pd.testing.assert_frame_equal(here.obs, there.obs)


def test_h5ad_round_trip(model: DiffAug, tmp_path: Path) -> None:
    made = generate(model, groupby="cell_type", n=5)
    made.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(back.X.toarray(), made.X.toarray())
    assert back.obs["condition_cell"].tolist() == made.obs["condition_cell"].tolist()
    assert back.uns["diffaug_made"]["groupby"] == "cell_type"
    assert list(back.uns["diffaug_made"]["params"]["domain"]["encoder_hidden"]) == [24]


def test_scanpy_takes_the_result(model: DiffAug) -> None:
    """It is an AnnData like any other: scanpy's next steps run on it."""
    import scanpy as sc

    made = generate(model, 60)
    sc.pp.pca(made, n_comps=5)
    assert made.obsm["X_pca"].shape == (60, 5)
    sc.tl.rank_genes_groups(made, "cell_type")  # reads uns["log1p"]


def test_label_condition(logged: anndata.AnnData, small: dict) -> None:
    small["diffusion"]["condition"] = "label"
    model = fit(logged, config=small, label_key="cell_type", device="cpu", progress=False)
    assert generate(model, groupby="cell_type", n=4).n_obs == 12
    assert generate(model, like=logged[:5]).n_obs == 5
    assert generate(model, 11, like=logged[:5]).n_obs == 11
