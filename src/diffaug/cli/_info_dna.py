"""What a model or a file of sequences holds, as plain data and as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffaug.cli._info import counted, listed, model_facts, model_text, parameters_line

if TYPE_CHECKING:
    from diffaug._model import DiffAug
    from diffaug.dna import SequenceTable


def of_model(folder: Path, model: DiffAug) -> dict[str, Any]:
    """Describe a model."""
    own = {"lengths": model.meta.get("lengths"), "n_with_unknown": model.meta.get("n_with_unknown")}
    return model_facts(folder, model, own)


def of_sequences(path: Path, table: SequenceTable) -> dict[str, Any]:
    """Describe sequences that were read from a file."""
    from diffaug import dna

    lengths = [len(s) for s in table.sequences]
    return {
        "kind": "sequences",
        "path": str(path),
        "n_obs": len(table),
        "lengths": [min(lengths), max(lengths)],
        "n_with_unknown": sum("N" in s for s in table.sequences),
        "gc": round(float(dna.gc_content(table.sequences).mean()), 4),
        "labels": counted(table.labels),
        "split": counted(table.split),
    }


def as_text(found: Mapping[str, Any]) -> str:
    """For people."""
    shortest, longest = found["lengths"] or ("?", "?")
    lines = [
        f"{found['kind']} {found['path']}",
        f"  {found['n_obs']} sequences of {shortest} to {longest} bases, {found['n_with_unknown']} with N",
    ]
    if found["kind"] == "model":
        seed = f"  seed {found['random_state']}"
        return model_text([*lines, seed, parameters_line(found)], found)
    lines.append(f"  GC {found['gc']:.1%}")
    lines += [f"  {what}: " + listed(found[what]) for what in ("labels", "split") if found[what]]
    return "\n".join(lines)
