"""``pl.cosine_similarity``: cells and their views in the semantic space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffaug._model import DiffAug
from diffaug.pl._figure import (
    FEATURE_SWAP,
    GENERATED,
    MASK,
    MIXUP,
    NOISE,
    REFERENCE,
    THINNING,
    check_save,
    hand_over,
    new_axes,
)
from diffaug.tl._similarity import RANDOM_PAIR, view_similarity

_STYLES = {
    "diffaug": (GENERATED, "DiffAug"),
    "mixup": (MIXUP, "mixup"),
    "feature_swap": (FEATURE_SWAP, "feature swap"),
    "mask": (MASK, "masked genes"),
    "noise": (NOISE, "noise"),
    "thinning": (THINNING, "thinned counts"),
    RANDOM_PAIR: (REFERENCE, "random pairs"),
}
_WIDTHS = (0.01, 0.02, 0.025, 0.05)


def cosine_similarity(
    adata: AnnData,
    model: DiffAug,
    *,
    kinds: str | Sequence[str] = ("diffaug", "mixup", "feature_swap"),
    n_cells: int = 500,
    n_views: int = 1,
    random_state: int = 0,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Axes | Figure | None:
    """Histograms of the cosine between cells and their views in the semantic space (paper, Fig. 5).

    Grey is the reference: pairs of unrelated cells. A kind of view whose histogram lies on it carries nothing of the
    cell; one that sits at 1 teaches the encoder nothing.

    Parameters
    ----------
    adata, model, kinds, n_cells, n_views, random_state
        See :func:`diffaug.tl.view_similarity`, which gives the numbers.
    title
        Title.
    ax
        Axes to draw into.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says.
    return_fig
        Return the figure and do not show it.
    save
        File to write, with its suffix (``"cosine.pdf"``).

    Returns
    -------
    The axes with ``show=False``, the figure with ``return_fig=True``, otherwise ``None``.
    """
    check_save(save)
    pairs = view_similarity(adata, model, kinds=kinds, n_cells=n_cells, n_views=n_views, random_state=random_state)
    (panel,) = new_axes(1, 6.4, 4.0, ax)
    edges = _edges(pairs["cosine"].to_numpy())
    # The reference first, so that it lies behind.
    drawn = [RANDOM_PAIR, *(kind for kind in pairs["kind"].cat.categories if kind != RANDOM_PAIR)]
    for kind in drawn:
        color, label = _STYLES[kind]
        cosine = pairs.loc[pairs["kind"] == kind, "cosine"].to_numpy()
        median = float(np.median(cosine))
        share = np.full(len(cosine), 100 / len(cosine))
        is_reference = kind == RANDOM_PAIR
        panel.hist(
            cosine,
            bins=edges.tolist(),
            weights=share,
            histtype="stepfilled",
            facecolor=(color, 0.4 if is_reference else 0.08),
            edgecolor="none" if is_reference else color,
            linewidth=1.7,
            label=f"{label} (median {median:.2f})",
        )
    panel.set(
        xlabel="cosine of cell and view in the semantic space",
        ylabel=f"share of pairs (%) per {edges[1] - edges[0]:.3g}",
    )
    panel.set_xlim(edges[0], edges[-1])
    if title is not None:
        panel.set_title(title)
    panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panel.get_legend_handles_labels()
    panel.legend(handles[1:] + handles[:1], labels[1:] + labels[:1], frameon=False, loc="upper left")
    return hand_over(panel, show=show, return_fig=return_fig, save=save, own=ax is None)


def _edges(cosine: np.ndarray) -> np.ndarray:
    """Edges of equal bins on round numbers, from below the smallest value to 1; at most eighty."""
    span = 1 - float(cosine.min())
    width = next((w for w in _WIDTHS if span / w <= 80), _WIDTHS[-1])
    n_bins = max(1, int(np.ceil(span / width - 1e-9)))
    return 1 - width * np.arange(n_bins, -1, -1)
