"""How far generated views are trusted, and what is said of it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from diffaug.core.trust import ViewReading, ViewShare, ViewTrust, view_share, view_trust


def test_factors_are_those_of_the_formula() -> None:
    """By hand, with more of each than hand-made views have: kept as they are, and worth no more than all."""
    poor, good = ViewReading(0.51, 0.19, 0.918), ViewReading(0.01, 0.99, 0.55)
    assert ViewTrust.measured(poor, good) == pytest.approx((0.5, 0.2, 0.2))
    assert ViewTrust.measured(poor, good).share == pytest.approx(0.01)  # half the news counts a quarter
    more = ViewTrust.measured(good, poor)
    assert more == pytest.approx((2.0, 5.0, 5.0))
    assert more.share == 1.0
    by_chance = ViewTrust.measured(ViewReading(0.5, 0.5, 0.54), ViewReading(0.5, 0.5, 0.45))
    assert by_chance.realism == 1.0  # around one half is noise
    assert ViewTrust(0.5, 0.2).share == ViewTrust(0.5, 0.2, 1.0).share == pytest.approx(0.05)  # of a version before it


@pytest.mark.parametrize(
    ("generated", "hand_made", "expected"),
    [
        ((0.5, 0.9), (0.5, 0.9), 1.0),  # as good as hand-made
        ((0.2, 1.0), (0.5, 0.9), 1.0),  # more news and more faith earn no more than all
        ((1.0, 1.0), (0.5, 0.9), 0.0),  # copies
        ((0.75, 0.9), (0.5, 0.9), 0.25),
        ((0.0, 0.0), (0.5, 0.9), 0.0),  # strangers
        ((0.5, 0.3), (0.5, 0.9), 1 / 3),
        ((0.5, 0.5), (1.0, 0.0), 1.0),
        ((1.0, 1.0), (1.0, 1.0), 1.0),  # hand-made views are copies too
        ((0.0, 0.0), (0.0, 0.0), 1.0),
        ((0.5, 0.9, 1.0), (0.5, 0.9, 0.6), 0.0),  # always told from events
        ((0.5, 0.9, 0.8), (0.5, 0.9, 0.6), 0.5),
        ((0.5, 0.9, 0.6), (0.5, 0.9, 0.8), 1.0),
    ],
)
def test_share_of_lambda(generated: tuple[float, ...], hand_made: tuple[float, ...], expected: float) -> None:
    assert view_trust(ViewReading(*generated), ViewReading(*hand_made)) == pytest.approx(expected, abs=0.025)


def shared(trust: tuple[float, ...], asked: float = 1.0, cycle: int = 1) -> ViewShare:
    """As a training leaves it: the rate follows from the trust."""
    found = ViewTrust(*trust)
    return ViewShare(asked * found.share, asked, found, cycle)


def of_old(rate: float, asked: float) -> ViewShare:
    """Of a version that did not keep the reason."""
    return ViewShare(rate, asked, None, 1)


@pytest.mark.parametrize(
    ("found", "is_low", "said", "unsaid"),
    [
        (
            shared((0.2, 1.1)),
            True,
            ["make up 4 % of the positives after the warm-up", "(lambda in force 0.04 of 1)", "near copies of their cells",
             "n_cycles=0"],
            ["strangers", "generator_steps"],
        ),
        (
            shared((1.3, 0.04)),
            True,
            ["make up 4 %", "strangers to their cells", "n_cycles=0", "generator_steps"],
            ["copies"],
        ),
        # News counts twice: of .2 and .1 it is the news that cost more (.04).
        (shared((0.2, 0.1)), True, ["make up less than 1 %", "near copies"], ["strangers"]),
        (shared((0.5, 0.2)), True, ["make up 5 %", "strangers"], ["copies"]),
        (
            shared((1.0, 0.9, 0.04)),
            True,
            ["make up 4 %", "do not look like cells", "n_cycles=0", "generator_steps"],
            ["copies", "strangers"],
        ),
        (shared((0.2, 1.0, 0.1)), True, ["near copies"], ["strangers", "do not look"]),
        (shared((1.0, 1.0, 0.5)), False, ["make up 50 %"], ["n_cycles", "do not look"]),
        (shared((0.5, 1.0)), False, ["make up 25 %", "(lambda in force 0.25 of 1)"], ["n_cycles", "cells"]),
        (shared((1.2, 1.1)), False, ["make up 100 %"], ["n_cycles", "cells"]),
        # Little was asked for, and all of it is in force: that is the user's own choice.
        (shared((1.0, 1.0), 0.05), False, ["make up 5 %", "0.05 of 0.05"], ["n_cycles"]),
        (of_old(0.1, 0.1), False, ["make up 10 %"], ["n_cycles"]),
        (of_old(0.02, 1.0), True, ["make up 2 %", "n_cycles=0"], ["copies", "strangers", "cells"]),
        (shared((0.03, 1.0)), True, ["make up less than 1 %"], []),
        (shared((0.7, 1.0), cycle=3), False, ["make up 49 % of the positives in cycle 3"], ["warm-up"]),
    ],
)  # fmt: skip
def test_what_is_said(found: ViewShare, is_low: bool, said: list[str], unsaid: list[str]) -> None:
    sentence = found.sentence("cells")
    assert found.is_low is is_low
    assert [part for part in said if part not in sentence] == []
    assert [part for part in unsaid if part in sentence] == []


def fill(**values: Any) -> dict[str, Any]:
    return {"phase": "fill", "cycle": 1, **values}


def test_share_of_a_history() -> None:
    epoch = {"phase": "A", "cycle": 0, "view_rate": math.nan, "news": math.nan, "faith": math.nan}
    first = fill(view_rate=ViewTrust(0.2, 1.0).share, news=0.2, faith=1.0)
    second = fill(view_rate=ViewTrust(0.6, 0.9, 0.5).share, news=0.6, faith=0.9, realism=0.5) | {"cycle": 2}
    found = view_share([epoch, first, epoch], 1.0)  # of before realism was measured
    assert repr(found) == repr(shared((0.2, 1.0)))
    assert view_share([epoch, first, epoch, second, epoch], 1.0) == shared((0.6, 0.9, 0.5), cycle=2)
    # Of an ensemble each encoder has views of its own.
    several = [fill(view_rate=rate, news=rate, faith=1.0, realism=1.0) | {"cycle": 2} for rate in (0.2, 0.6, 0.7)]
    mean = view_share([epoch, first, several[0], epoch, several[1], epoch, several[2], epoch], 1.0)
    assert mean is not None and mean.trust is not None
    assert (mean.rate, mean.trust.news, mean.trust.faith) == pytest.approx((0.5, 0.5, 1.0))
    assert view_share([fill(view_rate=0.5, news=math.nan, faith=math.nan)], 0.5) == of_old(0.5, 0.5)
    assert view_share([fill(view_rate=0.5)], 0.5) == of_old(0.5, 0.5)  # of before the factors were kept
    assert view_share([fill()], 0.5) is None  # of before lambda was adapted
    assert view_share([epoch], 1.0) is None
    assert view_share([], 1.0) is None
