"""Parse, run, and turn what goes wrong into one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cyclopts import App, CycloptsError

from diffaug.cli import (  # noqa: F401  (they register commands)
    _look,
    _make,
    _reproduce,
    _reproduce_dna,
    _reproduce_vision,
    _synthetic,
)
from diffaug.cli._app import Common, app
from diffaug.core.timebox import OutOfTime

_THREADS = "OMP_NUM_THREADS"
FINE, FAILED, WRONG_USE, OUT_OF_TIME, INTERRUPTED = 0, 1, 2, 3, 130
#: Errors that say: another input or other options would have worked.
_WRONG_USE = (
    ValueError,
    TypeError,
    KeyError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run ``diffaug-cells``.

    Parameters
    ----------
    tokens
        Arguments; by default those of the process.

    Returns
    -------
    Exit code: 0 fine, 1 failure, 2 wrong use or unusable input, 3 out of the time that was given, 130 interrupted.
    """
    return run(app, tokens)


def run(app: App, tokens: Sequence[str] | None = None) -> int:
    """Run an application; see :func:`main`."""
    name = app.name[0]
    if tokens is None:
        tokens = sys.argv[1:]
        # Threads that wait by spinning take the cores that others need: on two cores with two other programs, a fit took
        # 132 s, and with this 28 s. It must be set before torch is imported; a value of the user's stays.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        function, bound, _ = app.parse_args(list(tokens), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _complain(name, error, WRONG_USE)
    common = bound.arguments.get("common", Common())
    with _log_to_stderr(logging.WARNING if common.quiet else logging.INFO), _threads(common.threads):
        try:
            function(*bound.args, **bound.kwargs)
        except OutOfTime as stop:
            print(f"{name}: {_message(stop)}", file=sys.stderr)
            return OUT_OF_TIME
        except KeyboardInterrupt:
            print(f"{name}: interrupted", file=sys.stderr)
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001  (the rim of the program: whatever it is, one line and a code)
            if common.debug:
                traceback.print_exc()
            return _complain(name, error, WRONG_USE if isinstance(error, _WRONG_USE) else FAILED)
    return FINE


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    """Ask every library for ``n`` threads, in the one way that holds (:func:`diffaug.core.devices.respected_threads`)."""
    before = os.environ.get(_THREADS)
    if n is not None:
        os.environ[_THREADS] = str(n)
    try:
        yield
    finally:
        if n is not None:
            os.environ.pop(_THREADS)
            if before is not None:
                os.environ[_THREADS] = before


def _complain(name: str, error: Exception, code: int) -> int:
    print(f"{name}: error: {_message(error)}", file=sys.stderr)
    return code


def _message(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, KeyError) and len(error.args) == 1:
        text = str(error.args[0])  # str(error) is the repr, with quotes and escapes
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror + (f": {str(error.filename)!r}" if error.filename else "")
    else:
        text = str(error)
    return " ".join(text.split()) or type(error).__name__


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return f"{level}{super().format(record)}"


@contextmanager
def _log_to_stderr(level: int) -> Iterator[None]:
    """The package's log on standard error for the time of a command."""
    logger = logging.getLogger("diffaug")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format("%(message)s"))
    before, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False  # or a root handler would say everything twice
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = propagate
