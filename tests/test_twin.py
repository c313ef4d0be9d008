"""How the difference between a model and its loop-off twin is said, in any domain; ``tests/tl/test_twin.py`` has the numbers."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from diffaug._gain_said import gain_advice, log_gain


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
    assert len(lines) == 3 and did in lines[1] and "by knn" in lines[1]


@pytest.mark.parametrize(
    ("signs", "level", "said"),
    [
        ([1, 0], logging.INFO, "the views helped: keep the model"),
        ([1, -1], logging.INFO, "the views helped, and harmed by another measure: keep the model"),
        (
            [0, -1],
            logging.WARNING,
            "the twin embeds better: take its embedding (`model.twin`), or fit with view_rate=0",
        ),
        (
            [0, 0],
            logging.INFO,
            "no clear difference between the model and its twin: where only an embedding is wanted, n_cycles=0",
        ),
    ],
)
def test_advice_follows_the_labels(signs: list[int], level: int, said: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"model": 0.5, "twin": 0.5 - 0.2 * s, "difference": 0.2 * s, "low": 0.2 * s - 0.1, "high": 0.2 * s + 0.1}
        for s in signs
    ]
    table = pd.DataFrame(rows, index=["linear", "knn"]).assign(labelled=True)
    assert said in said_of(table, caplog)[-1] and "On these sequences" in said_of(table, caplog)[-1]
    assert caplog.records[-1].levelno == level


def test_the_advice_names_the_place_of_the_embedding() -> None:
    table = pd.DataFrame({"low": [-0.3], "high": [-0.1], "labelled": [True]}, index=["knn"])
    assert "take its embedding (.obsm['X_mine_twin'])" in str(gain_advice(table, "cells", ".obsm['X_mine_twin']"))
    assert gain_advice(table.assign(labelled=False), "cells", "") is None
    assert gain_advice(table.assign(low=np.nan, high=np.nan), "cells", "") is None
