"""The loop: what is computed once, what is computed again, and what a kill at any point costs."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from harness import run as run_module
from harness.child import ChildFailed
from harness.run import COMPUTE, INSTALL, Plan, Runner
from harness.sets import Slice
from peers import PEERS, Made, Peer, Row

SET = Slice("pbmc68k_reduced_scanpy", 100, 40)  # comes with scanpy; log-normalised, so there are no counts
ALL = ("good", "fixed", "pair", "builder", "bad", "nan", "counts")
calls: list[str] = []


class Inline:
    """Does the work here, and can be told to be interrupted at a call."""

    interrupt_at: int | None = None

    def __init__(self, log: Path | None = None) -> None:
        self.alive = True

    def call(self, function: str, *args: Any, timeout: float | None = None) -> Any:
        module, _, name = function.partition(":")
        if Inline.interrupt_at is not None:
            if Inline.interrupt_at == 0:
                raise KeyboardInterrupt
            Inline.interrupt_at -= 1
        try:
            return getattr(importlib.import_module(module), name)(*args)
        except Exception as error:
            raise ChildFailed(f"{type(error).__name__}: {error}") from error

    def kill(self) -> None: ...

    close = kill

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None: ...


def embedding(adata: AnnData, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(adata.n_obs, 3)) + adata.X[:, :3]


def good(adata: AnnData, seed: int, *, width: int = 3) -> np.ndarray:
    calls.append(f"good {seed}")
    assert "label" not in adata.obs, "labels only judge"
    return embedding(adata, seed)[:, :width]


def fixed(adata: AnnData, seed: int) -> np.ndarray:
    calls.append(f"fixed {seed}")
    return embedding(adata, 0)


def pair(adata: AnnData, seed: int) -> dict[str, Made]:
    calls.append(f"pair {seed}")
    x = embedding(adata, seed)
    return {"model": Made(x, 2.0, {"views": np.full((adata.n_obs, 2, 5), seed)}), "twin": Made(-x, 1.0)}


def builder(adata: AnnData, seed: int) -> np.ndarray:
    calls.append(f"builder {seed}")
    assert (adata.obsm["views"] == seed).all() and adata.obsm["views"].shape == (adata.n_obs, 2, 5)
    return embedding(adata, seed)


def bad(adata: AnnData, seed: int) -> np.ndarray:
    calls.append(f"bad {seed}")
    raise RuntimeError("does not converge")


def nan(adata: AnnData, seed: int) -> np.ndarray:
    calls.append(f"nan {seed}")
    return np.full((adata.n_obs, 2), np.nan)


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    calls.clear()
    Inline.interrupt_at = None
    monkeypatch.setattr(run_module, "Worker", Inline)
    monkeypatch.setattr(Runner, "_write", lambda self: None)  # Parquet has its own tests, and needs an extra
    for peer in (
        Peer("good", "Good", good, (Row("good", "Good"),)),
        Peer("fixed", "Fixed", fixed, (Row("fixed", "Fixed"),), stochastic=False, flat="first"),
        Peer("pair", "Pair", pair, (Row("twin", "Twin", "twin"), Row("pair", "Pair"))),
        Peer("builder", "Builder", builder, (Row("builder", "Builder"),), needs="pair"),
        Peer("bad", "Bad", bad, (Row("bad", "Bad"),), stochastic=False),
        Peer("nan", "NaN", nan, (Row("nan", "NaN"),), stochastic=False),
        Peer("counts", "Counts", good, (Row("counts", "Counts"),), needs_counts=True),
        Peer("absent", "Absent", good, (Row("absent", "Absent"),), requires=("no_such_package",)),
    ):
        monkeypatch.setitem(PEERS, peer.name, peer)
    yield


def plan(folder: Path, *peers: str, **changes: Any) -> Plan:
    defaults = {"slices": (SET,), "n_seeds": 2, "protocols": ("linear", "knn", "stability")}
    return Plan(**{**defaults, "cache": folder / "cache", "parquet": folder / "r.parquet", "peers": peers, **changes})


def scores(runner: Runner) -> pd.DataFrame:
    """What does not depend on the hour or the machine."""
    table = runner.rows.table()
    table = table[table["protocol"] != COMPUTE]
    return table[["set", "method", "seed", "protocol", "metric", "value", "error"]].reset_index(drop=True)


def test_everything_is_done_once(tmp_path: Path) -> None:
    runner = Runner(plan(tmp_path, *ALL))
    runner.run()
    assert sorted(calls) == sorted(
        ["good 0", "good 1", "fixed 0", "pair 0", "pair 1", "builder 0", "builder 1", "bad 0", "nan 0"]
    )
    table = runner.rows.table()
    assert set(table["method"]) == {"good", "fixed", "pair", "twin", "builder", "bad", "nan"}  # no counts in this set
    good = table[(table["method"] == "good") & (table["metric"] == "accuracy")]
    assert sorted(zip(good["protocol"], good["seed"], strict=True)) == [
        ("knn", 0),
        ("knn", 1),
        ("linear", 0),
        ("linear", 1),
    ]
    assert table.loc[table["protocol"] == "stability", "seed"].unique().tolist() == [1]
    assert set(table.loc[table["error"] == "", "n_obs"]) == {100}
    assert set(table.loc[table["error"] == "", "n_features"]) == {40}
    seconds = table[(table["metric"] == "seconds") & (table["seed"] == 0)].set_index("method")["value"]
    assert (seconds["pair"], seconds["twin"]) == (2.0, 1.0)

    calls.clear()
    again = Runner(plan(tmp_path, *ALL))
    again.run()
    assert calls == []
    pd.testing.assert_frame_equal(again.rows.table(), table)


def test_failures_are_rows_and_are_done_anew_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(plan(tmp_path, "bad", "nan", "fixed"))
    runner.run()
    errors = runner.rows.table().query("error != ''").set_index("method")["error"].to_dict()
    assert errors == {
        "bad": "RuntimeError: does not converge",
        "nan": "ValueError: Expected finite values in the embedding, found 200 that are not.",
    }
    calls.clear()
    monkeypatch.setitem(PEERS, "bad", Peer("bad", "Bad", lambda a, s: embedding(a, s), (Row("bad", "Bad"),)))
    again = Runner(plan(tmp_path, "bad", "nan", "fixed", n_seeds=1))
    again.run()
    assert calls == []
    assert again.forget(failed=True) == 2
    again.run()
    assert calls == ["nan 0"]
    assert set(again.rows.table().query("error != ''")["method"]) == {"nan"}


def test_methods_are_done_anew_when_asked(tmp_path: Path) -> None:
    Runner(plan(tmp_path, "good", "fixed")).run()
    calls.clear()
    runner = Runner(plan(tmp_path, "good", "fixed"))
    runner.forget(peers=["good"])
    runner.run()
    assert calls == ["good 0", "good 1"]


def test_a_new_protocol_needs_no_new_embedding(tmp_path: Path) -> None:
    Runner(plan(tmp_path, "good", protocols=("knn",))).run()
    calls.clear()
    runner = Runner(plan(tmp_path, "good", protocols=("knn", "linear")))
    runner.run()
    assert calls == []
    assert set(scores(runner)["protocol"]) == {"knn", "linear"}


def test_other_settings_are_other_results(tmp_path: Path) -> None:
    Runner(plan(tmp_path, "good")).run()
    calls.clear()
    file = tmp_path / "variants.toml"
    file.write_text('[narrow]\npeer = "good"\nsettings.width = 2\n')
    runner = Runner(plan(tmp_path, "good", "narrow", variants=file))
    runner.run()
    assert calls == ["good 0", "good 1"]
    dims = runner.rows.table().groupby("method")["n_dims"].unique()
    assert (dims["good"].tolist(), dims["narrow"].tolist()) == ([3], [2])


@pytest.mark.parametrize("any_settings", [False, True])
def test_changed_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_settings: bool) -> None:
    Runner(plan(tmp_path, "pair", "builder")).run()
    calls.clear()

    def newer(adata: AnnData, seed: int, *, recipe: str = "new") -> dict[str, Made]:
        return pair(adata, seed)

    monkeypatch.setitem(PEERS, "pair", Peer("pair", "Pair", newer, PEERS["pair"].rows))
    Runner(plan(tmp_path, "pair", "builder", any_settings=any_settings)).run()
    # What builds on a method is as old as the method it was built on.
    assert calls == ([] if any_settings else ["pair 0", "pair 1", "builder 0", "builder 1"])


def test_a_method_that_builds_on_another_brings_it_along(tmp_path: Path) -> None:
    runner = Runner(plan(tmp_path, "builder", n_seeds=1))
    runner.run()
    assert calls == ["pair 0", "builder 0"]
    assert set(runner.rows.table()["method"]) == {"builder"}


def test_a_failure_below_is_said_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "pair", Peer("pair", "Pair", bad, PEERS["pair"].rows))
    runner = Runner(plan(tmp_path, "builder", n_seeds=1))
    runner.run()
    assert runner.rows.table()["error"].tolist() == [
        "pair, which it builds on, failed: RuntimeError: does not converge"
    ]


def test_what_is_not_installed_is_a_row_until_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(plan(tmp_path, "good", "absent"))
    runner.run()
    row = runner.rows.table().query("protocol == @INSTALL").iloc[0]
    assert (row["method"], row["error"]) == ("absent", "ModuleNotFoundError: No module named 'no_such_package'")
    monkeypatch.setitem(PEERS, "absent", Peer("absent", "Absent", good, (Row("absent", "Absent"),)))
    again = Runner(plan(tmp_path, "good", "absent"))
    again.run()
    assert INSTALL not in set(again.rows.table()["protocol"])
    assert len(again.rows.table().query("method == 'absent'")) > 0


@pytest.mark.parametrize("n_calls", [0, 1, 2, 5, 9, 14, 20])
def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, n_calls: int) -> None:
    """Stopped at any call, and continued: nothing is computed twice, and the scores are those of a run in one go."""
    whole = Runner(plan(tmp_path / "whole", "good", "pair", "builder"))
    whole.run()
    in_one_go, wanted = sorted(calls), scores(whole)
    calls.clear()
    Inline.interrupt_at = n_calls
    with pytest.raises(KeyboardInterrupt):
        Runner(plan(tmp_path / "parts", "good", "pair", "builder")).run()
    Inline.interrupt_at = None
    runner = Runner(plan(tmp_path / "parts", "good", "pair", "builder"))
    runner.run()
    assert sorted(calls) == in_one_go
    pd.testing.assert_frame_equal(scores(runner), wanted)


def test_a_stop_is_no_failure_of_what_was_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(plan(tmp_path, "good"))

    def killed(self: Inline, function: str, *args: Any, timeout: float | None = None) -> Any:
        if function.endswith("why_missing"):
            return {"good": ""}
        runner._stop()  # as the main thread does, which then kills the process
        raise ChildFailed("the process was ended by SIGKILL")

    monkeypatch.setattr(Inline, "call", killed)
    with pytest.raises(ChildFailed):
        runner.run()
    assert runner.rows.table().empty


def test_a_lost_cache_costs_nothing_that_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra `bench` brings")
    monkeypatch.undo()
    monkeypatch.setattr(run_module, "Worker", Inline)
    monkeypatch.setitem(PEERS, "good", Peer("good", "Good", good, (Row("good", "Good"),)))
    Runner(plan(tmp_path, "good")).run()
    shutil.rmtree(tmp_path / "cache")
    calls.clear()
    runner = Runner(plan(tmp_path, "good"))
    runner.run()
    assert calls == []
    assert set(scores(runner)["protocol"]) == {"linear", "knn", "stability"}


@pytest.mark.parametrize("jobs", [1, 3])
def test_jobs_give_the_same_scores(tmp_path: Path, jobs: int) -> None:
    one = Runner(plan(tmp_path / "one", "good", "fixed", "pair", protocols=("knn",)))
    one.run()
    some = Runner(plan(tmp_path / "some", "good", "fixed", "pair", protocols=("knn",), jobs=jobs))
    some.run()
    pd.testing.assert_frame_equal(scores(some), scores(one))
