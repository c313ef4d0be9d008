"""Rows of the smaller benchmarks: kept one by one, never two protocols under one name; and their pages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import _common
import pandas as pd
import pytest

from diffaug.baselines import METHODS
from diffaug.reproduce._rivals import rival

SCRIPTS = Path(_common.__file__).parent


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(_common, "RESULTS", tmp_path)
    return lambda: _common.Results("r", ("set", "seed"))


def test_a_row_is_measured_once(results: Any) -> None:
    calls = []

    def measure() -> dict[str, Any]:
        calls.append(1)
        return {"score": 1 / 3}

    for _ in range(2):
        results().once(measure, settings={"max": None}, set="a", seed=0)
    results().once(measure, settings={"max": None}, set="a", seed=1)
    table = results().table
    assert len(calls) == 2 and table["seed"].tolist() == ["0", "1"]
    assert table["settings"].tolist() == ['{"max": null}'] * 2
    assert table["score"].tolist() == [0.333333] * 2


def test_a_row_of_other_settings_is_refused(results: Any) -> None:
    results().once(lambda: {"score": 1.0}, settings={"max": 100}, set="a", seed=0)
    with pytest.raises(ValueError, match=r'with settings \{"max": 200\} in r.csv, found \{"max": 100\}'):
        results().once(lambda: {"score": 2.0}, settings={"max": 200}, set="a", seed=0)
    assert results().table["score"].tolist() == [1.0]


def test_a_killed_run_leaves_whole_rows(results: Any, tmp_path: Path) -> None:
    results().once(lambda: {"score": 1.0}, set="a", seed=0)

    def killed() -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results().once(killed, set="a", seed=1)
    assert results().has(set="a", seed=0) and not results().has(set="a", seed=1)
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]


def test_columns_may_be_added(results: Any) -> None:
    """A new version of a script: earlier rows keep their numbers in their columns."""
    results().once(lambda: {"score": 1.0, "n": 3}, set="a", seed=0)
    results().once(lambda: {"n": 5, "more": 7.0, "score": 2.0}, set="a", seed=1)
    table = results().table
    assert table.columns.tolist() == ["set", "seed", "score", "n", "more"]
    assert table[["score", "n"]].to_numpy().tolist() == [[1, 3], [2, 5]]
    assert pd.isna(table["more"][0]) and table["more"][1] == 7


def test_every_row_of_the_scripts_has_a_meaning() -> None:
    import bench_dna
    import bench_vision

    for module, others in (
        (bench_vision, {"raw", "random", "loop_off", "diffaug"}),
        (bench_dna, {*bench_dna.SUPERVISED, "random", *bench_dna.OURS}),
    ):
        names = getattr(module, "METHODS", None) or (*module.SUPERVISED, *module.FROZEN)
        assert {n for n in names if rival(n) is None} == others
        learners = {found.learner for n in names if (found := rival(n)) is not None}
        assert learners == set(METHODS) - {"dlme"}
        sources = {found.source for n in names if (found := rival(n)) is not None}
        assert {"vae", "gan", "diffaug", "mixup"} <= sources
        assert {"byol+", "simsiam+"} <= set(names)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["bench_dna.py", "bench_vision.py"])
def test_a_script_runs_from_end_to_end(script: str) -> None:
    """Smoke test: every row once, and the page."""
    done = subprocess.run([sys.executable, SCRIPTS / script, "--smoke"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    page = Path(done.stdout.splitlines()[-1].removeprefix("wrote ")).read_text(encoding="utf-8")
    for row in ("dino", "simclr + vae", "simclr + gan", "byol+", "simsiam+", "diffaug"):
        assert f" {row} |" in page


def test_a_mean_over_sets_is_over_all_of_them() -> None:
    import bench_dna

    rows = [("random", "a", 0, 0.5), ("random", "b", 0, 0.6), ("byol", "a", 0, 0.7), ("byol", "a", 1, 0.8)]
    text = bench_dna.scores(pd.DataFrame(rows, columns=["method", "set", "seed", "accuracy"]), "accuracy")
    assert text.splitlines()[2:] == ["| random | 50.0 | 60.0 | 55.0 |", "| byol | 75.0 ± 7.1 | - | - |"]
