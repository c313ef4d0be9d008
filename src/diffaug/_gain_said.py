"""What the generated views did, in words: the table of a model beside its loop-off twin, and the advice that follows."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)

#: Measures that are named apart: a label-free reading, and those without an interval.
LABEL_FREE, MIXING, CLUSTERS = "split_half_overlap", "batch_mixing", "kmeans"
_WENT = {1: "rose", -1: "fell", 0: "did not clearly change"}
_DID = {1: "helped", -1: "harmed", 0: "made no clear difference"}


def log_gain(table: pd.DataFrame, events: str, how_to_judge: str, twin_at: str = "`model.twin`") -> None:
    """Say in the log what the views did; a clear harm without a clear gain is a warning.

    Parameters
    ----------
    table
        Of :func:`diffaug._twin.compare_with_twin`.
    events
        What the domain calls its events.
    how_to_judge
        Said where no label judged: a sentence on how labels can.
    twin_at
        Where the twin's embedding is.
    """
    for line in gain_lines(table, events):
        logger.info("%s", line)
    if not table["labelled"].any():
        logger.info("%s is no proof: it does not follow labelled scores. %s", LABEL_FREE, how_to_judge)
    signs, advice = _judged(table), gain_advice(table, events, twin_at)
    if advice is not None:
        logger.log(logging.WARNING if max(signs) < 1 and -1 in signs else logging.INFO, "%s", advice)


def gain_lines(table: pd.DataFrame, events: str) -> list[str]:
    """A line for each measure: of a labelled one whether the views helped, of the others only where it went."""
    lines = []
    for name, row in table.iterrows():
        values = f"{row['model']:.4f}, twin {row['twin']:.4f}, difference {row['difference']:+.4f}"
        interval = f"(95 % interval over {events} {row['low']:+.4f} .. {row['high']:+.4f})"
        if name == MIXING:
            lines.append(f"with the generated views, {name} (1 is perfect): {values}")
        elif not row["labelled"]:
            lines.append(f"with the generated views {name} {_WENT[_sign(row)]}: {values} {interval}")
        elif np.isnan(row["low"]):
            lines.append(f"with the generated views, by {name}: {values} (one fit: no interval)")
        else:
            lines.append(f"generated views {_DID[_sign(row)]} by {name}: {values} {interval}")
    return lines


def gain_advice(table: pd.DataFrame, events: str, twin_at: str) -> str | None:
    """What to do, by the labelled measures that have an interval; ``None`` where there is none."""
    signs = _judged(table)
    if not signs:
        return None
    here = f"On these {events}, with this seed (another may move the difference by half a point),"
    if 1 in signs:
        return f"{here} the views helped{', and harmed by another measure' if -1 in signs else ''}: keep the model."
    if -1 in signs:
        return f"{here} the twin embeds better: take its embedding ({twin_at}), or fit with view_rate=0, which keeps the generator."
    return (
        f"{here} there is no clear difference between the model and its twin: where only an embedding is wanted, n_cycles=0 trains "
        "the encoder without a generator in less time."
    )


def _judged(table: pd.DataFrame) -> Sequence[int]:
    return [_sign(row) for _, row in table[table["labelled"] & table["low"].notna()].iterrows()]


def _sign(row: pd.Series) -> int:
    return 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0
