"""What the commands ``info`` of several domains have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from diffaug.cli._info import counted


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        (np.array([10, 2, 2, -1]), (), [("-1", 1), ("2", 2), ("10", 1)]),
        (np.array([1, 0, 1, -1]), ("cat", "dog"), [("-1", 1), ("cat", 1), ("dog", 2)]),
        (np.array(["b", "a", "b"]), (), [("a", 1), ("b", 2)]),
        (np.array(["b", 7, float("nan"), 7], dtype=object), (), [("7", 2), ("b", 1), ("nan", 1)]),
        (None, (), []),
    ],
)
def test_values_are_counted_in_their_order(values: Any, names: Sequence[str], expected: list[tuple[str, int]]) -> None:
    assert [*counted(values, names).items()] == expected
