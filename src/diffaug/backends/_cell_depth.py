"""Each feature's own distribution, learnt from the data and given to what a generator draws, in strata of depth.

Where data are logarithms of scaled counts, which values a cell can have depends on its depth: what one count became is
large in a shallow cell and small in a deep one, and the shallow cell has more zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Quantiles kept of each feature's distribution.
_N_LEVELS = 64
#: A stratum for so many cells at most; it may have half of them.
_CELLS_PER_STRATUM = 200
#: A feature with fewer drawn values above zero in a stratum has the distribution of all cells there.
_LEAST_ABOVE_ZERO = 10
#: The logarithm of no count is larger.
_LARGEST_LOG = 50.0
#: Distinct values that a cell needs to say whether it is on a lattice, the multiples of its least value that are looked at (of
#: larger ones float32 tells too little), and the share of cells that must be on one.
_LEAST_VALUES, _LARGEST_MULTIPLE, _LEAST_ON_LATTICE = 3, 200, 0.9
_WHOLE, _LOOKED_AT = 0.02, 1000


def depth_of(x: Tensor) -> Tensor:
    """Minus the logarithm of what one count became, the least value of a cell; minus infinity for a cell without any.

    Parameters
    ----------
    x
        Log1p of scaled counts, shape ``(n, n_features)``.

    Returns
    -------
    Shape ``(n,)``.
    """
    least = torch.where(x > 0, x, torch.inf).min(dim=1).values
    return -torch.log(torch.expm1(least))


def some_of(x: Tensor) -> Tensor:
    """The rows, at most a thousand, that are looked at by :func:`has_depths` for all."""
    return x[:: -(-len(x) // _LOOKED_AT)]


def has_depths(x: Tensor) -> bool | None:
    """Whether rows are log1p of scaled counts: the values of nearly each are multiples of its least.

    Parameters
    ----------
    x
        Values of at least 0, shape ``(n, n_features)``, of at least one row.

    Returns
    -------
    ``None`` where no row has enough distinct values to tell, as in a few shallow cells.
    """
    if x.max() > _LARGEST_LOG:
        return False
    some = x.to("cpu", torch.float64).expm1()  # not every accelerator has float64
    multiple = some / torch.where(some > 0, some, torch.inf).min(dim=1, keepdim=True).values
    near = (multiple > 0) & (multiple <= _LARGEST_MULTIPLE)
    whole = torch.where(near, (multiple - multiple.round()).abs(), 0.0) <= _WHOLE
    # Of few distinct values any is a multiple of another by chance.
    distinct = torch.where(near, multiple.round(), 0.0).sort(dim=1).values.diff(dim=1).gt(0).sum(dim=1)
    telling = distinct >= _LEAST_VALUES
    return bool(whole.all(dim=1)[telling].float().mean() >= _LEAST_ON_LATTICE) if telling.any() else None


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

    def take(self, whole: Marginals, features: Tensor) -> None:
        """Have another's distributions for a mask of features."""
        for mine, its in zip(self.buffers(), whole.buffers(), strict=True):
            mine[features] = its[features]

    def given_to(self, drawn: Tensor) -> Tensor:
        """The data's values of the drawn values' ranks, shape ``(n, n_features)``."""
        real, known, value = self.levels.to(drawn), self.drawn_levels.to(drawn), drawn.T.contiguous()
        high = torch.searchsorted(known, value).clamp(1, _N_LEVELS - 1)
        left, right = known.gather(1, high - 1), known.gather(1, high)
        weight = ((value - left) / (right - left).clamp_min(1e-12)).clamp(0, 1)
        mapped = torch.lerp(real.gather(1, high - 1), real.gather(1, high), weight)
        # One drawn value alone says nothing of another's rank.
        mapped = torch.where(known[:, -1:] > known[:, :1], mapped, real[:, _N_LEVELS // 2, None])
        return torch.where(value < self.zero_below.to(drawn)[:, None], 0.0, mapped).T.contiguous()


class MarginalsByDepth(nn.Module):
    """Marginals of all cells, and of strata of depth where the data are log1p of scaled counts.

    Attributes
    ----------
    edges
        Depths (:func:`depth_of`) between the strata, shape ``(n_strata - 1,)``; infinite for strata that are not used, all
        where the data are no counts or too few.
    whole, parts
        Marginals of all cells, and of each stratum.
    """

    edges: Tensor

    def __init__(self, n_features: int, n_strata: int) -> None:
        super().__init__()
        self.register_buffer("edges", torch.full((n_strata - 1,), torch.inf))
        self.whole = Marginals(n_features)
        self.parts = nn.ModuleList(Marginals(n_features) for _ in range(n_strata))

    @property
    def n_used(self) -> int:
        """Number of strata in use, 1 where depths are not told apart."""
        return int(self.edges.isfinite().sum()) + 1

    def _used(self) -> list[Marginals]:
        return [part for part in self.parts[: self.n_used] if isinstance(part, Marginals)] if self.n_used > 1 else []

    def learn(self, x: Tensor, *, zeros_apart: bool) -> None:
        """Read the data's values, shape ``(n, n_features)``."""
        self.whole.learn(x, zeros_apart=zeros_apart)
        self.edges = torch.full_like(self.edges, torch.inf)
        most = len(self.edges) + 1
        if most == 1 or not zeros_apart or not has_depths(some_of(x)):
            return
        depth = depth_of(x)
        known = depth[depth.isfinite()]
        for n_strata in range(min(most, len(known) // _CELLS_PER_STRATUM), 1, -1):  # fewer where many are of one depth
            edges = known.quantile(torch.linspace(0, 1, n_strata + 1)[1:-1]).unique()
            stratum = torch.bucketize(depth, edges)
            if stratum.bincount(minlength=len(edges) + 1).min() >= _CELLS_PER_STRATUM // 2:
                break
        else:
            return
        self.edges[: len(edges)] = edges
        for i, part in enumerate(self._used()):
            part.learn(x[stratum == i], zeros_apart=True)

    def strata(self, x: Tensor) -> Tensor:
        """Stratum of each cell, from 0, shape ``(n,)``."""
        return torch.bucketize(depth_of(x), self.edges.to(x.device))

    def calibrate(self, drawn: Tensor, strata: Tensor | None) -> None:
        """Read drawn values, in each stratum too; what is rare in a stratum has the distribution of all cells there."""
        self.whole.calibrate(drawn)
        for i, part in enumerate(self._used() if strata is not None else []):
            own = drawn[strata == i]
            part.calibrate(own if len(own) else drawn)
            part.take(self.whole, (1 - part.zero_share) * len(own) < _LEAST_ABOVE_ZERO)

    def given_to(self, drawn: Tensor, strata: Tensor | None) -> Tensor:
        """The data's values of the drawn values' ranks within the strata, shape ``(n, n_features)``."""
        if strata is None or self.n_used == 1:
            return self.whole.given_to(drawn)
        out = torch.empty_like(drawn)
        for i, part in enumerate(self._used()):
            rows = strata == i
            out[rows] = part.given_to(drawn[rows])
        return out
