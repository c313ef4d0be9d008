"""What a model folder or an .h5ad file holds, or what is installed, as plain data and as text."""

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
from typing import Any

from diffaug.cli._files import read_h5ad
from diffaug.cli._options import load
from diffaug.core.trust import view_share

SECTIONS = ("loss", "diffusion", "training", "domain")
PACKAGES = ("numpy", "scipy", "scanpy", "anndata", "lightning-fabric")
_FEW = 5


def of_model(folder: Path) -> dict[str, Any]:
    """Describe the folder of a model. It is loaded, and so checked."""
    model = load(folder, "cpu")
    history = [dataclasses.asdict(record) for record in model.history]
    return {
        "kind": "model",
        "path": str(folder),
        "n_obs": model.n_obs,
        "n_vars": model.event_shape[0],
        "genes": model.meta.get("features", [])[:_FEW],
        "input": {k: model.meta.get(k) for k in ("layer", "use_rep", "kind", "sparse", "batch_key", "label_key")},
        "groups": {k: len(v["categories"]) for k, v in model.meta.get("cells", {}).get("groups", {}).items()},
        "n_parameters": model.n_parameters,
        "random_state": model.random_state,
        "settings": model.config.to_dict(),
        "phases": phases(history),
        "views": views(history, model.config.to_dict(), model.backend.events),
    }


def of_h5ad(path: Path) -> dict[str, Any]:
    """Describe an .h5ad file; its matrix stays on disk."""
    adata = read_h5ad(path, backed=True)
    try:
        return {
            "kind": "h5ad",
            "path": str(path),
            "n_obs": adata.n_obs,
            "n_vars": adata.n_vars,
            "genes": adata.var_names[:_FEW].tolist(),
            "layers": sorted(k for k in adata.layers if k),
            "obsm": {k: int(v.shape[1]) for k, v in adata.obsm.items()},
            "obs": {str(k): int(v.nunique()) for k, v in adata.obs.items()},
            "results": {k: _result(v) for k, v in adata.uns.items() if isinstance(v, Mapping) and "versions" in v},
        }
    finally:
        adata.file.close()


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


def _result(record: Mapping[str, Any]) -> dict[str, Any]:
    """One of the records that fit, embed, augment and generate leave in ``uns``."""
    columns = record.get("history", {})
    rows = [dict(zip(columns, map(_scalar, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    params = record.get("params", {})
    settings = {k: {name: _scalar(v) for name, v in params[k].items()} for k in SECTIONS if k in params}
    return {
        "made_by": str(record.get("made_by", "embed" if "n_filled_genes" in record else "fit")),
        "versions": {k: str(v) for k, v in record["versions"].items()},
        "settings": settings,
        "phases": phases(rows),
        "views": views(rows, settings, "cells"),
    }


def _scalar(value: Any) -> Any:
    """Plain Python values for those of numpy, which reading a file gives."""
    return value.tolist() if hasattr(value, "tolist") else value


def phases(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sum up a history, one entry for each run of epochs of one phase."""
    found = []
    for (phase, cycle), group in groupby(history, key=lambda r: (str(r["phase"]), int(r["cycle"]))):
        rows = list(group)
        found.append(
            {
                "phase": phase,
                "cycle": cycle,
                "epochs": 0 if phase == "fill" else len(rows),
                "seconds": round(sum(float(r["seconds"]) for r in rows), 3),
                "encoder_loss": float(rows[-1]["encoder_loss"]),
                "generator_loss": float(rows[-1]["generator_loss"]),
                "n_positives": sum(int(r["n_positives"]) for r in rows),
                "n_generated": sum(int(r["n_generated"]) for r in rows),
            }
        )
    return found


def views(
    history: Sequence[Mapping[str, Any]], settings: Mapping[str, Mapping[str, Any]], events: str
) -> dict[str, Any] | None:
    """The lambda in force and why it is as it is; ``None`` where no bank of views was filled."""
    asked = settings.get("training", {}).get("view_rate")
    found = None if asked is None else view_share(history, float(asked))
    if found is None:
        return None
    trust = found.trust
    return {
        "view_rate": found.rate,
        "view_rate_asked": found.asked,
        "news": None if trust is None else trust.news,
        "faith": None if trust is None else trust.faith,
        "said": found.sentence(events),
    }


def as_text(found: Mapping[str, Any]) -> str:
    """For people."""
    if found["kind"] == "installation":
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
    lines = [f"{found['kind']} {found['path']}", f"  {found['n_obs']} cells x {found['n_vars']} genes or dimensions"]
    if found["genes"]:
        lines.append(f"  the first: {', '.join(found['genes'])}")
    if found["kind"] == "model":
        given = found["input"]
        slot = (
            f"obsm[{given['use_rep']!r}]"
            if given["use_rep"]
            else f"layers[{given['layer']!r}]"
            if given["layer"]
            else "X"
        )
        lines += [
            f"  trained on {slot} ({given['kind']}, {'sparse' if given['sparse'] else 'dense'}), seed {found['random_state']}",
            "  parameters: " + ", ".join(f"{k} {v:,}" for k, v in found["n_parameters"].items()),
            "  groups to generate by: " + (_counted(found["groups"]) or "none"),
            *phase_lines(found["phases"]),
            *view_lines(found["views"]),
            *toml_lines(found["settings"]),
        ]
        return "\n".join(lines)
    lines += [
        "  layers: " + (", ".join(found["layers"]) or "none"),
        "  obsm: " + (_counted(found["obsm"]) or "none"),
        "  obs: " + (_counted(found["obs"]) or "none"),
    ]
    if not found["results"]:
        lines.append("  nothing of diffaug")
    for name, result in found["results"].items():
        versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
        lines += ["", f"uns[{name!r}], written by {result['made_by']} ({versions})"]
        lines += [
            *phase_lines(result["phases"]),
            *view_lines(result["views"]),
            *toml_lines(result["settings"]),
        ]
    return "\n".join(lines)


def _counted(items: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in items.items())


def phase_lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Table of a history that :func:`phases` summed up."""
    if not found:
        return []
    lines = ["", "phase  cycle  epochs  seconds  encoder loss  generator loss  generated / positives"]
    for p in found:
        losses = ["-" if math.isnan(p[k]) else f"{p[k]:.4f}" for k in ("encoder_loss", "generator_loss")]
        lines.append(
            f"{p['phase']:5}  {p['cycle']:5}  {p['epochs']:6}  {p['seconds']:7.1f}  {losses[0]:>12}  {losses[1]:>14}  "
            f"{p['n_generated']} / {p['n_positives']}"
        )
    return [*lines, f"in all {sum(p['seconds'] for p in found):.1f} s"]


def view_lines(found: Mapping[str, Any] | None) -> list[str]:
    """What :func:`views` found."""
    if found is None:
        return []
    lines = ["", found["said"]]
    if found["news"] is not None:
        lines.append(f"beside hand-made views: news {found['news']:.2f}, faith {found['faith']:.2f}")
    return lines


def toml_lines(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Settings as ``fit --config`` reads them."""
    # JSON's texts, numbers, booleans and lists are TOML's.
    lines = []
    for section, values in settings.items():
        lines += ["", f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return lines
