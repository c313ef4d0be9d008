"""What is installed, and what there is to say of a model of any domain, as plain data and as text."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffaug.core.trust import ViewTrust, view_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diffaug._model import DiffAug

PACKAGES = ("numpy", "scipy", "scanpy", "anndata", "lightning-fabric")


def model_facts(folder: Path, model: DiffAug, own: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a model, with what a domain says of its ``own``."""
    history = [dataclasses.asdict(record) for record in model.history]
    return {
        "kind": "model",
        "path": str(folder),
        "n_obs": model.n_obs,
        **own,
        "n_parameters": model.n_parameters,
        "random_state": model.random_state,
        "settings": model.config.to_dict(),
        "asked": model.asked.to_dict(),
        "phases": phases(history),
        "views": views(history, model.config.to_dict(), model.backend.events),
    }


def of_installation() -> dict[str, Any]:
    """Versions, devices and threads: what a report of a bug needs."""
    import torch

    from diffaug.core.devices import respected_threads

    devices = ["cpu", *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    with respected_threads():
        threads = torch.get_num_threads()
    return {
        "kind": "installation",
        "versions": {
            "diffaug": version("diffaug"),
            "python": platform.python_version(),
            "torch": torch.__version__,  # with its build, which the metadata leave out
            **{name: version(name) for name in PACKAGES},
        },
        "platform": platform.platform(),
        "devices": devices,
        "threads": threads,
        "cores": os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def phases(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sum up a history, one entry for each run of epochs of one phase and, of an ensemble, of one encoder."""
    found = []
    for (phase, cycle, member), group in groupby(history, key=_part):
        rows = list(group)
        found.append(
            {
                "phase": phase,
                "cycle": cycle,
                "member": member,
                "epochs": 0 if phase == "fill" else len(rows),
                "seconds": round(sum(float(r["seconds"]) for r in rows), 3),
                "encoder_loss": float(rows[-1]["encoder_loss"]),
                "generator_loss": float(rows[-1]["generator_loss"]),
                "n_positives": sum(int(r["n_positives"]) for r in rows),
                "n_generated": sum(int(r["n_generated"]) for r in rows),
            }
        )
    return found


def _part(record: Mapping[str, Any]) -> tuple[str, int, int]:
    return str(record["phase"]), int(record["cycle"]), int(record.get("member", 0))  # older ones have one encoder


def views(
    history: Sequence[Mapping[str, Any]], settings: Mapping[str, Mapping[str, Any]], events: str
) -> dict[str, Any] | None:
    """The lambda in force and why it is as it is; ``None`` where no bank of views was filled."""
    asked = settings.get("training", {}).get("view_rate")
    found = None if asked is None else view_share(history, float(asked))
    if found is None:
        return None
    factors = {} if found.trust is None else found.trust._asdict()
    known = {name: value for name, value in factors.items() if not math.isnan(value)}
    return {
        "view_rate": found.rate,
        "view_rate_asked": found.asked,
        **dict.fromkeys(ViewTrust._fields),
        **known,
        "said": found.sentence(events),
    }


def installation_text(found: Mapping[str, Any]) -> str:
    """What :func:`of_installation` found, for people."""
    asked = found["OMP_NUM_THREADS"]
    return "\n".join(
        [
            *(f"{name} {number}" for name, number in found["versions"].items()),
            f"platform: {found['platform']}",
            f"devices: {', '.join(found['devices'])}",
            f"threads: {found['threads']} on {found['cores']} cores "
            f"(OMP_NUM_THREADS {'unset' if asked is None else f'= {asked}'})",
        ]
    )


def counted(values: NDArray[Any] | None, names: Sequence[str] = ()) -> dict[str, int]:
    """How many of each value, by its name: a value is a place in ``names`` where there are some, and -1 none of them."""
    if values is None:
        return {}
    # A column of a table may hold values of several kinds, which have no order but as text.
    keys, counts = np.unique(values.astype(str) if values.dtype == object else values, return_counts=True)
    named = [names[k] if names and k >= 0 else str(k) for k in keys]
    return {name: int(n) for name, n in zip(named, counts, strict=True)}


def listed(items: Mapping[str, int]) -> str:
    """Names with their numbers."""
    return ", ".join(f"{name} ({count})" for name, count in items.items())


def parameters_line(found: Mapping[str, Any]) -> str:
    """Sizes of the networks that :func:`model_facts` found."""
    return "  parameters: " + ", ".join(f"{k} {v:,}" for k, v in found["n_parameters"].items())


def training_lines(found: Mapping[str, Any]) -> list[str]:
    """How a model was trained, and the settings it was asked for: what a fit fills in belongs to its data."""
    return [*phase_lines(found["phases"]), *view_lines(found["views"]), *toml_lines(found["asked"])]


def phase_lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Table of a history that :func:`phases` summed up."""
    if not found:
        return []
    lines = ["", "phase  cycle  encoder  epochs  seconds  encoder loss  generator loss  generated / positives"]
    for p in found:
        losses = ["-" if math.isnan(p[k]) else f"{p[k]:.4f}" for k in ("encoder_loss", "generator_loss")]
        lines.append(
            f"{p['phase']:5}  {p['cycle']:5}  {'-' if p['phase'] == 'B' else p['member'] + 1:>7}  {p['epochs']:6}  {p['seconds']:7.1f}  {losses[0]:>12}  {losses[1]:>14}  "
            f"{p['n_generated']} / {p['n_positives']}"
        )
    return [*lines, f"in all {sum(p['seconds'] for p in found):.1f} s"]


def view_lines(found: Mapping[str, Any] | None) -> list[str]:
    """What :func:`views` found."""
    if found is None:
        return []
    lines = ["", found["said"]]
    kept = [f"{name} {found[name]:.2f}" for name in ViewTrust._fields if found[name] is not None]
    if kept:
        lines.append(f"beside hand-made views: {', '.join(kept)}")
    return lines


def model_text(lines: Sequence[str], found: Mapping[str, Any]) -> str:
    """What is known of a model, for people and for ``fit --config``: all but its settings are comments of TOML."""
    facts = [*lines, *phase_lines(found["phases"]), *view_lines(found["views"])]
    comments = [f"# {line}".rstrip() for line in "\n".join(facts).splitlines()]
    return "\n".join([*comments, *toml_lines(found["asked"])])


def toml_lines(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Settings as ``fit --config`` reads them."""
    # JSON's texts, numbers, booleans and lists are TOML's.
    lines = []
    for section, values in settings.items():
        lines += ["", f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return lines
