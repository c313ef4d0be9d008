"""Arms x sets x seeds: nothing twice, nothing lost, and one protocol for all."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from diffaug.core.config import Config
from diffaug.core.devices import device_name, make_fabric
from diffaug.core.timebox import OutOfTime
from diffaug.reproduce import _measure, _run
from diffaug.reproduce._arms import ARTEFACTS, Arm, Artefact
from diffaug.reproduce._checkpoints import Deadline
from diffaug.reproduce._rows import Rows, Settings
from diffaug.reproduce._sets import Data

SET = "pbmc68k_reduced_scanpy"
TABLE4, FIG5, FIG6, FIG7 = (ARTEFACTS[name] for name in ("table4", "fig5", "fig6", "fig7"))


class Counter:
    """In the place of ``measure``: scores that depend on what is asked, and a list of the asking."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, dies_at: int | None = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self.dies_at = dies_at
        monkeypatch.setattr(_measure, "measure", self)
        monkeypatch.setattr(_measure, "measure_sweep", self.sweep)
        self.sweeps: list[int] = []

    def __call__(self, method: str, config: Config, data: Data, **options: Any) -> dict[str, float]:
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append({"method": method, "config": config, "set": data.name, **options})
        scores = {"linear": config.training.view_rate + options["seed"], "seconds": 1.0}
        return scores | ({"kept": 0.5} if "views" in options["groups"] else {})

    def sweep(self, configs: list[Config], data: Data, **options: Any) -> Iterator[dict[str, float]]:
        self.sweeps.append(len(configs))
        for config in configs:
            yield self("diffaug", config, data, **options)


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """Without what differs from run to run."""
    return table.drop(columns="seconds")


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path, tiny: Settings) -> None:
    """With real trainings: the rows of the stopped run stay as they are, and the end is that of a run in one go."""
    arms = [arm for arm in TABLE4.arms if arm.key not in ("A1-fixed", "A2-fixed")]
    table4 = dataclasses.replace(TABLE4, arms=tuple(arms))
    whole = _run.run(table4, Rows(tmp_path / "whole", tiny), tiny, sets=[SET], seeds=1)
    with pytest.MonkeyPatch.context() as patch:
        real, n_calls = _measure.measure, []

        def killed(*given: Any, **options: Any) -> Any:
            n_calls.append(1)
            if len(n_calls) == 3:
                raise KeyboardInterrupt
            return real(*given, **options)

        patch.setattr(_measure, "measure", killed)
        with pytest.raises(KeyboardInterrupt):
            _run.run(table4, Rows(tmp_path / "parts", tiny), tiny, sets=[SET], seeds=1)
    before = Rows(tmp_path / "parts", tiny).read()
    assert before["arm"].tolist() == ["table4: A1", "table4: A2"]
    assert (before["view_rate"] <= 0.5).all()  # of the base, times the trust in the views
    parts = _run.run(table4, Rows(tmp_path / "parts", tiny), tiny, sets=[SET], seeds=1)
    after = Rows(tmp_path / "parts", tiny).read()
    pd.testing.assert_frame_equal(after.iloc[:2][before.columns], before)  # their seconds too: they were not run again
    pd.testing.assert_frame_equal(columns(parts), columns(whole))
    assert parts["arm"].tolist() == ["A1", "A2", "A3", "A3-fixed", "loop_off"]
    assert parts["rank"].nunique() == 5  # the arms do run different things
    rate = parts.set_index("arm")["view_rate"]
    assert rate["A3-fixed"] == 0.5 and rate["loop_off"] == 0


def test_only_what_is_missing_is_run(tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(monkeypatch)

    def n_new(artefact: Artefact, seeds: int, sets: list[str] | None = None) -> int:
        before = len(counter.calls)
        _run.run(artefact, Rows(tmp_path, tiny), tiny, sets=sets or [SET], seeds=seeds)
        return len(counter.calls) - before

    assert n_new(TABLE4, 1) == 7
    assert n_new(TABLE4, 1) == 0
    assert n_new(TABLE4, 2) == 7  # a seed more
    assert n_new(TABLE4, 1) == 0  # fewer are no loss
    assert n_new(FIG5, 2) == 0  # A3 is there
    # The twin of both curves is there, and A3-fixed, as the base of these tests has lambda = 0.5.
    assert n_new(FIG6, 2) == 2 * (len(FIG6.arms) - 3)
    assert counter.sweeps == [6, 7] * 2  # one training for each curve and seed
    assert len(Rows(tmp_path, tiny).read()) == len(counter.calls)


def test_two_arms_of_equal_settings_are_run_once(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    table = _run.run(FIG7, Rows(tmp_path, tiny), tiny, sets=[SET], seeds=1)
    assert len(counter.calls) == len(FIG7.arms) - 1 and len(table) == len(FIG7.arms)
    assert table["arm"].tolist() == [arm.key for arm in FIG7.arms]
    same = table[table["arm"].isin(["nu_z=1", "nu_y=1"])]
    assert same["run"].nunique() == 1


def test_a_table_that_needs_more_scores_runs_again_and_keeps_the_others(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    plain = Artefact("table5", "t", (Arm("x", "x"),), "x", ("probes",), ("note",))
    flat = Artefact("table2", "t", (Arm("y", "y"),), "y", ("probes", "map"), ("note",))
    both = Artefact("table4", "t", (Arm("z", "z"),), "z", ("probes", "views"), ("note",))
    for artefact in (plain, flat, both, flat, plain):
        _run.run(artefact, Rows(tmp_path, tiny), tiny, sets=[SET], seeds=1)
    assert [call["groups"] for call in counter.calls] == [["probes"], ["probes", "map"], ["probes", "views", "map"]]
    assert Rows(tmp_path, tiny).read()["measured"].tolist() == ["probes views map"]


def test_a_sweep_that_was_killed_keeps_the_lambdas_it_had(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        counter = Counter(patch, dies_at=4)
        with pytest.raises(KeyboardInterrupt):
            _run.run(FIG6, Rows(tmp_path, tiny), tiny, sets=[SET], seeds=1)
        assert counter.sweeps == [7]
    assert Rows(tmp_path, tiny).read()["arm"].tolist() == [f"fig6: lambda={x}" for x in ("0", "0.05", "0.1", "0.15")]
    counter = Counter(monkeypatch)
    table = _run.run(FIG6, Rows(tmp_path, tiny), tiny, sets=[SET], seeds=1)
    assert counter.sweeps == [4, 7] and len(counter.calls) == 11
    assert table["arm"].tolist() == [arm.key for arm in FIG6.arms]
    assert table["linear"].tolist() == [arm.x for arm in FIG6.arms]  # as Counter scores: no lambda was mistaken


def test_the_deadline_ends_a_sweep_between_its_rows(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command keeps a row, says which comes next, and the last of a curve ends as if there were no deadline."""
    counter = Counter(monkeypatch)
    curve = dataclasses.replace(FIG6, arms=FIG6.arms[1:4])
    for key, n_left in (("lambda=0.1", 2), ("lambda=0.15", 1)):
        with pytest.raises(OutOfTime, match=rf"at {SET}, {key}, seed 0\. New rows: 1, runs to go: {n_left}\."):
            _run.run(curve, Rows(tmp_path, tiny), tiny, sets=[SET], seeds=1, deadline=Deadline(1e-9))
    table = _run.run(curve, Rows(tmp_path, tiny), tiny, sets=[SET], seeds=1, deadline=Deadline(1e-9))
    assert counter.sweeps == [3, 2] and len(counter.calls) == len(table) == 3


def test_only_what_differs_in_lambda_alone_is_trained_together(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [
        {"view_rate": 0.2},
        {"view_rate": 0.3},
        {"view_rate": 0.2, "n_views": 1},
        {"view_rate": 0.2, "n_cycles": 2},
        {"view_rate": 0.3, "n_cycles": 2},
        {"view_rate": 0.2, "schedule": "joint"},
        {"view_rate": 0.3, "schedule": "joint"},
        {"view_rate": 0.2, "patience": 3},
        {"view_rate": 0.3, "patience": 3},
    ]
    arms = tuple(Arm(f"a{i}", "x", {"training": plan}) for i, plan in enumerate(plans))
    counter = Counter(monkeypatch)
    _run.run(Artefact("table4", "t", arms, "a0", ("probes",), ("n",)), Rows(tmp_path, tiny), tiny, sets=[SET], seeds=1)
    assert counter.sweeps == [2] and len(counter.calls) == len(arms)


def test_every_arm_meets_the_same_cells_and_protocol(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    _run.run(TABLE4, Rows(tmp_path, tiny), tiny, sets=[SET], seeds=2, device="cpu")
    asked = {(c["seed"], tuple(c["groups"]), c["device"], c["max_epochs"], c["set"]) for c in counter.calls}
    assert asked == {(seed, ("probes", "views"), "cpu", None, SET) for seed in (0, 1)}
    assert [c["config"].diffusion.condition for c in counter.calls[:4]] == ["label", "noise", "semantic", "label"]


@pytest.mark.parametrize("name", ARTEFACTS)
@pytest.mark.parametrize("max_epochs", [None, 1, 4, 9])
def test_every_encoder_has_as_many_epochs(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch, name: str, max_epochs: int | None
) -> None:
    """A cap is on all phases together; an arm without a generator must not give its encoder what that would have had."""
    counter = Counter(monkeypatch)
    plan = dataclasses.replace(tiny.base.training, warmup_steps=12, generator_steps=40)
    settings = dataclasses.replace(tiny, base=dataclasses.replace(tiny.base, training=plan), max_epochs=max_epochs)
    _run.run(ARTEFACTS[name], Rows(tmp_path, settings), settings, sets=[SET], seeds=1)
    plans = [c["config"].training.resolve(150, c["max_epochs"]) for c in counter.calls]
    assert len({plan.encoder_phases for plan in plans}) == 1
    without = [p for c, p in zip(counter.calls, plans, strict=True) if c["config"].training.generator_epochs == 0]
    assert all(plan.generator_epochs == 0 for plan in without)


def test_the_twin_is_simclr_under_a_cap_too(tmp_path: Path, tiny: Settings) -> None:
    table2 = ARTEFACTS["table2"]
    arms = tuple(arm for arm in table2.arms if arm.key in ("loop_off", "simclr"))
    settings = dataclasses.replace(tiny, max_epochs=6)
    few = dataclasses.replace(table2, arms=arms, groups=("probes",))
    table = _run.run(few, Rows(tmp_path, settings), settings, sets=[SET], seeds=1).set_index("arm")
    for score in ("linear", "knn", "kmeans", "rank"):
        assert table.loc["loop_off", score] == table.loc["simclr", score]


def test_a_row_says_how_it_was_made(tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    Counter(monkeypatch)
    table = _run.run(TABLE4, Rows(tmp_path, tiny), tiny, sets=[SET], seeds=1)
    row = Rows(tmp_path, tiny).read().iloc[1]
    assert (row["set"], row["seed"], row["method"], row["arm"]) == (SET, 0, "diffaug", "table4: A2")
    assert (row["n_obs"], row["n_features"]) == (150, 765) and row["device"] == device_name(make_fabric("auto").device)
    assert json.loads(row["settings"])["diffusion"]["condition"] == "noise"
    assert "torch=" in row["versions"] and "diffaug=" in row["versions"]
    assert table["seed"].tolist() == [0] * 7


def test_seeds_come_last(tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is stopped has some seeds on all sets, and not all seeds on some sets."""
    real = _run.prepare
    monkeypatch.setattr(_run, "prepare", lambda name, **k: dataclasses.replace(real(SET, **k), name=name))
    counter = Counter(monkeypatch, dies_at=15)
    with pytest.raises(KeyboardInterrupt):
        _run.run(TABLE4, Rows(tmp_path, tiny), tiny, sets=["a", "b"], seeds=3)
    assert [(c["seed"], c["set"]) for c in counter.calls] == [(0, "a")] * 7 + [(0, "b")] * 7 + [(1, "a")]


def test_progress_is_told_and_repeats_are_not(tmp_path: Path, tiny: Settings, caplog: pytest.LogCaptureFixture) -> None:
    small = Artefact("table4", "t", TABLE4.arms[1:3], "A3", ("probes",), ("note",))
    with caplog.at_level(logging.INFO, "diffaug"):
        _run.run(small, Rows(tmp_path, tiny), tiny, sets=[SET], seeds=1)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == f"table4: runs to go: 2, in '{tmp_path}'"
    assert sum("features are the same in all cells" in line for line in said) == 1  # of two fits
    assert not [line for line in said if "wrote .obsm" in line or "Left out" in line]
    assert said[-1].startswith(f"2 of 2: {SET}, A3, seed 0: linear 0.") and said[-1].endswith("about 0 min left")


def test_a_wrong_setting_is_said_before_anything_is_run(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    wrong = Artefact(
        "table4", "t", (TABLE4.arms[2], Arm("x", "x", {"training": {"view_rate": 2.0}})), "A3", ("probes",), ("note",)
    )
    with pytest.raises(ValueError, match=r"`view_rate` in \[0, 1\], found 2.0"):
        _run.run(wrong, Rows(tmp_path, tiny), tiny, sets=[SET], seeds=1)
    assert counter.calls == []
