"""A run and its twins that go on where they were cut."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

from torch import nn

from diffaug.core.checkpoint import CheckpointFile
from diffaug.core.plan import EpochRecord
from diffaug.core.training import Trainer

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class TwinRun:
    """A twin: its records so far, and its encoder once it is finished."""

    history: list[EpochRecord] = dataclasses.field(default_factory=list)
    encoder: nn.Module | None = None


class ResumableRun:
    """The run of a trainer and of its twins, kept in a file.

    Parameters
    ----------
    trainer
        The trainer, as it was made.
    learnt
        What the run changes besides the trainer: the domain, whose buffers hold what ``calibrate`` learns.
    file
        Where the state is kept; ``None`` keeps nothing.
    saved
        The state that was found in the file; ``None`` starts from the beginning.

    Attributes
    ----------
    history
        Records of the run, those of before the cut included.
    twins
        By ``view_rate``.

    Raises
    ------
    ValueError
        The state is not one of such a trainer.
    """

    def __init__(
        self,
        trainer: Trainer,
        learnt: nn.Module,
        file: CheckpointFile | None = None,
        saved: dict[str, Any] | None = None,
    ) -> None:
        self.trainer, self.learnt, self.file = trainer, learnt, file
        self.history: list[EpochRecord] = []
        self.twins: dict[float, TwinRun] = {}
        self._is_new = True  # the file does not have the end yet
        if file is None or saved is None:
            return
        with file.taken_up():
            self._load(saved)
        n_twin = sum(len(twin.history) for twin in self.twins.values())
        logger.info(
            "Going on from %r: %d epochs are done%s",
            str(file.path), self.n_epochs, f", and {n_twin} of twins" if n_twin else "",
        )  # fmt: skip

    @property
    def n_epochs(self) -> int:
        """Epochs of the run that are done; the filling of the bank is none."""
        return sum(record.phase != "fill" for record in self.history)

    def main(self) -> Iterator[EpochRecord]:
        """The records that :meth:`diffaug.core.training.Trainer.run` has yet to make."""
        yield from self._kept(self.trainer.run(), self.history)

    def twin(self, view_rate: float) -> Iterator[EpochRecord]:
        """The records that :meth:`diffaug.core.training.Trainer.run_twin` has yet to make.

        To be called in the same order of rates in every life of the run.
        """
        twin = self.twins.setdefault(view_rate, TwinRun())
        if twin.encoder is None:
            yield from self._kept(self.trainer.run_twin(view_rate), twin.history)
            twin.encoder = self.trainer.twin_encoder

    def finish(self) -> None:
        """Keep the end of it all, so that what comes after the training may fail and be repeated."""
        if self.file is not None and self._is_new:
            self.trainer.bank = None  # nothing draws from it any more
            self.file.write(self.state())

    def interruptible(self) -> contextlib.AbstractContextManager[None]:
        """See :meth:`diffaug.core.checkpoint.CheckpointFile.interruptible`; without a file an interruption is as ever."""
        return contextlib.nullcontext() if self.file is None else self.file.interruptible()

    def state(self) -> dict[str, Any]:
        """All that :meth:`main` and :meth:`twin` go on from: plain values and tensors."""
        return {
            "trainer": self.trainer.state(),
            "learnt": self.learnt.state_dict(),
            "history": [dataclasses.asdict(record) for record in self.history],
            "twins": [
                {
                    "view_rate": rate,
                    "history": [dataclasses.asdict(record) for record in twin.history],
                    "encoder": None if twin.encoder is None else twin.encoder.state_dict(),
                }
                for rate, twin in self.twins.items()
            ],
        }

    def _load(self, saved: dict[str, Any]) -> None:
        self.trainer.load_state(saved["trainer"])
        self.learnt.load_state_dict(saved["learnt"])
        self.history = [EpochRecord(**record) for record in saved["history"]]
        for each in saved["twins"]:
            twin = self.twins[each["view_rate"]] = TwinRun([EpochRecord(**record) for record in each["history"]])
            if each["encoder"] is not None:
                twin.encoder = self.trainer.empty_ensemble()
                twin.encoder.load_state_dict(each["encoder"])
        self._is_new = self.trainer.bank is not None  # the end is kept without it

    def _kept(self, records: Iterator[EpochRecord], history: list[EpochRecord]) -> Iterator[EpochRecord]:
        for record in records:
            history.append(record)
            self._is_new = True
            if self.file is not None:
                self.file.after_epoch(self.state)
            yield record
