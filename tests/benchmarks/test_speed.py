"""The benchmark of speed: what a row of a fit holds, and which rows the page shows, with which ratio."""

from __future__ import annotations

from pathlib import Path

import bench_speed as bench
import numpy as np
import pandas as pd
import pytest
from _common import Results
from anndata import AnnData
from scipy import sparse

N_OBS, N_VARS = 64, 24


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(0).poisson(1.0, (N_OBS, N_VARS)).astype(np.float32) + np.eye(
        N_OBS, N_VARS, dtype=np.float32
    )
    var = pd.DataFrame({"highly_variable": np.arange(N_VARS) % 2 == 0}, index=[f"g{i}" for i in range(N_VARS)])
    monkeypatch.setitem(bench.SETS, "small", lambda: AnnData(sparse.csr_matrix(np.log1p(counts)), var=var.copy()))
    monkeypatch.setitem(bench.FITS, "diffaug", {"n_encoders": 1, "max_epochs": 6})
    monkeypatch.setitem(bench.FITS, "embedding_only", {"n_encoders": 1, "n_cycles": 0, "max_epochs": 4})


def test_a_row_has_phases_rates_and_memory(small: None) -> None:
    row = bench.measure_fit("small", "diffaug", "cpu", 1, 1)
    phases = row["a_seconds"] + row["b_seconds"] + row["fill_seconds"]
    assert 0 < phases <= row["total_seconds"] and min(row["a_seconds"], row["b_seconds"], row["fill_seconds"]) > 0
    assert min(row["embed_per_second"], row["sample_per_second"], row["matmul_gflops"], row["peak_mb"]) > 0
    assert 0 < row["embed_share"] < 2 and 0 < row["sample_share"] < 2
    alone = bench.measure_fit("small", "embedding_only", "cpu", 1, 1)
    assert alone["b_seconds"] == alone["fill_seconds"] == 0 and "sample_per_second" not in alone


def test_settings_have_names_that_tell_them_apart() -> None:
    names = [bench.settings_of(method) for method in bench.SHOWN]
    assert len(set(names)) == len(names)


def test_cells_of_the_size_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = AnnData(sparse.csr_matrix(np.random.default_rng(0).poisson(3.0, (40, 60)).astype(np.float32)))
    monkeypatch.setattr(bench.diffaug.datasets, "load", lambda name: whole.copy())
    made = bench.resampled(100, 20)
    assert (
        made.n_obs == 100
        and made.var["highly_variable"].sum() == 20
        and set(np.unique(made.layers["counts"].data) % 1) == {0.0}
    )


def test_the_page_shows_rows_of_the_present_settings_beside_scvi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr("_common.RESULTS", tmp_path)
    monkeypatch.setattr(bench, "write_page", lambda name, text: written.update({name: text}))
    results = Results("speed", ("set", "method", "settings_hash", "device", "threads"))
    assert not bench.render(results)

    def keep(method: str, seconds: float, settings: str, **more: float) -> None:
        key = {"set": "a", "method": method, "settings_hash": settings, "device": "cpu", "threads": 1}
        results.once(lambda: {"total_seconds": seconds, "peak_mb": 900.0, "machine": "m", **more}, **key)

    keep("scvi", 200.0, bench.settings_of("scvi"))
    keep("diffaug", 150.0, bench.settings_of("diffaug"), sample_share=0.5)
    keep("diffaug", 777.0, "others")
    keep("scvi", 999.0, bench.settings_of("scvi"))  # is there already
    assert bench.render(results)
    page = written["speed"]
    assert "| a | DiffAug | 150 | 0.75 | – | – | – | 900 | – | – | – | 50 % |" in page
    assert "| a | scVI | 200 | 1.00 |" in page and "777" not in page and "999" not in page
