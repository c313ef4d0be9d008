"""``pl.embedding``: the embedding on a map of two dimensions."""

from __future__ import annotations

import difflib
import hashlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from diffaug._anndata import MIN_CELLS, check_adata, writing
from diffaug._keys import Keys
from diffaug.core.arguments import whole_number
from diffaug.pl._figure import check_save, check_single, hand_over, names_of

logger = logging.getLogger(__name__)

_METHODS = {"umap": "UMAP", "tsne": "t-SNE"}
# scanpy's 120000 / n_obs makes the dots of a few hundred cells cover each other.
_LARGEST_DOT = 60.0
# Side of a panel, in inches.
_PANEL = 4.2


def embedding(
    adata: AnnData,
    *,
    color: str | Sequence[str] | None = None,
    basis: str | None = None,
    method: Literal["umap", "tsne"] = "umap",
    key_added: str | None = None,
    recompute: bool = False,
    random_state: int = 0,
    palette: str | Sequence[str] | None = None,
    cmap: str | Colormap | None = None,
    size: float | None = None,
    alpha: float | None = None,
    legend_loc: str | None = "right margin",
    title: str | Sequence[str] | None = None,
    frameon: bool | None = None,
    ncols: int = 4,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Map the embedding to two dimensions, where that is not done yet, and draw it.

    The map is kept in ``.obsm`` and drawn again by the next call. It is made anew when the embedding, the cells or
    ``random_state`` are others than those it was made of.

    Parameters
    ----------
    adata
        Annotated data with the embedding that :func:`diffaug.tl.fit` or :func:`diffaug.tl.embed` wrote.
    color
        Columns of ``.obs`` or genes, one or several; a panel for each.
    basis
        Draw this finished map of ``.obsm`` instead (``"umap"`` or ``"X_umap"``), as in :func:`scanpy.pl.embedding`.
    method
        ``"umap"`` or ``"tsne"``.
    key_added
        Name of the embedding, as given to :func:`diffaug.tl.fit`.
    recompute
        Make the map anew in any case.
    random_state
        Seed of the map.
    palette, cmap, size, alpha, legend_loc, title, frameon, ncols
        See :func:`scanpy.pl.embedding`. ``size`` is in points squared.
    ax
        Axes to draw into, for one colour.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says.
    return_fig
        Return the figure and do not show it.
    save
        File to write, with its suffix (``"map.pdf"``).

    Returns
    -------
    With ``show=False`` the axes (a list of them for several colours), with ``return_fig=True`` the figure, otherwise
    ``None``. Writes these fields unless ``basis`` is given:

    ``.obsm["X_diffaug_umap"]``
        The map, shape ``(n_obs, 2)``; ``"X_diffaug_tsne"`` with ``method="tsne"``.
    ``.uns["X_diffaug_umap"]``
        What it was made of: ``params``, and a ``fingerprint`` of the embedding.

    As scanpy does, colours of categories are kept in ``.uns["<color>_colors"]``.

    Raises
    ------
    KeyError
        The embedding, the finished map, or a colour is not there.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> model = diffaug.tl.fit(adata, max_epochs=3, progress=False)
    >>> ax = diffaug.pl.embedding(adata, color="cell_type", show=False)
    >>> adata.obsm["X_diffaug_umap"].shape
    (700, 2)
    """
    check_save(save)
    check_adata(adata)
    colors = None if color is None else names_of(color, "color")
    for name in colors or ():
        _check_color(adata, name)
    n_panels = 1 if colors is None else len(colors)
    check_single(n_panels, ax)
    whole_number("ncols", ncols, 1)
    titles = [title] if isinstance(title, str) else list(title or ())
    if titles and len(titles) != n_panels:
        raise ValueError(f"Expected a title for each of {n_panels} panels, found {len(titles)}.")
    if basis is not None:
        drawn, label = _finished(adata, basis, key_added, recompute), None
    else:
        drawn, label = _mapped(adata, Keys(key_added), method, recompute, random_state), _METHODS[method]

    panels: list[str | None] = [*colors] if colors else [None]
    axes = _panels(adata, panels, ncols, legend_loc) if ax is None else [ax]
    for i, (panel, shown) in enumerate(zip(axes, panels, strict=True)):
        with writing(adata):  # scanpy keeps the colours, which makes a view a copy
            sc.pl.embedding(
                adata,
                drawn,
                color=shown,
                palette=palette,
                cmap=cmap,
                size=min(120_000 / adata.n_obs, _LARGEST_DOT) if size is None else size,
                alpha=alpha,
                legend_loc=legend_loc,
                title=titles[i] if titles else None,
                frameon=frameon,
                ax=panel,
                show=False,
            )
        if label is not None and panel.get_xlabel():
            panel.set(xlabel=f"{label} 1", ylabel=f"{label} 2")
    return hand_over(axes if n_panels > 1 else axes[0], show=show, return_fig=return_fig, save=save, own=ax is None)


def _panels(adata: AnnData, colors: Sequence[str | None], ncols: int, legend_loc: str | None) -> list[Axes]:
    """A grid of equal panels with room for their legends, which scanpy's own grid does not give."""
    ncols = min(ncols, len(colors))
    nrows = -(-len(colors) // ncols)
    rooms = [_legend_room(adata, name) if legend_loc == "right margin" else 0.0 for name in colors]
    width = sum(_PANEL + max(rooms[column::ncols]) for column in range(ncols))
    figure, grid = plt.subplots(nrows, ncols, figsize=(width, nrows * _PANEL), layout="constrained", squeeze=False)
    axes = list(grid.flat)
    for unused in axes[len(colors) :]:
        figure.delaxes(unused)
    return axes[: len(colors)]


def _legend_room(adata: AnnData, name: str | None) -> float:
    """Inches that scanpy's legend of categories takes beside a panel, by the length of their names."""
    if name is None or name not in adata.obs or pd.api.types.is_numeric_dtype(adata.obs[name]):
        return 0.0
    names = adata.obs[name].astype(str).unique()
    n_columns = 1 if len(names) <= 14 else 2 if len(names) <= 30 else 3
    return n_columns * (0.5 + 0.085 * max(map(len, names)))


def _check_color(adata: AnnData, name: str) -> None:
    """An error before minutes go into a map that then cannot be coloured."""
    genes = adata.var_names if adata.raw is None else adata.var_names.union(adata.raw.var_names)
    if name in adata.obs or name in genes:
        return
    near = difflib.get_close_matches(name, [*adata.obs.columns.astype(str), *genes.astype(str)], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise KeyError(
        f"Did not find `color` {name!r} in `adata.obs` or among the genes. "
        f"Available in `adata.obs`: {list(adata.obs.columns)}.{hint}"
    )


def _finished(adata: AnnData, basis: str, key_added: str | None, recompute: bool) -> str:
    """Key of the caller's own map."""
    if key_added is not None or recompute:
        raise ValueError(
            f"Expected `basis` alone, found it with `{'key_added' if key_added is not None else 'recompute'}`: "
            f"{basis!r} is drawn as it is. Leave one of them out."
        )
    for key in (basis, f"X_{basis}"):
        if key in adata.obsm:
            if np.ndim(adata.obsm[key]) != 2 or adata.obsm[key].shape[1] < 2:
                raise ValueError(
                    f"Expected at least two columns in `adata.obsm[{key!r}]`, found shape {adata.obsm[key].shape}."
                )
            return key
    raise KeyError(f"Did not find `adata.obsm[{basis!r}]`. Available: {list(adata.obsm)}.")


def _mapped(adata: AnnData, keys: Keys, method: str, recompute: bool, random_state: int) -> str:
    """Key of the map of the embedding, made now if there is none of this embedding."""
    if method not in _METHODS:
        raise ValueError(f"Expected `method` in {list(_METHODS)}, found {method!r}.")
    if keys.semantic not in adata.obsm:
        raise KeyError(
            f"Did not find `adata.obsm[{keys.semantic!r}]`. Available: {list(adata.obsm)}. Run diffaug.tl.fit first."
        )
    x = np.ascontiguousarray(adata.obsm[keys.semantic], dtype=np.float32)
    if adata.n_obs < MIN_CELLS:
        raise ValueError(f"Expected at least {MIN_CELLS} cells for a map, found {adata.n_obs}.")
    key = keys.map(method)
    made_of = {"params": {"method": method, "random_state": random_state}, "fingerprint": _fingerprint(x)}
    if key in adata.obsm and not recompute:
        if _same(adata.uns.get(key), made_of):
            return key
        logger.info("`.obsm[%r]` was made of other cells, another embedding or another seed: making it anew", key)
    points = _umap(x, random_state) if method == "umap" else _tsne(x, random_state)
    with writing(adata):
        adata.obsm[key] = points
        adata.uns[key] = made_of
    logger.info("wrote .obsm[%r] and .uns[%r]", key, key)
    return key


def _fingerprint(x: np.ndarray) -> str:
    return hashlib.blake2b(x.tobytes(), digest_size=8, key=str(x.shape).encode()).hexdigest()


def _same(record: Any, made_of: dict[str, Any]) -> bool:
    """Whether a record in ``.uns``, perhaps read back from a file, is this one."""
    try:
        params = record["params"]
        return bool(
            record["fingerprint"] == made_of["fingerprint"]
            and int(params["random_state"]) == made_of["params"]["random_state"]
        )
    except (KeyError, TypeError, IndexError):
        return False  # a field of another origin


def _umap(x: np.ndarray, random_state: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        import umap

    # min_dist as in scanpy. One thread, because a seed needs that; said here, or umap-learn warns of it.
    reducer = umap.UMAP(n_neighbors=min(15, len(x) - 1), min_dist=0.5, random_state=random_state, n_jobs=1)
    return np.asarray(reducer.fit_transform(x), dtype=np.float32)


def _tsne(x: np.ndarray, random_state: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(x) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, random_state=random_state).fit_transform(x), dtype=np.float32)
