"""From stored rows to numbers of the page: goals, ranks, means with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diffaug.metrics import MeanInterval, mean_interval
from diffaug.metrics.catalogue import MEASURES
from generators.base import FAMILIES, TOOLS
from generators.run import DONE, Plan

OURS = "diffaug"
#: Suffix of a measure that is shown as a share of what real cells reach.
SHARE = "/floor"


@dataclass(frozen=True)
class Column:
    """A measure of a table: how it is shown, and how far a value is from ideal."""

    name: str
    shown: str
    loss: Callable[[float], float]


def _from(ideal: float) -> Callable[[float], float]:
    return lambda value: abs(value - ideal)


SCORE = Column("mean_score", "score", lambda v: max(1.0 - v, 0.0))  # luck above real cells is no better
AUC = Column("auc_pcs", "AUC, components", MEASURES["auc_pcs"].loss)
SLOPE = Column("lfc_slope", "log-fold slope", _from(1))
ZEROS = Column("zero_fraction", "zero error", _from(0))
GENES = Column("correlation", "gene-gene", _from(1))
CLOSER = Column("closer", "closer to train", lambda v: max(v - 0.5, 0.0))
TRANSFER = Column("transfer", "train on it", _from(1))
#: Measures that tools are ranked by. Composition and library sizes are given to most tools, and left out.
RANKED = (
    SCORE, AUC, Column("auc_genes", "AUC, genes", MEASURES["auc_genes"].loss), Column("mmd", "MMD", _from(0)),
    Column("mixing", "mixing", _from(1)), Column("gene_mean", "means", _from(0)),
    Column("gene_variance", "variances", _from(0)), ZEROS,
    Column("count_fano", "Fano ratio", lambda v: abs(math.log(max(v, 1e-9)))), GENES,
    Column("marker_recall", "markers", _from(1)), SLOPE, TRANSFER, CLOSER,
)  # fmt: skip
MORE = (
    Column(f"correlation{SHARE}", "gene-gene, share of real", _from(1)),
    Column("count_fano", "Fano ratio", _from(1)), Column("count_library", "library sizes", _from(0)),
    Column("count_zeros", "zero error of counts", _from(0)), Column("count_slope", "variance slope", _from(0)),
    Column("auc_genes", "AUC, genes", _from(0.5)), Column("marker_recall", "marker recall", _from(1)),
    Column("mmd", "MMD", _from(0)), Column("mixing", "mixing", _from(1)),
)  # fmt: skip


@dataclass(frozen=True)
class Goal:
    """What is asked of a measure; ``missed`` is positive where a value, beside the floor, falls short."""

    column: Column
    said: str
    missed: Callable[[float, float], float]


GOALS = (
    Goal(SCORE, "at least 0.9", lambda v, floor: 0.9 - v),
    Goal(AUC, "at most 0.65", lambda v, floor: v - 0.65),
    Goal(SLOPE, "0.95 to 1.05", lambda v, floor: abs(v - 1) - 0.05),
    Goal(ZEROS, "under 0.02", lambda v, floor: v - 0.02),
    Goal(GENES, "at least 0.9", lambda v, floor: 0.9 - v),
    Goal(CLOSER, "at most 0.52", lambda v, floor: v - 0.52),
    Goal(TRANSFER, "real less 0.02", lambda v, floor: floor - v - 0.02),
)
#: What real cells score by definition, where the report has no floor.
IDEAL_FLOORS = {"mean_score": 1.0, "closer": 0.5, f"correlation{SHARE}": 1.0}


def shown_rows(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Rows of the plan's sets, size, settings and tools."""
    hashes = {t.name: plan.hash(FAMILIES[f]) for f in plan.families for t in FAMILIES[f].tools}
    rows = table[(table["max_obs"] == plan.max_obs) & (table["n_top_genes"] == plan.n_top_genes)]
    rows = rows[rows["set"].isin(plan.sets) & rows["method"].isin(hashes)]
    return rows[rows["settings_hash"] == rows["method"].map(hashes)]


def seeds_in(table: pd.DataFrame, plan: Plan) -> int:
    """How many seeds there are rows of."""
    return int(shown_rows(table, plan)["seed"].nunique())


def whole(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of runs that ended without a failure."""
    keys = ["set", "method", "seed"]
    done = rows[(rows["protocol"] == DONE) & (rows["error"] == "")][keys].drop_duplicates()
    return rows.merge(done, on=keys)


def values(rows: pd.DataFrame, measure: str, protocol: str = "value") -> pd.DataFrame:
    """``set``, ``method``, ``seed`` and ``value`` of a measure; with :data:`SHARE` at its end, as a share of its floor."""
    if measure.endswith(SHARE):
        plain = measure.removesuffix(SHARE)
        keys = ["set", "method", "seed"]
        both = values(rows, plain, protocol).merge(values(rows, plain, "floor"), on=keys, suffixes=("", "_floor"))
        both = both[both["value_floor"] > 0]
        return both.assign(value=both["value"] / both["value_floor"])[[*keys, "value"]].reset_index(drop=True)
    found = rows[(rows["protocol"] == protocol) & (rows["metric"] == measure)]
    return found[["set", "method", "seed", "value"]].dropna(subset="value").reset_index(drop=True)


def tools_in(rows: pd.DataFrame, *, controls: bool) -> list[str]:
    """Tools that there are rows of, in the order of the tables; controls last, or not at all."""
    there = set(rows["method"])
    found = [name for name, (tool, _) in TOOLS.items() if name in there and not tool.control]
    return found + ([name for name, (tool, _) in TOOLS.items() if name in there and tool.control] if controls else [])


def over_sets(rows: pd.DataFrame, measure: str, tool: str, protocol: str = "value") -> MeanInterval | None:
    """Mean over seeds, then sets, with Student's t over sets."""
    found = values(rows, measure, protocol)
    found = found[found["method"] == tool]
    return mean_interval(found["value"], found["set"]) if len(found) else None


def over_seeds(rows: pd.DataFrame, measure: str, tool: str, name: str, protocol: str = "value") -> MeanInterval | None:
    """Mean over the seeds of a set, with Student's t over them."""
    found = values(rows[rows["set"] == name], measure, protocol)
    found = found[found["method"] == tool]
    return mean_interval(found["value"]) if len(found) else None


def floor_of(rows: pd.DataFrame, measure: str, name: str, tool: str = OURS) -> float:
    """What real cells score on a set, mean over seeds: the floor that stands beside this tool."""
    if measure in IDEAL_FLOORS:
        return IDEAL_FLOORS[measure]
    found = values(rows[(rows["set"] == name) & ~rows["method"].eq("fresh")], measure, "floor")
    own = found[found["method"] == tool]
    return float((own if len(own) else found)["value"].mean())


def ranks(rows: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """Rank of each tool on each set and measure, 1 the best: ``set``, ``method``, ``measure``, ``rank``.

    Tools are ranked by the mean of their loss over the seeds for which all of them have a value, as each has cells and a
    split of its own; controls are left out.
    """
    tools, parts = tools_in(rows, controls=False), []
    for column in columns:
        found = values(rows[rows["method"].isin(tools)], column.name)
        found = found.assign(loss=found["value"].map(column.loss))
        loss = found.pivot(index=["set", "seed"], columns="method", values="loss").reindex(columns=tools)
        loss = loss.dropna().groupby(level="set").mean()
        ranked = loss.rank(axis=1, method="average").stack().rename("rank").reset_index()
        parts.append(ranked.assign(measure=column.shown))
    return pd.concat(parts, ignore_index=True)


def mean_ranks(found: pd.DataFrame) -> pd.DataFrame:
    """Tools x measures, mean over sets, and the mean of all with the ends of its interval over sets; the best first."""
    table = found.pivot_table(index="method", columns="measure", values="rank", sort=False)
    overall = {
        tool: mean_interval(part.groupby("set")["rank"].mean().to_numpy()) for tool, part in found.groupby("method")
    }
    table["mean"] = pd.Series({t: m.mean for t, m in overall.items()})
    table["low"] = pd.Series({t: m.low for t, m in overall.items()})
    table["high"] = pd.Series({t: m.high for t, m in overall.items()})
    return table.sort_values("mean")


@dataclass(frozen=True)
class Outcome:
    """A goal on one set: the value, the floor beside it, and by how much each of them misses it (0 where it is met)."""

    goal: Goal
    value: float
    floor: float
    missed: float
    floor_missed: float

    @property
    def met(self) -> bool:
        return self.missed == 0


def outcomes(rows: pd.DataFrame, tool: str, name: str) -> list[Outcome]:
    """Every goal of a tool on a set, by the means over seeds."""
    found = []
    for goal in GOALS:
        mean = over_seeds(rows, goal.column.name, tool, name)
        if mean is None:
            continue
        floor = floor_of(rows, goal.column.name, name, tool)
        miss = [max(goal.missed(v, floor), 0.0) if np.isfinite(v) else float("nan") for v in (mean.mean, floor)]
        found.append(Outcome(goal, mean.mean, floor, *miss))
    return found
