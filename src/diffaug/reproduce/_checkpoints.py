"""Trainings of rows that are cut: where each is kept, until when it may go on, and how long it took in all."""

from __future__ import annotations

import re
import time
from pathlib import Path

from diffaug.core.checkpoint import CheckpointFile
from diffaug.core.timebox import OutOfTime

#: The names of :meth:`Checkpoints.file`, and of what a process that was killed while it wrote one left behind.
_NAME = re.compile(r"\.?[0-9a-f]{12}-.+-\d+(\.\w+)?\.ckpt(\.encoder)?(\.[0-9a-f]+\.part)?")


def checkpoints_in(folder: Path) -> list[Path]:
    """Files of checkpoints in a folder of ``reproduce``."""
    return [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []


class Deadline:
    """The end of the time of a command.

    Parameters
    ----------
    minutes
        From now on; ``None`` for no end.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f"Expected `max_minutes` above 0, found {minutes}.")
        self.minutes = minutes
        self.until = None if minutes is None else time.monotonic() + 60 * minutes

    def check(self) -> None:
        """Raise :class:`diffaug.core.timebox.OutOfTime` after it."""
        if self.until is not None and time.monotonic() >= self.until:
            raise OutOfTime("The time is over.")


class Checkpoints:
    """The files of one row: one for each of its trainings.

    Parameters
    ----------
    folder
        Where they are; must be there when a training begins.
    run, of_set, seed
        Of the row. They make the name.
    until
        Reading of ``time.monotonic`` after which a training ends with its epoch; ``None`` for never.
    """

    def __init__(self, folder: Path, *, run: str, of_set: str, seed: int, until: float | None = None) -> None:
        self._stem, self._until = folder / f"{run}-{of_set}-{seed}", until
        self._used: list[CheckpointFile] = []

    def file(self, part: str = "") -> CheckpointFile:
        """The file of one training; ``part`` says which, where the row has several."""
        name = f"{self._stem.name}{'.' if part else ''}{part}.ckpt"
        self._used.append(CheckpointFile(self._stem.with_name(name), until=self._until))
        return self._used[-1]

    @property
    def earlier_seconds(self) -> float:
        """Time that earlier commands spent on the trainings of the row."""
        return sum(file.earlier_seconds for file in self._used)

    def remove(self) -> None:
        """Delete the files: the row is written."""
        for path in checkpoints_in(self._stem.parent):
            if path.name.lstrip(".").startswith((f"{self._stem.name}.",)):
                path.unlink(missing_ok=True)
