"""What a run was given, in data, steps and length: kept in each row, and said above each table of a page."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

import pandas as pd

from diffaug.core.config import Config
from diffaug.core.plan import known_epochs

PHASES = ("encoder", "generator", "encoder")


def add_steps(parser: argparse.ArgumentParser) -> None:
    """The option that :func:`with_steps` takes."""
    parser.add_argument(
        "--steps",
        type=int,
        nargs=3,
        metavar=("A", "B", "A"),
        help="steps of the warm-up, the generator and the mixed phases",
    )


def with_steps(config: Config, steps: tuple[int, int, int] | None) -> Config:
    """Settings with so many optimiser steps in the warm-up, of the generator and in the mixed phases.

    Each phase has whole epochs, so a few more than asked. The floors and caps that go by the data are left out.
    """
    if steps is None:
        return config
    warmup, generator, mixed = steps
    return dataclasses.replace(
        config,
        training=dataclasses.replace(
            config.training,
            warmup_epochs=None, generator_epochs=None, mixed_epochs=None,
            warmup_steps=warmup, generator_steps=generator, mixed_steps=mixed,
            encoder_passes=0, generator_passes=0,
        ),
    )  # fmt: skip


def without_conditions(config: Config, n_obs: int, max_epochs: int | None = None) -> Config:
    """Settings of a generator that is told nothing (ablation A2), with as many epochs as the one that is.

    No encoder is trained for it: its conditions are fresh noise of an encoder's width, and the streams of random numbers
    are apart, so the generator is that of a fit with a warm-up to the last bit.
    """
    plan = config.training.resolve(n_obs, max_epochs)  # first: a cap would give the epochs left out to the generator
    alone = dataclasses.replace(plan, warmup_epochs=0, mixed_epochs=0, view_rate=0.0)
    return dataclasses.replace(config, training=alone).updated("diffusion", condition="noise")


def budget(
    config: Config, n_train: int, *, full: Config, n_train_full: int, max_epochs: int | None = None
) -> dict[str, Any]:
    """Columns of a row: the events and steps that a fit is given, and those of ``full``, the same without any cap."""
    steps, epochs = _steps(config, n_train, max_epochs)
    steps_full, _ = _steps(full, n_train_full, None)
    return {
        "n_train": n_train, "n_train_full": n_train_full,
        "epochs": _joined(epochs), "steps": _joined(steps), "steps_full": _joined(steps_full),
    }  # fmt: skip


def _steps(config: Config, n_obs: int, max_epochs: int | None) -> tuple[list[int], list[int]]:
    """Steps and epochs of the warm-up, the generator and the mixed phases, over all cycles."""
    plan = config.training.resolve(n_obs, max_epochs)
    (warmup, *mixed), (_, generate, _) = plan.encoder_phases, known_epochs(plan)
    epochs = [warmup, plan.n_cycles * generate, sum(mixed)]
    encoder, generator = (n_obs // size for size in plan.batch_sizes(n_obs))
    return [n * k for n, k in zip(epochs, (encoder, generator, encoder), strict=True)], epochs


def _joined(numbers: list[int]) -> str:
    return " + ".join(map(str, numbers))


def one_setting(table: pd.DataFrame) -> pd.DataFrame:
    """Of each set the rows of one setting: that with the most rows, and of equals the last in the file."""
    if table.empty or "settings" not in table:
        return table
    kept = []
    for _, rows in table.groupby("set", sort=False):
        counts = rows["settings"].fillna("").value_counts()
        most = counts.index[counts == counts.max()]
        chosen = rows["settings"].fillna("")[rows["settings"].fillna("").isin(most)].iloc[-1]
        kept.append(rows[rows["settings"].fillna("") == chosen])
    return pd.concat(kept).sort_index()


def said(table: pd.DataFrame, events: str, everything: pd.DataFrame | None = None) -> str:
    """What the rows of each set were given, a line for each set; the table has one setting of each.

    Parameters
    ----------
    table
        Rows of :func:`one_setting`.
    events
        What the events are called.
    everything
        Also the rows that are not shown, to say how many these are.
    """
    lines = []
    for name, rows in table.groupby("set", sort=False):
        line = f"- `{name}`: {_of_set(rows, events)}"
        hidden = 0 if everything is None else int((everything["set"] == name).sum()) - len(rows)
        lines.append(line + (f" In the file and not shown, of other settings: {hidden} rows." if hidden else ""))
    return "\n".join(lines)


def _of_set(rows: pd.DataFrame, events: str) -> str:
    settings = json.loads(rows["settings"].iloc[0]) if "settings" in rows else {}
    known = {c: rows[c].dropna().iloc[0] for c in rows if rows[c].notna().any()}
    n, n_full = int(known.get("n_train", 0)), int(known.get("n_train_full", 0))
    changes = "".join(f", {k} {v:g}" for k, v in settings.get("domain", {}).items())
    parts = [f"preset *{settings.get('preset', 'default')}*{changes}"]
    if n:
        parts.append(f"{n:,} {f'of {n_full:,} ' if n < n_full else ''}training {events}")
    if "n_test" in known:
        parts.append(f"tested on {int(known['n_test']):,}")
    if "length" in known:
        length, length_full = int(known["length"]), int(known.get("length_full", known["length"]))
        parts.append(f"length {length}" + (f", the middle of {length_full}" if length < length_full else ""))
    if "steps" not in known:
        return ", ".join(parts) + ", steps not recorded."
    named = [f"{part} {int(k):,}" for part, k in zip(PHASES, known["steps"].split(" + "), strict=True)]
    text = ", ".join(parts) + f"; steps: {', '.join(named)} ({known['epochs']} epochs)."
    pairs = zip(known["steps"].split(" + "), known["steps_full"].split(" + "), strict=True)
    if any(int(mine) < int(full) for mine, full in pairs):
        text += f" **Undertrained**: the full setting has {known['steps_full']} steps"
        text += f" on {n_full:,} {events}." if n < n_full else "."
    return text
