"""``vision.fit``: train on images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from diffaug.vision._read import ImageSet

if TYPE_CHECKING:
    from diffaug._model import DiffAug
    from diffaug.core.config import Config


def fit(
    images: np.ndarray | ImageSet,
    *,
    labels: np.ndarray | None = None,
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
    """Learn an embedding and a generator of images, without labels.

    Parameters
    ----------
    images
        Shape ``(n, height, width)`` (grey) or ``(n, height, width, channels)``, at least 8 pixels a side; bytes, or other
        real numbers of any range. Or an :class:`ImageSet`.
    labels
        Class of each, for ``condition="label"`` (ablation A1) only; otherwise no label is ever read, and those of an
        :class:`ImageSet` never.
    n_cycles
        Times the generator is trained and its views shown to the encoder. 0 leaves the generator out.
    view_rate
        Probability (lambda) that a positive is a generated view after the warm-up, in [0, 1].
    max_epochs
        Cap on the epochs of all phases together; longer plans shrink in proportion.
    twin
        Also train the loop-off twin, the same fit without a generated view, as ``model.twin``. It costs one more A phase.
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
    The fitted :class:`diffaug.DiffAug`: its ``embed``, ``augment``, ``generate`` and ``save`` take and give arrays of
    images.

    Raises
    ------
    TypeError, ValueError
        The images are of the wrong kind, shape or size, or have unusable values; or ``checkpoint`` is damaged or of another
        run.
    OSError
        ``checkpoint`` cannot be read, or there is no place to write it.
    diffaug.core.memory.OutOfMemory
        The device or the computer has too little memory.
    ImportError
        The extra ``vision`` is not installed, which hand-made views need.

    Examples
    --------
    >>> import diffaug
    >>> from sklearn.datasets import load_digits
    >>> digits = load_digits().images[:100]
    >>> model = diffaug.vision.fit(digits, max_epochs=3, progress=False)
    >>> model.embed(digits).semantic.shape
    (100, 128)
    >>> model.generate(4).values.shape
    (4, 8, 8)
    """
    from diffaug._model import DiffAug, resolve_config
    from diffaug.backends import get_backend

    settings = resolve_config(config, get_backend("vision"))
    settings = settings.updated("training", n_cycles=n_cycles, view_rate=view_rate)
    model = DiffAug(settings, backend="vision", random_state=random_state, device=device)
    x = images.images if isinstance(images, ImageSet) else images
    return model.fit(
        x,
        labels=labels,
        max_epochs=max_epochs,
        twin=twin,
        checkpoint=checkpoint,
        checkpoint_minutes=checkpoint_minutes,
        progress=progress,
    )
