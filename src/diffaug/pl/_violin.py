"""``pl.violin``: real beside synthetic cells, gene by gene."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from sklearn.preprocessing import StandardScaler

from diffaug._anndata import Matrix, check_adata, checked_matrix, matrix_slot, obs_column, require_unique_genes
from diffaug._matrix import MatrixKind, describe_matrix
from diffaug.core.arguments import whole_number
from diffaug.pl._figure import GENERATED, REAL, check_save, check_single, hand_over, names_of, new_axes, width_of

_Y_LABELS = {"counts": "expression (counts)", "log": "expression (log-normalised)", "scaled": "expression (scaled)"}
_SHIFT, _WIDTH = 0.21, 0.38
# A smoothed shape of fewer values would show more than is known.
_FEWEST = 10
# Inches that two shares of zeros take side by side.
_ROOM_FOR_ZEROS = 0.75
# Inches that a letter of a gene's name takes.
_LETTER = 0.1


@dataclass(frozen=True)
class _Side:
    """One of the two sets: its name, colour, place beside the tick, and AnnData with the matrix that is read."""

    name: str
    color: str
    shift: float
    adata: AnnData
    x: Matrix
    kind: MatrixKind


def violin(
    real: AnnData,
    synthetic: AnnData,
    *,
    genes: str | Sequence[str] | None = None,
    n_genes: int = 8,
    groupby: str | None = None,
    groups: str | Sequence[str] | None = None,
    layer: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Distributions of genes in real and in synthetic cells, side by side (paper, Fig. 3).

    Most genes are zero in most cells, and a violin of all values is a blob at zero whatever the rest looks like. So the
    violins show the values that are not zero, with their median, and the share of zeros is printed under each: the two
    together are the distribution. Fewer than ten values are drawn as dots. Where values can be negative, zero means nothing and the violins show all values.

    Parameters
    ----------
    real
        Real cells, on the scale of the synthetic ones; raw counts are normalised on a copy where those are logarithms.
    synthetic
        Synthetic cells of :func:`diffaug.tl.generate` or :func:`diffaug.tl.augment`; read from ``.X``.
    genes
        Genes to show; by default those of the genes in both sets that vary most among the real cells.
    n_genes
        How many genes to show by default.
    groupby
        Column of ``.obs``, in both sets, that names groups; a panel for each.
    groups
        Groups to show, one or several; by default all that are in both sets.
    layer
        Layer of ``real`` to read instead of ``.X``.
    title
        Title of the figure's first panel; with ``groupby`` above the group's name.
    ax
        Axes to draw into, for one panel.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says.
    return_fig
        Return the figure and do not show it.
    save
        File to write, with its suffix (``"violins.pdf"``).

    Returns
    -------
    With ``show=False`` the axes (a list of them with ``groupby``, unless ``groups`` is a single name), with
    ``return_fig=True`` the figure, otherwise ``None``.

    Raises
    ------
    ValueError
        The two sets are on different scales (logarithms and scaled values, say) or have no gene in common.
    KeyError
        A gene, the layer, the column or one of the groups is not there.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> model = diffaug.tl.fit(adata, max_epochs=6, progress=False)
    >>> made = diffaug.tl.generate(model, 100)
    >>> ax = diffaug.pl.violin(adata, made, genes=["CD79A", "NKG7"], show=False)
    """
    from diffaug.tl._report_sets import beside, check_scale

    check_save(save)
    if groups is not None and groupby is None:
        raise ValueError(
            "Expected `groupby` with `groups`, found none. Name the column of `.obs` that holds the groups."
        )
    sides = [
        _side("real", REAL, -_SHIFT, real, layer),
        _side("synthetic", GENERATED, _SHIFT, synthetic, None),
    ]
    if [side.kind.kind for side in sides] == ["counts", "log"]:
        sides[0] = _side("real", REAL, -_SHIFT, beside(real, synthetic, layer=layer), None)
    check_scale(sides[1].kind, sides[0].kind, "real")
    names = _default_genes(sides, n_genes) if genes is None else names_of(genes, "genes")
    values = [_columns(side, names) for side in sides]
    apart = all(float(v.min()) >= 0 for v in values)
    panels = _groups(sides, groupby, groups)
    check_single(len(panels), ax)
    longest = max(map(len, names))
    height = 3.6 + (_LETTER * longest if longest > 8 else 0)  # names of genes turned upright need theirs below
    axes = new_axes(len(panels), max(6.4, 0.85 * len(names) + 1.2), height, ax)
    for i, (panel, (group, masks)) in enumerate(zip(axes, panels.items(), strict=True)):
        for side, v, mask in zip(sides, values, masks, strict=True):
            _draw(panel, side, v[mask], apart)
        panel.set(ylabel=_Y_LABELS.get(sides[0].kind.kind, "expression"))
        panel.spines[["top", "right"]].set_visible(False)
        _name_genes(panel, names, apart)
        labels = [f"{side.name} ({int(mask.sum()):,} cells)" for side, mask in zip(sides, masks, strict=True)]
        panel.legend(
            handles=[Patch(facecolor=s.color, alpha=0.6, label=t) for s, t in zip(sides, labels, strict=True)],
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=2,
            frameon=False,
            borderaxespad=0.2,
        )
        heading = [t for t in (title if i == 0 else None, group) if t]
        panel.set_title("\n".join(heading), loc="left")
    single = groupby is None or isinstance(groups, str)
    return hand_over(axes[0] if single else axes, show=show, return_fig=return_fig, save=save, own=ax is None)


def _side(name: str, color: str, shift: float, adata: AnnData, layer: str | None) -> _Side:
    check_adata(adata, name)
    require_unique_genes(adata)
    raw, address = matrix_slot(adata, layer, None)
    x = checked_matrix(raw, address.replace("adata", name))
    return _Side(name, color, shift, adata, x, describe_matrix(x))


def _default_genes(sides: list[_Side], n_genes: int) -> list[str]:
    """Genes of both sets that vary most among the real cells, the most variable first."""
    whole_number("n_genes", n_genes, 1)
    real, synthetic = sides
    shared = np.flatnonzero(real.adata.var_names.isin(synthetic.adata.var_names))
    if not len(shared):
        raise ValueError(
            f"Expected genes in both sets, found none (`real` has e.g. {real.adata.var_names[:2].tolist()}, `synthetic` "
            f"{synthetic.adata.var_names[:2].tolist()}). Check the kind of gene names."
        )
    x = real.x[:, shared].astype(np.float64)
    variance = StandardScaler(with_mean=False).fit(x).var_
    best = np.argsort(-variance, kind="stable")[:n_genes]
    return real.adata.var_names[shared[best]].tolist()


def _columns(side: _Side, genes: list[str]) -> np.ndarray:
    """Values of the genes, shape ``(n_cells, n_genes)``, dense."""
    found = side.adata.var_names.get_indexer(genes)
    absent = [g for g, i in zip(genes, found, strict=True) if i < 0]
    if absent:
        near = difflib.get_close_matches(absent[0], side.adata.var_names.astype(str), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"Did not find {len(absent)} of {len(genes)} genes in `{side.name}`, e.g. {absent[0]!r}.{hint}")
    x = side.x[:, found]
    return np.asarray(x.toarray() if sp.issparse(x) else x, dtype=np.float64)


def _groups(
    sides: list[_Side], groupby: str | None, groups: str | Sequence[str] | None
) -> dict[str | None, list[np.ndarray]]:
    """Masks of the cells of each panel in both sets, by the group's name."""
    if groupby is None:
        return {None: [np.ones(side.adata.n_obs, dtype=bool) for side in sides]}
    columns = [obs_column(side.adata, groupby, f"groupby, in `{side.name}`").astype(str).to_numpy() for side in sides]
    both = [str(g) for g in np.unique(columns[0]) if g in set(columns[1])]
    wanted = both if groups is None else names_of(groups, "groups")
    if not wanted:
        raise ValueError(f"Expected groups of `obs[{groupby!r}]` in both sets, found none in common.")
    for group in wanted:
        if group not in both:
            near = difflib.get_close_matches(group, both, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise KeyError(
                f"Did not find cells of {group!r} in `obs[{groupby!r}]` of both sets. Available: {both}.{hint}"
            )
    return {group: [column == group for column in columns] for group in wanted}


def _name_genes(panel: Axes, names: list[str], apart: bool) -> None:
    """Names under the violins, upright where they would run into each other, below the row of zeros."""
    room = width_of(panel) / len(names)  # inches for each gene
    turned = _LETTER * max(map(len, names)) > room
    panel.set_xticks(range(len(names)), names, rotation=90 if turned else 0)
    panel.set_xlim(-0.6, len(names) - 0.4)
    panel.tick_params(axis="x", length=0, pad=4)
    if not apart:
        return
    panel.set_ylim(bottom=0)
    upright = room < _ROOM_FOR_ZEROS
    panel.tick_params(axis="x", pad=32 if upright else 18)
    for text in panel.texts:
        text.set_rotation(90 if upright else 0)
    panel.annotate(
        "zeros",
        (0, 0),
        (-4, -5),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
    )


def _draw(panel: Axes, side: _Side, values: np.ndarray, apart: bool) -> None:
    """A violin for each column, and under it the share of zeros if these are kept apart."""
    for j, column in enumerate(values.T):
        at = j + side.shift
        shown = column[column != 0] if apart else column
        if 0 < len(shown) < _FEWEST:
            x = np.full(len(shown), at)
            panel.plot(x, shown, marker="o", markersize=3, color=side.color, linestyle="none", gid=side.name)
        elif len(shown):
            parts = panel.violinplot([shown], positions=[at], widths=_WIDTH, showextrema=False)
            (body,) = cast("list[PolyCollection]", parts["bodies"])
            body.set(facecolor=side.color, edgecolor=side.color, alpha=0.6, linewidth=0.8, gid=side.name)
            panel.plot(at, np.median(shown), marker="_", color="black", markersize=9, markeredgewidth=1.5, gid="median")
        if apart:
            panel.annotate(
                f"{100 * np.mean(column == 0):.0f}%",
                (at, 0),
                (0, -5),
                xycoords=panel.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=8,
                color=side.color,
                annotation_clip=False,
            )
