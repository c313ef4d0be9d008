"""The batch in a condition, and events of other batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffaug.core.batch_condition import UNKNOWN, OtherBatches, some_untold, with_batch
from diffaug.core.networks import scale_condition


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_with_batch() -> None:
    """Behind the vector at its scale in the denoiser, as long as that; of an unknown batch nothing."""
    cond = 50 * torch.randn(3, 16, generator=stream())
    found = with_batch(cond, torch.tensor([1, UNKNOWN, 0]), 2)
    assert torch.equal(found[:, :16], scale_condition(cond))
    assert torch.equal(found[:, 16:], torch.tensor([[0.0, 4.0], [0.0, 0.0], [4.0, 0.0]]))
    assert found[0, :16].norm() == pytest.approx(4, rel=1e-3)


def test_some_untold() -> None:
    """A tenth of the rows, and of these the batch alone."""
    cond = with_batch(torch.ones(20_000, 4), torch.zeros(20_000, dtype=torch.long), 3)
    found = some_untold(cond, 3, stream())
    untold = (found[:, 4:] == 0).all(dim=1)
    assert 0.09 < untold.double().mean() < 0.11
    assert torch.equal(found[:, :4], cond[:, :4])
    assert torch.equal(found[~untold], cond[~untold])


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.integers(0, 2**31))
def test_other_batches(sizes: list[int], seed: int) -> None:
    """Another batch or the event itself, whatever the sizes and the order of the events."""
    codes = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    codes = codes[torch.randperm(len(codes), generator=stream(seed))]
    vectors = torch.randn(len(codes), 3, generator=stream(seed + 2))
    index = torch.arange(len(codes)).repeat(20)
    found = OtherBatches(codes, vectors, stream(seed + 3)).draw(index, stream(seed + 1))
    assert found.shape == index.shape
    assert ((found >= 0) & (found < len(codes))).all()
    assert ((codes[found] != codes[index]) | (found == index)).all()


def test_batches_are_drawn_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its events the nearest are drawn, each of them about equally often."""
    monkeypatch.setattr("diffaug.core.batch_condition._HOME", 1e6)
    codes = torch.tensor([0, 0] + [1] * 30 + [2] * 10)
    angle = torch.cat([torch.tensor([0.0, 0.05]), torch.linspace(0.1, 3, 30), torch.linspace(0.1, 3, 10)])
    vectors = torch.stack([angle.cos(), angle.sin()], dim=1)
    away = (vectors - vectors[:1]).norm(dim=1)
    found = OtherBatches(codes, vectors, stream(), k=4).draw(torch.zeros(40_000, dtype=torch.long), stream())
    assert (codes[found] == 1).double().mean() == pytest.approx(0.75, abs=0.015)
    for batch in (1, 2):
        there = torch.nonzero(codes == batch).flatten()
        nearest = there[away[there].topk(4, largest=False).indices].sort().values
        drawn, counts = found[codes[found] == batch].unique(return_counts=True)
        assert drawn.tolist() == nearest.tolist()
        assert (counts / counts.sum()).tolist() == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize(("share", "dims"), [(0.5, 3), (0.1, 3), (0.05, 3), (0.05, 20), (0.02, 3)])
def test_a_kind_that_the_other_batch_lacks_stays_at_home(share: float, dims: int) -> None:
    """However rare it is; the kind that both batches have finds its like there."""
    n = 1000
    rare = torch.arange(2 * n) < int(share * n)
    codes = (torch.arange(2 * n) >= n).long()
    vectors = torch.randn(2 * n, dims, generator=stream())
    vectors[:, 0] += (12.0 if dims == 3 else 20.0) * rare
    vectors[:, 1] += 0.5 * codes
    found = OtherBatches(codes, vectors, stream()).draw(torch.arange(2 * n), stream())
    crossed = codes[found] != codes
    assert not crossed[rare].any()
    assert (found[~crossed] == torch.arange(2 * n)[~crossed]).all()
    assert crossed[~rare].double().mean() > 0.5


def test_a_large_batch_is_looked_into_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffaug.core.batch_condition._LOOKED_AMONG", 7)
    codes = torch.tensor([0] * 50 + [1] * 50)
    vectors = torch.randn(100, 3, generator=stream())
    index = torch.arange(100).repeat(50)
    found = OtherBatches(codes, vectors, stream()).draw(index, stream())
    crossed = codes[found] != codes[index]
    assert crossed.any()
    assert len(found[crossed].unique()) <= 14
