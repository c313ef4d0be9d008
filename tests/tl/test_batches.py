"""Cells of a model that was fitted with batches: whose effects they show, and where the batch is read."""

from __future__ import annotations

import logging
from typing import Any

import anndata
import numpy as np
import pytest

import diffaug
from diffaug import DiffAug
from diffaug.metrics import neighbor_batch_entropy
from diffaug.tl import augment, baseline, fit, generate, loop_gain, view_similarity

_CACHE: dict[str, DiffAug] = {}


@pytest.fixture
def told(logged: anndata.AnnData, small: dict[str, Any]) -> DiffAug:
    """A model fitted with batches; shared, so tests only read it."""
    if "model" not in _CACHE:
        _CACHE["model"] = fit(logged.copy(), config=small, batch_key="batch", device="cpu", progress=False)
    return _CACHE["model"]


def test_views_have_the_batch_of_their_cell(logged: anndata.AnnData, told: DiffAug) -> None:
    """Unless another one is asked for, which the provenance then says."""
    assert told.batches == ["batch_0", "batch_1"]
    own = augment(logged, told, progress=False)
    other = augment(logged, told, batch="batch_1", progress=False)
    x = logged.X.toarray()
    batch = logged.obs["batch"].astype(str).to_numpy()
    np.testing.assert_array_equal(own.X.toarray(), np.maximum(told.augment(logged.X, batch=batch)[:, 0], 0))
    same = batch == "batch_1"
    assert not np.array_equal(own.X.toarray()[~same], other.X.toarray()[~same])
    assert other.uns["diffaug_made"]["batch"] == "batch_1"
    assert (other.obs["batch"] == "batch_1").all()
    assert own.obs["batch"].tolist() == batch.tolist()
    assert "batch" not in own.uns["diffaug_made"]
    assert x.shape == own.shape


def test_without_the_column_views_are_of_no_batch(
    logged: anndata.AnnData, told: DiffAug, caplog: pytest.LogCaptureFixture
) -> None:
    bare = logged.copy()
    del bare.obs["batch"]
    with caplog.at_level(logging.WARNING):
        made = augment(bare, told, progress=False)
    assert "no column 'batch' in `.obs`: views are drawn under no batch in particular" in caplog.text
    np.testing.assert_array_equal(made.X.toarray(), np.maximum(told.augment(logged.X)[:, 0], 0))


def test_look_alikes_have_the_batch_of_their_cell(logged: anndata.AnnData, told: DiffAug) -> None:
    """As have cells that start from a training cell's values."""
    like = generate(told, like=logged, random_state=3, progress=False)
    np.testing.assert_array_equal(like.X.toarray(), augment(logged, told, random_state=3, progress=False).X.toarray())
    near = generate(told, 20, batch="batch_1", train=logged, strength=0.3, progress=False)
    assert (near.obs["batch"] == "batch_1").all()


def test_a_new_batch_is_drawn_under_none(
    logged: anndata.AnnData, told: DiffAug, caplog: pytest.LogCaptureFixture
) -> None:
    """And its other cells under their own; a batch that is asked for by name has to be a known one."""
    strange = logged.copy()
    names = strange.obs["batch"].astype(str).to_numpy()
    names[:40] = "elsewhere"
    strange.obs["batch"] = names
    with caplog.at_level(logging.WARNING):
        made = generate(told, like=strange, random_state=1, progress=False)
    assert "40 of 150 cells are of batches that the model does not know, e.g. 'elsewhere'" in caplog.text
    batch = names.astype(object)
    batch[:40] = None
    expected = told.augment(logged.X, batch=batch, random_state=1)[:, 0]
    np.testing.assert_array_equal(made.X.toarray(), np.maximum(expected, 0))
    with pytest.raises(
        ValueError, match=r"Expected batches among \['batch_0', 'batch_1'\], found 'elsewhere'. Name one of"
    ):
        augment(strange, told, batch="elsewhere", progress=False)
    assert augment(strange, told, batch="batch_0", progress=False).n_obs == strange.n_obs


def test_batches_that_the_model_keeps_no_names_of(logged: anndata.AnnData, small: dict[str, Any]) -> None:
    """The cells' groups of many names are not kept with a model; their batches are, as what the generator was told."""
    many = logged.copy()
    many.obs["run"] = np.arange(many.n_obs) // 2
    found = fit(many, config=small, batch_key="run", device="cpu", progress=False)
    assert len(found.batches) == 75
    assert found.batch_of(np.array([0, 149])).tolist() == ["0", "74"]
    near = generate(found, 5, train=many, strength=0.3, random_state=2, progress=False)
    assert near.n_obs == 5


def test_a_model_of_no_batches(logged: anndata.AnnData, model: DiffAug) -> None:
    for kind in ("diffaug", "mixup"):
        with pytest.raises(
            ValueError, match="Expected no `batch` for a model whose generator is told of none, found 'b'"
        ):
            augment(logged, model, batch="b", kind=kind, progress=False)


def test_hand_made_views_have_no_batch(logged: anndata.AnnData, told: DiffAug) -> None:
    with pytest.raises(ValueError, match="Expected kind='diffaug' with `batch`, found 'mixup'"):
        augment(logged, told, batch="batch_0", kind="mixup", progress=False)


def test_similarity_and_baselines_go_by_the_batch(
    logged: anndata.AnnData, told: DiffAug, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    real = DiffAug.augment

    def spy(self: DiffAug, x: Any, *args: Any, batch: Any = None, **options: Any) -> np.ndarray:
        if options.get("kind", "diffaug") == "diffaug":
            seen.append(batch)
        return real(self, x, *args, batch=batch, **options)

    monkeypatch.setattr(DiffAug, "augment", spy)
    view_similarity(logged, told, kinds=["diffaug", "mixup"], n_cells=20)
    baseline(logged.copy(), "simclr", model=told, config=small, device="cpu", progress=False)
    assert [len(batch) for batch in seen] == [20, logged.n_obs]
    assert seen[1].tolist() == logged.obs["batch"].astype(str).tolist()


def test_batches_survive_a_model_folder(logged: anndata.AnnData, told: DiffAug, tmp_path: Any) -> None:
    loaded = diffaug.DiffAug.load(told.save(tmp_path / "m"), device="cpu")
    first, second = (augment(logged, m, batch="batch_0", progress=False).X.toarray() for m in (told, loaded))
    np.testing.assert_array_equal(first, second)


def test_the_gain_says_how_batches_mix(
    logged: anndata.AnnData, small: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        found = fit(
            logged, config=small, batch_key="batch", twin=True, groupby="cell_type", device="cpu", progress=False
        )
    gain = loop_gain(logged, found, groupby="cell_type")
    assert gain.index.tolist() == ["split_half_overlap", "batch_mixing", "linear", "knn", "kmeans"]
    batch = logged.obs["batch"].astype(str)
    for column, embedded in (("model", found.embed(logged.X)), ("twin", found.twin.embed(logged.X))):  # type: ignore[union-attr]
        expected = neighbor_batch_entropy(embedded.semantic, batch, k=15)
        assert gain.loc["batch_mixing", column] == pytest.approx(expected, abs=1e-6)
    assert not gain.loc["batch_mixing", "labelled"]
    assert "with the generated views, batch_mixing (1 is perfect): " in caplog.text
    assert list(logged.uns["diffaug"]["loop_gain"]["measure"]) == gain.index.tolist()
    one = logged[logged.obs["batch"] == "batch_1"].copy()
    assert "batch_mixing" not in loop_gain(one, found).index
