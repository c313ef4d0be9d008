"""Cells: vectors of expression (or any other measurement of a cell)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from diffaug.backends import register
from diffaug.backends._base import Backend
from diffaug.core.config import Config, DiffusionConfig, LossConfig, TrainingConfig
from diffaug.core.neighbors import nearest_neighbors
from diffaug.core.networks import AdaptiveResidualMLP, BottleneckMLP, Listing2, MLPEncoder
from diffaug.core.training import HandViews
from diffaug.core.views import feature_swap, neighbor_mixup

#: Above so many cells the exact neighbour search gives way to pynndescent's approximate one.
EXACT_NEIGHBORS_UP_TO = 50_000


@dataclass(frozen=True)
class CellsConfig:
    """Settings of the cells backend.

    Parameters
    ----------
    encoder_hidden, n_semantic, n_latent
        Widths of the encoder; the paper's ``[-1, 500, 300, 80]`` and its projection head.
    generator
        ``"residual"`` (:class:`~diffaug.core.networks.AdaptiveResidualMLP`), ``"listing2"`` (the paper's) or
        ``"bottleneck"`` (the first version's).
    generator_width, generator_depth
        Width of the generator's hidden layers, and number of blocks of ``"residual"``.
    views
        Hand-made views: ``"mixup"`` with a neighbour or ``"feature_swap"`` with a random cell.
    mixup_mode
        See :func:`diffaug.core.views.neighbor_mixup`.
    swap_rate
        Share of features that ``"feature_swap"`` replaces.
    n_neighbors, n_components
        Neighbours of each cell for mixup, found on so many principal components of the scaled data.
    max_value
        Scaled values are clipped to plus or minus this many standard deviations.
    """

    encoder_hidden: tuple[int, ...] = (500, 300)
    n_semantic: int = 80
    n_latent: int = 128
    generator: Literal["residual", "listing2", "bottleneck"] = "residual"
    generator_width: int = 256
    generator_depth: int = 4
    views: Literal["mixup", "feature_swap"] = "mixup"
    mixup_mode: Literal["line", "feature"] = "line"
    swap_rate: float = 0.2
    n_neighbors: int = 15
    n_components: int = 50
    max_value: float = 10.0

    def __post_init__(self) -> None:
        for name, choices in {
            "generator": ("residual", "listing2", "bottleneck"),
            "views": ("mixup", "feature_swap"),
            "mixup_mode": ("line", "feature"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"Expected `{name}` in {list(choices)}, found {getattr(self, name)!r}.")
        for name in ("n_semantic", "n_latent", "generator_width", "generator_depth", "n_neighbors", "n_components"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` of at least 1, found {getattr(self, name)}.")
        if any(w < 1 for w in self.encoder_hidden):
            raise ValueError(f"Expected `encoder_hidden` of positive widths, found {self.encoder_hidden}.")
        if not 0 < self.swap_rate <= 1:
            raise ValueError(f"Expected `swap_rate` in (0, 1], found {self.swap_rate}.")
        if not self.max_value > 0:
            raise ValueError(f"Expected `max_value` above 0, found {self.max_value}.")


def default_config() -> Config:
    """Settings that fit a laptop; ``docs/benchmarks`` has the table of what was tried."""
    return Config(
        training=TrainingConfig(input_dropout=0.2),
        domain=CellsConfig(),
    )


def paper_config() -> Config:
    """Settings of the paper's Table 11 for cells: A 330 -> B 330 -> A 340 epochs, batch 300, nu 1, full Listing 2."""
    return Config(
        loss=LossConfig(name="soft", kernel="student_t", target="literal", dof_semantic=1.0, dof_latent=1.0),
        diffusion=DiffusionConfig(prediction_type="epsilon"),
        training=TrainingConfig(
            warmup_epochs=330,
            generator_epochs=330,
            mixed_epochs=340,
            batch_size=300,
            encoder_lr=1e-4,
            generator_lr=1e-4,
            weight_decay=1e-6,
            lr_schedule="constant",
        ),
        domain=CellsConfig(generator="listing2", generator_width=2000, n_latent=2),
    )


PRESETS = {"default": default_config, "paper": paper_config}


def cell_neighbors(
    data: Tensor, k: int, n_components: int, batch: np.ndarray | None = None, seed: int = 0
) -> Tensor:
    """Neighbours of each cell on principal components, shape ``(n, k)``.

    With ``batch`` codes each cell gets as many neighbours from every batch as from its own (balanced neighbours, after
    Polanski et al. 2020), so that views lead from one batch to another.
    """
    n, width = data.shape
    if width > n_components:
        q = min(n_components, n - 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            u, s, _ = torch.svd_lowrank(data - data.mean(dim=0), q=q, niter=4)
        data = u * s
    if batch is None:
        return _search(data, min(k, n - 1), None)
    codes = torch.as_tensor(batch, device=data.device)
    groups = [torch.nonzero(codes == c).flatten() for c in codes.unique()]
    per_batch = max(1, round(k / len(groups)))
    found = torch.empty(n, per_batch * len(groups), dtype=torch.long, device=data.device)
    for g, members in enumerate(groups):
        # One more than needed, so that a cell can be taken out of its own neighbours.
        near = members[_search(data, min(per_batch + 1, len(members)), data[members])]
        own = near == torch.arange(n, device=data.device)[:, None]
        near = near.gather(1, own.long().argsort(dim=1, stable=True))
        columns = torch.arange(per_batch, device=data.device) % near.shape[1]  # a batch smaller than that repeats
        found[:, g * per_batch : (g + 1) * per_batch] = near[:, columns]
    return found


def _search(data: Tensor, k: int, reference: Tensor | None) -> Tensor:
    """Exact search on small sets, pynndescent on large ones."""
    if (data if reference is None else reference).shape[0] <= EXACT_NEIGHBORS_UP_TO:
        return nearest_neighbors(data, k, reference=reference)
    from pynndescent import NNDescent

    if reference is None:
        found = NNDescent(data.cpu().numpy(), n_neighbors=k + 1, random_state=0).neighbor_graph[0][:, 1:]
    else:
        found = NNDescent(reference.cpu().numpy(), n_neighbors=k, random_state=0).query(data.cpu().numpy(), k=k)[0]
    return torch.as_tensor(np.asarray(found, dtype=np.int64), device=data.device)


@register
class CellsBackend(Backend):
    """Expression vectors, standardised per feature.

    Attributes
    ----------
    mean, std
        Of each feature in the training data, shape ``(n_features,)``; a constant feature has ``std`` 1.
    zero_below
        Generated values under it become 0, per feature: chosen so that the share of zeros in generated cells is that of
        the training data. Minus infinity where the data have negative values.
    """

    name = "cells"
    Settings = CellsConfig
    view_kinds = ("mixup", "feature_swap")

    settings: CellsConfig
    mean: Tensor
    std: Tensor
    zero_below: Tensor

    def __init__(self, settings: CellsConfig, event_shape: tuple[int, ...]) -> None:
        super().__init__(settings, event_shape)
        self.n_features = event_shape[0]
        self.register_buffer("mean", torch.zeros(self.n_features))
        self.register_buffer("std", torch.ones(self.n_features))
        self.register_buffer("zero_below", torch.full((self.n_features,), -torch.inf))

    @classmethod
    def preset(cls, name: str) -> Config:
        """``"default"`` or ``"paper"``."""
        if name not in PRESETS:
            raise ValueError(f"Expected a preset among {list(PRESETS)}, found {name!r}.")
        return PRESETS[name]()

    @classmethod
    def event_shape_of(cls, x: Any) -> tuple[int, ...]:
        """``(n_features,)``."""
        return (int(x.shape[1]),)

    def prepare(self, x: np.ndarray | sp.csr_matrix) -> None:
        """Learn each feature's mean, standard deviation and whether it can be negative."""
        if sp.issparse(x):
            n = x.shape[0]
            mean = np.asarray(x.sum(axis=0), dtype=np.float64).ravel() / n
            square = np.asarray(x.multiply(x).sum(axis=0), dtype=np.float64).ravel() / n
            std, lowest = np.sqrt(np.maximum(square - mean**2, 0)), float(x.data.min(initial=0.0))
        else:
            mean, std, lowest = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64), float(x.min())
        std = np.where(std > 1e-8, std, 1.0)
        self.mean = torch.as_tensor(mean, dtype=torch.float32)
        self.std = torch.as_tensor(std, dtype=torch.float32)
        self.zero_below = torch.full((self.n_features,), 0.0 if lowest >= 0 else -torch.inf)

    def to_model(self, x: np.ndarray | sp.csr_matrix) -> Tensor:
        """Standardise and clip, float32, shape ``(n, n_features)``."""
        dense = x.toarray() if sp.issparse(x) else np.asarray(x)
        out = torch.as_tensor(np.array(dense, dtype=np.float32))  # a copy: the user's matrix is never written to
        limit = self.settings.max_value
        return out.sub_(self.mean.cpu()).div_(self.std.cpu()).clamp_(-limit, limit)

    def from_model(self, v: Tensor) -> np.ndarray:
        """Back to the scale of the input; values of a non-negative input are cut at 0. Float32."""
        x = v * self.std.to(v.device) + self.mean.to(v.device)
        if self._non_negative:
            x = x.clamp_min(0.0)
        return x.cpu().numpy()

    @property
    def _non_negative(self) -> bool:
        return bool(torch.isfinite(self.zero_below).all())

    def calibrate(self, data: Tensor, generated: Tensor) -> None:
        """Choose ``zero_below`` so that generated cells have each feature's share of zeros."""
        if not self._non_negative:
            return
        zero = (-self.mean / self.std).clamp(-self.settings.max_value, self.settings.max_value).to(data)
        share = (data <= zero + 1e-6).float().mean(dim=0)
        x = (generated * self.std.to(generated) + self.mean.to(generated)).sort(dim=0).values
        rank = (share * len(x)).round().long()
        threshold = x.gather(0, rank.clamp(max=len(x) - 1)[None]).squeeze(0)
        threshold = torch.where(rank == 0, torch.zeros_like(threshold), threshold)
        threshold = torch.where(rank >= len(x), torch.full_like(threshold, torch.finfo(torch.float32).max), threshold)
        self.zero_below = threshold.clamp_min(0.0).to(self.mean)

    def refine(self, v: Tensor) -> Tensor:
        """Set values under ``zero_below`` to exactly zero expression."""
        if not self._non_negative:
            return v
        mean, std = self.mean.to(v), self.std.to(v)
        return torch.where(v * std + mean < self.zero_below.to(v), -mean / std, v)

    def make_encoder(self) -> nn.Module:
        """The paper's MLP with a projection head."""
        s = self.settings
        return MLPEncoder(self.n_features, s.encoder_hidden, s.n_semantic, s.n_latent)

    def make_denoiser(self, n_cond: int) -> nn.Module:
        """The generator's network named in the settings."""
        s = self.settings
        if s.generator == "listing2":
            return Listing2(self.n_features, n_cond, s.generator_width)
        if s.generator == "bottleneck":
            return BottleneckMLP(self.n_features, n_cond)
        return AdaptiveResidualMLP(self.n_features, n_cond, s.generator_width, s.generator_depth)

    def hand_views(self, data: Tensor, *, kind: str | None = None, batch: np.ndarray | None = None) -> HandViews:
        """Neighbour mixup (paper, appendix) or random feature swap."""
        s = self.settings
        kind = s.views if kind is None else kind
        if kind == "feature_swap":
            return lambda index, generator: feature_swap(data, index, generator, s.swap_rate)
        if kind != "mixup":
            raise ValueError(f"Expected views of a kind in {list(self.view_kinds)}, found {kind!r}.")
        if len(data) < 2:
            raise ValueError(f"Expected at least 2 cells for mixup views, found {len(data)}.")
        neighbors = cell_neighbors(data, s.n_neighbors, s.n_components, batch)
        return partial(_mixup, data, neighbors, s.mixup_mode)


def _mixup(
    data: Tensor, neighbors: Tensor, mode: Literal["line", "feature"], index: Tensor, generator: torch.Generator
) -> Tensor:
    return neighbor_mixup(data, index, neighbors, generator, mode)
