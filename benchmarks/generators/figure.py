"""The figure: every goal, every tool, a dot for each set."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from generators.base import TOOLS
from generators.summary import GOALS, OURS, floor_of, over_seeds

#: Where the goals' borders are drawn, and which side is right; training on it is beside the floor and has none.
BORDERS = {
    "mean_score": (0.9,), "auc_pcs": (0.65,), "lfc_slope": (0.95, 1.05), "zero_fraction": (0.02,), "correlation": (0.9,),
    "closer": (0.52,),
}  # fmt: skip
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LEAST_SCORE = -0.25  # lower ones are drawn at the edge


def goals_figure(rows: pd.DataFrame, sets: Sequence[str], tools: Sequence[str]) -> Figure:
    """Means over seeds; the grey bar is the span of the floors over sets."""
    figure = Figure(figsize=(2.1 * len(GOALS) + 2, 1.2 + 0.3 * len(tools)), layout="constrained")
    axes = figure.subplots(1, len(GOALS), sharey=True)
    for ax, goal in zip(axes, GOALS, strict=True):
        name = goal.column.name
        floors = [floor_of(rows, name, s) for s in sets]
        ax.axvspan(min(floors), max(floors), color="#dddddd", linewidth=0)
        if min(floors) == max(floors):
            ax.axvline(floors[0], color="#bbbbbb")
        for border in BORDERS.get(name, ()):
            ax.axvline(border, color="#444444", linestyle=":")
        for i, set_ in enumerate(sets):
            found = {t: over_seeds(rows, name, t, set_) for t in tools}
            at = [k + 0.12 * (i - (len(sets) - 1) / 2) for k, t in enumerate(tools) if found[t] is not None]
            value = [m.mean for m in found.values() if m is not None]
            if name == "mean_score":
                value = [max(v, _LEAST_SCORE) for v in value]
            ax.plot(value, at, "o", color=_COLORS[i % len(_COLORS)], markersize=4, label=set_)
        ax.set_title(goal.column.shown, fontsize=9)
        ax.set_xlabel(goal.said, fontsize=8)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(tools)), [TOOLS[t][0].shown for t in tools])
    for label, tool in zip(axes[0].get_yticklabels(), tools, strict=True):
        label.set_fontweight("bold" if tool == OURS else "normal")
    axes[0].set_ylim(len(tools) - 0.4, -0.6)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(sets), fontsize=8)
    return figure
