"""What a history says of its plan."""

from __future__ import annotations

from diffaug.core.plan import EpochRecord, rate_in_force


def test_the_lambda_in_force_is_that_of_the_last_bank() -> None:
    warmup, mixed = EpochRecord("A", 0, 1), EpochRecord("A", 1, 3)
    first, second = (EpochRecord("fill", cycle, 2, view_rate=rate) for cycle, rate in ((1, 0.2), (2, 0.6)))
    assert rate_in_force([warmup, first, mixed]) == 0.2
    assert rate_in_force(iter([warmup, first, mixed, second, mixed])) == 0.6
    assert rate_in_force([warmup, mixed]) == rate_in_force([]) == 0.0
