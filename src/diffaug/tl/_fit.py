"""``tl.fit``: train on an AnnData."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from diffaug._anndata import Matrix, obs_column, pack_obs, read_source, warn_shared_names, write_embedding
from diffaug._gain_said import log_gain
from diffaug._keys import LOOP_GAIN, Keys
from diffaug._model import DiffAug, resolve_config
from diffaug._new_cells import NewCells, check_like, joined
from diffaug._twin import compare_with_twin
from diffaug.backends import get_backend
from diffaug.core.config import Config
from diffaug.tl._sample import cells_to_train_on
from diffaug.tl._twin import label_values

logger = logging.getLogger(__name__)


def fit(
    adata: AnnData,
    *,
    layer: str | None = None,
    use_rep: str | None = None,
    batch_key: str | None = None,
    label_key: str | None = None,
    key_added: str | None = None,
    n_cycles: int | None = None,
    view_rate: float | None = None,
    n_encoders: int | None = None,
    max_epochs: int | None = None,
    twin: bool = False,
    groupby: str | None = None,
    max_obs: int | None = None,
    sample_by: str | None = None,
    config: Config | Mapping[str, Any] | str | None = None,
    random_state: int = 0,
    device: str = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_minutes: float = 10.0,
    progress: bool = True,
) -> DiffAug:
    """Learn an embedding and a generator of cells, without labels.

    Trains on ``.X`` (or ``layer``, or ``use_rep``). Log-normalised values are used as they are; raw counts are
    normalised on a copy, as by :func:`diffaug.pp.recipe`, which is said in the log. Where ``.var["highly_variable"]`` exists, those genes are used; raw
    counts without it get the 2,000 most variable ones. What each default was tried against: :ref:`the-defaults`.

    Parameters
    ----------
    adata
        Annotated data, cells x genes, in memory; with ``max_obs`` also backed by a file.
    layer
        Layer to train on instead of ``.X``.
    use_rep
        Key of ``.obsm`` to train on instead of genes. Its columns are no panel, few as they may be: the settings that panels
        have by default (:class:`diffaug.backends.cells.CellsConfig`) are left out.
    batch_key
        Column of ``.obs`` with batches: views then lead from batch to batch, so that the embedding mixes them. Hand-made ones
        mix a cell with neighbours in every batch; generated ones are drawn for near cells of other batches, by a generator that
        is told the batches (``condition_on_batch`` of :class:`diffaug.core.config.DiffusionConfig`).
    label_key
        Column of ``.obs`` with labels, for ``condition="label"`` (ablation A1) only; otherwise no label is ever read.
    key_added
        Name of the results; by default ``"X_diffaug"`` in ``.obsm`` and ``"diffaug"`` in ``.uns``.
    n_cycles
        Times the generator is trained and its views shown to the encoder. 0 leaves the generator out: the embedding is that of
        the loop-off twin of one cycle, in half to 70 % of the time (with one encoder, less), and there are no synthetic cells.
    view_rate
        Probability (lambda) that a positive is a generated view after the warm-up, in [0, 1]. Unless
        ``config.training.adapt_view_rate`` is false, the fit lowers it where the views are worth less than hand-made ones,
        and says the lambda in force in its log.
    n_encoders
        Encoders whose vectors are averaged to the embedding, 5 by default: an ensemble is a point more accurate in a linear
        classifier than one encoder, and takes 1.7 times as long (entries 31 and 33 of ``docs/experiments.md``).
    max_epochs
        Cap on the epochs of all phases of the generator and of an encoder; longer plans shrink in proportion.
    twin
        Also train the loop-off twin (``model.twin``): equal in all but the generated views, which it never sees. What the
        views did is measured by :func:`diffaug.tl.loop_gain`, said in the log and kept; give ``groupby`` too, because the
        reading without labels is no proof. Costs one more mixed phase of each encoder.
    groupby
        With ``twin``: column of ``.obs`` with a label for every cell, which judge both; they are not used in training. Two
        classes of five cells or more are needed, which is checked before the training.
    max_obs
        Train on so many cells at most, drawn at random, and embed all: for more cells than the device or the computer holds
        (8 GB for a million of 2,000 genes, and as much for each generated view). ``.X`` of a backed ``adata`` stays in its file
        and is read in pieces, as by :func:`diffaug.tl.embed`. All else of this call (genes, ``twin``, ``groupby``) is about
        the drawn cells, the results are of all.
    sample_by
        With ``max_obs``: column of ``.obs`` (donors, tissues, clusters) whose groups get equal shares of them, as far as they
        have the cells, so that rare ones are seen.
    config
        Preset (``"default"``, ``"paper"``), :class:`diffaug.Config`, or nested dictionary of settings.
    random_state
        Seed; equal seeds give equal results on one machine's CPU.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    checkpoint
        File that keeps the state of the training. The same call with the same file goes on from there after a kill, a time
        limit or Ctrl-C, with a result equal to the bit. It stays when the fit is done; delete it when the results are saved.
        See :meth:`diffaug.DiffAug.fit`.
    checkpoint_minutes
        Write it at the end of an epoch when so many minutes have passed since the last time.
    progress
        Show a progress bar.

    Returns
    -------
    The fitted :class:`diffaug.DiffAug`. Writes these fields:

    ``.obsm["X_diffaug"]``
        Semantic vectors, shape ``(n_obs, 80)``: the embedding.
    ``.obsm["X_diffaug_latent"]``
        Latent vectors, on which the loss acts.
    ``.uns["diffaug"]``
        ``params``, ``history`` (one entry per epoch, and per filling of the bank of views, which has the lambda in force as
        ``view_rate`` and why it is so as ``news``, ``faith`` and ``realism``), ``versions``, ``genes``; with ``twin`` also
        ``loop_gain``, the columns of that table, and with ``max_obs`` ``n_obs_trained``.
    ``.obsm["X_diffaug_twin"]``
        With ``twin``: the twin's semantic vectors. A later fit without a twin under the same name removes them.

    Raises
    ------
    TypeError, ValueError, KeyError
        The input is of the wrong kind, has unusable values, or lacks a key; or ``checkpoint`` is damaged or of another
        run. Nothing is written then.
    OSError
        ``checkpoint`` cannot be read, or there is no place to write it.
    diffaug.core.memory.OutOfMemory
        The device or the computer has too little memory.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> model = diffaug.tl.fit(adata, max_epochs=3, progress=False)
    >>> adata.obsm["X_diffaug"].shape
    (700, 80)
    """
    keys = Keys(key_added)
    settings = resolve_config(config, get_backend("cells"))
    settings = settings.updated("training", n_cycles=n_cycles, view_rate=view_rate, n_encoders=n_encoders)
    if use_rep is not None:
        settings = dataclasses.replace(settings, domain=settings.domain.settled(is_panel=False))
    model = DiffAug(settings, random_state=random_state, device=device)
    drawn = cells_to_train_on(adata, max_obs, sample_by, random_state, layer=layer, use_rep=use_rep)
    warn_shared_names(adata)
    source = read_source(drawn, layer=layer, use_rep=use_rep, batch_key=batch_key)
    batch = None if batch_key is None else obs_column(drawn, batch_key, "batch_key").astype(str).to_numpy()
    if groupby is not None and not twin:
        raise ValueError(
            f"Expected twin=True with groupby={groupby!r}, found twin=False: labels judge the model against its twin. "
            "Set twin=True, or leave `groupby` out."
        )
    judges = label_values(drawn, groupby)
    labels = None if label_key is None else np.asarray(obs_column(drawn, label_key, "label_key"))
    if settings.diffusion.condition == "label" and labels is None:
        raise ValueError(
            "Expected `label_key` for condition='label' (ablation A1), found none. Name a column of `.obs`."
        )
    if labels is not None and settings.diffusion.condition != "label":
        logger.warning(
            "label_key=%r is not used: labels enter a training only with the setting condition='label'. With twin=True "
            "and `groupby` they judge it.",
            label_key,
        )
    if drawn.n_obs < adata.n_obs:
        check_like(adata, source.kind, layer=layer, use_rep=use_rep)
    if drawn.n_obs < settings.training.batch_size:
        logger.info("batch_size=%d is more than %d cells: a batch holds all", settings.training.batch_size, drawn.n_obs)
    model.meta = {
        **source.meta,
        "batch_key": batch_key,
        "label_key": label_key,
        "cells": pack_obs(drawn.obs, batch_key, label_key),
    }
    model.fit(
        source.x,
        batch=batch,
        labels=labels,
        max_epochs=max_epochs,
        twin=twin,
        checkpoint=checkpoint,
        checkpoint_minutes=checkpoint_minutes,
        progress=progress,
    )
    more: dict[str, Any] = {}
    if model.twin is not None:
        gain = compare_with_twin(model, source.x, judges, batch=batch)
        log_gain(gain, model.backend.events, "Give `groupby` to judge by labels of the cells", f".obsm[{keys.twin!r}]")
        more[LOOP_GAIN] = {"measure": gain.index.to_numpy(str), **{c: gain[c].to_numpy() for c in gain}}
    pieces: Iterable[Matrix] = [source.x]
    if drawn.n_obs < adata.n_obs:
        pieces = NewCells.of_fit(adata, model, layer=layer, use_rep=use_rep)
    if max_obs is not None:
        more["n_obs_trained"] = drawn.n_obs
    found = [[m.embed(piece) for m in (model, model.twin) if m is not None] for piece in pieces]
    ours, *twins = (joined(parts) for parts in zip(*found, strict=True))
    write_embedding(adata, model, ours, keys, **more)
    for theirs in twins:
        adata.obsm[keys.twin] = theirs.semantic
    return model
