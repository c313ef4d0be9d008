"""Hand-made views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

MixupMode = Literal["line", "feature"]
#: ``hand_views(index, generator)``: one hand-made view of each indexed event, shape ``(batch, *event)``.
HandViews = Callable[[Tensor, torch.Generator], Tensor]


def neighbor_mixup(
    x: Tensor, index: Tensor, neighbors: Tensor, generator: torch.Generator, mode: MixupMode = "line"
) -> Tensor:
    """Mix each event with one of its neighbours (the paper's warm-up views for vectors).

    Parameters
    ----------
    x
        All events, shape ``(n, *event)``.
    index
        Rows to make views of, shape ``(batch,)``.
    neighbors
        Neighbour rows of every event, shape ``(n, k)``.
    generator
        Source of randomness, on the device of ``x``.
    mode
        ``"line"``: a uniform point on the segment between the two; ``"feature"``: each feature is uniformly between
        its two values.

    Returns
    -------
    Shape ``(batch, *event)``.
    """
    pick = torch.randint(neighbors.shape[1], index.shape, generator=generator, device=index.device)
    a, b = x[index], x[neighbors[index, pick]]
    shape = a.shape if mode == "feature" else (len(index), *(1,) * (x.ndim - 1))
    return torch.lerp(a, b, torch.rand(shape, generator=generator, device=x.device))


def feature_swap(x: Tensor, index: Tensor, generator: torch.Generator, rate: float = 0.2) -> Tensor:
    """Replace a random share ``rate`` of each event's features by those of a random other event.

    The comparison of the paper's Fig. 5: it knows nothing of the data's shape and leaves the manifold.
    """
    steps = torch.randint(1, max(x.shape[0], 2), index.shape, generator=generator, device=index.device)
    other = (index + steps) % x.shape[0]  # never the event itself
    a = x[index]
    swap = torch.rand(a.shape, generator=generator, device=x.device) < rate
    return torch.where(swap, x[other], a)


def mask_features(
    x: Tensor, index: Tensor, generator: torch.Generator, rate: float = 0.2, value: float | Tensor = 0.0
) -> Tensor:
    """Replace a random share ``rate`` of each event's features by ``value``, one number or one of each feature."""
    a = x[index]
    mask = torch.rand(a.shape, generator=generator, device=x.device) < rate
    return torch.where(mask, torch.as_tensor(value, dtype=a.dtype, device=a.device), a)


def gaussian_noise(x: Tensor, index: Tensor, generator: torch.Generator, scale: float = 0.3) -> Tensor:
    """Add normal noise with standard deviation ``scale`` to every feature."""
    a = x[index]
    return a + scale * torch.randn(a.shape, generator=generator, dtype=a.dtype, device=a.device)


def one_kind_each(makers: Sequence[HandViews], index: Tensor, generator: torch.Generator) -> Tensor:
    """One view of each event, of a kind drawn for each event alone, all ``makers`` being equally likely.

    Kinds are not composed: a maker looks up its partners among the training events, so it takes row numbers and not the
    view that another maker has made. A domain that wants composed views offers them as one kind.
    """
    if not makers or not len(index):
        raise ValueError(f"Expected kinds of views and events, found {len(makers)} kinds and {len(index)} events.")
    pick = torch.randint(len(makers), index.shape, generator=generator, device=index.device)
    rows = [torch.nonzero(pick == k).flatten() for k in range(len(makers))]
    made = torch.cat([make(index[r], generator) for r, make in zip(rows, makers, strict=True) if len(r)])
    return torch.empty_like(made).index_copy_(0, torch.cat(rows), made)


def drop_features(x: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Hide a random share of the features; the rest is scaled up to keep the mean (as ``nn.Dropout``)."""
    if rate == 0:
        return x
    keep = torch.rand(x.shape, generator=generator, device=x.device) >= rate
    return x * keep / (1 - rate)
