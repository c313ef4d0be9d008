"""The timing of the report at a tiny size: what is drawn, what is kept, and what the page says."""

from __future__ import annotations

from pathlib import Path

import _common
import bench_report
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData


def cells(n_genes: int) -> AnnData:
    rng = np.random.default_rng(0)
    types = np.resize(["a", "b"], 200)
    mean = rng.gamma(2.0, 4.0, size=(2, n_genes))[(types == "b").astype(int)]
    obs = pd.DataFrame({"cell_type": types}, index=[f"c{i}" for i in range(200)])
    return AnnData(sp.csr_matrix(rng.poisson(mean).astype(np.float32)), obs=obs)


def test_drawn_cells_have_half_of_the_counts_and_the_types_of_their_cells() -> None:
    full, half = cells(30), bench_report.drawn(cells(30), 4000, "train", 1)
    assert half.shape == (4000, 30) and half.obs["donor"].nunique() == 10
    for t in "ab":
        one, other = (a[(a.obs["cell_type"] == t).to_numpy()].X.toarray().mean(axis=0) for a in (full, half))
        np.testing.assert_allclose(other, one / 2, rtol=0.15)


def test_rows_are_kept_and_the_page_tells_the_goal_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(_common, "PAGES", tmp_path)
    monkeypatch.setattr(bench_report, "real_cells", cells)
    bench_report.main(["--n-obs", "160", "--n-genes", "20", "--repeats", "1"])
    table = pd.read_csv(tmp_path / "results" / "report.csv")
    assert table["setting"].tolist() == ["cells", "donors"] and (table["seconds"] > 0).all()
    text = (tmp_path / "report.md").read_text()
    assert "were not timed" in text and "types, ten donors a side, unseen cells" in text
    monkeypatch.setattr(bench_report, "measure", lambda *_: pytest.fail("a row that is there is not measured again"))
    bench_report.main(["--n-obs", "160", "--n-genes", "20", "--repeats", "1"])
    table = table.assign(n_obs=20_000, n_genes=2000, most_seconds=[90.0, 130.4])
    table.to_csv(tmp_path / "results" / "report.csv", index=False)
    bench_report.main(["--render"])
    assert "is 120 s; the slowest run here took 130 s." in (tmp_path / "report.md").read_text()


def test_no_rows_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="Expected rows to write a page from"):
        bench_report.main(["--render"])
    with pytest.raises(SystemExit):
        bench_report.main(["--repeats", "0"])
