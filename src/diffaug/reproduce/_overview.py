"""What can be reproduced, and on which sets: for ``reproduce --list``."""

from __future__ import annotations

from typing import Any

from diffaug import datasets
from diffaug.reproduce._arms import ARTEFACTS
from diffaug.reproduce._sets import paper_sets


def numbers() -> dict[str, Any]:
    """As plain data."""
    table = datasets.list_datasets("bio")
    return {
        "artefacts": {
            a.name: {
                "title": a.title,
                "arms": {arm.key: {"title": arm.title, "method": arm.method, "changes": arm.changes} for arm in a.arms},
            }
            for a in ARTEFACTS.values()
        },
        "paper_sets": {
            s.title: {
                "paper": s.paper.value,
                "reason": s.reason,
                "stand_ins": {name: bool(table.loc[name, "present"]) for name in s.stand_ins},
            }
            for s in paper_sets()
        },
        "sets": [str(name) for name in table.index[table["present"]]],
    }


def text() -> str:
    """For people."""
    found = numbers()
    lines = []
    for name, a in found["artefacts"].items():
        lines.append(f"{name}  {a['title'].partition(': ')[2]}")
        width = max(len(key) for key in a["arms"])
        lines += [f"    {key:{width}}  {arm['title']}" for key, arm in a["arms"].items()]
    lines += ["", "The paper's sets, none of which can be had as it was, and what stands in for them:"]
    for title, s in found["paper_sets"].items():
        used = ", ".join(f"{k} ({'at hand' if v else 'not at hand'})" for k, v in s["stand_ins"].items()) or "nothing"
        lines.append(f"    {title} (paper: {s['paper']}): {used}. {s['reason']}")
    lines += ["", f"Sets at hand, for --sets: {', '.join(found['sets'])}"]
    return "\n".join(lines)
