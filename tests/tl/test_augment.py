"""``tl.augment``: views of given cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from diffaug import DiffAug
from diffaug.tl import augment, fit

KINDS = ["diffaug", "mixup", "feature_swap"]


@pytest.mark.parametrize("kind", KINDS)
def test_new_anndata(logged: anndata.AnnData, model: DiffAug, summarise: Callable, kind: str) -> None:
    before = summarise(logged)
    made = augment(logged, model, n_views=3, kind=kind, random_state=5)  # type: ignore[arg-type]
    assert summarise(logged) == before
    assert made.shape == (450, 60)
    assert made.var_names.equals(logged.var_names)
    assert made.obs["source_cell"].tolist() == np.repeat(logged.obs_names, 3).tolist()
    assert made.obs["cell_type"].tolist() == np.repeat(logged.obs["cell_type"].to_numpy(), 3).tolist()
    assert made.obs["synthetic"].all()
    assert made.obs_names.is_unique
    assert made.obs_names[:4].tolist() == ["cell_0-view0", "cell_0-view1", "cell_0-view2", "cell_1-view0"]
    record = made.uns["diffaug_made"]
    assert {k: record[k] for k in ("made_by", "kind", "n_views", "random_state", "n_obs_trained")} == {
        "made_by": "augment",
        "kind": kind,
        "n_views": 3,
        "random_state": 5,
        "n_obs_trained": 150,
    }
    assert record["params"]["domain"]["n_semantic"] == 6
    assert "diffaug" in record["versions"]


@pytest.mark.parametrize("kind", KINDS)
def test_values(logged: anndata.AnnData, model: DiffAug, kind: str) -> None:
    """On the scale of the input, sparse as the input, never negative, and another each time."""
    made = augment(logged, model, n_views=2, kind=kind)  # type: ignore[arg-type]
    assert sp.issparse(made.X)
    assert made.X.format == "csr"
    assert made.X.dtype == np.float32
    assert made.X.min() == 0
    assert made.X.max() <= logged.X.max() * 1.001
    zeros = 1 - made.X.nnz / np.prod(made.shape)
    assert zeros > 0.05  # exact zeros, that are not stored
    assert (made.X.data > 1e-6).all()
    x = made.X.toarray()
    assert (x[::2] != x[1::2]).any(axis=1).all()
    assert ((x[::2] != logged.X.toarray()).any(axis=1)).all()


def test_seeds(logged: anndata.AnnData, model: DiffAug) -> None:
    for kind in KINDS:
        made = [augment(logged, model, kind=kind, random_state=s).X.toarray() for s in (1, 1, 2)]  # type: ignore
        first, again, other = made
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_dense_in_dense_out(logged: anndata.AnnData, small: dict) -> None:
    logged.X = logged.X.toarray()
    model = fit(logged, config=small, device="cpu", progress=False)
    assert isinstance(augment(logged, model).X, np.ndarray)
    # The model's input decides, not that of the cells at hand.
    logged.X = sp.csr_matrix(logged.X)
    assert isinstance(augment(logged, model).X, np.ndarray)


def test_genes_are_aligned(logged: anndata.AnnData, model: DiffAug) -> None:
    expected = augment(logged, model).X.toarray()
    made = augment(logged[:, ::-1].copy(), model)
    assert made.var_names.equals(logged.var_names)  # the model's genes in the model's order
    np.testing.assert_array_equal(made.X.toarray(), expected)


def test_view_of_anndata_stays_a_view(logged: anndata.AnnData, model: DiffAug) -> None:
    view = logged[10:20]
    made = augment(view, model, n_views=2)
    assert made.n_obs == 20
    assert view.is_view


def test_strength(logged: anndata.AnnData, model: DiffAug) -> None:
    """The less, the nearer to the cell itself."""
    x = logged.X.toarray()
    distance = [np.square(augment(logged, model, strength=s).X.toarray() - x).sum(axis=1).mean() for s in (0.05, 1.0)]
    assert distance[0] < 0.7 * distance[1]


def test_obs_of_every_type(logged: anndata.AnnData, model: DiffAug, tmp_path: Path) -> None:
    """Groups are inherited, with their gaps, numbered clusters too; measurements of the cell are not, because they are not the view's."""
    logged.obs["with_gaps"] = pd.Categorical(np.where(np.arange(150) % 2, "yes", None))
    logged.obs["text"] = pd.Series(["a", "b", "c"] * 50, index=logged.obs_names, dtype=object)
    logged.obs["flag"] = np.arange(150) % 5 == 0
    logged.obs["n_counts"] = np.arange(150.0)
    logged.obs["cluster"] = np.arange(150) % 4
    made = augment(logged, model, n_views=2)
    assert set(made.obs) == {"cell_type", "batch", "with_gaps", "text", "flag", "cluster", "source_cell", "synthetic"}
    assert made.obs["with_gaps"].isna().tolist() == np.repeat(np.arange(150) % 2 == 0, 2).tolist()
    assert made.obs["with_gaps"].cat.categories.tolist() == ["yes"]
    assert made.obs["text"].tolist() == np.repeat(["a", "b", "c"] * 50, 2).tolist()
    assert made.obs["flag"].astype(str).tolist() == np.repeat(logged.obs["flag"].astype(str), 2).tolist()
    made.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert back.obs["with_gaps"].isna().tolist() == made.obs["with_gaps"].isna().tolist()
    assert back.obs["source_cell"].tolist() == made.obs["source_cell"].tolist()
    assert back.uns["diffaug_made"]["made_by"] == "augment"
    np.testing.assert_array_equal(back.X.toarray(), made.X.toarray())


def test_views_keep_their_type(logged: anndata.AnnData, small: dict) -> None:
    """With a generator that was trained for a moment, views are nearer to their own type's mean than chance has it."""
    small["training"] |= {"warmup_epochs": 20, "generator_epochs": 150}
    small["diffusion"]["n_steps"] = 10
    model = fit(logged, config=small, device="cpu", progress=False)
    kinds = logged.obs["cell_type"].cat.codes.to_numpy()
    means = np.stack([logged.X.toarray()[kinds == k].mean(axis=0) for k in range(3)])
    kept = {}
    for kind in KINDS:
        made = augment(logged, model, kind=kind).X.toarray()  # type: ignore[arg-type]
        kept[kind] = float((((made[:, None] - means) ** 2).sum(-1).argmin(1) == kinds).mean())
    assert kept["mixup"] > 0.8
    assert kept["diffaug"] > 0.55  # a third by chance
