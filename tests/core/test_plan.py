"""What a history says of its plan."""

from __future__ import annotations

import pytest

from diffaug.core.plan import EpochRecord, rate_in_force


def test_the_lambda_in_force_is_that_of_the_last_bank() -> None:
    warmup, mixed = EpochRecord("A", 0, 1), EpochRecord("A", 1, 3)
    first, second = (EpochRecord("fill", cycle, 2, view_rate=rate) for cycle, rate in ((1, 0.2), (2, 0.6)))
    assert rate_in_force([warmup, first, mixed]) == 0.2
    assert rate_in_force(iter([warmup, first, mixed, second, mixed])) == 0.6
    ensemble = [EpochRecord("fill", 2, 2, view_rate=rate, member=m) for m, rate in enumerate((0.5, 0.1, 0.9))]
    assert rate_in_force([first, mixed, ensemble[0], mixed, ensemble[1], mixed, ensemble[2], mixed]) == pytest.approx(
        0.5
    )
    assert rate_in_force([warmup, mixed]) == rate_in_force([]) == 0.0
