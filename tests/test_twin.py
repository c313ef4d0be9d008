"""How the difference between a model and its loop-off twin is said, in any domain; ``tests/tl/test_twin.py`` has the numbers."""

from __future__ import annotations

import logging

import pandas as pd
import pytest

from diffaug._twin import log_gain


def said_of(table: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="diffaug"):
        log_gain(table, "sequences", "Read them.")
    return [r.getMessage() for r in caplog.records]


@pytest.mark.parametrize(
    ("low", "high", "went", "did"),
    [(0.1, 0.3, "rose", "helped"), (-0.3, -0.1, "fell", "harmed"), (-0.1, 0.1, "not clearly", "no clear difference")],
)
def test_without_labels_nothing_is_claimed(
    low: float, high: float, went: str, did: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The label-free reading rises or falls; only labels say helped or harmed."""
    row = {"model": 0.5, "twin": 0.5 - (low + high) / 2, "difference": (low + high) / 2, "low": low, "high": high}
    free = pd.DataFrame([{**row, "labelled": False}], index=["split_half_overlap"])
    labelled = pd.DataFrame([{**row, "labelled": True}], index=["knn"])
    first, hint = said_of(free, caplog)
    assert went in first and "split_half_overlap" in first
    assert not any(word in first for word in ("helped", "harmed", "difference by"))
    assert "interval over sequences" in first
    assert "no proof" in hint and hint.endswith("Read them.")
    lines = said_of(pd.concat([free, labelled]), caplog)
    assert len(lines) == 2 and did in lines[1] and "by knn" in lines[1]
