"""Several encoders as one: how they are turned onto each other, and what the mean is worth."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diffaug.core.ensemble import EnsembleEncoder, aligned, as_one, members_of, procrustes
from diffaug.core.inference import encode
from diffaug.core.networks import MLPEncoder

N_OBS, WIDTH = 60, 7


def points(seed: int = 0, n: int = N_OBS, width: int = WIDTH) -> Tensor:
    x = torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x * torch.linspace(1, 3, width, dtype=torch.float64)


def turn(seed: int, width: int = WIDTH) -> Tensor:
    q, _ = torch.linalg.qr(points(seed, width, width))
    return q


def brought(sets: list[Tensor]) -> list[Tensor]:
    centres, maps = procrustes(sets)
    return [(v - c) @ m for v, c, m in zip(sets, centres, maps, strict=True)]


@settings(deadline=None)
@given(seed=st.integers(1, 10_000), scale=st.floats(1e-3, 1e3), shift=st.floats(-50, 50))
def test_turned_scaled_and_shifted_points_come_to_lie_on_each_other(seed: int, scale: float, shift: float) -> None:
    x = points()
    sets = [x, scale * x @ turn(seed) + shift, -x]
    one, two, three = brought(sets)
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one, three, rtol=1e-6, atol=1e-6)
    assert float(one.square().sum(1).mean()) == pytest.approx(1)
    torch.testing.assert_close(one.mean(0), torch.zeros(WIDTH, dtype=torch.float64), rtol=0, atol=1e-9)


def test_distances_within_a_set_stay_but_for_its_scale() -> None:
    """Maps are orthogonal: nothing but the other sets can change a set's neighbours."""
    sets = [points(0), points(1)]
    for before, after in zip(sets, brought(sets), strict=True):
        ratio = torch.pdist(after) / torch.pdist(before)
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_the_mean_is_nearer_to_the_truth_than_its_parts() -> None:
    truth = points()
    noisy = [
        (truth + torch.randn(truth.shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64)) @ turn(k)
        for k in range(1, 6)
    ]

    def error(found: Tensor) -> float:
        one, two = brought([truth, found])
        return float((one - two).square().sum())

    mean = torch.stack(brought(noisy)).mean(0)
    plain = torch.stack(noisy).mean(0)  # negative control: without the turns there is nothing left to find
    assert error(mean) < 0.5 * min(map(error, noisy))
    assert error(plain) > max(map(error, noisy))


def test_equal_events_are_no_division_by_zero() -> None:
    centres, maps = procrustes([torch.ones(5, 3), torch.zeros(5, 3)])
    assert torch.isfinite(centres).all() and torch.isfinite(maps).all()
    assert torch.equal((torch.ones(5, 3) - centres[0]) @ maps[0], torch.zeros(5, 3))


def encoders(n: int) -> list[nn.Module]:
    return [MLPEncoder(WIDTH, (12,), 6, 4) for _ in range(n)]


def test_of_many_events_a_part_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data, made = points(n=200).float(), EnsembleEncoder(encoders(2), (WIDTH,))
    monkeypatch.setattr("diffaug.core.ensemble._MOST_EVENTS", 50)
    made.align(data)
    part = encode(made, data[::4]).semantic
    torch.testing.assert_close(part.mean(0), torch.zeros(6), rtol=0, atol=1e-5)
    assert encode(made, data).semantic.mean(0).abs().max() > 1e-3  # all of them have another centre


def test_one_encoder_stays_what_it_is() -> None:
    one = encoders(1)
    assert as_one(one, (WIDTH,)) is one[0]
    assert aligned(one[0], points().float()) is one[0] and members_of(one[0]) == one


def test_an_ensemble_learns_once_and_embeds_others() -> None:
    data, others = points().float(), points(3).float()
    made = as_one(encoders(3), (WIDTH,))
    assert isinstance(made, EnsembleEncoder)
    assert aligned(made, data) is made
    found = encode(made, others)
    assert found.semantic.shape == (N_OBS, 6) and found.latent.shape == (N_OBS, 4)
    torch.testing.assert_close(encode(made, others[:5]).semantic, found.semantic[:5])  # cell by cell
    torch.testing.assert_close(encode(made, data).semantic.mean(0), torch.zeros(6), rtol=0, atol=1e-5)
    again = as_one(encoders(3), (WIDTH,))
    assert not torch.equal(encode(again, others).semantic, found.semantic)
    again.load_state_dict(made.state_dict())
    assert torch.equal(encode(again, others).semantic, found.semantic)
