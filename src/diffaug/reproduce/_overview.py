"""What can be reproduced, and on which sets: for ``reproduce --list``."""

from __future__ import annotations

from typing import Any

from diffaug.reproduce._arms import Domain, artefacts
from diffaug.reproduce._sets import at_hand, paper_sets


def numbers(domain: Domain = "bio") -> dict[str, Any]:
    """As plain data."""
    present = at_hand(domain)
    return {
        "artefacts": {
            a.name: {
                "title": a.title,
                "arms": {arm.key: {"title": arm.title, "method": arm.method, "changes": arm.changes} for arm in a.arms},
            }
            for a in artefacts(domain).values()
        },
        "paper_sets": {
            s.title: {
                "paper": s.paper.value,
                "reason": s.reason,
                **({} if domain == "bio" else {"present": present[s.name]}),
                "stand_ins": {name: present[name] for name in s.stand_ins},
            }
            for s in paper_sets(domain)
        },
        "sets": [name for name, is_there in present.items() if is_there],
    }


def text(domain: Domain = "bio") -> str:
    """For people."""
    found = numbers(domain)
    lines = []
    for name, a in found["artefacts"].items():
        lines.append(f"{name}  {a['title'].partition(': ')[2]}")
        width = max(len(key) for key in a["arms"])
        lines += [f"    {key:{width}}  {arm['title']}" for key, arm in a["arms"].items()]
    if domain == "bio":
        lines += ["", "The paper's sets, none of which can be had as it was, and what stands in for them:"]
    else:
        lines += ["", "The paper's sets, and what stands in for them:"]
    for title, s in found["paper_sets"].items():
        places = {**({"itself": s["present"]} if "present" in s else {}), **s["stand_ins"]}
        used = ", ".join(f"{k} ({'at hand' if v else 'not at hand'})" for k, v in places.items()) or "nothing"
        lines.append(f"    {title} (paper: {s['paper']}): {used}. {s['reason']}".rstrip())
    lines += ["", f"Sets at hand, for --sets: {', '.join(found['sets'])}"]
    return "\n".join(lines)
