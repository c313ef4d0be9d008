"""A training of epochs that goes on where it was cut, from a file."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from diffaug.core.checkpoint import CheckpointFile, digest_of, made_with
from diffaug.core.config import Config

Record = TypeVar("Record")


class Resumable(Protocol):
    """What trains; its state is to be taken between two records of its run."""

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on: plain values and tensors."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a state of one that was made in the same way."""


class Kept:
    """The training of one model of :mod:`diffaug.baselines` and its file; without one, nothing is kept.

    Parameters
    ----------
    file
        Where the state is kept.
    config
        Settings, with the epochs resolved.
    device
        Of the training.
    learnt_from
        Tensors that the training learns from, by name.
    **run
        What else makes the run the one it is, plain values.

    Raises
    ------
    ValueError, OSError
        See :meth:`diffaug.core.checkpoint.CheckpointFile.open`.
    """

    def __init__(
        self,
        file: CheckpointFile | None,
        config: Config,
        device: torch.device,
        learnt_from: dict[str, Tensor],
        **run: Any,
    ) -> None:
        self.file, self._saved = file, None
        if file is not None:
            settings = {f"{s}.{k}": value for s, section in config.to_dict().items() for k, value in section.items()}
            identity = {**run, "data": digest_of(learnt_from), "device": device.type, **settings}
            self._saved = file.open(identity, made_with(device))

    def run(self, trainer: Resumable, records: Callable[[], Iterator[Record]], kind: type[Record]) -> Iterator[Record]:
        """The records of the whole training, those of before the cut first; the end is kept too."""
        history: list[Record] = []
        if self._saved is not None:
            assert self.file is not None
            with self.file.taken_up():
                trainer.load_state(self._saved["trainer"])
                history = [kind(**record) for record in self._saved["history"]]
            yield from list(history)

        def state() -> dict[str, Any]:
            past = [dataclasses.asdict(record) for record in history]  # type: ignore[call-overload]
            return {"trainer": trainer.state(), "history": past}

        n_before = len(history)
        for record in records():
            history.append(record)
            if self.file is not None:
                self.file.after_epoch(state)
            yield record
        if self.file is not None and len(history) > n_before:
            self.file.write(state())

    def interruptible(self) -> contextlib.AbstractContextManager[None]:
        """See :meth:`diffaug.core.checkpoint.CheckpointFile.interruptible`; without a file an interruption is as ever."""
        return contextlib.nullcontext() if self.file is None else self.file.interruptible()
