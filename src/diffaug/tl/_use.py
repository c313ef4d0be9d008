"""What a fitted model does with an AnnData: embed, augment, generate."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from diffaug._anndata import (
    categorical_obs,
    cells_meta,
    new_anndata,
    obs_column,
    read_like,
    unpack_obs,
    write_embedding,
)
from diffaug._keys import CONDITION_CELL, SOURCE_CELL, SYNTHETIC, Keys
from diffaug._model import DiffAug, whole_number


def embed(
    adata: AnnData,
    model: DiffAug,
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
        Annotated data with the model's genes, in any order and among others.
    model
        A model of :func:`diffaug.tl.fit` or ``DiffAug.load``.
    key_added
        Name of the results, as in :func:`diffaug.tl.fit`.
    missing
        What to do about absent genes: ``"error"``, or ``"fill"`` them with their training mean and count them.

    Returns
    -------
    ``None``. Writes ``.obsm["X_diffaug"]``, ``.obsm["X_diffaug_latent"]`` and ``.uns["diffaug"]`` (what
    :func:`diffaug.tl.fit` writes, and ``n_filled_genes``).

    Raises
    ------
    ValueError
        Genes are missing, or the values are on another scale than the model's.
    """
    keys = Keys(key_added)
    cells_meta(model)
    x, absent = read_like(adata, model, missing=missing)
    write_embedding(adata, model, x, keys, n_filled_genes=len(absent))


def augment(
    adata: AnnData,
    model: DiffAug,
    *,
    n_views: int = 1,
    kind: Literal["diffaug", "mixup", "feature_swap", "mask", "noise", "thinning"] = "diffaug",
    strength: float = 1.0,
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
    random_state
        Seed.
    progress
        Show a progress bar.

    Returns
    -------
    New AnnData of ``n_obs * n_views`` cells on the scale of the model's input. ``.obs`` has the groups of the source
    cell and ``"source_cell"``; ``.uns["diffaug_made"]`` the provenance.
    """
    meta = cells_meta(model)
    x, _ = read_like(adata, model)
    labels = None
    if model.config.diffusion.condition == "label" and kind == "diffaug":
        labels = np.asarray(obs_column(adata, meta["label_key"], "the model's label_key"))
    views = model.augment(
        x, n_views, kind=kind, labels=labels, strength=strength, random_state=random_state, progress=progress
    )
    rows = np.repeat(np.arange(adata.n_obs), n_views)
    obs = categorical_obs(adata.obs).iloc[rows].copy()
    obs[SOURCE_CELL] = adata.obs_names[rows].astype(str)
    obs[SYNTHETIC] = True
    names = [f"{cell}-view{i % n_views}" for i, cell in enumerate(obs[SOURCE_CELL])]
    provenance = {
        "made_by": "augment",
        "kind": kind,
        "n_views": n_views,
        "strength": strength,
        "random_state": random_state,
    }
    return new_anndata(views.reshape(len(rows), -1), model, obs, provenance, names)


def generate(
    model: DiffAug,
    n_obs: int | None = None,
    *,
    like: AnnData | None = None,
    groupby: str | None = None,
    n: Mapping[str, int] | int | None = None,
    random_state: int = 0,
    progress: bool = True,
) -> AnnData:
    """Generate synthetic cells.

    Give one of: ``n_obs`` alone (conditioned on training cells drawn at random), ``like`` (one for each given cell, or
    ``n_obs`` in all), or ``groupby`` with ``n`` (so many of each group of the training cells).

    Parameters
    ----------
    model
        A fitted model.
    n_obs
        Number of cells.
    like
        Cells to generate look-alikes of.
    groupby
        Column of the training ``.obs`` that names groups.
    n
        Cells by group, ``{"NK": 500}``, or one number for each group; by default as many as in the training data.
    random_state
        Seed.
    progress
        Show a progress bar.

    Returns
    -------
    New AnnData with the model's genes, values on the scale of the model's input (never negative where that is not) and
    sparse where that was. ``.obs`` has ``"condition_cell"``, the cell that conditioned each, its groups, and
    ``"synthetic"``; ``.uns["diffaug_made"]`` the provenance.

    Raises
    ------
    KeyError
        ``groupby`` or one of its groups is unknown; the message has the nearest names.
    RuntimeError
        The model has no trained generator.
    """
    meta = cells_meta(model)
    if n_obs is not None:
        n_obs = whole_number("n_obs", n_obs, 1)
    if n_obs is None and like is None and groupby is None:
        raise ValueError(
            "Expected one of `n_obs`, `like` and `groupby`, found none. Say how many cells, or of which kind."
        )
    if groupby is None and n is not None:
        raise ValueError("Expected `groupby` with `n`, found none. Name the column of `.obs` that holds the groups.")
    if like is not None and groupby is not None:
        raise ValueError("Expected `like` or `groupby`, found both. Choose one.")
    rng = np.random.default_rng(whole_number("random_state", random_state))
    if like is not None:
        return _generate_like(model, like, n_obs, rng, random_state, progress)
    cells = unpack_obs(meta["cells"])
    source = None
    if groupby is not None:
        if n_obs is not None:
            raise ValueError("Expected `n` (cells by group) with `groupby`, found `n_obs`. Choose one.")
        source = _rows_by_group(cells, groupby, n, rng)
    made = model.generate(n_obs, source=source, random_state=random_state, progress=progress)
    provenance = {"made_by": "generate", "random_state": random_state, **({"groupby": groupby} if groupby else {})}
    return _as_synthetic(model, made.values, cells.iloc[made.source], provenance)


def _as_synthetic(model: DiffAug, values: np.ndarray, conditions: pd.DataFrame, provenance: dict) -> AnnData:
    obs = conditions.copy()
    obs[CONDITION_CELL] = conditions.index.astype(str)
    obs[SYNTHETIC] = True
    return new_anndata(values, model, obs, provenance, [f"synthetic-{i}" for i in range(len(values))])


def _generate_like(
    model: DiffAug, like: AnnData, n_obs: int | None, rng: np.random.Generator, random_state: int, progress: bool
) -> AnnData:
    x, _ = read_like(like, model, name="like")
    rows = np.arange(like.n_obs)
    if n_obs is not None:
        rows = np.concatenate([rng.permutation(like.n_obs) for _ in range(-(-n_obs // like.n_obs))])[:n_obs]
    labels = None
    if model.config.diffusion.condition == "label":
        labels = np.asarray(obs_column(like, model.meta["label_key"], "the model's label_key"))[rows]
    values = model.augment(x[rows], 1, labels=labels, random_state=random_state, progress=progress)[:, 0]
    provenance = {"made_by": "generate", "random_state": random_state, "like": True}
    return _as_synthetic(model, values, categorical_obs(like.obs).iloc[rows], provenance)


def _rows_by_group(
    cells: pd.DataFrame, groupby: str, n: Mapping[str, int] | int | None, rng: np.random.Generator
) -> np.ndarray:
    """Training rows that condition the wanted numbers of cells of each group."""
    if groupby not in cells:
        kept = "Columns of `.obs` with few texts, booleans or whole numbers are kept with the model."
        raise KeyError(f"{_unknown('groupby', groupby, list(cells.columns))} {kept}")
    column = cells[groupby]
    present = {str(k): int(v) for k, v in column.value_counts().items() if v > 0}
    if n is None:
        n = present
    if not isinstance(n, Mapping):
        n = dict.fromkeys(present, whole_number("n", n, 1))
    wanted = {group: whole_number(f"n[{group!r}]", count) for group, count in n.items()}
    for group in wanted:
        if group not in present:
            raise KeyError(_unknown(f"a group of {groupby!r}", group, list(present)))
    if not sum(wanted.values()):
        raise ValueError(f"Expected at least 1 cell in `n`, found {dict(wanted)}.")
    rows = []
    for group, count in wanted.items():
        members = np.flatnonzero((column == group).to_numpy())
        rows += [rng.permutation(members) for _ in range(count // len(members))]
        rows.append(rng.permutation(members)[: count % len(members)])
    return np.concatenate(rows).astype(int)


def _unknown(what: str, found: str, available: list[str]) -> str:
    near = difflib.get_close_matches(str(found), available, n=3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"Expected {what} among {available}, found {found!r}.{hint}"
