"""``tl.baseline``: train another self-supervised method on an AnnData, with or without DiffAug's views."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from anndata import AnnData

from diffaug._anndata import Source, cells_meta, obs_column, pack_obs, read_source, write_embedding
from diffaug._keys import Keys
from diffaug._model import DiffAug, resolve_config
from diffaug.backends import get_backend
from diffaug.baselines import Baseline
from diffaug.baselines._baseline import check_method
from diffaug.core.arguments import whole_number
from diffaug.core.config import Config
from diffaug.tl._told import told_of

logger = logging.getLogger(__name__)


def baseline(
    adata: AnnData,
    method: str,
    *,
    views: str | Sequence[str] | None = None,
    model: DiffAug | None = None,
    view_rate: float = 0.5,
    n_views: int = 2,
    layer: str | None = None,
    use_rep: str | None = None,
    batch_key: str | None = None,
    key_added: str | None = None,
    max_epochs: int | None = None,
    config: Config | Mapping[str, Any] | str | None = None,
    random_state: int = 0,
    device: str = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_minutes: float = 10.0,
    progress: bool = True,
) -> Baseline:
    """Embed cells by another self-supervised method, on the same encoder and with the same training as DiffAug.

    For comparison: what differs from :func:`diffaug.tl.fit` is the method alone. With ``model``, the generated views of a
    fitted DiffAug are shown to the method, besides the hand-made ones.

    Parameters
    ----------
    adata
        Annotated data, cells x genes, in memory, read as by :func:`diffaug.tl.fit`.
    method
        ``"simclr"``, ``"moco"`` (version 2), ``"byol"``, ``"simsiam"``, ``"dino"`` or ``"dlme"``.
    views
        Hand-made views, one or several of ``"mixup"``, ``"feature_swap"``, ``"mask"``, ``"noise"`` and ``"thinning"``; of
        several, one is drawn for each cell and step. By default those of ``config``, which leaves mixtures, and masks for
        panels (:class:`diffaug.backends.cells.CellsConfig`).
    model
        A model fitted by :func:`diffaug.tl.fit` on the same genes, whose generated views are used. They are of each cell's own
        batch, also where the model was fitted with ``batch_key``.
    view_rate
        With ``model``: probability that a positive is a generated view, in [0, 1].
    n_views
        With ``model``: generated views of each cell.
    layer
        Layer to train on instead of ``.X``.
    use_rep
        Key of ``.obsm`` to train on instead of genes.
    batch_key
        Column of ``.obs`` with batches: mixup views then lead from batch to batch.
    key_added
        Name of the results; by default ``"X_<method>"`` in ``.obsm`` and ``"<method>"`` in ``.uns``.
    max_epochs
        Cap on the epochs of the whole plan, the generator's among them; as in :func:`diffaug.tl.fit`, so that equal caps
        give equal epochs of the encoder.
    config
        Preset (``"default"``, ``"paper"``), :class:`diffaug.Config`, or nested dictionary of settings. The section
        ``training`` gives batch size, learning rate and the epochs of the encoder: all of DiffAug's.
    random_state
        Seed; equal seeds give equal results on one machine's CPU.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    checkpoint, checkpoint_minutes
        As in :func:`diffaug.tl.fit`.
    progress
        Show a progress bar.

    Returns
    -------
    The fitted :class:`diffaug.baselines.Baseline`. Writes these fields, with the name of the method:

    ``.obsm["X_simclr"]``
        Semantic vectors, shape ``(n_obs, 80)``: the embedding.
    ``.obsm["X_simclr_latent"]``
        Latent vectors, on which the loss acts.
    ``.uns["simclr"]``
        What :func:`diffaug.tl.fit` writes, and ``method``, its ``settings``, ``views``, and ``n_views``, the generated
        views of each cell.

    Raises
    ------
    TypeError, ValueError, KeyError
        The method is unknown, the input is of the wrong kind, has unusable values, or lacks a key, or the model was fitted
        on other genes. Nothing is written then.
    RuntimeError
        The model has no generator (``n_cycles=0``), or was not fitted.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> model = diffaug.tl.baseline(adata, "byol", max_epochs=3, progress=False)
    >>> adata.obsm["X_byol"].shape
    (700, 80)
    """
    keys = Keys(key_added, check_method(method))
    settings = resolve_config(config, get_backend("cells"))
    if use_rep is not None:
        settings = dataclasses.replace(settings, domain=settings.domain.settled(is_panel=False))
    fitted = Baseline(method, settings, views=views, random_state=random_state, device=device)
    dataclasses.replace(fitted.config.training, view_rate=view_rate)  # checks it before any work
    whole_number("n_views", n_views, 1)
    source = read_source(adata, layer=layer, use_rep=use_rep, batch_key=batch_key)
    batch = None if batch_key is None else obs_column(adata, batch_key, "batch_key").astype(str).to_numpy()
    fitted.meta = {**source.meta, "batch_key": batch_key, "cells": pack_obs(adata.obs, batch_key)}
    generated = None
    if model is not None:
        _check_same_cells(model, source)
        told = told_of(adata.obs, model)
        generated = model.augment(source.x, n_views, **told._asdict(), random_state=random_state, progress=progress)
    fitted.fit(
        source.x,
        batch=batch,
        generated=generated,
        view_rate=view_rate,
        max_epochs=max_epochs,
        checkpoint=checkpoint,
        checkpoint_minutes=checkpoint_minutes,
        progress=progress,
    )
    write_embedding(
        adata,
        fitted,
        fitted.embed(source.x),
        keys,
        method=method,
        settings={k: v for k, v in dataclasses.asdict(fitted.settings).items() if v is not None},
        views=list(fitted.hand_made),
        n_views=0 if generated is None else n_views,
    )
    return fitted


def _check_same_cells(model: DiffAug, source: Source) -> None:
    """Check that the model knows the cells as ``source`` has them."""
    meta = cells_meta(model)
    if source.features != meta["features"] or (source.kind, source.use_rep) != (meta["kind"], meta["use_rep"]):
        raise ValueError(
            f"Expected a `model` fitted on the {len(source.features)} features ({source.kind}) that are read here, found one "
            f"fitted on {len(meta['features'])} features ({meta['kind']}). Fit it on the same genes, `layer` or `use_rep`."
        )
