"""Pictures of Fig. 5, 6 and 7, in the colours of :mod:`diffaug.pl`."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffaug.pl._figure import ENCODER, FEATURE_SWAP, GENERATED, MIXUP, REFERENCE
from diffaug.reproduce._arms import Artefact
from diffaug.reproduce._measure import KINDS
from diffaug.reproduce._statistics import Interval, compare

_COLORS = dict(zip(KINDS, (GENERATED, MIXUP, FEATURE_SWAP, REFERENCE), strict=True))
_CURVES = {
    "view_rate": "share of generated views (lambda)",
    "view_rate_weak": "the same, views of a weak generator",
    "dof_latent": "nu of the latent kernel",
    "dof_semantic": "nu of the semantic kernel",
    "beta": "trust in the positive (beta)",
}


def png(artefact: Artefact, table: pd.DataFrame) -> bytes:
    """Picture of a figure."""
    figure = _cosines(table) if artefact.name == "fig5" else _curves(artefact, table)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)
    return stream.getvalue()


def _cosines(table: pd.DataFrame) -> Figure:
    """One panel a set: median, middle half and 90 % of the cosines of each kind of view."""
    sets = list(dict.fromkeys(table["set"]))
    figure, grid = plt.subplots(
        len(sets), 1, figsize=(6.4, 0.6 + 1.5 * len(sets)), layout="constrained", squeeze=False, sharex=True
    )
    for panel, name in zip(grid[:, 0], sets, strict=True):
        mean = table[table["set"] == name].mean(numeric_only=True)
        for y, kind in enumerate(KINDS):
            q = [mean[f"cosine_{kind}_q{level:02}"] for level in (5, 25, 50, 75, 95)]
            panel.hlines(y, q[0], q[4], color=_COLORS[kind], linewidth=1.5)
            panel.hlines(y, q[1], q[3], color=_COLORS[kind], linewidth=6)
            panel.plot(q[2], y, "o", color="white", markeredgecolor=_COLORS[kind], markersize=6)
        panel.set_yticks(range(len(KINDS)), [kind.replace("_", " ") for kind in KINDS])
        panel.invert_yaxis()
        panel.set_title(name, loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    grid[-1, 0].set_xlabel("cosine of cell and view in the semantic space: median, 50 % and 90 % of the pairs")
    return figure


def _curves(artefact: Artefact, table: pd.DataFrame) -> Figure:
    """One column for each setting that is swept: difference of the linear probe above, effective rank below.

    Differences, because the sets lie tens of points apart and the points of a curve few.
    """
    curves = list(dict.fromkeys(arm.curve for arm in artefact.arms))
    figure, grid = plt.subplots(
        2,
        len(curves),
        figsize=(1.2 + 3.9 * len(curves), 5.6),
        layout="constrained",
        squeeze=False,
        sharex="col",
        sharey="row",
    )
    keys = [arm.key for arm in artefact.arms]
    linear, rank = (compare(table, score, artefact.reference, keys) for score in ("linear", "rank"))
    zero = linear[artefact.reference]
    over = "sets" if len(zero.by_set) > 1 else "seeds"
    for column, curve in enumerate(curves):
        arms = [arm for arm in artefact.arms if arm.curve == curve]
        x = np.array([arm.x for arm in arms], dtype=float)
        gaps = [getattr(linear[arm.key], f"over_{over}") or _NONE for arm in arms]
        by_set = [
            [100 * (linear[arm.key].by_set[name].mean - zero.by_set[name].mean) for arm in arms] for name in zero.by_set
        ]
        _curve(grid[0, column], x, gaps, by_set, 100, over)
        ranks = [rank[arm.key] for arm in arms]
        by_set = [[r.by_set[name].mean for r in ranks] for name in ranks[0].by_set]
        _curve(grid[1, column], x, [r.level for r in ranks], by_set, 1, "seeds")
        grid[0, column].axhline(0, color="black", linewidth=0.6)
        grid[1, column].set_xlabel(_CURVES[str(curve)])
        if curve in ("dof_latent", "dof_semantic"):
            grid[1, column].set_xscale("log")
            grid[1, column].set_xticks(x, [f"{value:g}" for value in x])
            grid[1, column].set_xticks([], minor=True)
    grid[0, 0].set_ylabel(f"linear SVM, points above {artefact.reference}")
    grid[1, 0].set_ylabel("effective rank")
    for panel in grid[:, -1]:
        panel.legend(frameon=False, fontsize=8)
    return figure


#: The reference against itself.
_NONE = Interval(0.0, 0.0, 0.0, 1)


def _curve(
    panel: Axes, x: np.ndarray, mean: Sequence[Interval], by_set: Sequence[Sequence[float]], factor: int, over: str
) -> None:
    for i, y in enumerate(by_set):
        panel.plot(x, y, color=REFERENCE, linewidth=0.9, alpha=0.7, label="single sets" if i == 0 else None)
    middle, low, high = (np.array([factor * getattr(v, end) for v in mean]) for end in ("mean", "low", "high"))
    if np.isfinite(low).all():
        panel.fill_between(x, low, high, color=ENCODER, alpha=0.15, linewidth=0, label=f"95 % over {over}")
    panel.plot(x, middle, "o-", color=ENCODER, markersize=4, linewidth=1.7, label="mean over sets")
    panel.spines[["top", "right"]].set_visible(False)
