"""Pictures of Fig. 5, 6 and 7, in the colours of :mod:`diffaug.pl`."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffaug.pl._figure import ENCODER, FEATURE_SWAP, GENERATED, MIXUP, REFERENCE
from diffaug.reproduce._arms import Artefact
from diffaug.reproduce._measure import KINDS
from diffaug.reproduce._statistics import compare

_COLORS = dict(zip(KINDS, (GENERATED, MIXUP, FEATURE_SWAP, REFERENCE), strict=True))
_CURVES = {
    "view_rate": "share of generated views (lambda)",
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
    """One column for each setting that is swept: linear probe above, effective rank below."""
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
    for column, curve in enumerate(curves):
        arms = [arm for arm in artefact.arms if arm.curve == curve]
        x = np.array([arm.x for arm in arms], dtype=float)
        for panel, score, factor in zip(grid[:, column], ("linear", "rank"), (100, 1), strict=True):
            found = compare(table, score, artefact.reference, [arm.key for arm in artefact.arms])
            _curve(panel, x, [found[arm.key] for arm in arms], factor)
            if curve in ("dof_latent", "dof_semantic"):
                panel.set_xscale("log")
                panel.set_xticks(x, [f"{value:g}" for value in x], minor=False)
                panel.set_xticks([], minor=True)
        grid[1, column].set_xlabel(_CURVES[str(curve)])
    grid[0, 0].set_ylabel("linear SVM, accuracy (%)")
    grid[1, 0].set_ylabel("effective rank")
    grid[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _curve(panel: Axes, x: np.ndarray, found: list[Any], factor: int) -> None:
    for i, name in enumerate(found[0].by_set):
        y = [factor * c.by_set[name].mean for c in found]
        panel.plot(x, y, color=REFERENCE, linewidth=0.9, alpha=0.7, label="single sets" if i == 0 else None)
    mean, low, high = (np.array([factor * getattr(c.level, end) for c in found]) for end in ("mean", "low", "high"))
    if np.isfinite(low).all():
        panel.fill_between(x, low, high, color=ENCODER, alpha=0.15, linewidth=0, label="95 % over seeds")
    panel.plot(x, mean, "o-", color=ENCODER, markersize=4, linewidth=1.7, label="mean over sets")
    panel.spines[["top", "right"]].set_visible(False)
