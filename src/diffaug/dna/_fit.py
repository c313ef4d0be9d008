"""Train on sequences, and use the model: text in, text out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffaug._model import DiffAug, Embedding, resolve_config
from diffaug.backends import get_backend
from diffaug.backends.dna import ViewKind
from diffaug.core.config import Config
from diffaug.dna._files import SequenceTable, read_sequences
from diffaug.dna._labels import as_labels, label_names
from diffaug.dna._sequences import check_sequences, decode, encode

Sequences = Sequence[str] | NDArray[Any] | SequenceTable | Path


class GeneratedSequences(NamedTuple):
    """Generated ``sequences``, and for each the row of the training sequence that conditioned it, ``source``, ``(n,)``."""

    sequences: list[str]
    source: NDArray[Any]


def text_of(sequences: Sequences) -> list[str]:
    """Checked upper-case sequences of a list, an array, a column, a table of :func:`read_sequences`, or a file."""
    if isinstance(sequences, Path):
        sequences = read_sequences(sequences)
    return sequences.sequences if isinstance(sequences, SequenceTable) else check_sequences(sequences)


def fit(
    sequences: Sequences,
    *,
    labels: ArrayLike | None = None,
    n_cycles: int | None = None,
    view_rate: float | None = None,
    max_epochs: int | None = None,
    twin: bool = False,
    config: Config | Mapping[str, Any] | str | None = None,
    random_state: int = 0,
    device: str = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_minutes: float = 10.0,
    progress: bool = True,
) -> DiffAug:
    """Learn an embedding and a generator of DNA sequences, without labels.

    Parameters
    ----------
    sequences
        List, array or column of text, a table of :func:`diffaug.dna.read_sequences`, or a file as a ``Path``. Letters A,
        C, G, T and N, upper or lower case; an N counts as a quarter of each base. Lengths may differ.
    labels
        One of each sequence, for ``condition="label"`` (ablation A1) only; otherwise no label is ever read. Empty text,
        ``None`` and NaN are no labels.
    n_cycles
        Times the generator is trained and its views shown to the encoder. 0 leaves the generator out.
    view_rate
        Probability (lambda) that a positive is a generated view after the warm-up, in [0, 1].
    max_epochs
        Cap on the epochs of all phases together; longer plans shrink in proportion.
    twin
        Also train the loop-off twin, ``model.twin``: the same training without a generated view, to compare with.
    config
        Preset (``"default"``, ``"paper"``), :class:`diffaug.Config`, or nested dictionary of settings;
        :class:`diffaug.backends.dna.DNAConfig` has those of the domain.
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
    The fitted :class:`diffaug.DiffAug`. Its own methods take and return one-hot arrays of
    :func:`diffaug.dna.encode`; the functions of ``diffaug.dna`` take and return text.

    Raises
    ------
    TypeError, ValueError
        A sequence is no text, is empty, too long (``domain.max_length``), has other letters, or has no label where labels are
        read; or ``checkpoint`` is damaged or of another run.
    OSError
        ``checkpoint`` cannot be read, or there is no place to write it.
    diffaug.core.memory.OutOfMemory
        The device or the computer has too little memory.

    Examples
    --------
    >>> import diffaug
    >>> sequences = ["ACGTTGCA" * 4, "TTAACCGG" * 4] * 10
    >>> small = {"domain": {"n_semantic": 8, "generator_widths": [4, 4, 4, 4]}, "diffusion": {"n_steps": 2}}
    >>> model = diffaug.dna.fit(sequences, config=small, max_epochs=3, progress=False)
    >>> diffaug.dna.embed(sequences, model).semantic.shape
    (20, 8)
    """
    settings = resolve_config(config, get_backend("dna"))
    settings = settings.updated("training", n_cycles=n_cycles, view_rate=view_rate)
    model = DiffAug(settings, backend="dna", random_state=random_state, device=device)
    conditioned = settings.diffusion.condition == "label"
    if conditioned and labels is None:
        raise ValueError(
            "Expected `labels` for condition='label' (ablation A1), found none. Give one of each sequence."
        )
    text = text_of(sequences)
    given = None if labels is None else label_names(labels) if conditioned else as_labels(labels)
    lengths = [len(s) for s in text]
    if max(lengths) > settings.domain.max_length:  # said before arrays of a chromosome's length are made
        raise ValueError(
            f"Expected sequences of at most {settings.domain.max_length} bases (`domain.max_length`), found "
            f"{max(lengths)} at place {int(np.argmax(lengths))}. Crop them, e.g. with `diffaug.dna.crop`, or raise the limit."
        )
    model.meta = {"lengths": [min(lengths), max(lengths)], "n_with_unknown": sum("N" in s for s in text)}
    return model.fit(
        encode(text),
        labels=given,
        max_epochs=max_epochs,
        twin=twin,
        checkpoint=checkpoint,
        checkpoint_minutes=checkpoint_minutes,
        progress=progress,
    )


def check_model(model: DiffAug) -> DiffAug:
    """Refuse a model of another domain, or one that was not fitted."""
    if model.backend.name != "dna":
        raise ValueError(
            f"Expected a model of DNA, found one of {model.backend.name}. Use the functions of its domain."
        )
    return model


def events_of(sequences: Sequences, model: DiffAug) -> NDArray[np.float32]:
    """One-hot events of a model of DNA, as its own methods take them."""
    return encode(text_of(sequences), length=check_model(model).event_shape[1])


def embed(sequences: Sequences, model: DiffAug) -> Embedding:
    """Embed sequences with a fitted model; new ones as well as those it was fitted on.

    Parameters
    ----------
    sequences
        As for :func:`diffaug.dna.fit`; none longer than the longest of the training.
    model
        A model of :func:`diffaug.dna.fit` or ``DiffAug.load``.

    Returns
    -------
    ``semantic``, the embedding, shape ``(n, n_semantic)``, and ``latent``, ``(n, n_latent)``.

    Raises
    ------
    TypeError, ValueError
        The sequences cannot be read, or the model is of another domain.
    """
    return model.embed(events_of(sequences, model))


def augment(
    sequences: Sequences,
    model: DiffAug,
    *,
    n_views: int = 1,
    kind: Literal["diffaug"] | ViewKind = "diffaug",
    labels: ArrayLike | None = None,
    strength: float = 1.0,
    random_state: int = 0,
    progress: bool = True,
) -> list[list[str]]:
    """Make views of given sequences: others that should mean the same.

    Parameters
    ----------
    sequences
        As for :func:`diffaug.dna.embed`.
    model
        A fitted model.
    n_views
        Views of each sequence.
    kind
        ``"diffaug"``: generated under the sequence's condition; or one of the hand-made kinds of
        :class:`diffaug.backends.dna.DNAConfig`. Of ``"noise"`` and ``"mixup"``, which are not one-hot, the largest weight
        of each position is taken; ``DiffAug.augment`` returns the weights.
    labels
        One of each sequence, for ``kind="diffaug"`` of a model fitted with ``condition="label"``; otherwise none is read.
    strength
        For ``"diffaug"``: 1 starts from pure noise, less keeps more of the sequence itself; in (0, 1].
    random_state
        Seed.
    progress
        Show a progress bar.

    Returns
    -------
    For each sequence the list of its views. Hand-made ones are as long as their sequence; a generated one has a length
    of its own where those of the training differ.

    Raises
    ------
    TypeError, ValueError
        The sequences cannot be read, labels that are read are missing or unknown to the model, or it is of another domain.
    """
    conditioned = kind == "diffaug" and check_model(model).config.diffusion.condition == "label"
    given = None if labels is None else label_names(labels) if conditioned else as_labels(labels)
    views = model.augment(
        events_of(sequences, model),
        n_views,
        kind=kind,
        labels=given,
        strength=strength,
        random_state=random_state,
        progress=progress,
    )
    return [decode(each) for each in views]


def generate(
    model: DiffAug,
    n_obs: int | None = None,
    *,
    source: ArrayLike | None = None,
    random_state: int = 0,
    progress: bool = True,
) -> GeneratedSequences:
    """Generate synthetic sequences under the conditions of training sequences.

    Parameters
    ----------
    model
        A fitted model.
    n_obs
        How many; their training sequences are drawn at random, each about equally often.
    source
        Instead: the training sequence (row number) that conditions each, shape ``(n,)``.
    random_state
        Seed.
    progress
        Show a progress bar.

    Returns
    -------
    Text, and the row that conditioned each. A sequence ends where the generator draws its end, between the shortest
    and the longest training sequence.

    Raises
    ------
    TypeError, ValueError
        Not exactly one of ``n_obs`` and ``source`` is given, or the model is of another domain.
    """
    rows = None if source is None else np.asarray(source)
    made = check_model(model).generate(n_obs, source=rows, random_state=random_state, progress=progress)
    return GeneratedSequences(decode(made.values), made.source)
