"""The distribution of each feature on its own: learnt from the data, and given to what a generator draws."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Quantiles kept of each feature's distribution.
_N_LEVELS = 64


def _levels(x: Tensor, n_skip: Tensor) -> Tensor:
    """Quantiles of each column without its ``n_skip`` lowest values, shape ``(n_columns, _N_LEVELS)``."""
    last = len(x) - 1
    share = torch.linspace(0, 1, _N_LEVELS, device=x.device)
    first = n_skip.clamp(max=last).to(x.device)[:, None]
    place = first + share * (last - first)
    low = place.floor().long()
    ordered = x.sort(dim=0).values.T
    return torch.lerp(ordered.gather(1, low), ordered.gather(1, (low + 1).clamp(max=last)), place - low)


class Marginals(nn.Module):
    """Each feature's share of zeros and the quantiles of its other values, in the data and in what is drawn.

    Attributes
    ----------
    zero_share
        Share of exact zeros of each feature, shape ``(n_features,)``; 0 where zeros are values like others.
    levels
        Quantiles of each feature's other values, shape ``(n_features, n_levels)``.
    zero_below, drawn_levels
        The same of drawn values: the value under which one becomes zero, and the quantiles above.
    """

    zero_share: Tensor
    levels: Tensor
    zero_below: Tensor
    drawn_levels: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("zero_share", torch.zeros(n_features))
        self.register_buffer("levels", torch.zeros(n_features, _N_LEVELS))
        self.register_buffer("zero_below", torch.full((n_features,), -torch.inf))
        self.register_buffer("drawn_levels", torch.zeros(n_features, _N_LEVELS))

    def learn(self, x: Tensor, *, zeros_apart: bool) -> None:
        """Read the data's values, shape ``(n, n_features)``."""
        n_zero = (x == 0).sum(dim=0) * zeros_apart
        self.zero_share = n_zero.to(self.zero_share) / len(x)
        self.levels = _levels(x, n_zero).to(self.levels)

    def calibrate(self, drawn: Tensor) -> None:
        """Read drawn values, shape ``(n, n_features)``, in whatever unit."""
        n_zero = (self.zero_share.to(drawn) * len(drawn)).round().long()
        edge = drawn.sort(dim=0).values.gather(0, n_zero.clamp(max=len(drawn) - 1)[None]).squeeze(0)
        edge = torch.where(n_zero == 0, -torch.inf, edge)
        self.zero_below = torch.where(n_zero >= len(drawn), torch.inf, edge).to(self.zero_below)
        self.drawn_levels = _levels(drawn, n_zero).to(self.drawn_levels)

    def given_to(self, drawn: Tensor) -> Tensor:
        """The data's values of the drawn values' ranks, shape ``(n, n_features)``."""
        real, known, value = self.levels.to(drawn), self.drawn_levels.to(drawn), drawn.T.contiguous()
        high = torch.searchsorted(known, value).clamp(1, _N_LEVELS - 1)
        left, right = known.gather(1, high - 1), known.gather(1, high)
        weight = ((value - left) / (right - left).clamp_min(1e-12)).clamp(0, 1)
        weight = torch.where(right > left, weight, 0.5)  # one drawn value alone says nothing of its rank
        mapped = torch.lerp(real.gather(1, high - 1), real.gather(1, high), weight)
        return torch.where(value < self.zero_below.to(drawn)[:, None], 0.0, mapped).T.contiguous()
