"""Hyena on DNA: long convolutions whose filters a small network writes (Poli et al. 2023; HyenaDNA, Nguyen et al. 2023)."""

from __future__ import annotations

import math

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn

from diffaug.core.networks import Encoding

#: Rows of HyenaDNA's table of tokens: 12 characters, padded to a multiple of 8.
N_TOKENS = 16
#: Rows of the table that hold A, C, G and T, one after the other.
BASE_TOKENS = (7, 8, 9, 10)
#: Positions that go through the network at once where no gradient is kept: the memory of an evaluation.
_POSITIONS_AT_ONCE = 2**16


def occupied(x: Tensor) -> Tensor:
    """Which positions belong to each sequence: all up to the last one with a letter, bool, shape ``(batch, length)``.

    A hidden base (all channels zero) inside of a sequence counts; padding after its end does not.
    """
    return (x != 0).any(dim=1).flip(1).cumsum(dim=1).flip(1) > 0


def causal_convolution(u: Tensor, filters: Tensor) -> Tensor:
    """Convolve each channel of ``u``, shape ``(batch, width, length)``, with its filter, shape ``(width, length)``.

    By FFT: twice the length at least, so that nothing wraps around, rounded up to a size of small prime factors. Twice a
    prime length (2 x 251, say) is several times slower.
    """
    length = u.shape[-1]
    size = next_fast_len(2 * length - 1, real=True)
    spectrum = torch.fft.rfft(u.float(), n=size) * torch.fft.rfft(filters.float(), n=size)
    return torch.fft.irfft(spectrum, n=size)[..., :length].to(u.dtype)


class ImplicitFilter(nn.Module):
    """Filters as a function of the position: an MLP 5-64-64-64-width with sine activations, under a decaying window.

    Parameters
    ----------
    width
        Number of filters.
    max_length
        Length of the longest sequence; positions are measured in it.
    hidden
        Width of the MLP.
    frequency
        Start value of the factor inside of the sines, which is learnt.
    """

    features: Tensor
    window: Tensor

    def __init__(self, width: int, max_length: int, hidden: int = 64, frequency: float = 10.0) -> None:
        super().__init__()
        share = torch.linspace(0, 1, max_length)
        angle = 2 * math.pi * torch.arange(max_length) / max_length
        bands = torch.tensor([1e-4, 1.0])[:, None] * angle
        self.register_buffer("features", torch.cat([share[None], bands.cos(), -bands.sin()]).T, persistent=False)
        # Channel by channel, a hundredth is left after 1.5 .. 0.3 times the longest sequence; the floor of 0.05 keeps
        # far positions in reach.
        decay = -math.log(0.01) * torch.linspace(1 / 1.5, 1 / 0.3, width)
        self.register_buffer("window", torch.exp(-share[:, None] * decay) + 0.05, persistent=False)
        self.layers = nn.ModuleList(nn.Linear(i, hidden) for i in (5, hidden, hidden))
        self.out = nn.Linear(hidden, width, bias=False)
        self.frequency = nn.Parameter(torch.full((hidden,), frequency))
        self.skip = nn.Parameter(torch.randn(width))

    def forward(self, length: int) -> Tensor:
        """Filters over the first ``length`` positions, shape ``(width, length)``."""
        h = self.features[:length]
        for layer in self.layers:
            h = torch.sin(self.frequency * layer(h))
        return (self.out(h) * self.window[:length]).T


class HyenaMixer(nn.Module):
    """Order-2 Hyena operator: ``x0 * (h conv (x1 * v))``, the three from one projection with a short convolution."""

    def __init__(self, width: int, max_length: int, filter_width: int) -> None:
        super().__init__()
        self.project_in = nn.Linear(width, 3 * width)
        self.short = nn.Conv1d(3 * width, 3 * width, 3, padding=2, groups=3 * width)  # of which the past is kept
        self.filter = ImplicitFilter(width, max_length, filter_width)
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix positions of ``x``, shape ``(batch, length, width)``; no position sees a later one."""
        length = x.shape[1]
        x0, x1, v = self.short(self.project_in(x).transpose(1, 2))[..., :length].chunk(3, dim=1)
        u = x1 * v
        y = causal_convolution(u, self.filter(length)) + self.filter.skip[:, None] * u
        # Contiguous, as else the order of the sums depends on whether a weight wants a gradient: a loaded model would
        # differ from the fitted one in the last bit.
        return self.project_out((x0 * y).transpose(1, 2).contiguous())


class HyenaBlock(nn.Module):
    """Mixer and MLP, each behind a layer norm and around a residual stream."""

    def __init__(self, width: int, max_length: int, filter_width: int) -> None:
        super().__init__()
        self.norm_mixer, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixer = HyenaMixer(width, max_length, filter_width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out, ``(batch, length, width)``."""
        x = x + self.mixer(self.norm_mixer(x))
        return x + self.mlp(self.norm_mlp(x))


class HyenaBackbone(nn.Module):
    """HyenaDNA without its language-model head; the defaults are those of HyenaDNA-tiny, 436,096 parameters.

    They are 2,048 of the table of tokens, 216,896 of each block and 256 of the last norm. Positions and windows of the
    filters are constants. There is no dropout: it would draw from the global random state.

    Parameters
    ----------
    max_length
        Length of the longest sequence.
    width, depth
        Width of the residual stream and number of blocks.
    filter_width
        Width of the MLP that writes the filters.
    """

    def __init__(self, max_length: int, width: int = 128, depth: int = 2, filter_width: int = 64) -> None:
        super().__init__()
        self.max_length = max_length
        self.embedding = nn.Parameter(torch.empty(N_TOKENS, width))
        self.blocks = nn.ModuleList(HyenaBlock(width, max_length, filter_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self._initialise()

    def _initialise(self) -> None:
        """GPT-2's: normal of 0.02, less where a block adds to the residual stream."""
        nn.init.normal_(self.embedding, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, weight in self.blocks.named_parameters():
            if name.endswith(("mixer.project_out.weight", "mlp.2.weight")):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * len(self.blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """States of every position, shape ``(batch, length, width)``.

        Parameters
        ----------
        x
            Soft one-hot sequences: weights of A, C, G, T, shape ``(batch, 4, length)``, or of all tokens,
            ``(batch, 16, length)``. A base's embedding is a matrix product, so mixtures and gradients pass through.
        """
        if x.shape[-1] > self.max_length:
            raise ValueError(f"Expected sequences of at most {self.max_length} positions, found {x.shape[-1]}.")
        if x.shape[1] not in (len(BASE_TOKENS), N_TOKENS):
            raise ValueError(f"Expected 4 bases or {N_TOKENS} tokens in dimension 1, found {x.shape[1]}.")
        table = self.embedding if x.shape[1] == N_TOKENS else self.embedding[BASE_TOKENS[0] : BASE_TOKENS[-1] + 1]
        h = x.transpose(1, 2).contiguous() @ table
        for block in self.blocks:
            h = block(h)
        return self.norm(h)


class HyenaEncoder(nn.Module):
    """:class:`HyenaBackbone`, averaged over the positions of each sequence, with a projection head.

    The network is causal and padding comes last, so padding changes nothing.

    Parameters
    ----------
    max_length
        Length of the longest sequence.
    n_semantic
        Width of the backbone and of the semantic vector y.
    n_latent
        Width of the latent vector z.
    depth, filter_width
        See :class:`HyenaBackbone`.
    """

    def __init__(
        self, max_length: int, n_semantic: int = 128, n_latent: int = 128, depth: int = 2, filter_width: int = 64
    ) -> None:
        super().__init__()
        self.backbone = HyenaBackbone(max_length, n_semantic, depth, filter_width)
        self.head = nn.Sequential(
            nn.Linear(n_semantic, n_semantic), nn.BatchNorm1d(n_semantic), nn.ReLU(), nn.Linear(n_semantic, n_latent)
        )

    def pooled(self, x: Tensor) -> Tensor:
        """Mean state over the positions of each sequence, shape ``(batch, n_semantic)``."""
        weight = occupied(x)[..., None].to(x.dtype)
        return (self.backbone(x) * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)

    def forward(self, x: Tensor) -> Encoding:
        """Encode soft one-hot sequences, shape ``(batch, 4, length)``."""
        if torch.is_grad_enabled():
            semantic = self.pooled(x)
        else:
            semantic = torch.cat([self.pooled(part) for part in x.split(max(1, _POSITIONS_AT_ONCE // x.shape[-1]))])
        return Encoding(semantic, self.head(semantic))
