"""Cells: vectors of expression (or any other measurement of a cell)."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from diffaug._totals import PANEL_BELOW
from diffaug.backends import register
from diffaug.backends._base import Backend
from diffaug.backends._cell_depth import MarginalsByDepth, has_depths, some_of
from diffaug.backends._cell_views import thinned_views
from diffaug.core.config import Config, DiffusionConfig, LossConfig, TrainingConfig, check_fields
from diffaug.core.devices import seeded_init
from diffaug.core.neighbors import nearest_neighbors
from diffaug.core.networks import AdaptiveResidualMLP, BottleneckMLP, Listing2, MLPEncoder, weighted
from diffaug.core.views import HandViews, feature_swap, gaussian_noise, mask_features, neighbor_mixup

logger = logging.getLogger(__name__)

#: Above so many cells the exact neighbour search gives way to pynndescent's approximate one.
EXACT_NEIGHBORS_UP_TO = 50_000
#: Weight of a feature in Pareto scaling at most: intensities may have one that is thousands of times wider than the others.
_WIDEST = 3.0
#: Cells that the features' distributions are read from at most.
_CELLS_FOR_LEVELS = 20_000


@dataclass(frozen=True)
class CellsConfig:
    """Settings of the cells backend.

    Parameters
    ----------
    encoder_hidden, n_semantic, n_latent
        Widths of the encoder; the paper's ``[-1, 500, 300, 80]`` and its projection head.
    linear_path
        Add a linear map of the features to the encoder's output (:class:`~diffaug.core.networks.MLPEncoder`). ``None`` does
        so for panels, data of fewer than 100 features (``docs/experiments.md``, entry 16).
    scaling
        Of the features, for the encoder and the neighbour search. ``"pareto"`` divides each by the square root of its standard
        deviation (van den Berg et al. 2006), so that a gene that varies more counts for more, up to three times; ``"standard"`` by the
        standard deviation itself, so that all count alike. ``docs/experiments.md``, entry 25, has the two side by side.
    generator
        ``"residual"`` (:class:`~diffaug.core.networks.AdaptiveResidualMLP`), ``"listing2"`` (the paper's) or
        ``"bottleneck"`` (the first version's).
    generator_width, generator_depth
        Width of the generator's hidden layers, and number of blocks of ``"residual"``.
    generator_dropout
        Share of the hidden units of ``"residual"`` that each step of its training leaves out. Without it the generator
        learns small sets by heart and draws their cells again (``docs/experiments.md``, entry 13).
    views
        Hand-made views: ``"mixup"`` with a neighbour, ``"feature_swap"`` with a random cell, ``"mask"`` (features that are
        not expressed; at their mean, where that is no value of theirs), Gaussian ``"noise"``, or ``"thinning"`` of the
        counts (for log1p-normalised counts only). ``None`` is ``"mask"`` for panels without batches, and
        ``"mixup"`` for all else.
    mixup_mode
        See :func:`diffaug.core.views.neighbor_mixup`.
    swap_rate
        Share of features that ``"feature_swap"`` replaces.
    mask_rate
        Share of features that ``"mask"`` hides.
    noise_scale
        Standard deviation of ``"noise"``, in standard deviations of each feature.
    thinning_keep
        Share of a cell's counts that ``"thinning"`` keeps.
    n_neighbors, n_components
        Neighbours of each cell for mixup, found on so many principal components of the scaled data.
    n_depth_strata
        Counts only: drawn cells take the features' distributions among training cells of a depth like that of their
        conditioning cell, in so many strata of depth (fewer in small sets). In 1, a deep cell may get the value of a
        shallow one's single count, and the counts' variances are too great (``docs/benchmarks/counts.md``).
    max_value
        The encoder and the neighbour search see scaled values clipped to plus or minus this. Their mean square over all features
        is 1, and with ``scaling="standard"`` that of each.
    """

    encoder_hidden: tuple[int, ...] = (500, 300)
    n_semantic: int = 80
    n_latent: int = 128
    linear_path: bool | None = None
    scaling: Literal["pareto", "standard"] = "pareto"
    generator: Literal["residual", "listing2", "bottleneck"] = "residual"
    generator_width: int = 256
    generator_depth: int = 4
    generator_dropout: float = 0.5
    views: Literal["mixup", "feature_swap", "mask", "noise", "thinning"] | None = None
    mixup_mode: Literal["line", "feature"] = "line"
    swap_rate: float = 0.2
    mask_rate: float = 0.2
    noise_scale: float = 0.3
    thinning_keep: float = 0.5
    n_neighbors: int = 15
    n_components: int = 50
    n_depth_strata: int = 5
    max_value: float = 10.0

    def settled(self, *, is_panel: bool, batched: bool = False) -> CellsConfig:
        """With what ``None`` stands for in such data; masks do not lead from batch to batch, mixtures do."""
        return dataclasses.replace(
            self,
            linear_path=is_panel if self.linear_path is None else self.linear_path,
            views=self.views or ("mask" if is_panel and not batched else "mixup"),
        )

    def __post_init__(self) -> None:
        check_fields(self)
        for name in (
            "n_semantic",
            "n_latent",
            "generator_width",
            "generator_depth",
            "n_neighbors",
            "n_components",
            "n_depth_strata",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` of at least 1, found {getattr(self, name)}.")
        if any(w < 1 for w in self.encoder_hidden):
            raise ValueError(f"Expected `encoder_hidden` of positive widths, found {self.encoder_hidden}.")
        for name in ("swap_rate", "mask_rate", "thinning_keep"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"Expected `{name}` in (0, 1], found {getattr(self, name)}.")
        if not 0 <= self.generator_dropout < 1:
            raise ValueError(f"Expected `generator_dropout` in [0, 1), found {self.generator_dropout}.")
        if not self.noise_scale > 0:
            raise ValueError(f"Expected `noise_scale` above 0, found {self.noise_scale}.")
        if not self.max_value > 0:
            raise ValueError(f"Expected `max_value` above 0, found {self.max_value}.")


def default_config() -> Config:
    """Settings that fit a laptop; ``docs/benchmarks`` has the table of what was tried."""
    return Config(domain=CellsConfig())


def paper_config() -> Config:
    """Settings of the paper's Table 11 for cells: A 330 -> B 330 -> A 340 epochs, batch 300, nu 1, full Listing 2.

    The soft loss is in its scale-free form: literally, it does not train (``docs/method.md``).
    """
    return Config(
        loss=LossConfig(name="soft", dof_semantic=1.0, dof_latent=1.0),
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
            view_rate=0.1,
            adapt_view_rate=False,
            input_dropout=0.0,
            n_encoders=1,
        ),
        domain=CellsConfig(
            linear_path=False,
            scaling="standard",
            views="mixup",
            generator="listing2",
            generator_width=2000,
            n_latent=2,
        ),
    )


PRESETS = {"default": default_config, "paper": paper_config}


def cell_neighbors(
    data: Tensor, k: int, n_components: int, batch: np.ndarray | None = None, seed: int = 0, *, overwrite: bool = False
) -> Tensor:
    """Neighbours of each cell on principal components, shape ``(n, k)``.

    With ``batch`` codes each cell gets as many neighbours from every batch as from its own (balanced neighbours, after
    Polanski et al. 2020), so that views lead from one batch to another. A batch with too few cells repeats them; a cell
    is never its own neighbour, not even where it is alone in its batch. With ``overwrite`` the data are centred in place,
    which saves a copy of them.
    """
    n, width = data.shape
    if width > n_components:
        q = min(n_components, n - 1)
        # Apple's devices lack the decomposition, and their random numbers are not seeded here.
        work = data.cpu() if data.device.type == "mps" else data
        work = work.sub_(work.mean(dim=0)) if overwrite else work - work.mean(dim=0)
        with seeded_init(seed, work.device):
            u, s, _ = torch.svd_lowrank(work, q=q, niter=4)
        data = (u * s).to(data.device)
    if batch is None:
        return _search(data, min(k, n - 1), None)
    codes = torch.as_tensor(np.array(batch), device=data.device)  # a copy, as the caller's may be read-only
    groups = [torch.nonzero(codes == c).flatten() for c in codes.unique()]
    per_batch = max(1, round(k / len(groups)))
    found = torch.empty(n, per_batch * len(groups), dtype=torch.long, device=data.device)
    for g, members in enumerate(groups):
        # One more than needed, so that a cell can be taken out of its own neighbours.
        near = members[_search(data, min(per_batch + 1, len(members)), data[members])]
        near, others = _own_last(near)
        columns = torch.arange(per_batch, device=data.device) % others.clamp_min(1)  # a batch smaller than that repeats
        found[:, g * per_batch : (g + 1) * per_batch] = near.gather(1, columns)
    own = found == torch.arange(n, device=data.device)[:, None]  # only of cells alone in their batch
    return torch.where(own, _own_last(found)[0][:, :1], found)


def _own_last(found: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of neighbours with the cell itself moved to the end, and how many others there are, shape ``(n, 1)``."""
    own = found == torch.arange(len(found), device=found.device)[:, None]
    return found.gather(1, own.long().argsort(dim=1, stable=True)), (~own).sum(dim=1, keepdim=True)


def _search(data: Tensor, k: int, reference: Tensor | None) -> Tensor:
    """Exact search on small sets, pynndescent on large ones."""
    if (data if reference is None else reference).shape[0] <= EXACT_NEIGHBORS_UP_TO:
        return nearest_neighbors(data, k, reference=reference)
    from pynndescent import NNDescent

    points = (data if reference is None else reference).cpu().numpy()
    if reference is None:
        near = NNDescent(points, n_neighbors=k + 1, random_state=0).neighbor_graph[0]
    else:
        near = NNDescent(points, n_neighbors=k, random_state=0).query(data.cpu().numpy(), k=k)[0]
    near = np.where(near < 0, near[:, :1], near)  # pynndescent says -1 where it found too few
    found = torch.as_tensor(near.astype(np.int64), device=data.device)
    # Of equal cells any may come first, so the cell itself is looked for and not assumed to.
    return found if reference is not None else _own_last(found)[0][:, :k]


@register
class CellsBackend(Backend):
    """Expression vectors, standardised per feature.

    The generator draws smooth values, while expression has a spike at zero and a skewed rest. So each feature's drawn
    values take, rank by rank, the training distribution of that feature (:meth:`from_generator`): the ranks, and with
    them the dependence between features and on the condition, are the generator's; the marginals are the data's. Where
    the data are logarithms of counts, which zeros and which values a cell can have depends on its depth, so the
    distributions are those of cells of a similar depth.

    Attributes
    ----------
    mean, std
        Of each feature in the training data, shape ``(n_features,)``; a constant feature has ``std`` 1.
    non_negative
        Whether no training value is negative: then zeros are special, and no output is negative.
    marginals
        Each feature's distribution on the scale of the input, and that of what is drawn on the generator's; in strata of
        depth where the data are log1p of scaled counts.
    """

    name = "cells"
    events = "cells"
    views_helped = "cells have few counts and their types run into each other"
    Settings = CellsConfig
    view_kinds = ("mixup", "feature_swap", "mask", "noise", "thinning")

    settings: CellsConfig
    mean: Tensor
    std: Tensor
    non_negative: Tensor

    def __init__(self, settings: CellsConfig, event_shape: tuple[int, ...]) -> None:
        super().__init__(settings, event_shape)
        n = self.n_features = event_shape[0]
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("std", torch.ones(n))
        self.register_buffer("non_negative", torch.zeros((), dtype=torch.bool))
        self.marginals = MarginalsByDepth(n, settings.n_depth_strata)

    @classmethod
    def preset(cls, name: str) -> Config:
        """``"default"`` or ``"paper"``."""
        if name not in PRESETS:
            raise ValueError(f"Expected a preset among {list(PRESETS)}, found {name!r}.")
        return PRESETS[name]()

    @classmethod
    def event_shape_of(cls, x: Any) -> tuple[int, ...]:
        """``(n_features,)``; raises ``TypeError`` or ``ValueError`` for what is no matrix of numbers."""
        if not isinstance(x, np.ndarray) and not (sp.issparse(x) and x.format in ("csr", "csc")):
            raise TypeError(f"Expected a numpy array or a scipy csr or csc matrix of cells, found {type(x).__name__}.")
        if x.dtype.kind not in "fiub":
            raise TypeError(f"Expected real numbers, found dtype {x.dtype}.")
        if x.ndim != 2 or x.shape[1] < 1:
            raise ValueError(f"Expected cells of shape (n_cells, n_features), found shape {x.shape}.")
        return (int(x.shape[1]),)

    def prepare(self, x: Any) -> None:
        """Learn each feature's mean, standard deviation and distribution, and the strata of depth."""
        _check_finite(x)
        n = x.shape[0]
        if sp.issparse(x):
            mean, std = _sparse_moments(x)
            lowest = float(x.data.min(initial=0))
        else:
            mean, std, lowest = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64), float(x.min())
        some = x[:: -(-n // _CELLS_FOR_LEVELS)]
        dense = torch.as_tensor(np.array(some.toarray() if sp.issparse(some) else some, dtype=np.float32))
        self.mean = torch.as_tensor(mean, dtype=torch.float32)
        self.std = torch.as_tensor(np.where(std > 1e-8, std, 1.0), dtype=torch.float32)
        self.non_negative = torch.tensor(lowest >= 0)
        self.marginals.learn(dense, zeros_apart=lowest >= 0)

    def to_model(self, x: Any) -> Tensor:
        """Standardise, float32, shape ``(n, n_features)``."""
        _check_finite(x)
        # A copy, as the user's matrix is never written to, and row by row, as products of other orders round differently.
        if sp.issparse(x):
            out = torch.as_tensor(np.asarray(x.toarray(order="C"), dtype=np.float32))
        else:
            out = torch.as_tensor(np.array(x, dtype=np.float32, order="C"))
        return out.sub_(self.mean.cpu()).div_(self.std.cpu())

    def from_model(self, v: Tensor) -> np.ndarray:
        """Back to the scale of the input; values of a non-negative input are cut at 0. Float32."""
        return self._unscaled(v).cpu().numpy()

    def _unscaled(self, v: Tensor) -> Tensor:
        mean, std = self.mean.to(v.device), self.std.to(v.device)
        x = torch.addcmul(mean, v, std)
        # Rounding leaves specks around zero; a true value is never so small beside its feature's spread.
        return torch.where(self.non_negative.to(v.device) & (x < 1e-5 * std), 0.0, x)

    def _scaled(self, x: Tensor) -> Tensor:
        return (x - self.mean.to(x)) / self.std.to(x)

    def to_generator(self, v: Tensor, generator: torch.Generator) -> Tensor:
        """Standardised values, clipped: one extreme value must not rule the generator's squared error."""
        return v.clamp(-self.settings.max_value, self.settings.max_value)

    def strata(self, v: Tensor) -> Tensor | None:
        """Stratum of depth of each cell, for :meth:`from_generator`; ``None`` where depths are not told apart."""
        if self.marginals.n_used == 1 or not len(v):
            return None
        # Of cells too shallow to tell it is taken to be as in training.
        if has_depths(self._unscaled(some_of(v))) is False:
            logger.warning(
                "the depths of these cells cannot be read, as their values are no log1p of scaled counts: what is drawn for "
                "them has the distributions of training cells of all depths"
            )
            return None
        return torch.cat([self.marginals.strata(self._unscaled(part)) for part in v.split(4096)])

    def calibrate(self, generated: Tensor, strata: Tensor | None = None) -> None:
        """Learn the distribution of each feature's drawn values, in each stratum too."""
        self.marginals.calibrate(generated, strata)

    def from_generator(self, g: Tensor, strata: Tensor | None = None) -> Tensor:
        """Standardised values: each feature's drawn values take, rank by rank, the training distribution."""
        return self._scaled(self.marginals.given_to(g, strata))

    def make_encoder(self) -> nn.Module:
        """The paper's MLP with a projection head, on panels with a linear path beside it."""
        s = self.settled()
        return MLPEncoder(
            self.n_features,
            s.encoder_hidden,
            s.n_semantic,
            s.n_latent,
            s.max_value,
            bool(s.linear_path),
            self._weights(),
        )

    def _weights(self) -> Tensor | None:
        """What makes of standardised features those of the settings' scaling, with a mean square of 1 over those that vary."""
        if self.settings.scaling == "standard":
            return None
        root = self.std.cpu().sqrt()  # as the weights of a new network are
        varies = root != 1  # a constant feature has a standard deviation of 1 and no value but 0
        mean = root[varies if varies.any() else slice(None)].square().mean().sqrt()
        return (root / mean).clamp_max(_WIDEST)

    def settled(self, *, batched: bool = False) -> CellsConfig:
        """The settings with the linear path and the views of data of this width, where they are left open."""
        return self.settings.settled(is_panel=self.n_features < PANEL_BELOW, batched=batched)

    @classmethod
    def settings_of_older(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Models of before there were other settings for panels, or another scaling, have those that all data had."""
        return {"linear_path": False, "views": "mixup", "scaling": "standard", **values}

    def make_denoiser(self, n_cond: int) -> nn.Module:
        """The generator's network named in the settings."""
        s = self.settings
        if s.generator == "listing2":
            return Listing2(self.n_features, n_cond, s.generator_width)
        if s.generator == "bottleneck":
            return BottleneckMLP(self.n_features, n_cond)
        return AdaptiveResidualMLP(self.n_features, n_cond, s.generator_width, s.generator_depth, s.generator_dropout)

    def hand_views(self, data: Tensor, *, kind: str | None = None, batch: np.ndarray | None = None) -> HandViews:
        """Neighbour mixup (paper, appendix), random feature swap, masked features, noise or thinned counts."""
        s = self.settings
        kind = self.settled(batched=batch is not None).views if kind is None else kind
        if kind == "feature_swap":
            return partial(feature_swap, data, rate=s.swap_rate)
        if kind == "mask":
            # Zero stands for no expression only where the feature has zeros: a protein far from zero would be an outlier there.
            hidden = torch.where(self.marginals.whole.zero_share > 0, -self.mean / self.std, 0.0)
            return partial(mask_features, data, rate=s.mask_rate, value=hidden.to(data))
        if kind == "noise":
            return partial(gaussian_noise, data, scale=s.noise_scale)
        if kind == "thinning":
            if not self.non_negative:
                raise ValueError(
                    "Expected log1p of normalised counts for views of kind 'thinning', found values below 0. "
                    "Use other views, or values from before they were scaled."
                )
            return thinned_views(data, self._unscaled, self._scaled, s.thinning_keep)
        if kind != "mixup":
            raise ValueError(f"Expected views of a kind in {list(self.view_kinds)}, found {kind!r}.")
        if len(data) < 2:
            raise ValueError(f"Expected at least 2 cells for mixup views, found {len(data)}.")
        weights = self._weights()
        seen = weighted(data, None if weights is None else weights.to(data), s.max_value)
        neighbors = cell_neighbors(seen, s.n_neighbors, s.n_components, batch, overwrite=True)
        return partial(_mixup, data, neighbors, s.mixup_mode)


def _check_finite(x: Any) -> None:
    """A sum is finite only if all values are, and needs no mask of the matrix's size."""
    values = x.data if sp.issparse(x) else x
    with np.errstate(all="ignore"):
        total = values.sum(dtype=np.float64)
    if not np.isfinite(total):
        n_bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"Expected finite values, found {n_bad} NaN or infinite. Filter or impute them first.")
    if values.dtype == np.float64 and np.abs(values).max(initial=0) > np.finfo(np.float32).max:
        raise ValueError("Expected values within the range of float32, found larger ones. Scale or log them first.")


def _sparse_moments(x: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, float64.

    Twice over the stored values: a sum in float32, or the mean square less the squared mean, would give a constant
    column a small standard deviation of rounding errors, and the division by it would blow them up.
    """
    x = sp.csr_matrix(x)
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    n, width = x.shape
    mean = np.bincount(x.indices, weights=x.data, minlength=width) / n
    n_stored = np.bincount(x.indices, minlength=width)
    square = np.bincount(x.indices, weights=(x.data - mean[x.indices]) ** 2, minlength=width)
    return mean, np.sqrt((square + (n - n_stored) * mean**2) / n)


def _mixup(
    data: Tensor, neighbors: Tensor, mode: Literal["line", "feature"], index: Tensor, generator: torch.Generator
) -> Tensor:
    return neighbor_mixup(data, index, neighbors, generator, mode)
