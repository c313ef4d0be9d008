"""How near the views of a cell stay to it in the semantic space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from diffaug._anndata import cells_meta
from diffaug._model import DiffAug
from diffaug._new_cells import read_like
from diffaug.core.arguments import whole_number
from diffaug.metrics import semantic_cosine
from diffaug.tl._told import told_of

RANDOM_PAIR = "random_pair"

# Hand-made views look for partners among the cells they are given; more than this adds memory and no closer neighbours.
_POOL = 20_000


def view_similarity(
    adata: AnnData,
    model: DiffAug,
    *,
    kinds: str | Sequence[str] = ("diffaug", "mixup", "feature_swap"),
    n_cells: int = 500,
    n_views: int = 1,
    random_state: int = 0,
) -> pd.DataFrame:
    """Cosine between cells and their views in the semantic space (paper, Fig. 5).

    Near 1, the encoder takes the view for the same cell. Pairs of unrelated cells stand beside the views, because what a
    cosine of 0.7 means depends on how far apart the encoder puts cells at all.

    Parameters
    ----------
    adata
        Cells, read as by :func:`diffaug.tl.embed`.
    model
        A fitted model.
    kinds
        Kinds of views, one or several: ``"diffaug"``, ``"mixup"``, ``"feature_swap"``, ``"mask"``, ``"noise"``,
        ``"thinning"``. Partners of mixup and feature swap are sought among all cells of ``adata`` (among 20,000 of them,
        where there are more).
    n_cells
        Cells to draw at random; all where there are not more.
    n_views
        Views of each cell and kind, and random partners of each cell.
    random_state
        Seed.

    Returns
    -------
    Data frame in long form with the columns ``"cell"`` (name), ``"kind"`` (categorical, ``"random_pair"`` last: the cell
    and another of the drawn cells) and ``"cosine"``; ``n_cells * n_views`` rows for each kind.

    Raises
    ------
    RuntimeError
        Generated views are asked for and the model has no trained generator.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> model = diffaug.tl.fit(adata, max_epochs=3, progress=False)
    >>> pairs = diffaug.tl.view_similarity(adata, model, kinds="mixup", n_cells=50)
    >>> pairs["kind"].value_counts().to_dict()
    {'mixup': 50, 'random_pair': 50}
    """
    cells_meta(model)
    kinds = list(dict.fromkeys([kinds] if isinstance(kinds, str) else kinds))
    known = ["diffaug", *model.backend.view_kinds]
    wrong = [kind for kind in kinds if kind not in known]
    if wrong or not kinds:
        raise ValueError(f"Expected `kinds` among {known}, found {repr(wrong[0]) if wrong else 'none'}.")
    whole_number("n_cells", n_cells, 2)
    whole_number("n_views", n_views, 1)
    x = read_like(adata, model)
    if adata.n_obs < 2:
        raise ValueError(f"Expected at least 2 cells in `adata` to compare, found {adata.n_obs}.")

    rng = np.random.default_rng(random_state)
    pool = rng.permutation(adata.n_obs)[:_POOL]
    rows = pool[: min(n_cells, adata.n_obs)]
    semantic = model.embed(x[rows]).semantic
    repeated = np.repeat(semantic, n_views, axis=0)
    cosines = {}
    for kind in kinds:
        if kind == "diffaug":
            told = told_of(adata.obs, model).of(rows)
            views = model.augment(x[rows], n_views, **told._asdict(), random_state=random_state)
        else:
            views = model.augment(x[pool], n_views, kind=kind, random_state=random_state)[: len(rows)]
        views = views.reshape(len(rows) * n_views, *model.event_shape)
        cosines[kind] = semantic_cosine(repeated, model.embed(views).semantic)
    step = rng.integers(1, len(rows), size=len(repeated))  # at least one step round the circle: never the cell itself
    partner = (np.repeat(np.arange(len(rows)), n_views) + step) % len(rows)
    cosines[RANDOM_PAIR] = semantic_cosine(repeated, semantic[partner])
    return pd.DataFrame(
        {
            "cell": np.tile(np.repeat(np.asarray(adata.obs_names[rows].astype(str)), n_views), len(cosines)),
            "kind": pd.Categorical(np.repeat(list(cosines), len(repeated)), categories=list(cosines)),
            "cosine": np.concatenate(list(cosines.values())),
        }
    )
