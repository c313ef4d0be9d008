"""Costs: what is timed is what the loop does, what is scaled is said, and what fails is tried again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import _common
import _costs
import pytest
import torch

from diffaug.backends import get_backend
from diffaug.core.diffusion import GaussianDiffusion
from diffaug.core.inference import draw
from diffaug.core.schedules import NoiseSchedule

CPU = torch.device("cpu")
TINY = {
    "images": _costs.Case("vision", "default", 8, 8),
    "DNA": _costs.Case("dna", "paper", 24, 8, {"generator_widths": (4, 4, 4, 4), "n_semantic": 8, "filter_width": 4}),
    "FFT": _costs.Case("dna", "default", 251, 2, stages=("fft",)),
}


@pytest.fixture(autouse=True)
def tiny_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_costs, "CASES", TINY)
    monkeypatch.setattr(_costs, "REPEATS", 1)


@pytest.mark.parametrize("backend", ["vision", "dna"])
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_draw_is_as_many_evaluations_as_it_is_taken_for(backend: str, preset: str) -> None:
    config, calls = get_backend(backend).preset(preset), []

    def denoiser(x_t: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        calls.append(len(x_t))
        return torch.zeros_like(x_t)

    settings = config.diffusion
    diffusion = GaussianDiffusion(NoiseSchedule(settings.schedule, settings.n_timesteps), settings.prediction_type)
    draw(diffusion, denoiser, torch.zeros(3, 2), (4, 8), config, torch.Generator().manual_seed(0))
    assert calls == [3] * settings.n_steps


def test_what_takes_long_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_costs, "SECONDS", 0.05)
    monkeypatch.setattr(_costs, "REPEATS", 3)
    long, order = [], []
    (seconds,), n = _costs.clock(lambda: (long.append(1), time.sleep(0.06)), device=CPU)
    assert len(long) == n == 1 and seconds >= 0.06
    seconds, n = _costs.clock(lambda: order.append("a"), lambda: order.append("b"), device=CPU)
    assert "".join(order) == "ab" * 4 and n == 3 and max(seconds) < 0.05  # in turns; the first round warms up


@pytest.mark.parametrize("name", ["images", "DNA"])
def test_steps_are_those_of_the_loop_and_scaled_to_the_batch(name: str) -> None:
    """Weights move in a step and not in a drawing; a batch is as many events of the same seconds."""
    batches = {"images": (128, 16, 128), "DNA": (256, 256, 256)}[name]
    for stage, batch in zip(("encoder", "generator", "drawing"), batches, strict=True):
        row = _costs.measure_stage(name, stage, "cpu")
        assert row["batch"] == batch and row["n_timed"] == 8
        assert row["seconds"] == pytest.approx(row["seconds_per_event"] * batch) and row["seconds"] > 0
        assert row["peak_mib"] > row["base_mib"] - 1 > 0  # the kernel counts the two in different places
    trainer = _costs.trainer_of(TINY[name], "cpu")
    before = [p.clone() for p in (*trainer.encoder.parameters(), *trainer.denoiser.parameters())]
    n = sum(1 for _ in trainer.encoder.parameters())
    for stage, moved in (("drawing", (False, False)), ("encoder", (True, False)), ("generator", (True, True))):
        _costs._step(trainer, stage)
        now = [*trainer.encoder.parameters(), *trainer.denoiser.parameters()]
        changed = [not torch.equal(a, b) for a, b in zip(before, now, strict=True)]
        assert (any(changed[:n]), any(changed[n:])) == moved


def test_the_bank_is_filled_once_and_fresh_views_are_drawn_in_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation of the denoiser takes 2 ms an event here, so all figures are known from the settings."""
    monkeypatch.setattr(_costs, "evaluate", lambda trainer, cond: time.sleep(0.002 * len(cond)))
    row = _costs.measure_stage(
        "DNA", "bank", "cpu"
    )  # the paper's: 50 steps, batch 256, lambda 0.1, 2 views, 800 epochs
    assert row["fresh_seconds"] == pytest.approx(0.002 * 50 * 256 / 8, rel=0.3)  # one of eight events
    assert row["fill_seconds"] == pytest.approx(0.002 * 50 * 256 * 2 / 800, rel=0.3)
    row = _costs.measure_stage("images", "bank", "cpu")
    assert row["fresh_seconds"] == pytest.approx(0.002 * 20 * 128 * 2 / 8, rel=0.3)  # lambda .2: two of eight events
    assert row["seconds"] > 0 and row["view_rate"] == 0.2


class Worker:
    """Calls in this process; some stages fail."""

    failing: tuple[str, ...] = ()
    calls: list[tuple[str, str, str]]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None: ...

    def call(self, function: str, name: str, stage: str, device: str, *, timeout: float) -> dict[str, Any]:
        module, _, function = function.partition(":")
        assert module == _costs.__name__ and timeout > 0
        self.calls.append((name, stage, device))
        if stage in self.failing:
            raise _costs.ChildFailed("the process was ended by SIGKILL (out of memory?)")
        return getattr(_costs, function)(name, stage, device)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Worker]:
    monkeypatch.setattr(Worker, "calls", [], raising=False)
    monkeypatch.setattr(_costs, "Worker", Worker)
    monkeypatch.setattr(_common, "RESULTS", tmp_path)
    return Worker


def test_a_stage_that_fails_is_said_and_tried_again(worker: type[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    results = _common.Results("costs", ("case", "stage"))
    monkeypatch.setattr(worker, "failing", ("generator",))
    failed = _costs.measure_costs(results, TINY, "cpu")
    assert set(failed) == {"`images`, generator", "`DNA`, generator"}
    assert len(results.table) == 3 + 3 + 1 and "error" not in results.table
    page = _costs.cost_tables(results.table, failed)
    assert "`images`, generator: the process was ended by SIGKILL (out of memory?)." in page
    assert "| images | encoder | 128 | 8 |" in page and ", about " in page and "| images | generator |" not in page
    assert "| DNA | 0.1, 2, 800 |" in page and "| FFT | 2 |" in page
    assert "nan" not in page
    monkeypatch.setattr(worker, "failing", ())
    worker.calls.clear()
    assert _costs.measure_costs(results, TINY, "cpu") == {}
    assert worker.calls == [("images", "generator", "cpu"), ("DNA", "generator", "cpu")]
    assert "| images | generator | 16 | 8 |" in _costs.cost_tables(results.table)
    assert "SIGKILL" in _costs.cost_tables(results.table.iloc[:0], failed)  # all failed
    assert _costs.cost_tables(results.table.iloc[:0]) == "Not run yet."


def test_rows_are_of_one_machine_and_device(worker: type[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    results = _common.Results("costs", ("case", "stage"))
    for name in ("a", "a", "b"):
        monkeypatch.setattr(_costs, "machine", lambda name=name: f"machine {name}")
        _costs.measure_costs(results, ["FFT"], "cpu")
    assert len(worker.calls) == 2 and results.table["machine"].tolist() == ["machine a", "machine b"]
    page = _costs.cost_tables(results.table)
    assert page.index("Device `cpu`; machine a.") < page.index("Device `cpu`; machine b.")
    assert page.count("| FFT | 2 |") == 2


def test_all_cases_have_settings_that_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert {*_costs.cases_of("vision"), *_costs.cases_of("dna")} == set(_costs.CASES)
    for name, case in _costs.CASES.items():
        cls = get_backend(case.backend)
        cls(case.config().domain, cls.event_shape_of(case.events(2)))
        assert str(case.size) in name
    assert _costs.CASES["attention on all maps, 509 bases"].config().domain.attention == "full"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.001234, "0.00123"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert _costs._short(value) == text
