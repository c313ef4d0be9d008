"""What a model of cells or an .h5ad file holds, as plain data and as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffaug._keys import LOOP_GAIN, Keys
from diffaug.cli._files import read_h5ad
from diffaug.cli._info import listed, model_facts, model_text, parameters_line, phases, training_lines, views

if TYPE_CHECKING:
    from diffaug._model import DiffAug

SECTIONS = ("loss", "diffusion", "training", "domain")
_FEW = 5


def of_model(folder: Path, model: DiffAug) -> dict[str, Any]:
    """Describe a model."""
    own = {
        "n_vars": model.event_shape[0],
        "genes": model.meta.get("features", [])[:_FEW],
        "input": {
            k: model.meta.get(k) for k in ("layer", "use_rep", "kind", "sparse", "target_sum", "batch_key", "label_key")
        },
        "groups": {k: len(v["categories"]) for k, v in model.meta.get("cells", {}).get("groups", {}).items()},
    }
    return model_facts(folder, model, own)


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
            "results": {k: _result(v, k) for k, v in adata.uns.items() if isinstance(v, Mapping) and "versions" in v},
        }
    finally:
        adata.file.close()


def _result(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One of the records that fit, embed, augment and generate leave in ``uns``, under this name."""
    columns = record.get("history", {})
    rows = [dict(zip(columns, map(_scalar, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    settings = _settings(record.get("params", {}))
    return {
        "made_by": str(record.get("made_by", "embed" if "n_filled_genes" in record else "fit")),
        "versions": {k: str(v) for k, v in record["versions"].items()},
        "settings": settings,
        "asked": _settings(record["asked"]) if "asked" in record else settings,  # files of before do not know
        "phases": phases(rows),
        "views": views(rows, settings, "cells"),
        "loop_gain": _loop_gain(record.get(LOOP_GAIN), name),
    }


def _loop_gain(columns: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """What ``fit --twin`` found, as rows and in words; ``None`` where there was no twin."""
    if columns is None:
        return None
    import pandas as pd

    from diffaug._gain_said import gain_advice, gain_lines

    table = pd.DataFrame(dict(columns)).set_index("measure")
    keys = Keys(None if name == Keys().uns else name)
    said = [*gain_lines(table, "cells"), gain_advice(table, "cells", f"obsm[{keys.twin!r}]")]
    return {"measures": table.to_dict("index"), "said": [line for line in said if line is not None]}


def _settings(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {k: {name: _scalar(v) for name, v in record[k].items()} for k in SECTIONS if k in record}


def _scalar(value: Any) -> Any:
    """Plain Python values for those of numpy, which reading a file gives."""
    return value.tolist() if hasattr(value, "tolist") else value


def as_text(found: Mapping[str, Any]) -> str:
    """For people."""
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
            parameters_line(found),
            "  groups to generate by: " + (listed(found["groups"]) or "none"),
        ]
        return model_text(lines, found)
    lines += [
        "  layers: " + (", ".join(found["layers"]) or "none"),
        "  obsm: " + (listed(found["obsm"]) or "none"),
        "  obs: " + (listed(found["obs"]) or "none"),
    ]
    if not found["results"]:
        lines.append("  nothing of diffaug")
    for name, result in found["results"].items():
        versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
        lines += ["", f"uns[{name!r}], written by {result['made_by']} ({versions})"]
        if result["loop_gain"] is not None:
            lines += result["loop_gain"]["said"]
        lines += training_lines(result)
    return "\n".join(lines)
