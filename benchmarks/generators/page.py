"""The page: ranks, values beside floors, goals and what missed them, rare types, and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from _common import markdown_table

from diffaug.core.storage import written_file
from diffaug.metrics import MeanInterval
from diffaug.reproduce._sets import TUNED_ON
from generators.base import NOT_RUN, TOOLS
from generators.rare_page import rare_section
from generators.run import DONE, Runner
from generators.split import LEAST_COUNTS, LEAST_DONORS, LEAST_OF_TYPE, N_HELD_OUT_DONORS
from generators.summary import (
    GOALS,
    MORE,
    OURS,
    RANKED,
    Column,
    Outcome,
    floor_of,
    mean_ranks,
    outcomes,
    over_seeds,
    over_sets,
    ranks,
    shown_rows,
    tools_in,
    values,
    whole,
)

NOTES = Path(__file__).resolve().parents[1] / "notes" / "synthetic.md"
NONE = "–"


def write_page(runner: Runner, out: Path, rare_cells: int, command: str) -> Path:
    """Write page and figure from the rows that there are."""
    text, figure = page(runner, rare_cells, command)
    file = out / "synthetic.md"
    notes = ""  # they speak of rows: a page without rows has none
    if figure is not None:
        from harness.figures import keep

        keep(figure, out / "synthetic-goals")
        notes = NOTES.read_text(encoding="utf-8").strip() if NOTES.exists() else ""
    with written_file(file) as fresh:
        fresh.write_text(f"{text}\n\n{notes}".strip() + "\n", encoding="utf-8")
    return file


def page(runner: Runner, rare_cells: int, command: str):
    """The text, and the figure or None."""
    table, plan = runner.rows.table(), runner.plan
    rows = shown_rows(table, plan)
    failed = rows[(rows["protocol"] == DONE) & (rows["error"] != "")]
    rows = whole(rows)
    rare = rare_section(table, plan, rare_cells)
    if rows.empty:
        return (
            f"# Synthetic cells of several generators\n\nThere are no rows of these sets and settings yet.\n\n{rare}",
            None,
        )
    sets = [s for s in plan.sets if s in set(rows["set"])]
    tools = tools_in(rows, controls=True)
    figure = None
    parts = [_head(rows, sets, command, plan)]
    if len(tools_in(rows, controls=False)) > 1:
        parts += ["## Ranks", _RANKS_SAID, ranks_table(rows)]
    parts += [
        "## Goals",
        _GOALS_SAID,
        means_table(rows, [g.column for g in GOALS], tools, [g.said for g in GOALS]),
        "![Goals by tool and set](synthetic-goals.svg)",
        "A dot is a set, mean over seeds; grey is where real cells are (floor), dotted is the goal.",
        *(set_section(rows, name, tools) for name in sets),
        "## More measures",
        _MORE_SAID,
        means_table(rows, MORE, tools, None),
        "## Copies",
        _COPIES_SAID,
        copies_table(rows, tools),
        "## What it costs",
        cost_table(rows, tools, plan.threads),
        rare,
        "## The tools",
        "\n".join(f"- **{TOOLS[t][0].shown}**: {TOOLS[t][0].note}" for t in tools),
        "Not run:",
        "\n".join(f"- {name}: {reason}" for name, reason in NOT_RUN.items()),
    ]
    if len(failed):
        shown = failed.groupby(["method", "error"], sort=False)
        lines = [f"- {m} on {', '.join(sorted(set(p['set'])))}: {e}" for (m, e), p in shown]
        parts += ["## Failures", "\n".join(lines)]
    from generators.figure import goals_figure

    figure = goals_figure(rows, sets, tools)
    return "\n\n".join(p for p in parts if p), figure


def _head(rows: pd.DataFrame, sets: Sequence[str], command: str, plan) -> str:
    first = rows.drop_duplicates(["set", "seed"])
    lines = [["set", "split by", "seeds", "cells trained on", "genes", "types"]]
    for name in sets:
        part = first[first["set"] == name]
        span = lambda c, p=part: _span(p[c])
        by = "donor or batch" if part["grouped"].any() else "within types"
        lines.append([name, by, str(part["seed"].nunique()), span("n_obs"), span("n_features"), span("n_classes")])
    made_on = rows["machine"] + ", " + rows["threads"].astype(str) + " thread(s); " + rows["versions"].str.strip("{}")
    made_on = " or ".join(made_on.unique()).replace('"', "").replace(": ", " ")
    return f"""# Synthetic cells of several generators

Every tool is given the same training cells (T) and makes one cell for each of them, of its type, as counts. The library's
own report ({{doc}}`../report`) then judges these against held-out real cells (H), with principal components of further real
cells (P). Where a set has {LEAST_DONORS} or more donors or batches, {N_HELD_OUT_DONORS} are held out; else cells are drawn within types. Each seed
has a split of its own. At most {plan.n_top_genes:,} variable genes are chosen on T. Cells with fewer than {LEAST_COUNTS} counts on
them, and types with fewer than {LEAST_OF_TYPE} cells in T, are left out.

{markdown_table(*lines)}

Commands: `{command}`, and the same with `--rare` for the last table ({made_on}).
Intervals are 95 %, Student's t: over sets in tables of several sets, over seeds in those of one, which are few, so that
these are wide.

Two controls are real cells: *real cells* were seen by nobody, and are what a perfect generator would make; *copies* are T
itself. The line *real (floor)* is T against H, in the report's own way.

{_tuned(sets)}"""


def _tuned(sets: Sequence[str]) -> str:
    """Where our own numbers may flatter us."""
    used = [s for s in sets if s in TUNED_ON]
    others = [s for s in sets if s not in TUNED_ON]
    text = (
        f"Defaults of DiffAug were chosen with a look at {', '.join(used)}, so that its numbers there may flatter it."
    )
    return "" if not used else text + (f" {', '.join(others)} took no part." if others else "")


_RANKS_SAID = """Mean over sets of each tool's rank, 1 the best; the last column is the mean of all ranks with its interval over
sets. Controls are not ranked, and a set and seed where one tool has no value is left out for all. A rank says nothing of distances: see the values below."""
_GOALS_SAID = """Means over sets. *Score* is the mean floor-normalised score (1 is as good as real cells), *AUC* that of an
unrestricted random forest on principal components (0.5 is guessing), *log-fold slope* that of every type against the rest
(at genes that one half of H chose, in the other half), *zero error* the mean absolute error of the genes' zero fractions,
*gene-gene* the agreement of gene-gene correlations within types, *closer to train* the share of cells closer to T than to
as many unseen cells of the **same** donors, *train on it* the balanced accuracy on H of a classifier that learnt from the
synthetic cells. The floor shows where a goal cannot be reached by real cells either."""
_MORE_SAID = """*Gene-gene, share of real* divides the agreement by the floor: correlations from few cells of sparse counts are
noisy, so that two sets of real cells agree little too. *Fano ratio* is the median over genes of variance over mean, relative to H (1 is right); *library sizes* the mean
difference of the quantiles of log totals, *variance slope* the difference of slopes of log variance over log mean, all of
counts. Most tools are handed the library sizes of T."""
_COPIES_SAID = """*Exact* and *near* are shares of copies of training cells, *membership* is the AUC of an attacker who takes
real cells near a synthetic one for training cells, each against unseen cells of the same donors. *Closer, to H* is the
share against held-out cells, which donors move where they are held out. *Report passes* counts runs whose audit, with these
unseen cells, found nothing."""


def ranks_table(rows: pd.DataFrame) -> str:
    table = mean_ranks(ranks(rows, RANKED))
    columns = [c.shown for c in RANKED if c.shown in table]
    lines = [["tool", *columns, "mean"]]
    for tool, row in table.iterrows():
        mean = f"{row['mean']:.1f}"
        if row["low"] == row["low"]:
            mean += f" [{row['low']:.1f}, {row['high']:.1f}]"
        lines.append([_name(str(tool)), *(f"{row[c]:.1f}" if row[c] == row[c] else NONE for c in columns), mean])
    return markdown_table(*lines)


def means_table(
    rows: pd.DataFrame, columns: Sequence[Column], tools: Sequence[str], goals: Sequence[str] | None
) -> str:
    lines = [["tool", *(c.shown for c in columns)]]
    if goals is not None:
        lines.append(["*goal*", *(f"*{g}*" for g in goals)])
    sets = list(dict.fromkeys(rows["set"]))
    floors = [sum(floor_of(rows, c.name, s) for s in sets) / len(sets) for c in columns]
    lines.append(["real (floor)", *(_number(f) for f in floors)])
    for tool in tools:
        found = [over_sets(rows, c.name, tool) for c in columns]
        n_sets = min((f.n_groups for f in found if f is not None), default=0)
        fewer = f" ({n_sets} of {len(sets)} sets)" if n_sets < len(sets) else ""
        lines.append([_name(tool) + fewer, *map(_with_ends, found)])
    return markdown_table(*lines)


def set_section(rows: pd.DataFrame, name: str, tools: Sequence[str]) -> str:
    """Values of a set with goals that are met in bold, and what DiffAug misses in words."""
    here = [t for t in tools if t in set(rows.loc[rows["set"] == name, "method"])]
    lines = [["tool", *(g.column.shown for g in GOALS)], ["*goal*", *(f"*{g.said}*" for g in GOALS)]]
    lines.append(["real (floor)", *(_number(floor_of(rows, g.column.name, name)) for g in GOALS)])
    for tool in here:
        met = {o.goal.column.name: o.met for o in outcomes(rows, tool, name)}
        cells = []
        for goal in GOALS:
            text = _half(over_seeds(rows, goal.column.name, tool, name))
            cells.append(f"**{text}**" if met.get(goal.column.name) else text)
        lines.append([_name(tool), *cells])
    words = [said(TOOLS[t][0].shown, outcomes(rows, t, name)) for t in here if t.startswith(OURS)]
    return "\n\n".join([f"### {name}", markdown_table(*lines), *words])


def said(shown: str, found: Sequence[Outcome]) -> str:
    """One sentence on the goals of a tool on a set."""
    missed = [o for o in found if not o.met]
    text = f"{shown} meets {len(found) - len(missed)} of {len(found)} goals"
    if not missed:
        return f"{text}."
    parts = []
    for o in missed:
        if o.missed != o.missed:
            parts.append(f"{o.goal.column.shown} could not be measured")
            continue
        real = f" (real cells miss it by {o.floor_missed:.3f})" if o.floor_missed > 0 else ""
        parts.append(f"{o.goal.column.shown} by {o.missed:.3f}{real}")
    return f"{text}; missed: {', '.join(parts)}."


def copies_table(rows: pd.DataFrame, tools: Sequence[str]) -> str:
    lines = [["tool", "closer to train", "closer, to H", "exact", "near", "membership", "report passes"]]
    for tool in tools:
        passed = values(rows, "passed")
        passed = passed[passed["method"] == tool]["value"]
        lines.append(
            [
                _name(tool),
                *(_with_ends(over_sets(rows, m, tool)) for m in ("closer", "closer_other")),
                *(_number(getattr(over_sets(rows, m, tool), "mean", None)) for m in ("exact", "near", "membership")),
                f"{int(passed.sum())} of {len(passed)}",
            ]
        )
    return markdown_table(*lines)


def cost_table(rows: pd.DataFrame, tools: Sequence[str], threads: int) -> str:
    lines = [["tool", "fit, s", "generation, s", "cells", "empty cells"]]
    for tool in tools:
        if TOOLS[tool][0].control:
            continue
        median = {}
        for measure in ("fit_seconds", "make_seconds", "n_synthetic", "empty_share"):
            found = values(rows, measure)
            median[measure] = found[found["method"] == tool]["value"].median()
        lines.append(
            [
                _name(tool),
                f"{median['fit_seconds']:.1f}",
                f"{median['make_seconds']:.1f}",
                f"{median['n_synthetic']:.0f}",
                f"{median['empty_share']:.1%}",
            ]
        )
    return (
        f"Medians over sets and seeds, {threads} thread(s). Rows of one model share its fit. Empty cells are dropped before "
        f"the judgement.\n\n{markdown_table(*lines)}"
    )


# --- words ------------------------------------------------------------------------------------------------------------


def _name(tool: str) -> str:
    found = TOOLS[tool][0]
    return f"*{found.shown}*" if found.control else f"**{found.shown}**" if tool == OURS else found.shown


def _number(value: float | None) -> str:
    return NONE if value is None or value != value else f"{value:.3f}"


def _with_ends(found: MeanInterval | None) -> str:
    if found is None:
        return NONE
    ends = f" [{found.low:.3f}, {found.high:.3f}]" if found.low == found.low else ""
    return f"{found.mean:.3f}{ends}"


def _half(found: MeanInterval | None) -> str:
    if found is None:
        return NONE
    return f"{found.mean:.3f}" + (f" ± {found.high - found.mean:.3f}" if found.low == found.low else "")


def _span(column: pd.Series) -> str:
    low, high = int(column.min()), int(column.max())
    return str(low) if low == high else f"{low}–{high}"
