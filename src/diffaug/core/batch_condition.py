"""The part of a condition that says of which batch (a run, a source) an event is, and events of other batches."""

from __future__ import annotations

import torch
from torch import Tensor

from diffaug.core.neighbors import nearest_neighbors
from diffaug.core.networks import scale_condition

#: Share of the generator's training events whose batch it is not told, so that it can draw for an event of an unknown one.
_UNTOLD = 0.1
#: Code of an event whose batch is not known.
UNKNOWN = -1
#: Of a larger batch so many random events are looked among for near ones.
_LOOKED_AMONG = 5000
#: The way back must end within so many times the distance of the event's ``k``-th neighbour in its own batch.
_HOME = 2.0


def with_batch(cond: Tensor, codes: Tensor, n_batches: int) -> Tensor:
    """Conditions at their scale in the denoiser, with the batch behind them: a one-hot vector of the same length.

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
    one_hot = torch.zeros(len(cond), n_batches, dtype=cond.dtype, device=cond.device)
    known = torch.nonzero(codes != UNKNOWN).flatten()
    one_hot[known, codes[known]] = cond.shape[1] ** 0.5
    return torch.cat([scale_condition(cond), one_hot], dim=1)


def some_untold(cond: Tensor, n_batches: int, generator: torch.Generator) -> Tensor:
    """A tenth of conditions of :func:`with_batch` as if the batch were not known."""
    told = torch.rand(len(cond), 1, generator=generator, device=cond.device) >= _UNTOLD
    return torch.cat([cond[:, :-n_batches], cond[:, -n_batches:] * told], dim=1)


class OtherBatches:
    """Draws, for events, near events of other batches that are likely to be of their kind.

    The other batch is that of a random event, each as likely as any other; of its events one of the ``k`` nearest is drawn.
    The way back must lead home: the drawn event's nearest one in the batch it was drawn for has to be no further from the
    event than twice its ``k``-th neighbour in that batch. Where it is, as where the other batch lacks the kind, the event
    itself is returned. (A soft form of mutual nearest neighbours, Haghverdi et al. 2018; entry 23 of ``docs/experiments.md``.)

    Parameters
    ----------
    codes
        Batch of each event, in ``0 .. n_batches - 1``, of two batches at least; shape ``(n_obs,)``.
    vectors
        By which events are near, shape ``(n_obs, d)``.
    generator
        Source of randomness, on their device: of a large batch not all events are looked among.
    k
        How many of the nearest are drawn from.
    """

    def __init__(self, codes: Tensor, vectors: Tensor, generator: torch.Generator, k: int = 5) -> None:
        self._codes, self._order, self._k = codes, codes.argsort(stable=True), k
        self._size = torch.bincount(codes)
        self._begin = self._size.cumsum(0) - self._size
        self._vectors = vectors
        self._members = []
        for part in self._order.split(self._size.tolist()):
            order = torch.randperm(len(part), generator=generator, device=part.device)
            self._members.append(part[order[:_LOOKED_AMONG]])

    def draw(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """For each row of ``index`` the row of a near event of another batch, or its own; shape ``(len(index),)``."""
        batch = self._codes[self._any_other(index, generator)]
        share = torch.rand(index.shape, generator=generator, device=index.device)
        found = torch.empty_like(index)
        for code in batch.unique().tolist():
            rows, members = batch == code, self._members[code]
            k = min(self._k, len(members))
            near = nearest_neighbors(self._vectors[index[rows]], k, reference=self._vectors[members])
            found[rows] = members[near.gather(1, (share[rows, None] * k).long().clamp_max(k - 1))[:, 0]]
        return torch.where(self._leads_home(index, found), found, index)

    def _leads_home(self, index: Tensor, found: Tensor) -> Tensor:
        """Whether the way back from each found event ends near the event that it was found for."""
        own, home = self._codes[index], torch.empty(len(index), dtype=torch.bool, device=index.device)
        for code in own.unique().tolist():
            rows, members = own == code, self._members[code]
            events, there = self._vectors[index[rows]], self._vectors[members]
            k = min(self._k + 1, len(members))  # an event is its own nearest
            kth = there[nearest_neighbors(events, k, reference=there)[:, -1]]
            back = there[nearest_neighbors(self._vectors[found[rows]], 1, reference=there)[:, 0]]
            home[rows] = (back - events).norm(dim=1) <= _HOME * (kth - events).norm(dim=1)
        return home

    def _any_other(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """For each row of ``index`` the row of any event of another batch."""
        own = self._codes[index]
        n_others = len(self._codes) - self._size[own]
        share = torch.rand(index.shape, generator=generator, device=index.device)
        place = torch.minimum((share * n_others).long(), n_others - 1)
        return self._order[torch.where(place < self._begin[own], place, place + self._size[own])]
