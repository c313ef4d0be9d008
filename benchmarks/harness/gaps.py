"""What a plan asks for and the rows do not have: methods, sets, seeds and protocols that were not run, in a few lines.

A run that failed is no gap: the page lists failures by themselves, with their errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from peers import Peer

from harness.protocols import PROTOCOLS, Protocol
from harness.run import COMPUTE, INSTALL, Plan
from harness.sets import Slice, is_counts, is_grouped

Runs = set[tuple[str, int]]  # of a method: sets and seeds
#: So many names stand in a line at most.
_NAMED = 6


class _Line(NamedTuple):
    """A line of the tables, and the runs that the plan asks for."""

    name: str
    shown: str
    stochastic: bool
    asked: Runs


def gaps(rows: pd.DataFrame, plan: Plan, peers: Mapping[str, Peer], *, elsewhere: Iterable[str] = ()) -> list[str]:
    """Lines of Markdown on what was not run.

    Parameters
    ----------
    rows
        Rows that the page shows, those of failures among them.
    plan
        What is asked for.
    peers
        The methods of the plan that can be run here.
    elsewhere
        Methods that have rows of other settings, for the remark that they have.
    """
    lines = [
        _Line(row.name, row.shown, peer.stochastic, _asked(peer, plan)) for peer in peers.values() for row in peer.rows
    ]
    there = {line.name: _runs(rows, line.name, failed=False) for line in lines}
    failed = {line.name: _runs(rows[rows["protocol"] == COMPUTE], line.name, failed=True) for line in lines}
    without = [line for line in lines if line.asked and not there[line.name] and not line.asked <= failed[line.name]]
    begun = [line for line in lines if there[line.name]]
    found = []
    if without:
        old = set(elsewhere)
        names = [f"*{line.shown}*" + (" (of other settings only)" if line.name in old else "") for line in without]
        found.append(f"No rows yet: {', '.join(names)}.")
    found += _sets(begun, there, failed)
    found += _seeds(begun, there, failed, plan.n_seeds)
    found += _protocols(rows, begun, there, plan)
    left_out = [name for name in PROTOCOLS if name not in plan.protocols]
    if left_out:
        found.append(f"Protocols that the command leaves out: {_quoted(left_out)}.")
    return [f"- {line}" for line in found]


def _asked(peer: Peer, plan: Plan) -> Runs:
    slices = [one for one in plan.slices if is_counts(one) or not peer.needs_counts]
    return {(one.name, seed) for one in slices for seed in range(plan.n_seeds if peer.stochastic else 1)}


def _runs(rows: pd.DataFrame, method: str, *, failed: bool) -> Runs:
    own = rows[(rows["method"] == method) & (rows["protocol"] != INSTALL) & ((rows["error"] != "") == failed)]
    return set(zip(own["set"], own["seed"].astype(int), strict=True))


def _sets(lines: Sequence[_Line], there: Mapping[str, Runs], failed: Mapping[str, Runs]) -> list[str]:
    """Methods that lack whole sets; those that lack the same ones stand in one line."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for line in lines:
        seen = {name for name, _ in there[line.name] | failed[line.name]}
        lacking = tuple(sorted({name for name, _ in line.asked} - seen))
        if lacking:
            n = len({name for name, _ in line.asked})
            alike.setdefault((f"{n - len(lacking)} of {n}", *lacking), []).append(f"*{line.shown}*")
    return [f"Sets: {share} of {', '.join(names)}; not {_some(sets)}." for (share, *sets), names in alike.items()]


def _seeds(lines: Sequence[_Line], there: Mapping[str, Runs], failed: Mapping[str, Runs], n_seeds: int) -> list[str]:
    """Methods that have fewer seeds than asked for on the sets that they have."""
    alike: dict[str, list[str]] = {}
    for line in lines:
        if not line.stochastic:
            continue
        done = (there[line.name] | failed[line.name]) & line.asked
        counts = sorted(sum(run[0] == name for run in done) for name in {name for name, _ in done})
        if counts and counts[0] < n_seeds:
            said = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}, by set,"
            alike.setdefault(said, []).append(f"*{line.shown}*")
    return [f"Seeds: {said} of {n_seeds} of {', '.join(names)}." for said, names in alike.items()]


def _protocols(rows: pd.DataFrame, lines: Sequence[_Line], there: Mapping[str, Runs], plan: Plan) -> list[str]:
    """Protocols without rows: of any method, of some, and of some runs; protocols that lack the same are one line."""
    alike: dict[str, list[str]] = {}
    by_name: dict[str, Slice] = {one.name: one for one in plan.slices}
    for name in plan.protocols:
        protocol, none, few, n_any = PROTOCOLS[name], [], [], 0
        scores = rows[rows["protocol"] == name]
        for line in lines:
            asked, begun = (_judged(runs, line, protocol, by_name) for runs in (line.asked, there[line.name]))
            done = _runs(scores, line.name, failed=False) | _runs(scores, line.name, failed=True)
            n_any += bool(done)
            if asked and not done:
                none.append(f"*{line.shown}*")
            elif begun - done:
                few.append(f"{len(begun - done)} of {len(begun)} runs of *{line.shown}* lack it")
        parts = ([f"none of {', '.join(none)}"] if n_any else ["no rows of any method"]) if none else []
        if parts or few:
            alike.setdefault("; ".join([*parts, *few]), []).append(name)
    return [f"{_quoted(names)}: {said}." for said, names in alike.items()]


def _judged(runs: Runs, line: _Line, protocol: Protocol, slices: Mapping[str, Slice]) -> Runs:
    """Of some runs those that a protocol can judge."""
    return {
        (name, seed)
        for name, seed in runs
        if name in slices
        and (not protocol.grouped or is_grouped(slices[name]))
        and (not protocol.against_first or (line.stochastic and seed > 0))
    }


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
