"""Pictures of images and their views, in the manner of the paper's Figures 3 and 6."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffaug.core.arguments import whole_number
from diffaug.vision._read import ImageSet, check_pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from diffaug._model import DiffAug

_INCH_PER_IMAGE = 0.8
_GAP = 1  # pixels between images


def plot_images(
    images: np.ndarray | ImageSet,
    *,
    n_columns: int = 8,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Axes | Figure | None:
    """Draw images in a grid, row by row.

    Parameters
    ----------
    images
        Shape ``(n, height, width)`` or ``(n, height, width, 3)``. They are drawn on one scale of brightness.
    n_columns
        Images in a row.
    labels
        A name for each row of the grid.
    title
        Title.
    ax
        Axes to draw into.
    show
        Show the figure; by default as scanpy is set.
    return_fig
        Return the figure and not its axes.
    save
        File to save the figure to.

    Returns
    -------
    The axes, the figure with ``return_fig``, or nothing if the figure is shown.

    Raises
    ------
    TypeError, ValueError
        There are no images, or none that can be drawn: of another shape, with other values than finite numbers.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> axes = plot_images(load_digits().images[:16], show=False)
    """
    from diffaug.pl import _figure

    _figure.check_save(save)
    x = images.images if isinstance(images, ImageSet) else images
    check_pixels(x)
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)) or not len(x):
        raise ValueError(f"Expected grey or RGB images of shape (n, height, width[, 3]) to draw, found {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError(f"Expected finite pixels, found {int((~np.isfinite(x)).sum())} NaN or infinite ones.")
    n_columns = min(whole_number("n_columns", n_columns, 1), len(x))
    n_rows = -(-len(x) // n_columns)
    if labels is not None and len(labels) != n_rows:
        raise ValueError(f"Expected {n_rows} `labels`, one for each row of the grid, found {len(labels)}.")
    grid = _tiled(_unit_range(x), n_rows, n_columns)
    height, width = x.shape[1] + _GAP, x.shape[2] + _GAP
    own = ax is None
    (panel,) = _figure.new_axes(
        1, _INCH_PER_IMAGE * n_columns + (1.2 if labels else 0), _INCH_PER_IMAGE * n_rows * height / width, ax
    )
    panel.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    panel.set_xticks([])
    panel.set_yticks([] if labels is None else height * np.arange(n_rows) + height / 2 - _GAP, labels=labels)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    if title is not None:
        panel.set_title(title)
    return _figure.hand_over(panel, show=show, return_fig=return_fig, save=save, own=own)


def plot_views(
    images: np.ndarray | ImageSet,
    model: DiffAug,
    *,
    n_views: int = 2,
    kinds: Sequence[str] = ("diffaug", "standard"),
    random_state: int = 0,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Axes | Figure | None:
    """Draw images in the first row and their views below them.

    Parameters
    ----------
    images
        The originals, a handful. A model with ``condition="label"`` needs an :class:`ImageSet` with labels.
    model
        A fitted model.
    n_views
        Rows of views of each kind.
    kinds
        Kinds of views: ``"diffaug"`` (generated) or hand-made ones.
    random_state
        Seed of the views.
    ax, show, return_fig, save
        As in :func:`plot_images`.

    Returns
    -------
    The axes, the figure with ``return_fig``, or nothing if the figure is shown.
    """
    x, labels = (images.images, images.labels) if isinstance(images, ImageSet) else (images, None)
    if isinstance(kinds, str):
        raise TypeError(f"Expected a list of `kinds`, found {kinds!r}. Write [{kinds!r}].")
    rows, names = [x], ["original"]
    for kind in kinds:
        views = model.augment(x, n_views, kind=kind, labels=labels, random_state=random_state)
        rows += [views[:, i] for i in range(n_views)]
        names += [kind] * n_views
    return plot_images(
        np.concatenate(rows),
        n_columns=len(x),
        labels=names,
        ax=ax,
        show=show,
        return_fig=return_fig,
        save=save,
    )


def _unit_range(x: np.ndarray) -> np.ndarray:
    """Values in [0, 1], from the lowest (or 0) to the highest (or 255 for bytes)."""
    low, high = min(float(x.min()), 0.0), float(x.max())
    if x.dtype == np.uint8 and high > 127:
        high = 255.0
    return (x.astype(np.float32) - low) / ((high - low) or 1.0)


def _tiled(x: np.ndarray, n_rows: int, n_columns: int) -> np.ndarray:
    """One picture of all images; gaps and empty places are white."""
    n, height, width = x.shape[:3]
    rest = x.shape[3:]
    cells = np.ones((n_rows * n_columns, height + _GAP, width + _GAP, *rest), np.float32)
    cells[:n, :height, :width] = x
    rows = cells.reshape(n_rows, n_columns, height + _GAP, width + _GAP, *rest)
    picture = np.concatenate(list(np.concatenate(list(rows.swapaxes(0, 1)), axis=2)), axis=0)
    return picture[:, :, 0] if rest == (1,) else picture
