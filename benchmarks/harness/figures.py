"""Figures of the page: every method beside ours, the loop's gain on every set, and curves of what was swept."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from diffaug.core.storage import written_file
from diffaug.metrics import MeanInterval

OURS_COLOR, OTHER_COLOR = "#0072b2", "#444444"
_CURVES = (OURS_COLOR, "#d55e00", "#009e73", "#cc79a7")
Intervals = Mapping[str, MeanInterval]


def _interval(ax: Axes, at: float, found: MeanInterval, sign: float, color: str) -> None:
    """A dot and, where there are several groups, its interval."""
    if found.low == found.low:  # not NaN
        ax.plot([sign * found.low, sign * found.high], [at, at], color=color, linewidth=1.6, solid_capstyle="butt")
    ax.plot(sign * found.mean, at, "o", color=color, markersize=5)


def methods_figure(panels: Mapping[str, Intervals], shown: Mapping[str, str], ours: str, twin: str) -> Figure:
    """Every method minus ours, in pairs: left of the line it is below us. The best of the first panel on top."""
    first = next(iter(panels.values()))
    names = [*sorted(first, key=lambda m: first[m].mean)]
    names += [m for panel in panels.values() for m in panel if m not in names]
    names = list(dict.fromkeys(names))
    height = 0.9 + 0.27 * len(names)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.0 * len(panels) + 1.2, height), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (title, panel) in zip(axes[0], panels.items(), strict=True):
        ax.axvline(0, color=OURS_COLOR, linewidth=1)
        for at, name in enumerate(names):
            if name in panel:
                _interval(ax, at, panel[name], -1.0, OURS_COLOR if name == twin else OTHER_COLOR)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(f"accuracy minus {ours}'s")
        _plain(ax)
    axes[0][0].set_yticks(range(len(names)), [shown.get(n, n) for n in names])
    axes[0][0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def gain_figure(panels: Mapping[str, tuple[Intervals, MeanInterval | None]], sets: Sequence[str]) -> Figure:
    """The loop's gain on each set over seeds, and below the line its mean over the sets."""
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(3.0 * len(panels) + 1.2, 1.3 + 0.27 * len(sets)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax, (title, (by_set, overall)) in zip(axes[0], panels.items(), strict=True):
        ax.axvline(0, color="#999999", linewidth=1)
        for at, name in enumerate(sets):
            if name in by_set:
                _interval(ax, at, by_set[name], 1.0, OTHER_COLOR)
        if overall is not None:
            _interval(ax, len(sets) + 0.5, overall, 1.0, OURS_COLOR)
        ax.axhline(len(sets) - 0.25, color="#999999", linewidth=0.6)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("DiffAug minus loop off")
        _plain(ax)
    axes[0][0].set_yticks([*range(len(sets)), len(sets) + 0.5], [*sets, "mean over sets"])
    axes[0][0].set_ylim(len(sets) + 1.1, -0.6)
    return figure


def sweep_figure(panels: Mapping[str, Mapping[str, pd.DataFrame]], number: str) -> Figure:
    """Curves over a number, of differences from the curve's first point: the mean over the sets, and faintly every set.

    Parameters
    ----------
    panels
        By score and curve: a row for each value of ``number`` (the index), a column for each set.
    number
        What was swept.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.0 * len(panels) + 0.6, 3.2), squeeze=False, layout="constrained"
    )
    for ax, (title, curves) in zip(axes[0], panels.items(), strict=True):
        ax.axhline(0, color="#999999", linewidth=1)
        for (name, found), color in zip(curves.items(), itertools.cycle(_CURVES), strict=False):
            ax.plot(found.index, found, color=color, linewidth=0.8, alpha=0.35)
            ax.plot(found.index, found.mean(axis=1), "o-", color=color, linewidth=2, markersize=4, label=name)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(number)
        _plain(ax)
        ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    first = next(iter(next(iter(panels.values())).values()))
    axes[0][0].set_ylabel(f"accuracy minus that at {number} {first.index[0]:g}")
    axes[0][0].legend(frameon=False, fontsize=8)
    return figure


def _plain(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(axis="y", length=0)


def keep(figure: Figure, stem: Path) -> None:
    """Write a figure as PNG and SVG; equal figures give equal files."""
    with plt.rc_context({"svg.hashsalt": "diffaug", "svg.fonttype": "none"}):
        for suffix, about in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
            with written_file(stem.with_suffix(suffix)) as fresh:
                figure.savefig(fresh, dpi=150, metadata=about)
    plt.close(figure)
