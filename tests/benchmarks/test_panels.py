"""The benchmark of panels: which genes and cells are a panel, and what scaling to a total does to their neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bench_panels as bench
import numpy as np
import pandas as pd
import pytest
from _common import Results
from anndata import AnnData
from scipy import sparse


def counts_of(n_vars: int, n_obs: int = 240) -> AnnData:
    """Cells of three types that differ in how much of a few genes they have, and not in which."""
    rng = np.random.default_rng(0)
    kind = np.arange(n_obs) % 3
    mean = np.full((n_obs, n_vars), 4.0)
    mean[:, :6] *= np.where(np.arange(6) % 3 == kind[:, None], 3.0, 1.0)
    obs = pd.DataFrame({"cell_type": kind.astype(str)}, index=[str(i) for i in range(n_obs)])
    return AnnData(sparse.csr_matrix(rng.poisson(mean).astype(np.float32)), obs=obs)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> AnnData:
    adata = counts_of(120)

    class Manifest:
        label_key = "cell_type"

    monkeypatch.setattr(
        bench.diffaug.datasets, "load", lambda name: adata[:, :30].copy() if name == "panel" else adata.copy()
    )
    monkeypatch.setattr(bench.diffaug.datasets, "manifest", lambda name: Manifest())
    return adata


def test_a_panel_is_all_of_a_panel_or_the_genes_that_vary_most(loaded: AnnData) -> None:
    counts, labels = bench.panel("panel", 50)
    assert counts.shape == (240, 30) and len(labels) == 240
    assert bench.panel("panel", 150) is None and bench.panel("wide", 150) is None
    made, _ = bench.panel("wide", 50)
    assert made.n_vars == 50 and len(set(made.var_names) & {str(i) for i in range(6)}) >= 5
    assert (np.asarray(made.X.sum(axis=1)) > 0).all() and (made.X.data % 1 == 0).all()


def test_scores_are_of_the_total_that_was_asked_for(loaded: AnnData) -> None:
    counts, labels = bench.panel("panel", 50)
    found = {total: bench.measure(counts, labels, total) for total in bench.TOTALS}
    assert found["median"]["counts"] == np.median(np.asarray(counts.X.sum(axis=1)))
    assert len({f["knn"] for f in found.values()}) > 1  # else the total would do nothing
    assert all(0.4 < f["knn"] <= 1 and 0.4 < f["linear"] <= 1 for f in found.values())  # a third by chance
    assert counts.X.data.max() == int(counts.X.data.max())  # the counts are as they were


def test_the_page_has_the_difference_of_made_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr("_common.RESULTS", tmp_path)
    monkeypatch.setattr(bench, "write_page", lambda name, text: written.update({name: text}))
    results = Results("panels", ("set", "size", "total"))
    score: dict[str, Any] = {"osmfish_ssctx": 0.3, "paul15": 0.02, "mca_bladder": 0.04}
    for name, gain in score.items():
        for total in bench.TOTALS:
            value = 0.5 + gain * (total == "median")
            results.once(lambda v=value: {"knn": v, "linear": v, "counts": 99.0}, set=name, size=50, total=total)
    bench.render(results)
    # Gains of 2 and 4 points: mean 3, standard error 1, and Student's t with one degree of freedom is 12.706.
    assert "+3.0 [-9.7, 15.7], 2 of 2 sets" in written["panels"]
    assert "| osmfish_ssctx | 99 | 0.5 | 0.8 | 0.5 | 0.5 | 0.8 | 0.5 |" in written["panels"]
