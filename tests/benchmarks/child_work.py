"""What the processes of test_child.py do; they import it by name."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
from harness.child import peak_memory_mb, reset_peak_memory


def add(a: int, b: int) -> int:
    print("adding")
    return a + b


def pid() -> int:
    return os.getpid()


def fail(text: str) -> None:
    raise ValueError(text)


def start_method() -> str | None:
    return multiprocessing.get_start_method()


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(code: int) -> None:
    os._exit(code)


def sleep(seconds: float, started: Path | None = None) -> None:
    if started is not None:
        started.write_text(str(os.getpid()))
    time.sleep(seconds)


def peaks(megabytes: int) -> tuple[float, float, float]:
    """Before an array, with it, and after its end and a reset."""
    reset_peak_memory()
    before = peak_memory_mb()
    array = np.ones(megabytes * 2**17)
    array += 1
    high = peak_memory_mb()
    del array
    reset_peak_memory()
    return before, high, peak_memory_mb()
