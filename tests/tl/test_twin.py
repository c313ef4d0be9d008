"""The loop-off twin beside the model, on AnnData."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from torch import Tensor, nn

import diffaug
from diffaug._twin import compare_with_twin
from diffaug.core.networks import Encoding
from diffaug.tl._twin import label_values

SMALL = {
    "training": {
        "n_encoders": 1,
        "warmup_epochs": 3,
        "generator_epochs": 3,
        "mixed_epochs": 3,
        "batch_size": 32,
        "view_rate": 0.5,
    },
    "diffusion": {"n_steps": 3},
    "domain": {"encoder_hidden": [24], "n_semantic": 8, "n_latent": 6, "generator_width": 16, "generator_depth": 1},
}


@pytest.fixture
def cells() -> AnnData:
    rng = np.random.default_rng(0)
    kind = np.arange(90) % 3
    x = np.log1p(rng.poisson(1 + 4.0 * (kind[:, None] == np.arange(18) % 3))).astype(np.float32)
    obs = pd.DataFrame({"kind": pd.Categorical(np.array(["a", "b", "c"])[kind])}, index=[f"cell{i}" for i in range(90)])
    return AnnData(x, obs=obs)


def test_fit_with_twin_writes_both_and_says_what_the_views_did(
    cells: AnnData, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="diffaug"):
        model = diffaug.tl.fit(cells, twin=True, groupby="kind", config=SMALL, progress=False)
    plain, off = (AnnData(cells.X.copy(), obs=cells.obs.copy()) for _ in range(2))
    diffaug.tl.fit(plain, config=SMALL, progress=False)
    diffaug.tl.fit(off, config=SMALL, view_rate=0.0, progress=False)
    np.testing.assert_array_equal(cells.obsm["X_diffaug"], plain.obsm["X_diffaug"])
    np.testing.assert_array_equal(cells.obsm["X_diffaug_twin"], off.obsm["X_diffaug"])
    assert "X_diffaug_twin" not in plain.obsm
    assert "loop_gain" not in plain.uns["diffaug"]
    gain = pd.DataFrame(cells.uns["diffaug"]["loop_gain"]).set_index("measure")
    pd.testing.assert_frame_equal(gain, diffaug.tl.loop_gain(cells, model, groupby="kind"), check_names=False)
    for name in ("linear", "knn", "kmeans"):
        assert any(f"by {name}:" in r.getMessage() for r in caplog.records)
    assert "with the generated views split_half_overlap" in caplog.text
    assert "give `groupby`" not in caplog.text.lower()  # it was given
    with caplog.at_level(logging.INFO, logger="diffaug"):
        diffaug.tl.fit(plain, twin=True, config=SMALL, progress=False)
    assert "no proof: it does not follow labelled scores. Give `groupby` to judge by labels of the cells" in caplog.text


def test_difference_is_that_of_the_two_embeddings(cells: AnnData) -> None:
    model = diffaug.tl.fit(cells, twin=True, config=SMALL, progress=False)
    gain = diffaug.tl.loop_gain(cells, model, groupby="kind")
    assert gain.index.tolist() == ["split_half_overlap", "linear", "knn", "kmeans"]
    assert gain["labelled"].tolist() == [False, True, True, True]
    for probe in ("linear", "knn"):
        for column, key in (("model", "X_diffaug"), ("twin", "X_diffaug_twin")):
            hits = diffaug.metrics.row_hits(cells.obsm[key], cells.obs["kind"], probe=probe)
            assert gain.loc[probe, column] == pytest.approx(hits.mean())
    np.testing.assert_allclose(gain["difference"], gain["model"] - gain["twin"], atol=1e-12)
    assert np.isnan(gain.loc["kmeans", ["low", "high"]].astype(float)).all()  # one fit is one difference
    gain = gain.drop("kmeans")
    assert ((gain["low"] <= gain["difference"]) & (gain["difference"] <= gain["high"])).all()


class Noise(nn.Module):
    """An encoder that does not look at the cell."""

    def forward(self, x: Tensor) -> Encoding:
        return Encoding(torch.randn(len(x), 8), torch.randn(len(x), 6))


def test_a_ruined_twin_is_told_from_the_model(cells: AnnData) -> None:
    """Control: the comparison sees a difference where there is one, with and without labels."""
    model = diffaug.tl.fit(cells, twin=True, config=SMALL, progress=False)
    model.twin._encoder = Noise()  # type: ignore[union-attr]
    gain = compare_with_twin(model, cells.X, cells.obs["kind"].astype(str).to_numpy())
    assert (gain.drop("kmeans")["low"] > 0).all()
    assert gain.loc["kmeans", "difference"] > 0.2


def test_clusters_are_those_of_kmeans_over_starts(cells: AnnData) -> None:
    """Classes too small for the folds are left out of all labelled rows alike, and the starts are of the seed."""
    cells.obs["kind"] = cells.obs["kind"].cat.add_categories("rare")
    cells.obs.iloc[:4, 0] = "rare"
    model = diffaug.tl.fit(cells, twin=True, config=SMALL, progress=False)
    gain = diffaug.tl.loop_gain(cells, model, groupby="kind")
    seeds = np.random.default_rng(0).integers(2**31, size=5).tolist()
    for column, key in (("model", "X_diffaug"), ("twin", "X_diffaug_twin")):
        x, y = cells.obsm[key][4:], cells.obs["kind"][4:].astype(str)
        scores = [diffaug.metrics.kmeans_scores(x, y, n_init=1, random_state=seed).accuracy for seed in seeds]
        assert gain.loc["kmeans", column] == pytest.approx(np.mean(scores))


def test_what_cannot_be_compared(cells: AnnData) -> None:
    before = cells.copy()
    with pytest.raises(ValueError, match=r"Expected twin=True with groupby='kind', found twin=False"):
        diffaug.tl.fit(cells, groupby="kind", config=SMALL, progress=False)
    cells.obs["some"] = cells.obs["kind"].where(np.arange(90) < 60)
    with pytest.raises(ValueError, match=r"Expected complete values in `adata.obs\['some'\]`, found 30 missing"):
        diffaug.tl.fit(cells, twin=True, groupby="some", config=SMALL, progress=False)
    with pytest.raises(KeyError, match="kinds"):
        diffaug.tl.fit(cells, twin=True, groupby="kinds", config=SMALL, progress=False)
    with pytest.raises(ValueError, match="own loop-off twin"):
        diffaug.tl.fit(cells, twin=True, view_rate=0.0, config=SMALL, progress=False)
    for obs, found in ({"one": "x"}, 1), ({"each": [f"c{i}" for i in range(90)]}, 0):
        (name,) = obs
        cells.obs[name] = obs[name]
        with pytest.raises(
            ValueError, match=rf"two classes of 5 cells or more in `adata.obs\['{name}'\]` .*found {found}\."
        ):
            diffaug.tl.fit(cells, twin=True, groupby=name, config=SMALL, progress=False)
    assert list(cells.obsm) == list(before.obsm)
    assert list(cells.uns) == list(before.uns)
    model = diffaug.tl.fit(cells, config=SMALL, progress=False)
    with pytest.raises(ValueError, match="Expected a model with its loop-off twin, found one without"):
        diffaug.tl.loop_gain(cells, model)
    with pytest.raises(TypeError, match="Expected `model` to be a fitted DiffAug, found str"):
        diffaug.tl.loop_gain(cells, "model")


def test_labels_that_cannot_judge_are_found_before_the_training(
    cells: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fit of hours must not end in an error about its judges."""

    def trained(*args: object, **more: object) -> None:
        raise AssertionError("trained")

    cells.obs["one"] = "x"
    monkeypatch.setattr(diffaug.DiffAug, "fit", trained)
    with pytest.raises(ValueError, match="Name a column of fewer and larger classes"):
        diffaug.tl.fit(cells, twin=True, groupby="one", config=SMALL, progress=False)
    with pytest.raises(AssertionError, match="trained"):  # the control: good labels get as far as that
        diffaug.tl.fit(cells, twin=True, groupby="kind", config=SMALL, progress=False)


def test_labels_are_counted_among_the_drawn_cells(cells: AnnData) -> None:
    drawn = np.random.default_rng(0).permutation(90)[:12]
    cells.obs["kind"] = np.where(np.isin(np.arange(90), drawn), "a", "b")  # none of "b" is drawn
    with pytest.raises(ValueError, match=r"found 1 among the 12 that are drawn"):
        label_values(cells, "kind", max_obs=12)
    assert label_values(cells, "kind").tolist() == cells.obs["kind"].tolist()


def test_few_cells(cells: AnnData) -> None:
    """Neighbourhoods follow the number of cells, and never hold all of them: any two embeddings would agree then."""
    model = diffaug.tl.fit(cells, twin=True, config=SMALL, progress=False)
    few = diffaug.tl.loop_gain(cells[:10], model)
    halves = model.split_half_overlap(cells[:10].X, k=4)
    assert few.loc["split_half_overlap", "model"] == pytest.approx(halves.mean())
    assert halves.mean() < 1 == model.split_half_overlap(cells[:10].X, k=9).mean()
    for max_obs in (10, 20):
        assert np.isfinite(diffaug.tl.loop_gain(cells, model, max_obs=max_obs)["difference"]).all()
    gain = diffaug.tl.loop_gain(cells[:16], model, groupby="kind")  # 12 cells vote at most
    hits = diffaug.metrics.row_hits(cells.obsm["X_diffaug"][:16], cells.obs["kind"][:16], probe="knn", k=12)
    assert gain.loc["knn", "model"] == pytest.approx(np.nanmean(hits))
    with pytest.raises(ValueError, match="Expected at least 3 cells to compare a model with its twin on, found 2"):
        diffaug.tl.loop_gain(cells[:2], model)


def test_twin_of_an_earlier_fit_goes_with_it(cells: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    """Or a model without a twin would stand beside that of another one; what is not of a fit stays."""
    cells.obsm["mine_twin"] = cells.X[:, :3].copy()
    cells.uns["mine"] = "a text"
    diffaug.tl.fit(cells, key_added="mine", config=SMALL, progress=False)
    diffaug.tl.fit(cells, twin=True, config=SMALL, progress=False)
    assert "X_diffaug_twin" in cells.obsm
    with caplog.at_level(logging.INFO, logger="diffaug"):
        diffaug.tl.fit(cells, config=SMALL, progress=False)
    assert "X_diffaug_twin" not in cells.obsm and "mine_twin" in cells.obsm
    assert "removed .obsm['X_diffaug_twin']" in caplog.text
    assert "loop_gain" not in cells.uns["diffaug"]


def test_a_loaded_model_says_that_it_has_no_twin(cells: AnnData, tmp_path: Path) -> None:
    diffaug.tl.fit(cells, twin=True, config=SMALL, progress=False).save(tmp_path / "model")
    with pytest.raises(ValueError, match="loaded from a folder has no twin"):
        diffaug.tl.loop_gain(cells, diffaug.DiffAug.load(tmp_path / "model"))
