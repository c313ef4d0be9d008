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
from peers._registry import Made
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
    loaded.X = sparse.vstack([sparse.csr_matrix((1, N_VARS), dtype=np.float32), loaded.X[1:]]).tocsr()  # an empty cell
    kind = loaded.obs["cell_type"].astype(int).to_numpy()[1:]
    noise = np.random.default_rng(0).normal(size=(N_OBS - 1, 3))

    def fitted(adata: AnnData, seed: int, *, max_epochs: int | None = None) -> dict[str, Made]:
        assert adata.shape == (N_OBS - 1, 30) and adata.obs.empty  # no label reaches the fit
        return {"twin": Made(noise), "model": Made(np.eye(3)[kind] + 0.01 * noise, readings={"view_rate": 0.5})}

    monkeypatch.setattr(bench, "COUNTS", 60)
    monkeypatch.setattr(bench, "diffaug_and_twin", fitted)
    found = bench.measure("any", 0)
    assert found["n_obs"] == N_OBS - 1 and found["own_counts"] > found["counts"] and found["view_rate"] == 0.5
    assert found["model_knn"] == found["model_linear"] == found["model_kmeans"] == 1
    assert max(found["twin_knn"], found["twin_linear"], found["twin_kmeans"]) < 0.6


def test_a_fit_of_the_library_is_what_is_measured(loaded: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "COUNTS", 60)
    found = bench.measure("any", 0, max_epochs=6)
    again = bench.measure("any", 0, max_epochs=6)
    assert found == again and {"twin_knn", "model_knn", "view_rate"} <= set(found)


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
            settings=bench.THINNING, set=name, seed=0, settings_hash="h",
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
    rows.once(lambda: {"view_rate": 1.0, **scores}, settings={"counts": 9}, set="a", seed=0, settings_hash="h")
    rows.once(lambda: {"view_rate": 1.0, **scores}, settings=bench.THINNING, set="a", seed=1, settings_hash="h")
    bench.render(bench.table(rows, "h"))  # other thinnings, and seeds without rows at the own depth, are left out
    page = written["depth"]
    assert "1 seed(s)" in page
    assert "| b | 300 → 75 | 0.25 → 1.00 | 0.600 → 0.500 | +0.00 → +4.00 | +0.00 → +4.00 | +0.00 → +4.00 |" in page
    assert page.index("| b |") < page.index("| a |")
    # 2 and 4 points more: mean 3, standard error 1, and Student's t with one degree of freedom is 12.706.
    assert "| thinned less own depth | +3.00 [-9.71, 15.71] |" in page
