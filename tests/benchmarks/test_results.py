"""Rows of the smaller benchmarks: kept one by one, those of other settings apart; and their pages."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _common
import pandas as pd
import pytest

from diffaug.baselines import METHODS
from diffaug.core.storage import written_file
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


def test_rows_of_other_settings_stand_beside_each_other(results: Any) -> None:
    for most in (100, 200, 100):
        results().once(lambda n=most: {"score": n / 100}, settings={"max": most}, set="a", seed=0)
    assert results().table["score"].tolist() == [1.0, 2.0]
    assert results().has({"max": 200}, set="a", seed=0) and not results().has({"max": 300}, set="a", seed=0)


def test_rows_of_two_processes_are_all_kept(results: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file is written anew with each row: a slow disk would lose those of another process, were there no lock."""

    @contextmanager
    def slow(file: Path) -> Iterator[Path]:
        with written_file(file) as fresh:
            time.sleep(0.02)
            yield fresh

    monkeypatch.setattr(_common, "written_file", slow)
    each = [results() for _ in range(4)]  # as four processes have: nothing is shared but the file

    def write(i: int) -> None:
        for seed in range(4):
            each[i].once(lambda: {"score": 1.0}, set=f"s{i}", seed=seed)

    with ThreadPoolExecutor(len(each)) as pool:
        list(pool.map(write, range(len(each))))
    table = results().table
    assert sorted(zip(table["set"], table["seed"], strict=True)) == [
        (f"s{i}", str(j)) for i in range(4) for j in range(4)
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]


def test_a_row_that_another_process_has_written_meanwhile_is_not_doubled(results: Any) -> None:
    mine, other, calls = results(), results(), []

    def measure() -> dict[str, Any]:
        other.once(lambda: {"score": 1.0}, settings={"max": 1}, set="a", seed=0)
        return {"score": 2.0}

    mine.once(measure, settings={"max": 1}, set="a", seed=0)
    assert mine.table["score"].tolist() == [1.0]
    results().once(lambda: {"score": 1.0}, settings={"max": 1}, set="a", seed=1)
    mine.once(lambda: {"score": calls.append(1) or 2.0}, settings={"max": 1}, set="a", seed=1)
    assert not calls and len(mine.table) == 2  # it looks into the file before it measures


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
    assert "random condition" in page and "training " in page  # the control, and what all were given


# --- pages -----------------------------------------------------------------------------------------------------------


def accuracies(*rows: tuple[str, str, int, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["method", "set", "seed", "accuracy"])
    return table.assign(seed=table["seed"].astype(str), linear=table["accuracy"], kmeans=table["accuracy"])


def test_a_mean_over_sets_is_over_all_of_them() -> None:
    import bench_dna

    table = accuracies(("random", "a", 0, 0.5), ("random", "b", 0, 0.6), ("byol", "a", 0, 0.7), ("byol", "a", 1, 0.8))
    assert bench_dna.scores(table, "accuracy").splitlines() == [
        "| method | a | b | mean | seeds |",
        "| --- | --- | --- | --- | --- |",
        "| random | 50.0 | 60.0 | 55.0 | 1 |",
        "| byol | 75.0 | - | - | 2 |",
    ]


def test_differences_are_paired_over_seeds() -> None:
    """Seeds differ by tens of points, the pairs by one to three: t(0.975, 2) = 4.3027, so 2 +- 4.3027 / sqrt(3)."""
    levels, gains = (0.2, 0.5, 0.8), (0.01, 0.03, 0.02)
    rows = [("a", "x", i, level) for i, level in enumerate(levels)]
    rows += [("b", "x", i, level + gain) for i, (level, gain) in enumerate(zip(levels, gains, strict=True))]
    found = _common.differences(accuracies(*rows[::-1]), "method", "accuracy", [("b", "a"), ("a", "b"), ("b", "c")])
    assert found.index.tolist() == ["*b* less *a*", "*a* less *b*"]
    assert found["x"].tolist() == ["+2.00 [-0.48, +4.48]", "-2.00 [-4.48, +0.48]"]
    assert found[_common.OVER_SETS].tolist() == ["+2.00 (one set, no interval)", "-2.00 (one set, no interval)"]


def test_differences_over_sets_take_each_set_once() -> None:
    """x with three seeds counts as y with one; of two sets t(0.975, 1) = 12.706."""
    rows = [(m, "x", seed, 0.5 + 0.02 * (m == "b")) for m in "ab" for seed in range(3)]
    rows += [("a", "y", 0, 0.5), ("b", "y", 0, 0.54), ("a", "y", 1, 0.9), ("a", "z", 0, 0.1)]
    found = _common.differences(accuracies(*rows), "method", "accuracy", [("b", "a")]).iloc[0]
    assert found.to_dict() == {
        "x": "+2.00 [+2.00, +2.00]",
        "y": "+4.00 (one seed, no interval)",
        "z": "-",
        _common.OVER_SETS: "+3.00 [-9.71, +15.71], 2 sets",
    }


def test_a_row_without_a_random_part_stands_for_every_seed() -> None:
    table = accuracies(("raw", "x", 0, 0.5), ("a", "x", 0, 0.6), ("a", "x", 1, 0.7), ("a", "x", 2, 0.8))
    pair = [("a", "raw")]
    fixed = _common.differences(table, "method", "accuracy", pair, fixed=("raw",))
    assert fixed["x"].tolist() == ["+20.00 [-4.84, +44.84]"]
    assert _common.differences(table, "method", "accuracy", pair)["x"].tolist() == ["+10.00 (one seed, no interval)"]


@pytest.mark.parametrize(
    ("n_seeds", "said"), [(1, "-1.00 (one seed, no interval)"), (2, "-1.00 [-1.00, -1.00]")], ids=["one", "two"]
)
def test_pages_of_rows_say_what_has_no_interval(n_seeds: int, said: str) -> None:
    import bench_dna
    import bench_vision

    def rows(twin: str) -> pd.DataFrame:
        scores = {"diffaug": 0.5, twin: 0.51, "simclr+": 0.53, "simclr + vae": 0.54}
        return accuracies(*((m, "x", seed, score) for m, score in scores.items() for seed in range(n_seeds)))

    sequences = bench_dna.gains(rows("loop off"))
    assert "| set | *diffaug* less *loop off* | *simclr+* less *simclr + vae* |" in sequences
    assert f"| x | {said} | {said} |" in sequences
    assert "| *diffaug* less *simclr + vae* | -4.00 (one set, no interval) |" in sequences
    images = bench_vision.differences_of(rows("loop_off"), "method", ["linear", "kmeans"])
    for pair in ("*diffaug* less *loop_off*", "*simclr+* less *simclr + vae*"):
        assert images.count(f"| {pair} | {said} | -1.00 (one set, no interval) |") == 2
    assert "*byol+*" not in images + sequences


def test_a_page_without_pairs_says_so() -> None:
    import bench_dna
    import bench_vision

    alone = accuracies(("diffaug", "x", 0, 0.5))
    assert bench_dna.gains(alone) == bench_vision.differences_of(alone, "method", ["linear"]) == "No differences yet."


@pytest.mark.parametrize("script", ["bench_dna", "bench_vision"])
def test_a_page_of_no_rows_says_so(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    module = importlib.import_module(script)
    monkeypatch.setattr(_common, "RESULTS", tmp_path)
    monkeypatch.setattr(_common, "PAGES", tmp_path)
    monkeypatch.setattr(sys, "argv", [script, "--render"])
    module.main()
    page = (tmp_path / f"{script.removeprefix('bench_')}.md").read_text(encoding="utf-8")
    assert "nothing was run yet" in page and "nan" not in page and "../_static" not in page


def test_a_table_keeps_its_bars() -> None:
    lines = _common.markdown_table(["a|b", "c"], [1, "x"]).splitlines()
    assert lines == ["| a\\|b | c |", "| --- | --- |", "| 1 | x |"]
    framed = _common.markdown(pd.DataFrame({"a|b": [1]}, index=pd.Index(["y"], name="c")))
    assert framed.splitlines() == ["| c | a\\|b |", "| --- | --- |", "| y | 1 |"]
