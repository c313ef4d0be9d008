"""The batch in a condition, and events of other batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diffaug.core.batch_condition import UNKNOWN, OtherBatches, some_untold, with_batch


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_with_batch() -> None:
    """Behind the vector, as long as one of unit variance; of an unknown batch nothing."""
    cond = torch.arange(12.0).reshape(3, 4)
    found = with_batch(cond, torch.tensor([1, UNKNOWN, 0]), 2)
    assert torch.equal(found[:, :4], cond)
    assert torch.equal(found[:, 4:], torch.tensor([[0.0, 2.0], [0.0, 0.0], [2.0, 0.0]]))


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
    # Of batches of five events and fewer all are near enough.
    small = torch.tensor(sizes).max() <= 5
    assert not small or (codes[found] != codes[index]).all()


def test_batches_are_drawn_by_their_size() -> None:
    """Of its events the nearest are drawn, each of them about equally often."""
    codes = torch.tensor([0] + [1] * 30 + [2] * 10)
    angle = torch.cat([torch.tensor([0.0]), torch.linspace(0.1, 3, 30), torch.linspace(0.1, 3, 10)])
    vectors = torch.stack([angle.cos(), angle.sin()], dim=1)
    vectors = vectors - vectors.mean(dim=0)
    cosine = nn.functional.cosine_similarity(vectors[:1], vectors)
    found = OtherBatches(codes, vectors, stream(), k=4).draw(torch.zeros(40_000, dtype=torch.long), stream())
    assert (codes[found] == 1).double().mean() == pytest.approx(0.75, abs=0.015)
    for batch in (1, 2):
        there = torch.nonzero(codes == batch).flatten()
        nearest = there[cosine[there].topk(4).indices].sort().values
        drawn, counts = found[codes[found] == batch].unique(return_counts=True)
        assert drawn.tolist() == nearest.tolist()
        assert (counts / counts.sum()).tolist() == pytest.approx([0.25] * 4, abs=0.03)


def test_a_kind_that_the_other_batch_lacks_stays_at_home() -> None:
    """Two kinds in one batch, one of them in the other, all of it moved: the kind that both have finds its like there."""
    kind = torch.tensor([0] * 60 + [1] * 60 + [0] * 60)
    codes = torch.tensor([0] * 120 + [1] * 60)
    vectors = torch.randn(180, 3, generator=stream())
    vectors[:, 0] += 12.0 * kind - 6.0
    vectors[:, 1] += 0.5 * codes
    index = torch.arange(180).repeat(5)
    found = OtherBatches(codes, vectors, stream()).draw(index, stream())
    crossed = codes[found] != codes[index]
    assert not crossed[kind[index] == 1].any()
    assert (found[~crossed] == index[~crossed]).all()
    assert crossed[kind[index] == 0].double().mean() > 0.5


def test_a_large_batch_is_looked_into_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffaug.core.batch_condition._LOOKED_AMONG", 7)
    codes = torch.tensor([0] * 50 + [1] * 50)
    vectors = torch.randn(100, 3, generator=stream())
    index = torch.arange(100).repeat(50)
    found = OtherBatches(codes, vectors, stream()).draw(index, stream())
    crossed = codes[found] != codes[index]
    assert crossed.any()
    assert len(found[crossed].unique()) <= 14
