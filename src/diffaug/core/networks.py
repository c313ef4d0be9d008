"""Networks on vectors: the encoder and the denoisers.

They take any flat vector; what the vector means is a backend's business.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: Width of the time embedding of each feature's own path in :class:`AdaptiveResidualMLP`.
_N_PATH = 32
#: Conditions of fewer numbers are not layer-normalised.
_NARROW = 8


class Encoding(NamedTuple):
    """What an encoder returns: ``semantic`` y, shape ``(batch, n_semantic)``, and ``latent`` z, ``(batch, n_latent)``."""

    semantic: Tensor
    latent: Tensor


class MLPEncoder(nn.Module):
    """The paper's encoder for vectors, ``[-1, 500, 300, 80]``, with a projection head.

    Parameters
    ----------
    n_features
        Width of the input.
    hidden
        Widths of the hidden layers, each followed by batch normalisation and a leaky ReLU.
    n_semantic
        Width of the semantic vector y.
    n_latent
        Width of the latent vector z, the head's output.
    max_value
        Inputs, weighted, are clipped to plus or minus this, so that a single outlying feature cannot rule a layer.
    linear_path
        Add a linear map of the input to y, at first an orthogonal one, so that y keeps what the contrast between events
        would give up.
    weights
        What each feature is multiplied by first, shape ``(n_features,)``; ``None`` leaves all as they are.
    """

    weights: Tensor | None

    def __init__(
        self,
        n_features: int,
        hidden: tuple[int, ...] = (500, 300),
        n_semantic: int = 80,
        n_latent: int = 128,
        max_value: float = 10.0,
        linear_path: bool = False,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.max_value = max_value
        self.register_buffer("weights", weights)
        layers: list[nn.Module] = []
        width = n_features
        for w in hidden:
            layers += [nn.Linear(width, w), nn.BatchNorm1d(w), nn.LeakyReLU(0.1)]
            width = w
        self.body = nn.Sequential(*layers, nn.Linear(width, n_semantic))
        self.head = nn.Sequential(
            nn.Linear(n_semantic, n_semantic), nn.BatchNorm1d(n_semantic), nn.ReLU(), nn.Linear(n_semantic, n_latent)
        )
        self.path: nn.Linear | None = None
        if linear_path:
            self.path = nn.Linear(n_features, n_semantic, bias=False)
            nn.init.orthogonal_(self.path.weight)

    def forward(self, x: Tensor) -> Encoding:
        """Encode ``x`` of shape ``(batch, n_features)``."""
        x = weighted(x, self.weights, self.max_value)
        semantic = self.body(x)
        if self.path is not None:
            semantic = semantic + self.path(x)
        return Encoding(semantic, self.head(semantic))


def weighted(x: Tensor, weights: Tensor | None, max_value: float) -> Tensor:
    """Features multiplied by their weights, where there are any, and clipped to plus or minus ``max_value``."""
    # In place where the product is new: no second copy of all features.
    return x.clamp(-max_value, max_value) if weights is None else (x * weights).clamp_(-max_value, max_value)


def time_features(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal features of times ``(batch,)``, shape ``(batch, dim)`` with even ``dim`` (Vaswani et al. 2017)."""
    frequency = torch.exp(-math.log(10_000) * torch.arange(dim // 2, device=t.device, dtype=torch.float32) / (dim // 2))
    angle = t.to(torch.float32)[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class _TimeEmbedding(nn.Module):
    """Sinusoidal features followed by a two-layer MLP."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.dim = dim
        self.mlp = nn.Sequential(nn.Linear(dim, out), nn.SiLU(), nn.Linear(out, out))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(time_features(t, self.dim))


def scale_condition(cond: Tensor) -> Tensor:
    """Give the condition a fixed scale for the denoiser; the zero vector stays zero.

    Wide conditions are layer-normalised. Of a narrow one that would leave next to nothing (of two numbers, which is the
    larger), so the inverse hyperbolic sine tames its scale number by number.
    """
    if cond.shape[-1] < _NARROW:
        return torch.asinh(cond)
    return nn.functional.layer_norm(cond, cond.shape[-1:])


class AdaptiveResidualMLP(nn.Module):
    r"""Residual MLP denoiser with adaptive layer norm and a spike-and-slab head (the default).

    Each block scales, shifts and gates its update by a function of time and condition, and starts as the identity (after
    Peebles & Xie 2023, section 3.2). The function is one for all blocks plus an offset of each (after Chen et al. 2023).

    The stream of ``width`` numbers cannot carry the noise of thousands of features, so the head gives every feature its
    own path around it, :math:`o + a(t)\,\sigma(e^{b(t)}\,x_t + c) + d(t)\,x_t` with o and c from the stream: the exact
    form of the posterior mean of a feature that is either a spike or a narrow slab (there or not) seen in noise.

    Parameters
    ----------
    n_features
        Width of the event.
    n_cond
        Width of the condition.
    width, depth
        Width of the residual stream and number of blocks.
    dropout
        Share of each block's hidden units, and of the embedded condition, that a training step leaves out: what keeps the
        network from learning small sets by heart.
    """

    def __init__(self, n_features: int, n_cond: int, width: int = 256, depth: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.time = _TimeEmbedding(128, width)
        self.cond = nn.Sequential(nn.Linear(n_cond, width), nn.SiLU(), nn.Linear(width, width), nn.Dropout(dropout))
        self.inp = nn.Linear(n_features, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * width, width))
            for _ in range(depth)
        )
        self.modulate = nn.Linear(width, 3 * width)
        self.offset = nn.Parameter(torch.zeros(depth, 3 * width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, 2 * n_features)
        self.path = nn.Linear(_N_PATH, 3 * n_features)
        for layer in (self.modulate, self.out, self.path):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.path_time = _TimeEmbedding(128, _N_PATH)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Prediction for ``x_t`` of shape ``(batch, n_features)``."""
        modulation = self.modulate(nn.functional.silu(self.time(t) + self.cond(scale_condition(cond))))
        h = self.inp(x_t)
        for block, offset in zip(self.blocks, self.offset, strict=True):
            shift, scale, gate = (modulation + offset).chunk(3, dim=1)
            h = h + gate * block(self.norm(h) * (1 + scale) + shift)
        o, c = self.out(self.norm(h)).chunk(2, dim=1)
        a, b, d = self.path(nn.functional.silu(self.path_time(t))).chunk(3, dim=1)
        return o + a * torch.sigmoid(b.clamp_max(8.0).exp() * x_t + c) + d * x_t


class Listing2(nn.Module):
    """The paper's denoiser for vectors (Listing 2), repaired.

    Eight residual blocks ``n_features -> width -> n_features`` in a U: the output of block i is added to the input of
    block 9 - i. Every block sees time and condition added to its input. Repairs: ``InstanceNorm1d`` on a flat input is
    layer normalisation without weights, so it is written as such; time is embedded with and without a condition; the
    condition passes through an MLP ``n_cond -> 200 -> 200 -> n_features``, which the listing uses but never defines.
    """

    def __init__(self, n_features: int, n_cond: int, width: int = 2000) -> None:
        super().__init__()
        self.time = _TimeEmbedding(128, n_features)
        self.cond = nn.Sequential(
            nn.Linear(n_cond, 200), nn.SiLU(), nn.Linear(200, 200), nn.SiLU(), nn.Linear(200, n_features)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(n_features, width),
                nn.LayerNorm(width, elementwise_affine=False),
                nn.LeakyReLU(0.1),
                nn.Linear(width, n_features),
            )
            for _ in range(8)
        )
        self.out = nn.Linear(n_features, n_features)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Prediction for ``x_t`` of shape ``(batch, n_features)``."""
        context = self.time(t) + self.cond(scale_condition(cond))
        h, skips = x_t, list[Tensor]()
        for i, block in enumerate(self.blocks):
            if i >= 4:
                h = h + skips.pop()
            h = h + block(h + context)
            if i < 4:
                skips.append(h)
        return self.out(h)


class BottleneckMLP(nn.Module):
    """The first version's denoiser (arXiv 2309.07909), an MLP ``[-1, 500, 80, 500, -1]``.

    Time and condition are embedded and added before each hidden activation.
    """

    def __init__(self, n_features: int, n_cond: int, hidden: tuple[int, ...] = (500, 80, 500)) -> None:
        super().__init__()
        widths = (n_features, *hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.time = nn.ModuleList(_TimeEmbedding(128, w) for w in hidden)
        self.cond = nn.ModuleList(nn.Linear(n_cond, w) for w in hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(w) for w in hidden)
        self.out = nn.Linear(hidden[-1], n_features)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Prediction for ``x_t`` of shape ``(batch, n_features)``."""
        cond, h = scale_condition(cond), x_t
        for layer, time, embed, norm in zip(self.layers, self.time, self.cond, self.norms, strict=True):
            h = nn.functional.silu(norm(layer(h) + time(t) + embed(cond)))
        return self.out(h)
