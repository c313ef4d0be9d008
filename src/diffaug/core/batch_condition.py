"""The part of a condition that says of which batch (a run, a source) an event is, and events of other batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Share of the generator's training events whose batch it is not told, so that it can draw for an event of an unknown one.
_UNTOLD = 0.1
#: Code of an event whose batch is not known.
UNKNOWN = -1


def with_batch(cond: Tensor, codes: Tensor, n_batches: int) -> Tensor:
    """Conditions with the batch behind them, as one-hot.

    It is as long as a vector of ``n_cond`` numbers of unit variance, so that neither part drowns the other in a network that
    normalises the whole.

    Parameters
    ----------
    cond
        Shape ``(n, n_cond)``.
    codes
        Batch of each, in ``0 .. n_batches - 1``, or -1 for one that is not known, which gets zeros; shape ``(n,)``.
    n_batches
        Number of batches.

    Returns
    -------
    Shape ``(n, n_cond + n_batches)``.
    """
    one_hot = nn.functional.one_hot(codes.clamp_min(0), n_batches).to(cond) * (codes != UNKNOWN).to(cond)[:, None]
    return torch.cat([cond, one_hot * cond.shape[1] ** 0.5], dim=1)


def some_untold(cond: Tensor, n_batches: int, generator: torch.Generator) -> Tensor:
    """A tenth of conditions of :func:`with_batch` as if the batch were not known."""
    told = torch.rand(len(cond), 1, generator=generator, device=cond.device) >= _UNTOLD
    return torch.cat([cond[:, :-n_batches], cond[:, -n_batches:] * told], dim=1)


class OtherBatches:
    """Draws, for events, random events of other batches, each of these as likely as any other.

    Parameters
    ----------
    codes
        Batch of each event, in ``0 .. n_batches - 1``, of two batches at least; shape ``(n_obs,)``.
    """

    def __init__(self, codes: Tensor) -> None:
        self._codes, self._order = codes, codes.argsort(stable=True)
        self._size = torch.bincount(codes)
        self._begin = self._size.cumsum(0) - self._size

    def draw(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """For each row of ``index`` the row of an event of another batch, shape ``(len(index),)``."""
        own = self._codes[index]
        n_others = len(self._codes) - self._size[own]
        share = torch.rand(index.shape, generator=generator, device=index.device, dtype=torch.float32)
        place = torch.minimum((share * n_others).long(), n_others - 1)
        return self._order[torch.where(place < self._begin[own], place, place + self._size[own])]
