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
    monkeypatch.setattr(bench, "REPEATS", 1)
    monkeypatch.setattr(bench.torch, "set_num_threads", lambda n: None)  # this process goes on after it
    monkeypatch.setitem(bench.SETS, "small", lambda: AnnData(sparse.csr_matrix(np.log1p(counts)), var=var.copy()))
    monkeypatch.setitem(bench.FITS, "diffaug", {"n_encoders": 1, "max_epochs": 6})
    monkeypatch.setitem(bench.FITS, "embedding_only", {"n_encoders": 1, "n_cycles": 0, "max_epochs": 4})


def test_a_row_has_phases_rates_and_memory(small: None) -> None:
    row = bench.measure("small", "diffaug", "cpu", 1)
    phases = row["a_seconds"] + row["b_seconds"] + row["fill_seconds"]
    assert 0 < phases <= row["total_seconds"] and min(row["a_seconds"], row["b_seconds"], row["fill_seconds"]) > 0
    assert min(row["embed_per_second"], row["sample_per_second"], row["matmul_gflops"], row["peak_mb"]) > 0
    assert 0 < row["embed_share"] < 2 and 0 < row["sample_share"] < 2
    alone = bench.measure("small", "embedding_only", "cpu", 1)
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
    results = Results("speed", ("set", "method", "settings_hash", "machine", "threads"))
    assert not bench.render(results)

    def keep(method: str, seconds: float, settings: str, machine: str = "m", **more: float) -> None:
        key = {"set": "a", "method": method, "settings_hash": settings, "machine": machine, "threads": 1}
        results.once(lambda: {"total_seconds": seconds, "peak_mb": 900.0, "versions": "v 1", **more}, **key)

    keep("diffaug", 777.0, "others")
    assert not bench.render(results)
    keep("scvi", 200.0, bench.settings_of("scvi"))
    keep("diffaug", 150.0, bench.settings_of("diffaug"), sample_share=0.5)
    keep("scvi", 999.0, bench.settings_of("scvi"))  # is there already
    keep("diffaug", 10.0, bench.settings_of("diffaug"), "a card", gpu_peak_mb=50.0)
    assert bench.render(results)
    page = written["speed"]
    assert "| a | DiffAug | 150 | 0.75 | – | – | – | 900 | – | – | – | – | 50 % |" in page
    assert "| a | scVI | 200 | 1.00 |" in page and "777" not in page and "999" not in page
    assert page.index("## m, 1 thread") < page.index("| a | scVI") < page.index("## a card, 1 thread")
    assert page.index("## a card") < page.index("| a | DiffAug | 10 | – | – | – | – | 900 | 50 |")


def test_it_goes_on_where_it_stopped_and_says_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def measured(name: str, method: str, device: str, threads: int) -> dict[str, object]:
        asked.append(method)
        if method == "embedding_only":
            raise bench.ChildFailed("no memory")
        return {"total_seconds": 1.0, "peak_mb": 2.0, "versions": "v"}

    for module in ("_common.RESULTS", "_common.PAGES"):
        monkeypatch.setattr(module, tmp_path)
    monkeypatch.setattr(bench, "measured_apart", measured)
    monkeypatch.setattr("sys.argv", ["bench_speed.py", "--methods", "diffaug", "embedding_only"])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    assert bench.main() == 1 and "kang_pbmc, embedding_only: no memory" in capsys.readouterr().err
    assert bench.main() == 1 and asked == ["diffaug", "embedding_only", "embedding_only"]
    assert "| kang_pbmc | DiffAug | 1 |" in (tmp_path / "speed.md").read_text()
    monkeypatch.setattr("sys.argv", ["bench_speed.py", "--render"])
    assert bench.main() == 0 and len(asked) == 3


def test_the_costs_of_one_run_are_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_common.RESULTS", tmp_path)
    assert bench.one_run() == ""
    base = {
        "set": "a",
        "n_obs": 2000,
        "n_features": 500,
        "settings_hash": "h",
        "seed": 0,
        "machine": "m",
        "threads": 1,
        "date": "2026",
    }
    rows = [
        {**base, "method": m, "shown": m.upper(), "protocol": p, "metric": k, "value": v, "error": e}
        for m, s, e in (("slow", 90.0, ""), ("fast", 1.25, ""), ("broken", 1.0, "no memory"))
        for p, k, v in (
            ("compute", "seconds", s),
            ("compute", "peak_mb", 1200.0),
            ("compute", "base_mb", 400.0),
            ("knn", "accuracy", 0.5),
        )
    ]
    (tmp_path / "results").mkdir()
    pd.DataFrame(rows).to_parquet(tmp_path / "results" / "embeddings.parquet")
    bench.keep_one_run(tmp_path)
    page = bench.one_run()
    assert "a, 2,000 cells x 500 genes, m with 1 thread(s)" in page and "BROKEN" not in page
    assert page.index("| FAST | 1.2 | 1,200 | 800 |") < page.index("| SLOW | 90.0 | 1,200 | 800 |")


def test_the_functions_that_a_process_is_asked_for_are_there() -> None:
    """They go to it by name: a fit of the set without cells fails in it, and not for want of a function."""
    for method in ("diffaug", "scvi"):
        with pytest.raises(bench.ChildFailed, match="KeyError|ModuleNotFoundError.*scvi"):
            bench.measured_apart("no such set", method, "cpu", 1)
