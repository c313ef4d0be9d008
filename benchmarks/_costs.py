"""What a step costs: seconds and memory of each preset, and what the design choices are worth. For images and DNA alike.

Each measurement is a process of its own. None goes on for much longer than 20 s: it is repeated up to five times within that,
and what would take longer is timed on fewer events (of one evaluation of the denoiser) and scaled to the preset's batch
(to all evaluations of a draw), which the page says.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import Results, machine, markdown_table
from harness.child import ChildFailed, Worker, peak_memory_mb, reset_peak_memory

from diffaug.backends import get_backend
from diffaug.backends._hyena import causal_convolution
from diffaug.core.bank import ViewBank
from diffaug.core.config import Config
from diffaug.core.devices import make_fabric, seeded_init, tuned_cpu
from diffaug.core.plan import known_epochs
from diffaug.core.training import Trainer

SECONDS, REPEATS, TIMEOUT = 20.0, 5, 600.0
#: Events of the training for which the filling of the bank is spread over the mixed steps.
N_TRAIN = 10_000
PRESET_STAGES, CHOICE_STAGES = ("encoder", "generator", "drawing", "bank"), ("generator", "drawing")


@dataclass(frozen=True)
class Case:
    """A network under a preset.

    Attributes
    ----------
    backend, preset
        ``"vision"`` or ``"dna"``, and its preset.
    size
        Side of an image, or length of a sequence.
    n_timed
        Events to time on a CPU, where the preset's batch takes too long or too much memory.
    domain
        Changes of the backend's settings.
    stages
        What is measured.
    """

    backend: str
    preset: str
    size: int
    n_timed: int | None = None
    domain: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[str, ...] = PRESET_STAGES

    def config(self) -> Config:
        """The settings, with the epochs of a training on ``N_TRAIN`` events."""
        base = get_backend(self.backend).preset(self.preset)
        domain = dataclasses.replace(base.domain, **self.domain)
        return dataclasses.replace(base, domain=domain, training=base.training.resolve(N_TRAIN))

    def events(self, n: int) -> np.ndarray:
        """Random images or sequences."""
        rng = np.random.default_rng(0)
        if self.backend == "vision":
            return rng.integers(0, 256, (n, self.size, self.size, 3), dtype=np.uint8)
        bases = rng.integers(0, 4, (n, self.size))
        return np.ascontiguousarray(np.eye(4, dtype=np.float32)[bases].transpose(0, 2, 1))


CASES: dict[str, Case] = {
    "images, default, 8 pixels": Case("vision", "default", 8),
    "images, default, 32 pixels": Case("vision", "default", 32, 32),
    "images, default, 64 pixels": Case("vision", "default", 64, 16),
    "images, paper, 32 pixels": Case("vision", "paper", 32, 16),
    "images, paper, 64 pixels": Case("vision", "paper", 64, 4),
    **{
        f"attention {kind}, {side} pixels": Case("vision", "default", side, 4, {"attention": kind}, CHOICE_STAGES)
        for side in (32, 64) for kind in ("coarse", "limited", "full")
    },
    **{f"DNA, {p}, {n} bases": Case("dna", p, n, 64) for p in ("default", "paper") for n in (101, 300)},
    **{
        f"attention {name}, {n} bases": Case("dna", "default", n, 8, {"attention": kind}, CHOICE_STAGES)
        for n in (251, 509, 1024) for name, kind in (("up to 128", "coarse"), ("on all maps", "full"))
    },
    **{f"FFT, {n} bases": Case("dna", "default", n, 32, stages=("fft",)) for n in (251, 300, 509)},
}  # fmt: skip


def cases_of(backend: str) -> list[str]:
    """Names of the cases of images (``"vision"``) or of DNA."""
    return [name for name, case in CASES.items() if case.backend == backend]


# --- measuring --------------------------------------------------------------------------------------------------------


def clock(*steps: Callable[[], object], device: torch.device, repeats: int | None = None) -> tuple[list[float], int]:
    """Median seconds of each step, and of how many repeats. Steps take turns, so that what else runs slows all of them.

    The first round warms up, unless it was so long that it has to do.
    """
    rounds: list[list[float]] = []
    while len(rounds) <= (repeats or REPEATS) and sum(map(sum, rounds)) < SECONDS:
        times = []
        for step in steps:
            if device.type == "cuda":
                torch.cuda.synchronize()
            begin = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        rounds.append(times)
    counted = rounds[1:] or rounds
    return np.median(counted, axis=0).tolist(), len(counted)


def trainer_of(case: Case, device: str) -> Trainer:
    """The trainer of a fit, on one batch of events."""
    config, fabric = case.config(), make_fabric(device)
    n = config.training.batch_size
    if fabric.device.type == "cpu" and case.n_timed is not None:
        n = min(n, case.n_timed)
    x, cls = case.events(n), get_backend(case.backend)
    backend = cls(config.domain, cls.event_shape_of(x))
    backend.prepare(x)
    data = backend.to_model(x).to(fabric.device)
    backend.to(fabric.device)
    with seeded_init(0):
        encoder = backend.make_encoder()
        n_cond = encoder.eval()(data[:2].cpu())[0].shape[1]
        denoiser = backend.make_denoiser(n_cond)
    return Trainer(
        fabric, encoder, denoiser, data, backend.hand_views(data), config,
        to_generator=backend.to_generator, from_generator=backend.from_generator,
    )  # fmt: skip


def measure_stage(name: str, stage: str, device: str) -> dict[str, Any]:
    """One row, in the process that this is called in."""
    with tuned_cpu():
        if stage == "fft":
            return _fft(CASES[name], make_fabric(device).device)
        trainer = trainer_of(CASES[name], device)
        return _bank(trainer) if stage == "bank" else _step(trainer, stage)


def _step(trainer: Trainer, stage: str) -> dict[str, Any]:
    """A step of the encoder (views included), of the generator, or the drawing of a batch; seconds for the preset's batch."""
    plan, device = trainer.config.training, trainer.device
    encoder_batch, generator_batch = plan.batch_sizes(plan.batch_size)
    batch = generator_batch if stage == "generator" else encoder_batch
    index, times = torch.arange(min(batch, trainer.n_obs), device=device), 1
    cond = trainer.conditions(index)
    trainer.encoder.train()
    trainer.denoiser.train()
    steps: dict[str, Callable[[], object]] = {
        "encoder": lambda: trainer.a_step(index, trainer.positives(index).views),
        "generator": lambda: trainer.b_step(index, cond),
        "drawing": lambda: evaluate(trainer, cond),
    }
    if stage == "drawing":
        times = trainer.config.diffusion.n_steps
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated() / 2**20
    else:
        reset_peak_memory()
        base = peak_memory_mb()
    (seconds,), n_repeats = clock(steps[stage], device=device)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak_memory_mb()
    return {
        "batch": batch, "n_timed": len(index), "n_repeats": n_repeats,
        "seconds_per_event": seconds * times / len(index), "seconds": seconds * times * batch / len(index),
        "base_mib": base, "peak_mib": peak,
    }  # fmt: skip


@torch.no_grad()
def evaluate(trainer: Trainer, cond: torch.Tensor) -> torch.Tensor:
    """One evaluation of the denoiser, of which a draw has ``n_steps``."""
    x_t = torch.randn((len(cond), *trainer.data.shape[1:]), device=trainer.device)
    return trainer.ema.module(x_t, torch.full((1,), 0.5, device=trainer.device), cond)


def _bank(trainer: Trainer) -> dict[str, Any]:
    """A mixed step with views from the bank, and with as many fresh ones.

    The bank's step has its share of the filling: ``n_views`` of each event, over all mixed steps.
    """
    plan, steps = trainer.config.training, trainer.config.diffusion.n_steps
    batch, scale = plan.batch_size, plan.batch_size / trainer.n_obs
    index = torch.arange(trainer.n_obs, device=trainer.device)
    cond, bank = (
        trainer.conditions(index),
        ViewBank(trainer.n_obs, plan.n_views, tuple(trainer.data.shape[1:]), trainer.device),
    )
    bank.put(slice(None), trainer.data[:, None].expand_as(bank.views))
    trainer.bank = bank
    trainer.encoder.train()
    few = max(1, round(plan.view_rate * trainer.n_obs))
    (step, bulk, fresh), n_repeats = clock(
        lambda: trainer.a_step(index, trainer.positives(index).views),
        lambda: evaluate(trainer, cond),
        lambda: evaluate(trainer, cond[:few]),
        device=trainer.device,
    )
    _, _, mixed = known_epochs(plan)
    return {
        "batch": batch, "n_timed": trainer.n_obs, "n_repeats": n_repeats, "seconds": step * scale,
        "fill_seconds": bulk * steps * scale * plan.n_views / mixed, "fresh_seconds": fresh * steps * scale,
        "views_in_bank": plan.n_views, "mixed_epochs": mixed, "view_rate": plan.view_rate,
    }  # fmt: skip


def _fft(case: Case, device: torch.device) -> dict[str, Any]:
    """The convolution at a fast size, and at exactly twice the length, as it is written elsewhere."""
    n, length = case.n_timed or 32, case.size
    u, h = torch.randn(n, 128, length, device=device), torch.randn(128, length, device=device)

    def plain() -> torch.Tensor:
        return torch.fft.irfft(torch.fft.rfft(u, n=2 * length) * torch.fft.rfft(h, n=2 * length), n=2 * length)

    (seconds, other), n_repeats = clock(lambda: causal_convolution(u, h), plain, device=device, repeats=25)
    return {
        "batch": n,
        "n_timed": n,
        "n_repeats": n_repeats,
        "seconds": seconds,
        "plain_seconds": other,
    }


def measure_costs(results: Results, names: Iterable[str], device: str) -> dict[str, str]:
    """All stages of some cases on this machine, each in a process of its own.

    Returns what failed, and why. That is no row: the next run tries it again.
    """
    about = {"device": str(make_fabric(device).device), "machine": machine()}
    failed = {}

    def measure(name: str, stage: str) -> dict[str, Any]:
        with Worker() as worker:
            found = worker.call("_costs:measure_stage", name, stage, about["device"], timeout=TIMEOUT)
        return {**found, "machine": about["machine"]}  # a column of its own too, as in all results

    for name in names:
        for stage in CASES[name].stages:
            try:
                results.once(lambda n=name, s=stage: measure(n, s), settings=about, case=name, stage=stage)
            except ChildFailed as error:
                failed[f"`{name}`, {stage}"] = str(error)
                print(f"{name}, {stage}: {error}", flush=True)
    return failed


# --- page -------------------------------------------------------------------------------------------------------------

SAID = f"""Seconds are for the preset's batch, medians of up to {REPEATS} repeats within about {SECONDS:g} s, each stage in a process
of its own. *timed* says on how many events; where these are fewer than the batch, seconds are scaled to it and memory is as
measured, with an estimate for the batch after *about*. An encoder's step has the making of its hand-made views, both passes
and the optimiser; drawing is one evaluation of the denoiser times the sampler's steps. Memory is the peak of the process (of
the GPU, where there is one); *base* of it were there before, with the libraries and the weights."""


def cost_tables(table: pd.DataFrame, failed: Mapping[str, str] | None = None) -> str:
    """Steps of the presets and the design choices, of each machine apart; and what failed in this run."""
    if table.empty and not failed:
        return "Not run yet."
    shown = [SAID]
    for settings, rows in table.groupby("settings", sort=False) if len(table) else ():
        about = json.loads(str(settings))
        shown += [f"Device `{about['device']}`; {about['machine']}.", _steps(rows), _banks(rows), _ffts(rows)]
    shown += [f"{what}: {why}." for what, why in (failed or {}).items()]
    return "\n\n".join(part for part in shown if part)


def _steps(table: pd.DataFrame) -> str:
    rows = table[table["stage"].isin(["encoder", "generator", "drawing"])]
    lines = [
        [
            r["case"], r["stage"], int(r["batch"]), int(r["n_timed"]), _short(r["seconds"]), _short(1000 * r["seconds_per_event"]),
            f"{r['base_mib']:,.0f}", _memory(r),
        ]
        for _, r in rows.iterrows()
    ]  # fmt: skip
    head = ["case", "stage", "batch", "timed", "seconds", "ms per event", "base, MiB", "peak, MiB"]
    return markdown_table(head, *lines) if lines else ""


def _memory(row: pd.Series) -> str:
    text = f"{row['peak_mib']:,.0f}"
    if row["n_timed"] < row["batch"]:
        whole = row["base_mib"] + (row["peak_mib"] - row["base_mib"]) * row["batch"] / row["n_timed"]
        text += f", about {whole:,.0f}"
    return text


def _banks(table: pd.DataFrame) -> str:
    lines = []
    for _, r in table[table["stage"] == "bank"].iterrows():
        mine, other = r["seconds"] + r["fill_seconds"], r["seconds"] + r["fresh_seconds"]
        used = f"{r['view_rate']:g}, {int(r['views_in_bank'])}, {int(r['mixed_epochs'])}"
        lines.append(
            [r["case"], used, *map(_short, (r["seconds"], r["fill_seconds"], mine, other)), f"{other / mine:.1f}"]
        )
    if not lines:
        return ""
    head = [
        "case",
        "lambda, views, mixed epochs",
        "step",
        "share of the fill",
        "with the bank",
        "with fresh views",
        "ratio",
    ]
    return (
        f"The bank: seconds of a mixed step with views from it and its share of the filling, on {N_TRAIN:,} events, against the "
        f"same step that draws lambda of its batch anew, by all steps of the sampler.\n\n{markdown_table(head, *lines)}"
    )


def _ffts(table: pd.DataFrame) -> str:
    rows = table[table["stage"] == "fft"]
    lines = [
        [r["case"], int(r["batch"]), *(_short(1000 * r[c]) for c in ("seconds", "plain_seconds")),
         f"{r['plain_seconds'] / r['seconds']:.1f}"]
        for _, r in rows.iterrows()
    ]  # fmt: skip
    head = ["case", "sequences", "ms, fast size", "ms, twice the length", "ratio"]
    text = "The convolution of 128 channels by FFT (twice 300 has small factors already: a control)"
    return f"{text}:\n\n{markdown_table(head, *lines)}" if lines else ""


def _short(value: float) -> str:
    """Three digits that say something."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if 0 < value < 100 else f"{value:,.0f}"
