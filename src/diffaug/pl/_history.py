"""``pl.history``: the course of a fit, with its phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from diffaug._anndata import check_adata
from diffaug._keys import Keys
from diffaug._model import DiffAug
from diffaug.core.plan import EpochRecord
from diffaug.pl._figure import ENCODER, GENERATED, JOINT, check_save, hand_over, names_of, new_axes, width_of

_COLORS = {"A": ENCODER, "B": GENERATED, "joint": JOINT}
_MEANINGS = {"A": "A: encoder trains", "B": "B: generator trains", "joint": "joint: both train"}
_LABELS = {
    "encoder_loss": "encoder loss\n(nats)",
    "generator_loss": "generator loss\n(squared error)",
    "semantic_cosine": "cosine of cell\nand positive",
    "effective_rank": "effective rank\n(dimensions)",
    "generated_share": "generated\npositives (%)",
}
_LINE_COLORS = {"generator_loss": GENERATED, "generated_share": GENERATED}

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Span:
    """A phase of one cycle: its first and last epoch."""

    phase: str
    cycle: int
    first: int
    last: int


def history(
    adata_or_model: AnnData | DiffAug,
    *,
    keys: str | Sequence[str] | None = None,
    key_added: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Losses, label-free probes and the share of generated positives over the epochs of a fit (paper, Fig. 7).

    The phases are shaded: A trains the encoder, B the generator, "joint" both. A dashed line marks each filling of the
    bank of generated views; from there on positives are drawn from it. Of an ensemble of encoders the first one is shown, its
    epochs and the generator's counted; the others have the same phases.

    Parameters
    ----------
    adata_or_model
        Annotated data that :func:`diffaug.tl.fit` wrote to, or a fitted model.
    keys
        What to draw, one or several, a panel for each: ``"encoder_loss"`` and ``"generator_loss"`` (means over an epoch),
        ``"semantic_cosine"`` and ``"effective_rank"`` (the probes, on the epoch's last batch), ``"generated_share"`` (of
        the encoder's positives). By default all that have values.
    key_added
        Name of the results, as given to :func:`diffaug.tl.fit`; for AnnData only.
    title
        Title.
    ax
        Axes to draw into, for one key.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says.
    return_fig
        Return the figure and do not show it.
    save
        File to write, with its suffix (``"history.pdf"``).

    Returns
    -------
    With ``show=False`` a list of axes (the axes alone if ``keys`` is one name), with ``return_fig=True`` the figure,
    otherwise ``None``.

    Raises
    ------
    KeyError
        There is no history in ``.uns``: nothing was fitted or embedded there.
    ValueError
        A key is unknown or has no values in this history.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> model = diffaug.tl.fit(adata, max_epochs=6, progress=False)
    >>> axes = diffaug.pl.history(adata, show=False)
    >>> len(axes)
    5
    """
    check_save(save)
    columns = _columns(adata_or_model, key_added)
    curves = {name: _curve(columns, name) for name in _LABELS}
    names = _names(curves, keys)
    axes = new_axes(len(names), 7.2, 1.55 if len(names) > 1 else 3.4, ax, share_x=True)
    spans, fills = phase_spans(columns), columns["epoch"][columns["phase"] == "fill"]
    for panel, name in zip(axes, names, strict=True):
        _shade(panel, spans, fills)
        _plot(panel, *curves[name], color=_LINE_COLORS.get(name, ENCODER))
        panel.set_ylabel(_LABELS[name])
        panel.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        panel.spines[["top", "right"]].set_visible(False)
        if name == "generated_share":
            panel.set(ylim=(-4, 104), yticks=(0, 50, 100))
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes[-1].set_xlim(0.5, max(span.last for span in spans) + 0.5)
    if len(axes) > 1:
        axes[0].figure.align_ylabels(axes)
    _phase_names(axes[0], spans)
    n_rows = _legend(axes[0], spans, len(fills) > 0)
    if title is not None:
        axes[0].set_title(title, loc="left", pad=22 + 15 * n_rows)
    return hand_over(
        axes[0] if isinstance(keys, str) else axes, show=show, return_fig=return_fig, save=save, own=ax is None
    )


def _columns(adata_or_model: AnnData | DiffAug, key_added: str | None) -> Columns:
    """Columns of the history, one entry for each epoch and each fill."""
    if isinstance(adata_or_model, DiffAug):
        if key_added is not None:
            raise ValueError(f"Expected no `key_added` for a model, which has one history, found {key_added!r}.")
        records = adata_or_model.history
        if not records:
            raise KeyError("Did not find a history in the model. Fit it first.")
        return _of_first({f.name: np.array([getattr(r, f.name) for r in records]) for f in fields(EpochRecord)})
    if not isinstance(adata_or_model, AnnData):
        raise TypeError(f"Expected an AnnData or a DiffAug, found {type(adata_or_model).__name__}.")
    check_adata(adata_or_model)
    key = Keys(key_added).uns
    if key not in adata_or_model.uns:
        raise KeyError(
            f"Did not find `adata.uns[{key!r}]`. Available: {list(adata_or_model.uns)}. Run diffaug.tl.fit first."
        )
    record = adata_or_model.uns[key]
    if not record.get("history"):
        raise KeyError(
            f"Did not find `adata.uns[{key!r}]['history']`: these cells were embedded or made by a model that was fitted "
            "elsewhere. Pass the model."
        )
    return _of_first({name: np.asarray(column) for name, column in record["history"].items()})


def _of_first(columns: Columns) -> Columns:
    """What the generator and the first encoder did, their epochs counted; histories of before the ensemble have no other."""
    member = columns.get("member")
    if member is None or not np.any(member):
        return columns
    first = {name: column[member == 0] for name, column in columns.items()}
    return {**first, "epoch": np.cumsum(first["phase"] != "fill")}


def _curve(columns: Columns, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values, a NaN where there is none."""
    epochs = columns["phase"] != "fill"  # a fill repeats the number of the epoch before it
    if name != "generated_share":
        return columns["epoch"][epochs], columns[name][epochs].astype(float)
    n_positives, n_generated = columns["n_positives"][epochs], columns["n_generated"][epochs]
    share = np.full(len(n_positives), np.nan)
    np.divide(100.0 * n_generated, n_positives, out=share, where=n_positives > 0)
    return columns["epoch"][epochs], share


def _names(curves: dict[str, tuple[np.ndarray, np.ndarray]], keys: str | Sequence[str] | None) -> list[str]:
    with_values = [name for name, (_, y) in curves.items() if np.isfinite(y).any()]
    if keys is None:
        return with_values
    names = names_of(keys, "keys")
    for name in names:
        if name not in curves:
            raise ValueError(f"Expected `keys` among {list(curves)}, found {name!r}.")
        if name not in with_values:
            raise ValueError(f"Expected values of {name!r} in the history, found none. It has {with_values}.")
    return names


def phase_spans(columns: Columns) -> list[Span]:
    """Runs of epochs of one phase and cycle, in order; fills take no epoch."""
    spans: list[Span] = []
    for phase, cycle, epoch in zip(columns["phase"], columns["cycle"], columns["epoch"], strict=True):
        if phase == "fill":
            continue
        if spans and (spans[-1].phase, spans[-1].cycle) == (str(phase), int(cycle)):
            spans[-1] = Span(str(phase), int(cycle), spans[-1].first, int(epoch))
        else:
            spans.append(Span(str(phase), int(cycle), int(epoch), int(epoch)))
    return spans


def _shade(panel: Axes, spans: list[Span], fills: np.ndarray) -> None:
    for span in spans:
        shade = panel.axvspan(span.first - 0.5, span.last + 0.5, color=_COLORS[span.phase], alpha=0.1, linewidth=0)
        shade.set_gid(f"phase {span.phase} {span.cycle}")
    for epoch in fills:
        panel.axvline(epoch + 0.5, color="black", linestyle=(0, (4, 3)), linewidth=1, gid="fill")


def _plot(panel: Axes, epoch: np.ndarray, y: np.ndarray, *, color: str) -> None:
    finite = np.concatenate([[False], np.isfinite(y), [False]])
    alone = finite[1:-1] & ~finite[:-2] & ~finite[2:]  # a line through a single point is invisible
    panel.plot(epoch, y, color=color, linewidth=1.3)
    panel.plot(epoch[alone], y[alone], color=color, marker="o", markersize=3, linestyle="none")


def _phase_names(panel: Axes, spans: list[Span]) -> None:
    """Names above the spans that are wide enough to hold them."""
    total = spans[-1].last - spans[0].first + 1
    inches = width_of(panel)
    wording: list[Callable[[Span], str]] = [_long_name, lambda span: span.phase]
    for say in wording:
        width = [inches * (span.last - span.first + 1) / total for span in spans]
        needed = [0.075 * len(say(span)) + 0.05 for span in spans]  # of text at 9 points
        if say is wording[-1] or all(n <= w for n, w in zip(needed, width, strict=True)):
            for span, n, w in zip(spans, needed, width, strict=True):
                if n <= w:
                    panel.annotate(
                        say(span),
                        ((span.first + span.last) / 2, 1),
                        (0, 2),
                        xycoords=panel.get_xaxis_transform(),
                        textcoords="offset points",
                        ha="center",
                        va="bottom",
                        fontsize=9,
                        color=_COLORS[span.phase],
                        annotation_clip=False,
                    )
            return


def _long_name(span: Span) -> str:
    return "warm-up" if span.cycle == 0 else f"{span.phase}, cycle {span.cycle}"


def _legend(panel: Axes, spans: list[Span], has_fill: bool) -> int:
    """What the shades and lines mean, above the names of the phases; gives the number of rows."""
    phases = [phase for phase in _COLORS if any(span.phase == phase for span in spans)]
    handles: list[Patch | Line2D] = [Patch(color=_COLORS[p], alpha=0.25, label=_MEANINGS[p]) for p in phases]
    if has_fill:
        handles.append(Line2D([], [], color="black", linestyle=(0, (4, 3)), linewidth=1, label="bank of views filled"))
    n_columns = max(1, min(len(handles), int(width_of(panel) / 1.8)))
    panel.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=n_columns,
        frameon=False,
        fontsize=9,
        borderaxespad=1.8,  # in letters: above a line of names
    )
    return -(-len(handles) // n_columns)
