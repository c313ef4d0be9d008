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
    from diffaug.dna._files import repeated_names

    lengths = [len(s) for s in table.sequences]
    return {
        "kind": "sequences",
        "path": str(path),
        "n_obs": len(table),
        "lengths": [min(lengths), max(lengths)],
        "n_with_unknown": sum("N" in s for s in table.sequences),
        "gc": round(float(dna.gc_content(table.sequences).mean()), 4),
        "n_repeated_names": len(repeated_names(table.names)),
        **_labels(table),
        "split": counted(table.split),
    }


def _labels(table: SequenceTable) -> dict[str, Any]:
    """The classes, and how many sequences have none: ``None`` where there is no column of labels."""
    if table.labels is None:
        return {"labels": {}, "n_without_label": None}
    from diffaug.dna._labels import without_label

    none = without_label(table.labels)
    return {"labels": counted(table.labels[~none]), "n_without_label": int(none.sum())}


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
    if found["n_repeated_names"]:
        lines.append(f"  names: {found['n_repeated_names']} are repeated")
    missing = f"{found['n_without_label']} missing" if found["n_without_label"] else ""
    said = {"labels": "; ".join(filter(None, (listed(found["labels"]), missing))), "split": listed(found["split"])}
    lines += [f"  {what}: {text}" for what, text in said.items() if text]
    return "\n".join(lines)
