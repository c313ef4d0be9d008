"""What a fitted model does with given cells: embed, augment."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from diffaug._anndata import (
    categorical_obs,
    cells_meta,
    groups_of,
    new_anndata,
    write_embedding,
)
from diffaug._keys import SOURCE_CELL, SYNTHETIC, Keys
from diffaug._model import DiffAug
from diffaug._new_cells import NewCells, joined, read_like
from diffaug.baselines import Baseline
from diffaug.tl._told import Told, told_of


def embed(
    adata: AnnData,
    model: DiffAug | Baseline,
    *,
    key_added: str | None = None,
    missing: Literal["error", "fill"] = "error",
) -> None:
    """Embed cells with a fitted model; new cells as well as those it was fitted on.

    Values are read where the fit read them (``.X``, a layer, or ``.obsm``), genes are aligned by name, and raw counts
    are normalised when the model was fitted on raw counts.

    Parameters
    ----------
    adata
        Annotated data with the model's genes, in any order and among others. ``.X`` may stay in a file
        (``anndata.read_h5ad(path, backed="r")``), dense or csr: it is then read in pieces, twice. All else of it, and the results,
        are in memory.
    model
        A model of :func:`diffaug.tl.fit`, ``DiffAug.load`` or :func:`diffaug.tl.baseline`.
    key_added
        Name of the results, as in :func:`diffaug.tl.fit` or :func:`diffaug.tl.baseline`.
    missing
        What to do about absent genes: ``"error"``, or ``"fill"`` them with their training mean and count them.

    Returns
    -------
    ``None``. Writes ``.obsm["X_diffaug"]``, ``.obsm["X_diffaug_latent"]`` and ``.uns["diffaug"]`` (what
    :func:`diffaug.tl.fit` writes, and ``n_filled_genes``). What an earlier fit with ``twin=True`` wrote of its twin under the
    same key is removed; take another ``key_added`` to keep it.

    Raises
    ------
    ValueError
        Genes are missing, or the values are on another scale than the model's.
    """
    cells_meta(model, baselines=True)
    keys, more = Keys(key_added), {}
    if isinstance(model, Baseline):
        keys, more = Keys(key_added, model.method), {"method": model.method}
    cells = NewCells(adata, model, missing=missing, baselines=True)
    embedding = joined(model.embed(piece) for piece in cells)
    write_embedding(adata, model, embedding, keys, n_filled_genes=len(cells.absent), **more)


def augment(
    adata: AnnData,
    model: DiffAug,
    *,
    n_views: int = 1,
    kind: Literal["diffaug", "mixup", "feature_swap", "mask", "noise", "thinning"] = "diffaug",
    strength: float = 1.0,
    batch: str | None = None,
    random_state: int = 0,
    progress: bool = True,
) -> AnnData:
    """Make views of given cells.

    Parameters
    ----------
    adata
        Cells to make views of, read as by :func:`embed`.
    model
        A fitted model.
    n_views
        Views of each cell.
    kind
        ``"diffaug"``: generated under the cell's condition; ``"mixup"`` with a neighbour among ``adata``;
        ``"feature_swap"`` with a random cell of ``adata``; ``"mask"``, ``"noise"`` and ``"thinning"`` as in
        :class:`diffaug.backends.cells.CellsConfig`.
    strength
        For ``"diffaug"``: 1 starts from pure noise, less keeps more of the cell's own values; in (0, 1].
    batch
        For ``"diffaug"`` and a model fitted with ``batch_key``: the batch, of those that it was fitted with, that the generator is told,
        and that the views have in ``.obs``. What a cell's semantic vector says of its own batch stays and can outweigh it
        (``docs/synthetic.md``). By default each cell's own, read from that column; without the column, and for batches that the model does
        not know, none in particular, which is said in the log.
    random_state
        Seed.
    progress
        Show a progress bar.

    Returns
    -------
    New AnnData of ``n_obs * n_views`` cells on the scale of the model's input. ``.obs`` has the groups of the source
    cell and ``"source_cell"``; ``.uns["diffaug_made"]`` the provenance.
    """
    x = read_like(adata, model)
    told = told_of(adata.obs, model, batch) if kind == "diffaug" else Told(None, batch)
    views = model.augment(
        x, n_views, kind=kind, **told._asdict(), strength=strength, random_state=random_state, progress=progress
    )
    rows = np.repeat(np.arange(adata.n_obs), n_views)
    obs = categorical_obs(adata.obs, groups_of(model)).iloc[rows].copy()
    obs[SOURCE_CELL] = adata.obs_names[rows].astype(str)
    obs[SYNTHETIC] = True
    if batch is not None:
        obs[cells_meta(model)["batch_key"]] = pd.Categorical([batch] * len(obs))
    names = [f"{cell}-view{i % n_views}" for i, cell in enumerate(obs[SOURCE_CELL])]
    provenance = {
        "made_by": "augment",
        "kind": kind,
        "n_views": n_views,
        "strength": strength,
        "random_state": random_state,
    }
    if batch is not None:
        provenance["batch"] = batch
    return new_anndata(views.reshape(len(rows), -1), model, obs, provenance, names)
