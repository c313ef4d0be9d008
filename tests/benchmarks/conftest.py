"""The benchmarks are scripts beside the package: their folder has to be on the path, as it is when they run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for folder in (Path(__file__).parents[2] / "benchmarks", Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A benchmark quietens the package for its own process; here it shares one with other tests."""
    logger = logging.getLogger("diffaug")
    level = logger.level
    yield
    logger.setLevel(level)
