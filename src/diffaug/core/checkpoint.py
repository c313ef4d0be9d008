"""The file from which a cut training goes on: what it belongs to, when it is written, and how it is read safely."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import pickle
import signal
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffaug.core.devices import device_name
from diffaug.core.memory import is_out_of_memory
from diffaug.core.storage import file_written_whole, remove_leftovers
from diffaug.core.timebox import OutOfTime

logger = logging.getLogger(__name__)

FORMAT, SCHEMA_VERSION = "diffaug-checkpoint", 2
#: At most one part in so many of the time goes into writing, however large the state and however slow the disk.
_SHARE_OF_WRITING = 20
_DATA = "data"
#: What reading a damaged or foreign file may raise; that it cannot be opened at all is another error.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, types and shapes, in hexadecimal; the same on any device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {name: version(name) for name in ("diffaug", "torch", "numpy", "lightning-fabric")}


def made_with(device: torch.device) -> dict[str, Any]:
    """What the last digits of a training depend on besides its settings and data."""
    return {**versions(), "threads": torch.get_num_threads(), "processor": device_name(device)}


def checkpoint_file(
    checkpoint: str | os.PathLike[str] | CheckpointFile | None, minutes: float = 10.0
) -> CheckpointFile | None:
    """The file of an argument ``checkpoint``; one that was made before is taken as it is, with its own minutes."""
    if checkpoint is None or isinstance(checkpoint, CheckpointFile):
        return checkpoint
    return CheckpointFile(checkpoint, minutes)


class CheckpointFile:
    """One file with the last state of one run.

    It is written whole or not at all, and holds tensors and plain values only: reading it runs no code of the file's.

    Parameters
    ----------
    path
        The file.
    minutes
        Time between two writings; 0 writes after every epoch. More, where the writing itself takes long.
    until
        Reading of ``time.monotonic`` from which on the training ends after its epoch, with its state kept; ``None`` for
        never. At least one epoch is trained, so that a run in short pieces comes to its end.

    Attributes
    ----------
    earlier_seconds
        After :meth:`open`: time between opening and the last writing in all earlier lives of the run, together.

    Raises
    ------
    TypeError, ValueError
        One of the two is unusable.
    IsADirectoryError
        The path is a folder's.
    """

    def __init__(self, path: str | os.PathLike[str], minutes: float = 10.0, *, until: float | None = None) -> None:
        if not isinstance(path, str | os.PathLike) or not str(path):
            raise TypeError(f"Expected `checkpoint` to name a file, found {path!r}.")
        if isinstance(minutes, bool) or not isinstance(minutes, int | float):
            raise TypeError(f"Expected `checkpoint_minutes` to be a number, found {minutes!r}.")
        if math.isnan(minutes) or minutes < 0:
            raise ValueError(f"Expected `checkpoint_minutes` of at least 0, found {minutes}.")
        self.path, self.minutes = Path(path), float(minutes)
        if self.path.is_dir():
            raise IsADirectoryError(f"Expected `checkpoint` to name a file, found a folder: {str(path)!r}.")
        self.interrupted, self.until, self.earlier_seconds = False, until, 0.0
        self._run: dict[str, Any] = {}
        self._made_with: dict[str, Any] = {}
        self._opened_at = self._written_at = time.monotonic()
        self._took = 0.0

    def open(self, run: Mapping[str, Any], made_with: Mapping[str, Any]) -> Any:
        """The state that the file holds, ``None`` if there is no file yet.

        Parameters
        ----------
        run
            What makes the run the one it is, plain values by name; ``"data"`` is a :func:`digest_of` its data.
        made_with
            What the last bits of its numbers depend on besides: a difference is warned of.

        Raises
        ------
        ValueError
            The file is damaged, no checkpoint, of another format, or another run's. It stays as it is.
        OSError
            It cannot be read, or there is no place to write it.
        """
        self._run, self._made_with = dict(run), dict(made_with)
        self._opened_at = self._written_at = time.monotonic()
        if not self.path.exists():
            self._make_place()
            remove_leftovers(self.path)  # of a first writing that was cut
            return None
        document = self._read()
        self._check_run(document["run"])
        remove_leftovers(self.path)
        for name, value in document["made_with"].items():
            if self._made_with.get(name) != value:
                logger.warning(
                    "Checkpoint %r was written with %s=%s, and the training goes on with %s: its result may differ in the "
                    "last digits from that of an uncut one.",
                    str(self.path), name, value, self._made_with.get(name),
                )  # fmt: skip
        self.earlier_seconds = float(document.get("seconds", 0.0))
        return document["state"]

    def write(self, state: Any) -> None:
        """Write a state. A failure is warned of and ends nothing: the file of before stays, and so does the training."""
        document = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "run": self._run,
            "made_with": self._made_with,
            "seconds": self.earlier_seconds + time.monotonic() - self._opened_at,
            "state": state,
        }
        begin = time.monotonic()
        try:
            with file_written_whole(self.path) as stream:
                torch.save(document, stream)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError of a full disk
            logger.warning(
                "Checkpoint %r could not be written, the training goes on (%s). Is the disk full?",
                str(self.path),
                error,
            )
        else:
            logger.info(
                "Kept the state of the training in %r (%.0f MB)", str(self.path), self.path.stat().st_size / 1e6
            )
        self._written_at = time.monotonic()
        self._took = self._written_at - begin

    def after_epoch(self, state: Callable[[], Any]) -> None:
        """Write the state if it is time to; at an end write it and raise.

        Raises
        ------
        KeyboardInterrupt
            After an interruption.
        OutOfTime
            After ``until``.
        """
        pause = 60 * self.minutes
        if pause > 0:
            pause = max(pause, _SHARE_OF_WRITING * self._took)
        late = self.until is not None and time.monotonic() >= self.until
        if self.interrupted or late or time.monotonic() - self._written_at >= pause:
            self.write(state())
        if self.interrupted:
            raise KeyboardInterrupt
        if late:
            raise OutOfTime(f"The time is over; the state of the training is kept in {str(self.path)!r}.")

    def beside(self, suffix: str) -> CheckpointFile:
        """The file of a training that is a part of this one, under the same name with a suffix."""
        return CheckpointFile(self.path.with_name(self.path.name + suffix), self.minutes, until=self.until)

    @contextlib.contextmanager
    def taken_up(self) -> Iterator[None]:
        """A block that goes to the state in the file; an error says that it is none of the training that it was made for.

        Too little memory says nothing against the file, and passes.
        """
        try:
            yield
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise ValueError(
                f"Expected a state of this version of diffaug in {str(self.path)!r}, found another: "
                f"{' '.join(str(error).split())[:200]}. Use the version that wrote it, or delete it or give another path."
            ) from error

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C in the block wait for the end of the epoch, whose state is then kept; a second one waits for nothing.

        Only where Ctrl-C does what Python has it do: whoever handles or ignores it otherwise has reasons to.
        """
        mine = threading.current_thread() is threading.main_thread()
        if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def wait(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.interrupted = True
            with contextlib.suppress(RuntimeError):  # the signal came while something else was being said
                logger.warning("Interrupted: the epoch is finished and kept first. Interrupt again to stop at once.")

        signal.signal(signal.SIGINT, wait)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.interrupted:  # after the last epoch
            raise KeyboardInterrupt

    def _make_place(self) -> None:
        """Say now, and not after the first minutes, that there is no place to write to."""
        folder = self.path.resolve().parent  # of what a link points to
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"Expected a place where {str(self.path)!r} can be written, found {error.strerror or error}. "
                "Choose another folder."
            ) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(
                f"Expected a folder that can be written, found a read-only one: {str(folder)!r}. Choose another."
            )

    def _read(self) -> dict[str, Any]:
        name = str(self.path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                damaged = archive.testzip()  # torch compares no checksums
            if damaged is not None:
                raise ValueError(f"wrong checksum of {damaged!r}")
            document = torch.load(self.path, map_location="cpu", weights_only=True)
            if not isinstance(document, dict) or document.get("format") != FORMAT:
                raise ValueError("another kind of content")
        except _UNREADABLE as error:
            if is_out_of_memory(error):
                raise
            what = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(
                f"Expected a checkpoint of diffaug in {name!r}, found a damaged or a foreign file ({what}). "
                "Delete it or give another path."
            ) from error
        if document.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"Expected a checkpoint of schema version {SCHEMA_VERSION}, found {document.get('schema_version')} in "
                f"{name!r}. Use the diffaug version that wrote it, or delete it or give another path."
            )
        return document

    def _check_run(self, there: dict[str, Any]) -> None:
        differing = [k for k in {**there, **self._run} if there.get(k) != self._run.get(k)]
        if not differing:
            return
        said = [
            "other data (events, batches or labels)" if k == _DATA else f"{k}={there.get(k)!r} and not {self._run.get(k)!r}"
            for k in differing
        ]  # fmt: skip
        more = f" and {len(said) - 3} more" if len(said) > 3 else ""
        raise ValueError(
            f"Expected a checkpoint of this run in {str(self.path)!r}, found one of another: {', '.join(said[:3])}{more}. "
            "Delete it or give another path."
        )
