"""The loop-off twin beside the model, on AnnData."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from torch import Tensor, nn

import diffaug
from diffaug.core.networks import Encoding
from diffaug.tl._twin import compare_with_twin

SMALL = {
    "training": {"warmup_epochs": 3, "generator_epochs": 3, "mixed_epochs": 3, "batch_size": 32, "view_rate": 0.5},
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
    for name in gain.index:
        assert any(f"by {name}:" in r.getMessage() for r in caplog.records)


def test_difference_is_that_of_the_two_embeddings(cells: AnnData) -> None:
    model = diffaug.tl.fit(cells, twin=True, config=SMALL, progress=False)
    gain = diffaug.tl.loop_gain(cells, model, groupby="kind")
    assert gain.index.tolist() == ["split_half_overlap", "linear", "knn"]
    assert gain["labelled"].tolist() == [False, True, True]
    for probe in ("linear", "knn"):
        for column, key in (("model", "X_diffaug"), ("twin", "X_diffaug_twin")):
            hits = diffaug.metrics.row_hits(cells.obsm[key], cells.obs["kind"], probe=probe)
            assert gain.loc[probe, column] == pytest.approx(hits.mean())
    np.testing.assert_allclose(gain["difference"], gain["model"] - gain["twin"], atol=1e-12)
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
    assert (gain["low"] > 0).all()


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
    assert list(cells.obsm) == list(before.obsm)
    assert list(cells.uns) == list(before.uns)
    model = diffaug.tl.fit(cells, config=SMALL, progress=False)
    with pytest.raises(ValueError, match="Expected a model with its loop-off twin, found one without"):
        diffaug.tl.loop_gain(cells, model)
    with pytest.raises(TypeError, match="Expected `model` to be a fitted DiffAug, found str"):
        diffaug.tl.loop_gain(cells, "model")
