"""The batch in a condition, and events of other batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.integers(0, 2**31))
def test_other_batches(sizes: list[int], seed: int) -> None:
    """Always another batch, whatever the sizes and the order of the events."""
    codes = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    codes = codes[torch.randperm(len(codes), generator=stream(seed))]
    index = torch.arange(len(codes)).repeat(20)
    found = OtherBatches(codes).draw(index, stream(seed + 1))
    assert found.shape == index.shape
    assert ((found >= 0) & (found < len(codes))).all()
    assert (codes[found] != codes[index]).all()


def test_each_other_event_is_as_likely() -> None:
    codes = torch.tensor([0, 1, 1, 0, 2, 1])
    found = OtherBatches(codes).draw(torch.zeros(40_000, dtype=torch.long), stream())
    share = torch.bincount(found, minlength=6).double() / 40_000
    assert share[0] == share[3] == 0  # its own batch
    assert share[[1, 2, 4, 5]].tolist() == pytest.approx([0.25] * 4, abs=0.015)
