"""The bank of generated views: filled, drawn from in place of hand-made views, and how far its views are trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffaug.core.inference import encode
from diffaug.core.probes import LEAST_TOLD, nearest_own, told_apart
from diffaug.core.trust import ViewReading, ViewTrust
from diffaug.core.views import HandViews

#: Views made at once in a filling.
_VIEWS_AT_ONCE = 2048
#: Events whose views are looked at to measure trust, and events among which they are looked for.
_N_TRUST, _N_TRUST_REFERENCE = 2048, 20_000


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


@torch.no_grad()
def filled_bank(
    n_obs: int,
    n_views: int,
    event_shape: tuple[int, ...],
    device: torch.device,
    make: Callable[[Tensor], Tensor],
) -> ViewBank:
    """A full bank.

    Parameters
    ----------
    n_obs, n_views, event_shape, device
        As for :class:`ViewBank`.
    make
        ``make(index)``: a new view of each indexed event, shape ``(len(index), *event)``. It is asked for all views of the
        first events, then for those of the next; an event stands in ``index`` as often as it is to have views.
    """
    bank = ViewBank(n_obs, n_views, event_shape, device)
    rows_at_once = max(1, _VIEWS_AT_ONCE // n_views)
    for begin in range(0, n_obs, rows_at_once):
        rows = slice(begin, min(begin + rows_at_once, n_obs))
        index = torch.arange(rows.start, rows.stop, device=device)
        views = make(index.repeat_interleave(n_views))
        bank.put(rows, views.reshape(len(index), n_views, *views.shape[1:]))
    if not bank.is_full:
        raise RuntimeError("Expected the bank of views to be full after the fill, found events without views.")
    return bank


class Positives(NamedTuple):
    """Positive views of a batch, and how many of them are generated.

    Their number may be a tensor: to read it in every step would make the host wait for a GPU in every step.
    """

    views: Tensor
    n_generated: int | Tensor


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


@torch.no_grad()
def measured_trust(
    encoder: nn.Module,
    data: Tensor,
    bank: ViewBank,
    hand_views: HandViews,
    generator: torch.Generator,
    *,
    like: Tensor | None = None,
) -> ViewTrust:
    """How far the bank's views are trusted, from those of some events among at most so many events.

    Parameters
    ----------
    encoder
        Network ``x -> (semantic, latent)``; the views are read in its semantic space.
    data
        All events, shape ``(n_obs, *event)``.
    bank
        A full bank of their views.
    hand_views
        The hand-made views that the bank's are held against.
    generator
        Source of randomness, on the device of ``data``.
    like
        The event under whose condition each view was drawn, shape ``(n_obs, n_views)``, where it is not the view's own: the
        view is then held against that one.
    """
    some = torch.randperm(len(data), generator=generator, device=data.device)[:_N_TRUST_REFERENCE]
    asked = some[:_N_TRUST]
    rows, own, source = some, torch.arange(len(asked), device=data.device), None
    if like is not None:
        sources = like[asked, 0]
        rows = torch.cat([some, sources]).unique()
        own, source = torch.searchsorted(rows, asked), torch.searchsorted(rows, sources)
    reference = encode(encoder, data[rows]).semantic
    drawn = bank.draw(asked, generator) if like is None else bank.views[asked, 0]
    return ViewTrust.measured(
        _read(encode(encoder, drawn).semantic, reference, own if source is None else source),
        _read(encode(encoder, hand_views(asked, generator)).semantic, reference, own),
    )


def _read(views: Tensor, reference: Tensor, own: Tensor) -> ViewReading:
    """How embedded views lie to the embedded events, of which ``own`` are theirs."""
    half = len(own) // 2  # views of the one half stand beside the events of the other
    apart = told_apart(views[:half], reference[own[half:]]) if half >= LEAST_TOLD else 0.5
    return ViewReading(*nearest_own(views, reference, own), apart)
