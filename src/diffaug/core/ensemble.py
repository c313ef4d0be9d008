"""Encoders of equal make, trained apart, as one: their vectors are turned onto each other and averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffaug.core.inference import encode
from diffaug.core.networks import Encoding

#: Rounds of turning the encoders' vectors to their mean; it hardly moves after the second.
_ROUNDS = 3
#: A turn of some hundred dimensions is known from so many events.
_MOST_EVENTS = 20_000
_PARTS = Encoding._fields


class EnsembleEncoder(nn.Module):
    """The mean of the vectors of several encoders (deep ensembles: Lakshminarayanan et al. 2017).

    A contrast between events leaves open how the space is turned, and another seed turns it another way. So each encoder's
    vectors are centred, brought to a mean squared length of 1 and turned to the mean of all (generalised Procrustes analysis:
    Gower 1975); :meth:`align` finds centres, scales and turns on the training events.

    Parameters
    ----------
    members
        The encoders, ``x -> (semantic, latent)``, of equal widths.
    event_shape
        Shape of one event.
    """

    def __init__(self, members: Sequence[nn.Module], event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        one = torch.zeros(1, *event_shape, device=next(members[0].parameters()).device)
        for part, vector in encode(members[0], one)._asdict().items():
            self.register_buffer(f"{part}_centres", vector.new_zeros(len(members), vector.shape[1]))
            self.register_buffer(f"{part}_maps", torch.eye(vector.shape[1]).to(vector).repeat(len(members), 1, 1))

    def forward(self, x: Tensor) -> Encoding:
        """Encode ``x`` of shape ``(batch, *event)``."""
        found = [Encoding(*member(x)) for member in self.members]
        return Encoding(*(self._mean(part, [getattr(each, part) for each in found]) for part in _PARTS))

    def align(self, data: Tensor) -> EnsembleEncoder:
        """Learn how the members' vectors lie to each other from events ``(n_obs, *event)``; returns itself.

        Of more than 20,000 events so many are read, evenly spaced.
        """
        if len(data) > _MOST_EVENTS:
            data = data[torch.arange(_MOST_EVENTS, device=data.device) * len(data) // _MOST_EVENTS]
        found = [encode(member, data) for member in members_of(self)]
        for part in _PARTS:
            centres, maps = procrustes([getattr(each, part) for each in found])
            self.get_buffer(f"{part}_centres").copy_(centres)
            self.get_buffer(f"{part}_maps").copy_(maps)
        return self

    def _mean(self, part: str, vectors: list[Tensor]) -> Tensor:
        return turned_mean(vectors, self.get_buffer(f"{part}_centres"), self.get_buffer(f"{part}_maps"))


def as_one(members: Sequence[nn.Module], event_shape: tuple[int, ...]) -> nn.Module:
    """Several encoders as one that is yet to be aligned; a single one stays what it is."""
    return members[0] if len(members) == 1 else EnsembleEncoder(members, event_shape)


def members_of(encoder: nn.Module) -> list[nn.Module]:
    """The encoders of an ensemble; a single one is its own only member."""
    return list(encoder.members) if isinstance(encoder, EnsembleEncoder) else [encoder]


def aligned(encoder: nn.Module, data: Tensor) -> nn.Module:
    """The encoder itself; an ensemble learns from events ``(n_obs, *event)`` how its members lie to each other."""
    return encoder.align(data) if isinstance(encoder, EnsembleEncoder) else encoder


def procrustes(vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What brings point sets of the same events onto each other: generalised Procrustes analysis (Gower 1975).

    Parameters
    ----------
    vectors
        For each set its points, shape ``(n_obs, width)``.

    Returns
    -------
    Centres, shape ``(n_sets, width)``, and maps, ``(n_sets, width, width)``: ``(v - centre) @ map`` has a mean squared
    length of 1 and lies next to the mean of all sets. Maps are orthogonal up to that scale. Computed in float64.
    """
    sets = [v.detach().cpu().double() for v in vectors]
    centres = torch.stack([v.mean(0) for v in sets])
    scales, scaled = [], []
    for points, centre in zip(sets, centres, strict=True):
        length = (points - centre).square().sum(1).mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        scales.append(length)
        scaled.append((points - centre) / length)
    mean, turns = scaled[0], [torch.eye(len(centres[0]), dtype=torch.float64)] * len(scaled)
    for _ in range(_ROUNDS):
        turns = [_turn(points, mean) for points in scaled]
        mean = torch.stack([points @ turn for points, turn in zip(scaled, turns, strict=True)]).mean(0)
    maps = torch.stack([turn / length for turn, length in zip(turns, scales, strict=True)])
    return centres.to(vectors[0]), maps.to(vectors[0])


def turned_mean(vectors: Sequence[Tensor], centres: Tensor, maps: Tensor) -> Tensor:
    """Mean of point sets that :func:`procrustes` has found the centres and maps of, shape ``(n_obs, width)``."""
    return torch.stack([(v - c) @ m for v, c, m in zip(vectors, centres, maps, strict=True)]).mean(0)


def _turn(points: Tensor, to: Tensor) -> Tensor:
    """The orthogonal map that brings points nearest to others, by least squares (Schonemann 1966)."""
    u, _, v = torch.linalg.svd(points.T @ to)
    return u @ v
