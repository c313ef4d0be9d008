"""Positive views: hand-made ones, and the bank of generated ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

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


class Positives(NamedTuple):
    """Positive views of a batch, and how many of them are generated.

    Their number may be a tensor: to read it in every step would make the host wait for a GPU in every step.
    """

    views: Tensor
    n_generated: int | Tensor


class ViewBank:
    """Generated views of every training event, made in bulk after a B-step and drawn from in the A-step.

    Parameters
    ----------
    n_obs, n_views
        Number of events and of views for each.
    event_shape
        Shape of a view, as the encoder sees it.
    device
        Where the bank lives.
    """

    def __init__(self, n_obs: int, n_views: int, event_shape: tuple[int, ...], device: torch.device) -> None:
        self.views = torch.full((n_obs, n_views, *event_shape), torch.nan, device=device)
        self._filled = torch.zeros(n_obs, dtype=torch.bool)

    @property
    def is_full(self) -> bool:
        """Whether every event has its views."""
        return bool(self._filled.all())

    def put(self, rows: slice, views: Tensor) -> None:
        """Store the views, shape ``(rows, n_views, *event)``, of consecutive events."""
        if views.shape != self.views[rows].shape:
            raise ValueError(f"Expected views of shape {tuple(self.views[rows].shape)}, found {tuple(views.shape)}.")
        self.views[rows] = views
        self._filled[rows] = True

    def draw(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """One random view of each row of ``index``, shape ``(batch, *event)``."""
        if not self.is_full:
            missing = int((~self._filled).sum())
            raise RuntimeError(f"Expected a full bank of views, found {missing} events without views. Fill it first.")
        pick = torch.randint(self.views.shape[1], index.shape, generator=generator, device=index.device)
        return self.views[index, pick]


def mix_views(
    hand_made: Tensor, bank: ViewBank | None, index: Tensor, view_rate: float, generator: torch.Generator
) -> Positives:
    """Replace each hand-made view by a generated one with probability ``view_rate`` (the paper's lambda).

    Without a bank (the warm-up) the hand-made views are returned as they are. The draw is a Bernoulli variable; the
    authors' code tests ``randn > 0.9`` instead.
    """
    if bank is None or view_rate == 0:
        return Positives(hand_made, 0)
    replace = torch.rand(index.shape, generator=generator, device=index.device) < view_rate
    mask = replace.reshape(-1, *(1,) * (hand_made.ndim - 1))
    return Positives(torch.where(mask, bank.draw(index, generator), hand_made), replace.sum())
