"""The benchmark of integration: its own score, who sees labels, and that it goes on where it stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bench_integration as bench
import numpy as np
import pandas as pd
import pytest
from _integration_methods import Made, Method
from anndata import AnnData

from diffaug import DiffAug

SETS = ("one", "two")


def test_mixing_is_within_types_that_several_batches_have() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 100)
    batches = np.where(np.arange(300) % 2 == 0, "x", "y")
    batches[labels == "c"] = "x"  # alone in its batch: whatever it does is no lack of mixing
    x = rng.normal(size=(300, 3)) + 50 * (labels == "b")[:, None]
    assert bench.mixing_within(x, labels, batches) > 0.95
    apart = x + 100 * ((batches == "y") & (labels == "a"))[:, None]
    assert bench.mixing_within(apart, labels, batches) == pytest.approx(0.5, abs=0.03)
    assert np.isnan(bench.mixing_within(x, labels, np.full(300, "x")))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int]]:
    """Two small sets and two methods that note their calls, in a folder of their own."""
    made: list[tuple[str, int]] = []

    def cells_of(name: str, max_obs: int, n_top_genes: int) -> AnnData:
        obs = pd.DataFrame(
            {"label": pd.Categorical(["u", "v"] * 40), "batch": pd.Categorical(np.repeat(["x", "y"], 40))}
        ).set_axis([str(i) for i in range(80)])
        x = np.random.default_rng(SETS.index(name)).normal(size=(80, 6)).astype(np.float32)
        x[::2] += 4
        return AnnData(x, obs=obs)

    def embed(name: str, noise: float) -> Any:
        def run(cells: AnnData, seed: int) -> dict[str, Made]:
            assert "label" not in cells.obs
            made.append((name, seed))
            rng = np.random.default_rng(seed)
            lines = {"model": Made(cells.X + noise * rng.normal(size=cells.shape), 2.0)}
            return lines if name == "peer" else {**lines, "twin": Made(cells.X, 1.0)}

        return run

    methods = {
        "pca": Method(embed("peer", 3.0), {"model": "Peer"}, stochastic=False),
        "diffaug": Method(embed("ours", 0.1), {"twin": "DiffAug, loop off", "model": "DiffAug"}),
    }
    monkeypatch.setattr(bench, "METHODS", methods)
    monkeypatch.setattr("_integration_methods.METHODS", methods)
    monkeypatch.setattr(bench, "cells_of", cells_of)
    monkeypatch.setattr("_common.RESULTS", tmp_path)
    monkeypatch.setattr("_common.PAGES", tmp_path)
    monkeypatch.setattr(bench, "scib_scores", lambda *_: {"Bio conservation": 0.5, "Batch correction": 0.25})
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["bench", "--sets", *SETS, "--methods", "pca", "diffaug", "--seeds", "2"])
    return made


def test_it_goes_on_where_it_stopped(calls: list[tuple[str, int]], tmp_path: Path) -> None:
    assert bench.main() == 0
    assert calls == [("peer", 0), ("ours", 0), ("peer", 0), ("ours", 0), ("ours", 1), ("ours", 1)]
    page = (tmp_path / "integration.md").read_text()
    assert "| DiffAug minus Peer | +0." in page  # a method without seeds stands for each of them
    assert page.count("| DiffAug, loop off | 2 |") == 1
    assert bench.main() == 0
    assert len(calls) == 6
    assert (tmp_path / "integration.md").read_text() == page


def test_mixtures_lead_to_the_cells_that_views_are_drawn_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lies between its cell and one of another batch; a cell that finds none keeps hand-made views."""
    import _integration_methods as methods
    import torch
    from small_cells import CONFIG, expression

    x, batch = expression(90), np.arange(90) // 3 % 2
    banks: list[torch.Tensor] = []
    real = methods.filled_bank

    def spy(*args: Any) -> Any:
        banks.append(real(*args).views)
        return real(*args)

    monkeypatch.setattr(methods, "filled_bank", spy)
    monkeypatch.setattr("diffaug._model_fit.Trainer", methods.NearMixtures)
    model = DiffAug(CONFIG, device="cpu").fit(x, batch=batch, progress=False)
    cells, views = model.backend.to_model(x), banks[0]
    # A point between two cells: the way over it is no longer than the way between them.
    there = torch.cdist(cells, views[:, 0]) + torch.cdist(cells, views[:, 0])[range(90), range(90)][None, :]
    across = torch.as_tensor(batch)[:, None] != torch.as_tensor(batch)[None, :]
    between = ((there - torch.cdist(cells, cells)).abs() < 1e-3) & across
    assert between.any(dim=0).double().mean() > 0.3
    assert [r.view_rate for r in model.history if r.phase == "fill"] == [0.5]
