"""The benchmark of depth: which counts are left, and what the page makes of the gains."""

from __future__ import annotations

from pathlib import Path

import bench_depth as bench
import numpy as np
import pandas as pd
import pytest
from _common import Results
from anndata import AnnData
from harness.summary import NATIVE, OURS, RATE, TWIN
from scipy import sparse

N_OBS, N_VARS = 120, 60


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> AnnData:
    rng = np.random.default_rng(0)
    kind = np.arange(N_OBS) % 3
    mean = np.full((N_OBS, N_VARS), 5.0)
    mean[:, :6] *= np.where(np.arange(6) % 3 == kind[:, None], 3.0, 1.0)
    obs = pd.DataFrame({"cell_type": kind.astype(str)}, index=[str(i) for i in range(N_OBS)])
    adata = AnnData(sparse.csr_matrix(rng.poisson(mean).astype(np.float32)), obs=obs)

    class Manifest:
        label_key, kind = "cell_type", "counts"

    monkeypatch.setattr(bench.diffaug.datasets, "load", lambda name: adata.copy())
    monkeypatch.setattr(bench.diffaug.datasets, "manifest", lambda name: Manifest())
    monkeypatch.setattr(bench, "N_TOP_GENES", 30)
    return adata


def test_each_count_is_kept_with_one_probability(loaded: AnnData) -> None:
    cells, own = bench.thinned("any", 40)
    assert own > 100 and abs(bench.depth(cells) - 40) < 15  # other genes may be chosen, with other counts
    genes, left = cells.var_names, cells.layers["counts"]
    before = loaded[cells.obs_names, genes].X
    assert (left.toarray() <= before.toarray()).all() and (left.data % 1 == 0).all()
    assert abs(left.sum() / before.sum() - 40 / own) < 0.03
    again, _ = bench.thinned("any", 40)
    assert (again.layers["counts"] != left).nnz == 0


def test_a_set_without_so_many_counts_is_refused(loaded: AnnData) -> None:
    with pytest.raises(ValueError, match=r"more than 5000 counts a cell, found .* in any"):
        bench.thinned("any", 5000)


def test_model_and_twin_are_judged_on_the_thinned_cells(loaded: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "COUNTS", 60)
    found = bench.measure("any", 0, max_epochs=6)
    assert found["n_obs"] == N_OBS and found["own_counts"] > found["counts"]
    scores = [found[f"{line}_{score}"] for line in ("model", "twin") for score in ("linear", "knn", "kmeans")]
    assert all(0.2 < s <= 1 for s in scores) and 0 <= found["view_rate"] <= 1


def test_the_page_sets_both_depths_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr("_common.RESULTS", tmp_path)
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    monkeypatch.setattr(bench, "write_page", lambda name, text: written.update({name: text}))
    rows = Results("depth", ("set", "seed", "settings_hash"))
    whole = []
    for name, own, thin in (("a", 0.01, 0.03), ("b", 0.0, 0.04)):
        scores = {f"{line}_{s}": 0.5 + thin * (line == "model") for line in ("model", "twin") for s in ("linear", "knn", "kmeans")}  # fmt: skip
        rows.once(
            lambda s=scores, n=name: {"own_counts": 900 if n == "a" else 300, "counts": 75, "view_rate": 1.0, **s},
            set=name, seed=0, settings_hash="h",
        )  # fmt: skip
        base = {"set": name, "max_obs": 2000, "n_top_genes": 500, "settings_hash": "h", "seed": 0, "stochastic": True}
        for score in NATIVE:
            for method in (OURS, TWIN):
                value = 0.6 + own * (method == OURS)
                whole.append(
                    {**base, "method": method, "protocol": score.protocol, "metric": score.metric, "value": value}
                )
        whole.append({**base, "method": OURS, "protocol": RATE.protocol, "metric": RATE.metric, "value": 0.25})
    pd.DataFrame(whole).to_parquet(tmp_path / "embeddings.parquet")
    bench.render(rows, "h")
    page = written["depth"]
    assert "| b | 300 → 75 | 0.25 → 1.00 | 0.600 → 0.500 | +0.00 → +4.00 | +0.00 → +4.00 | +0.00 → +4.00 |" in page
    assert page.index("| b |") < page.index("| a |")
    # 2 and 4 points more: mean 3, standard error 1, and Student's t with one degree of freedom is 12.706.
    assert "| thinned less own depth | +3.00 [-9.71, 15.71] |" in page
