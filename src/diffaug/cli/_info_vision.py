"""What a model or a file of images holds, as plain data and as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffaug.cli._info import counted, listed, model_facts, model_text, parameters_line

if TYPE_CHECKING:
    from diffaug._model import DiffAug
    from diffaug.vision import ImageSet


def of_model(folder: Path, model: DiffAug) -> dict[str, Any]:
    """Describe a model."""
    backend = model.backend
    own = {
        "shape": list(model.event_shape),
        "range": [float(backend.low), float(backend.high)],  # type: ignore[arg-type]
    }
    return model_facts(folder, model, own)


def of_images(path: Path, found: ImageSet) -> dict[str, Any]:
    """Describe images that were read from a file or a folder."""
    return {
        "kind": "images",
        "path": str(path),
        "n_obs": len(found),
        "shape": list(found.images.shape[1:]),
        "range": [float(found.images.min()), float(found.images.max())] if len(found) else [],
        "dtype": str(found.images.dtype),
        "labels": counted(found.labels, found.classes),
        "split": counted(found.split),
    }


def as_text(found: Mapping[str, Any]) -> str:
    """For people."""
    shape, bounds = " x ".join(map(str, found["shape"])), " to ".join(f"{v:g}" for v in found["range"])
    lines = [f"{found['kind']} {found['path']}", f"  {found['n_obs']} images of {shape}, values {bounds}"]
    if found["kind"] == "model":
        seed = f"  seed {found['random_state']}"
        return model_text([*lines, seed, parameters_line(found)], found)
    for what in ("labels", "split"):
        if found[what]:
            lines.append(f"  {what}: " + listed(found[what]))
    return "\n".join(lines)
