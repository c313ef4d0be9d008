"""What the plots share: one colour for each role, and scanpy's ways of handing over a figure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import matplotlib.pyplot as plt
import scanpy as sc
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every common kind of colour blindness. What is real or belongs to the encoder
# is blue, and what is generated or belongs to the generator is vermillion, in every plot.
REAL = ENCODER = "#0072B2"
GENERATED = "#D55E00"
MIXUP = "#009E73"
FEATURE_SWAP = "#CC79A7"
MASK = "#E69F00"
NOISE = "#56B4E9"
THINNING = "#000000"
JOINT = "#CC79A7"
REFERENCE = "#8C8C8C"

Handle = TypeVar("Handle", bound=Axes | list[Axes])


def new_axes(n_panels: int, width: float, height: float, ax: Axes | None, *, share_x: bool = False) -> list[Axes]:
    """A column of panels of the given size in inches each, or the caller's ``ax``."""
    if ax is None:
        _, grid = plt.subplots(
            n_panels, 1, figsize=(width, n_panels * height), layout="constrained", squeeze=False, sharex=share_x
        )
        return list(grid[:, 0])
    check_single(n_panels, ax)
    return [ax]


def check_single(n_panels: int, ax: Axes | None) -> None:
    """An error if one ``ax`` is to hold several panels."""
    if ax is not None and n_panels != 1:
        raise ValueError(
            f"Expected one panel for `ax`, found {n_panels}. Leave `ax` out, or ask for one panel at a time."
        )


def check_save(save: object) -> None:
    """Refuse scanpy's ``save=True`` before anything is drawn; a string is the whole name here, not an ending of one."""
    if save is not None and not isinstance(save, str | os.PathLike):
        raise TypeError(
            f"Expected `save` to be a file name, found {save!r}. Name the whole file with its suffix, e.g. 'map.pdf'."
        )


def width_of(ax: Axes) -> float:
    """Width of the axes in inches, before anything is arranged."""
    return float(ax.get_window_extent().width / figure_of(ax).dpi)


def figure_of(ax: Axes) -> Figure:
    """The whole figure, also where ``ax`` sits in a subfigure."""
    figure = ax.figure
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def hand_over(
    axes: Handle, *, show: bool | None, return_fig: bool, save: str | Path | None, own: bool
) -> Handle | Figure | None:
    """Save, then return the figure, or show it, or return its axes.

    ``own`` says that the figure was made here. It then leaves pyplot's list once it is saved and not shown: it can still
    be used, but a program that saves a hundred pictures does not keep them all.
    """
    figure = figure_of(axes[0] if isinstance(axes, list) else axes)
    show = not return_fig and (sc.settings.autoshow if show is None else show)
    if save is not None:
        figure.savefig(save, bbox_inches="tight")
        if own and not show:
            plt.close(figure)
    if return_fig:
        return figure
    if show:
        plt.show()
        return None
    return axes


def names_of(value: str | Sequence[str], argument: str) -> list[str]:
    """One name or several as a list, without repeats of a name."""
    names = [value] if isinstance(value, str) else list(value)
    if not names:
        raise ValueError(f"Expected at least one name in `{argument}`, found none.")
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"Expected names in `{argument}`, found {value!r}.")
    return list(dict.fromkeys(names))
