"""From values of a measure to a score with its interval and a verdict, and the mean over measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffaug.metrics._resample import interval
from diffaug.metrics.catalogue import MEASURES, Verdict, judged, normalised
from diffaug.metrics.nulls import NULLS

_BAD_NULLS = ("gaussian", "shuffle", "noise")  # copies reach the floor: only the audit tells them

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """One measure of one group.

    Attributes
    ----------
    measure
        Key of ``diffaug.metrics.catalogue.MEASURES``.
    group
        A type, or ``None`` for all cells together.
    value, low, high
        Of the synthetic cells, with its 95 % interval; NaN ends where there are too few donors for one.
    floor, floor_low, floor_high
        The same for training cells, which are real.
    nulls
        The same for "gaussian", "shuffle", "noise" and "copies".
    score, score_low, score_high
        ``(null - value) / (null - floor)`` with the worst of the first three nulls: 1 is as good as real cells. NaN where
        no null is worse than real cells by more than the measure's tolerance. The interval is that of ``value - floor``.
    score_median
        The same with the middle one of the three nulls.
    verdict
        "good", "fair", "poor" or "not judged".
    n_obs
        Cells on each side.
    """

    measure: str
    group: str | None
    value: float
    low: float
    high: float
    floor: float
    floor_low: float
    floor_high: float
    nulls: dict[str, float]
    score: float
    score_low: float
    score_high: float
    score_median: float
    verdict: Verdict
    n_obs: int


@dataclass(frozen=True)
class MeanScore:
    """Mean score over the measures of all cells together.

    Attributes
    ----------
    value, low, high
        Mean, with scores above 1 taken as 1: luck in one measure makes up for no loss in another. Its 95 % interval holds
        for other held-out cells (or donors) and never reaches above 1.
    median_null
        The same mean with the middle null of each measure.
    n_measures, n_above
        Measures with a score, and how many of these were above 1.
    """

    value: float
    low: float
    high: float
    median_null: float
    n_measures: int
    n_above: int


def finished(name: str, group: str | None, n: int, values: dict[str, Values], *, poor: bool) -> tuple[Score, Values]:
    """The score of a measure, and that of each resample."""
    measure = MEASURES[name]
    value, low, high = interval(values["synthetic"])
    floor, floor_low, floor_high = interval(values["train"])
    nulls = {k: float(values[k][0]) for k in NULLS}
    bad = sorted((nulls[k] for k in _BAD_NULLS if nulls[k] == nulls[k]), key=measure.loss)
    nan = float("nan")
    worst, middle = (bad[-1], bad[(len(bad) - 1) // 2]) if bad else (nan, nan)
    score = normalised(measure, value, floor, worst)
    # Both sides were resampled with the same held-out cells, whose luck cancels in the difference.
    made, real = (np.array([measure.loss(float(v)) for v in values[k]]) for k in ("synthetic", "train"))
    excess = made - real
    _, less, more = interval(excess)
    verdict = "poor" if poor else judged(measure, value, floor, (more - less) / 2, score)
    room = measure.loss(worst) - measure.loss(floor)
    lines = 1 - excess / room if score == score else np.full(len(excess), nan)
    return Score(
        measure=name,
        group=group,
        value=value,
        low=low,
        high=high,
        floor=floor,
        floor_low=floor_low,
        floor_high=floor_high,
        nulls=nulls,
        score=score,
        score_low=1 - more / room if score == score else nan,
        score_high=1 - less / room if score == score else nan,
        score_median=normalised(measure, value, floor, middle),
        verdict=verdict,
        n_obs=n,
    ), lines


def mean_score(found: Sequence[tuple[Score, Values]]) -> MeanScore:
    """Mean of the scores that there are; the resamples are the same cells for all measures, so their means vary with them."""
    there = [(s, lines) for s, lines in found if s.score == s.score]
    nan = float("nan")
    if not there:
        return MeanScore(nan, nan, nan, nan, 0, 0)
    scores = np.array([s.score for s, _ in there])
    value = float(np.minimum(scores, 1).mean())
    # Not clipped for the spread: cut at 1, the resamples of good cells would seem not to vary.
    shortest = min(len(lines) for _, lines in there)
    means = np.stack([lines[:shortest] for _, lines in there]).mean(axis=0)
    middle, low, high = interval(means)
    medians = np.array([s.score_median for s, _ in there if s.score_median == s.score_median])
    return MeanScore(
        value=value,
        low=value - (middle - low),
        high=min(value + (high - middle), 1.0),
        median_null=float(np.minimum(medians, 1).mean()) if len(medians) else nan,
        n_measures=len(there),
        n_above=int((scores > 1).sum()),
    )
