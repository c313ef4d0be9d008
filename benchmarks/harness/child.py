"""Work in processes of its own: memory is then one method's, and a crash is a row and not the end of the run."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

#: Imported once, in the server that the processes are forked from; else each would spend seconds on it.
PRELOADED = (
    "numpy", "pandas", "scipy.sparse", "sklearn.svm", "scanpy", "torch", "torch._dynamo", "lightning_fabric", "diffaug",
)  # fmt: skip


class ChildFailed(RuntimeError):
    """The work raised, or its process ended; the text says which."""


class Worker:
    """A process that calls functions, one after the other.

    ``with Worker() as worker: worker.call("harness.compute:compute", request)``. Functions are named, not handed over,
    so that nothing of the caller has to be imported to send them.

    Parameters
    ----------
    log
        File that gets what the process prints; otherwise it prints where the caller does.
    """

    def __init__(self, log: Path | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, log))
        self._process.start()
        theirs.close()

    def call(self, function: str, *args: Any, timeout: float | None = None) -> Any:
        """Result of ``"module:function"``; raises :class:`ChildFailed` where there is none."""
        try:
            self._pipe.send((function, args))
            if not self._pipe.poll(timeout):
                self.kill()
                raise ChildFailed(f"stopped after {timeout:g} s")
            fine, value = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.join()
            raise ChildFailed(_how_it_ended(self._process.exitcode)) from error
        if not fine:
            raise ChildFailed(value)
        return value

    @property
    def alive(self) -> bool:
        """Whether it can take another call."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End the process, whatever it does; a call that waits for it in another thread then fails."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Let the process end by itself, as it does where nobody can call it any more."""
        self._pipe.close()
        self._process.join(10)
        self.kill()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"the process was ended by {signal.Signals(-code).name}{hint}"
    return f"the process ended with exit code {code}"


def _serve(pipe: Connection, log: Path | None) -> None:
    """Loop of a worker: receive a call, send its result or the text of its error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's; the process ends with it
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A killed caller closes nothing and says nothing: without this the work would go on, for nobody.
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    # Else processes that a peer starts would come from a server too, and import everything again, one by one.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
    while True:
        try:
            name, args = pipe.recv()
        except EOFError:
            return
        try:
            answer = (True, _function(name)(*args))
        except Exception as error:  # noqa: BLE001 - whatever a peer raises becomes a row
            traceback.print_exc()
            answer = (False, f"{type(error).__name__}: {error}".strip())
        sys.stdout.flush()
        sys.stderr.flush()
        pipe.send(answer)


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


# --- memory -----------------------------------------------------------------------------------------------------------


def reset_peak_memory() -> None:
    """Let :func:`peak_memory_mb` start again, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Highest resident memory of this process since :func:`reset_peak_memory`.

    Not ``ru_maxrss`` where it can be helped: a process inherits that from the one that started it, so a small method
    after a large one would look large.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
