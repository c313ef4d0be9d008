"""``pl.provenance``: how near synthetic cells lie to training cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffaug._anndata import check_adata
from diffaug._keys import BALANCE, MADE, NEAREST_DISTANCE
from diffaug.pl._figure import GENERATED, REAL, REFERENCE, check_save, hand_over, new_axes


def provenance(
    synthetic: AnnData,
    *,
    suspicious: float = 1.0,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Axes | Figure | None:
    """Distances of synthetic cells to their nearest training cells, beside those among training cells.

    Cells nearer to a training cell than nearly all training cells are to each other are suspicious: they may be copies.
    Their share should be about the percentage that marks them.

    Parameters
    ----------
    synthetic
        Cells of :func:`diffaug.tl.generate` with ``train``, or the result of :func:`diffaug.tl.balance`, whose real cells are
        left out.
    suspicious
        Percentile of the distances among training cells under which a synthetic cell is suspicious, above 0 and below 100.
    title
        Title.
    ax
        Axes to draw into.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says.
    return_fig
        Return the figure and do not show it.
    save
        File to write, with its suffix (``"provenance.pdf"``).

    Returns
    -------
    The axes with ``show=False``, the figure with ``return_fig=True``, otherwise ``None``.

    Raises
    ------
    ValueError
        The cells were made without ``train``, or there is no synthetic one.
    """
    check_save(save)
    check_adata(synthetic, "synthetic")
    if not 0 < suspicious < 100:
        raise ValueError(f"Expected `suspicious` between 0 and 100, found {suspicious}.")
    real = synthetic.uns.get(MADE, synthetic.uns.get(BALANCE, {})).get("real_distances")
    if real is None or NEAREST_DISTANCE not in synthetic.obs:
        raise ValueError(
            "Expected synthetic cells with their nearest training cells, found none. Call `tl.generate` with `train`."
        )
    distance = synthetic.obs[NEAREST_DISTANCE].to_numpy(dtype=float)
    distance = distance[np.isfinite(distance)]  # real cells beside synthetic ones have none
    if not len(distance):
        raise ValueError("Expected synthetic cells in `synthetic`, found real ones only. Leave them in.")
    limit = float(np.percentile(real, suspicious))
    marked = np.sort(distance[distance < limit])
    (panel,) = new_axes(1, 6.4, 4.0, ax)
    edges = np.linspace(0, max(float(np.max(real)), float(distance.max())) or 1.0, 61)
    for values, color, name in ((np.asarray(real), REAL, "training cells"), (distance, GENERATED, "synthetic cells")):
        panel.hist(
            values,
            bins=edges.tolist(),
            weights=np.full(len(values), 100 / len(values)),
            histtype="stepfilled",
            facecolor=(color, 0.2),
            edgecolor=color,
            linewidth=1.5,
            label=f"{name} (median {np.median(values):.3g})",
        )
    share = 100 * len(marked) / len(distance)
    panel.axvline(limit, color=REFERENCE, linestyle="--", linewidth=1.2)
    panel.plot(
        marked,
        np.zeros(len(marked)),
        "|",
        color=GENERATED,
        markersize=14,
        clip_on=False,
        label=f"suspicious: {len(marked)} cells, {share:.1f} % ({suspicious:g} % expected)",
    )
    panel.set(xlabel="distance to the nearest (other) training cell", ylabel="share of cells (%)")
    panel.set_xlim(0, edges[-1])
    if title is not None:
        panel.set_title(title)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    return hand_over(panel, show=show, return_fig=return_fig, save=save, own=ax is None)
