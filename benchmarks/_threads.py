"""Threads of a benchmark. Imports nothing heavy: numpy, numba and torch read these variables when they are imported."""

from __future__ import annotations

import os


def limit_threads(n: int) -> None:
    """Let libraries that are not imported yet, here and in processes started from here, use so many threads."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(n)
