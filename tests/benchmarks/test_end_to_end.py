"""The command as a user runs it, killed and run again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import bench_embeddings
import pandas as pd
import pytest
from harness.protocols import PROTOCOLS
from peers import PEERS

ROOT = Path(__file__).parents[2]


def command(folder: Path, *more: str) -> list[str]:
    return [
        sys.executable, str(ROOT / "benchmarks" / "bench_embeddings.py"), "--sets", "pbmc68k_reduced_scanpy",
        "--methods", "raw", "pca50", "random_encoder", "--seeds", "2", "--max-obs", "200", "--n-top-genes", "50",
        "--protocols", "linear", "knn", "kmeans", "stability", "--cache", str(folder / "cache"), "--out", str(folder), *more,
    ]  # fmt: skip


def call(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *more), capture_output=True, text=True, env=environment(), check=False)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def scores(folder: Path) -> pd.DataFrame:
    """What does not depend on the hour or the load of the machine."""
    table = pd.read_parquet(folder / "results" / "embeddings.parquet")
    return table[table["protocol"] != "compute"].drop(columns="date").reset_index(drop=True)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command in this process, for what ends before any work."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "1")

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments, "--out", str(tmp_path), "--cache", str(tmp_path / "c")])
        return bench_embeddings.main()

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "pca"], "Expected methods among .*found 'pca'"),
        (["--redo", "pca"], "Expected methods among .*found 'pca'"),
        (["--protocols", "lda"], "Expected protocols among .*found 'lda'"),
        (["--seeds", "0"], "--seeds, --jobs and --threads of at least 1"),
        (["--sets", "paul_15"], "Did you mean 'paul15'"),
    ],
)
def test_wrong_use_ends_before_the_work(
    script: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert script(*arguments) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_the_list_has_every_method_and_protocol(script: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert script("--list") == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", shown, flags=re.MULTILINE) for name in (*PEERS, *PROTOCOLS))


def test_the_page_names_the_call_without_this_machine() -> None:
    args = bench_embeddings.parser().parse_args(
        ["--sets", "a", "b", "--seeds", "3", "--jobs", "4", "--cache", "/home/me"]
    )
    assert bench_embeddings.command(args) == (
        "DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_embeddings.py --sets a b --seeds 3"
    )


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (ROOT / "benchmarks" / "ablations.toml", "benchmarks/ablations.toml"),  # as it is called from the checkout
        ("/home/me/mine.toml", "mine.toml"),
    ],
)
def test_the_page_names_the_variants(file: str | Path, said: str) -> None:
    args = bench_embeddings.parser().parse_args(["--variants", str(file)])
    assert bench_embeddings.command(args).endswith(f"bench_embeddings.py --variants {said}")


@pytest.mark.slow
def test_killed_and_run_again(tmp_path: Path) -> None:
    """SIGKILL while scoring; what comes of the second run is what comes of one run in one go."""
    pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra `bench` brings")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = call(whole)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 runs are open" in done.stderr

    begun = subprocess.Popen(command(parts), env=environment(), stderr=subprocess.DEVNULL)
    rows = parts / "cache" / "rows"
    end = time.monotonic() + 120
    while len(list(rows.rglob("[0-9]*.json"))) < 5:
        assert begun.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    assert not (parts / "results").exists()
    kept = {file: file.stat().st_mtime_ns for file in parts.rglob("[0-9]*.npz")}
    assert 0 < len(kept) < 4

    again = call(parts)
    assert again.returncode == 0, again.stderr
    assert "4 of 4 runs are open" not in again.stderr
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "an embedding was computed twice"
    pd.testing.assert_frame_equal(scores(parts), scores(whole))
    assert "0 of 4 runs are open" in call(parts).stderr
    assert (parts / "embeddings.md").read_text().count("Random encoder") > 3
