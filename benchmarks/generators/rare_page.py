"""The section on rare types: recall by arm, and DiffAug's gain over each with an interval over donors."""

from __future__ import annotations

import pandas as pd
from _common import markdown_table

from diffaug.metrics import MeanInterval, mean_interval
from diffaug.tl._balance import ARMS
from generators.rare import PREFIX, SET, rare_hash
from generators.run import DONE, Plan

OURS = "DiffAug"
OTHERS = tuple(arm for arm in ARMS if arm != OURS)


def rare_rows(table: pd.DataFrame, plan: Plan, rare_cells: int) -> pd.DataFrame:
    """``kind``, ``donor``, ``seed``, ``metric`` and a column for each arm."""
    rows = _of_plan(table, plan, rare_cells)
    rows = rows[(rows["protocol"] != DONE) & (rows["error"] == "")]
    rows = rows.assign(kind=rows["method"].str.removeprefix(f"{PREFIX}: "), donor=rows["set"])
    return rows.pivot_table(index=["kind", "donor", "seed", "metric"], columns="protocol", values="value").reset_index()


def _of_plan(table: pd.DataFrame, plan: Plan, rare_cells: int) -> pd.DataFrame:
    rows = table[table["method"].str.startswith(PREFIX) & (table["settings_hash"] == rare_hash(plan, rare_cells))]
    return rows[(rows["max_obs"] == plan.max_obs) & (rows["n_top_genes"] == plan.n_top_genes)]


def left_out(table: pd.DataFrame, plan: Plan, rare_cells: int) -> dict[str, int]:
    """Why a donor was left out of a type, and how often."""
    rows = _of_plan(table, plan, rare_cells)
    failed = rows[(rows["protocol"] == DONE) & (rows["error"] != "")]
    return {str(error).partition("\n")[0]: int(n) for error, n in failed["error"].value_counts().items()}


def gain(rows: pd.DataFrame, kind: str, metric: str, other: str) -> MeanInterval:
    """DiffAug minus another arm in pairs: mean over seeds, then donors, with Student's t over donors."""
    part = rows[(rows["kind"] == kind) & (rows["metric"] == metric)]
    return mean_interval(part[OURS] - part[other], part["donor"])


def rare_section(table: pd.DataFrame, plan: Plan, rare_cells: int) -> str:
    rows = rare_rows(table, plan, rare_cells)
    if rows.empty:
        return ""
    parts = []
    for metric, title in (("recall", "Recall of the rare type"), ("balanced_accuracy", "Balanced accuracy")):
        lines = [["type", "donors", *ARMS, *(f"gain over {arm}" for arm in OTHERS)]]
        for kind in dict.fromkeys(rows["kind"]):
            part = rows[(rows["kind"] == kind) & (rows["metric"] == metric)]
            means = part.groupby("donor")[list(ARMS)].mean().mean()
            gains = [gain(rows, kind, metric, arm) for arm in OTHERS]
            lines.append(
                [
                    kind,
                    str(part["donor"].nunique()),
                    *(f"{means[arm]:.3f}" for arm in ARMS),
                    *(f"{g.mean:+.3f} [{g.low:+.3f}, {g.high:+.3f}]" for g in gains),
                ]
            )
        parts.append(f"{title}:\n\n{markdown_table(*lines)}")
    return "\n\n".join(
        [
            "## Rare types",
            f"On {SET} each donor is held out once ({rows['seed'].nunique()} seed(s)). Of each of the three rarest types, {rare_cells} cells of the other donors "
            "are left; one type after the other is filled to the median size of the common types, with cells repeated "
            "(oversampling), SMOTE, or DiffAug's, and a logistic regression on 30 components learns from them (`tl.balance`). "
            "Gains are DiffAug minus the other arm on the same held-out donor, with a 95 % interval (Student's t) over donors.",
            *parts,
            verdict(rows),
            "\n".join(
                f"- Left out, {n} of a donor and a type: {why}" for why, n in left_out(table, plan, rare_cells).items()
            ),
        ]
    )


def verdict(rows: pd.DataFrame) -> str:
    """Where the help is shown, by the recall against the best of the other arms."""
    parts = []
    for kind in dict.fromkeys(rows["kind"]):
        part = rows[(rows["kind"] == kind) & (rows["metric"] == "recall")]
        best = part.groupby("donor")[list(OTHERS)].mean().mean().idxmax()
        found = gain(rows, kind, "recall", best)
        word = "shown" if found.low > 0 else "harm is shown" if found.high < 0 else "not shown"
        parts.append(f"{kind}: {word} ({found.mean:+.3f} against {best})")
    return f"Help in recall against the best other way: {'; '.join(parts)}."
