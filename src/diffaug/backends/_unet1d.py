"""The paper's attention U-Net (Listing 1) along one axis, for sequences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffaug.core.networks import scale_condition, time_features

_N_TIME = 256
_N_POSITION = 16
_HEADS = 4
#: Positions that go through the network at once where no gradient is kept: the memory of sampling.
_POSITIONS_AT_ONCE = 2**18


def position_features(length: int, device: torch.device) -> Tensor:
    """Sines and cosines of the position, wavelengths 4 .. 4 x 4^7 bases, shape ``(16, length)``."""
    wavelength = 4.0 ** torch.arange(1, _N_POSITION // 2 + 1, device=device)
    angle = 2 * torch.pi * torch.arange(length, device=device) / wavelength[:, None]
    return torch.cat([angle.sin(), angle.cos()])


class DoubleConv(nn.Module):
    """Two convolutions with normalisation; with ``residual`` they are added to the input."""

    def __init__(self, n_in: int, n_out: int, n_mid: int | None = None, *, residual: bool = False) -> None:
        super().__init__()
        n_mid = n_out if n_mid is None else n_mid
        self.residual = residual
        self.layers = nn.Sequential(
            nn.Conv1d(n_in, n_mid, 3, padding=1, bias=False),
            nn.GroupNorm(1, n_mid),
            nn.GELU(),
            nn.Conv1d(n_mid, n_out, 3, padding=1, bias=False),
            nn.GroupNorm(1, n_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same length in and out."""
        return F.gelu(x + self.layers(x)) if self.residual else self.layers(x)


class Down(nn.Module):
    """Halve the length, convolve, add the embedding of time and condition."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(DoubleConv(n_in, n_in, residual=True), DoubleConv(n_in, n_out))
        self.embed = nn.Sequential(nn.SiLU(), nn.Linear(_N_TIME, n_out))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """From ``(batch, n_in, length)`` to ``(batch, n_out, length / 2)``."""
        return self.conv(F.max_pool1d(x, 2)) + self.embed(context)[:, :, None]


class Up(nn.Module):
    """Double the length, join the skip connection, convolve, add the embedding of time and condition."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(DoubleConv(n_in, n_in, residual=True), DoubleConv(n_in, n_out, n_in // 2))
        self.embed = nn.Sequential(nn.SiLU(), nn.Linear(_N_TIME, n_out))

    def forward(self, x: Tensor, skip: Tensor, context: Tensor) -> Tensor:
        """``n_in`` counts the channels of ``x`` and ``skip`` together."""
        x = F.interpolate(x, scale_factor=2.0, mode="linear", align_corners=True)
        return self.conv(torch.cat([skip, x], dim=1)) + self.embed(context)[:, :, None]


class SelfAttention(nn.Module):
    """Attention over the positions of a map, and an MLP, both around the residual stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, _HEADS, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out, ``(batch, width, length)``."""
        x = x.transpose(1, 2)
        h = self.norm(x)
        h = x + self.attention(h, h, h, need_weights=False)[0]
        return (h + self.mlp(h)).transpose(1, 2)


class UNet1d(nn.Module):
    """Denoiser of sequences: three times down to an eighth of the length, and up again.

    Added to Listing 1: the condition, in the embedding of the time; a code of the position in the input, as convolutions
    see none and the data have some (the centre of a splice site); and a path of each channel around the network, with a
    weight that depends on the time, as a few normalised channels do not carry the exact input. Lengths are filled up to
    a multiple of eight inside.

    Parameters
    ----------
    n_channels
        Channels of an event.
    n_cond
        Width of the condition.
    widths
        Channels at full, half, fourth and eighth length; multiples of 4.
    attention_up_to
        Attention works on maps of at most so many positions: its cost grows with their square. ``None`` for all maps
        but the full-length one, as in Listing 1.
    """

    def __init__(
        self,
        n_channels: int,
        n_cond: int,
        widths: tuple[int, ...] = (16, 32, 64, 64),
        attention_up_to: int | None = 128,
    ) -> None:
        super().__init__()
        a, b, c, d = widths
        self.attention_up_to = attention_up_to
        self.cond = nn.Linear(n_cond, _N_TIME)
        self.inp = DoubleConv(n_channels + _N_POSITION, a)
        self.down = nn.ModuleList([Down(a, b), Down(b, c), Down(c, d)])
        self.down_attention = nn.ModuleList(SelfAttention(w) for w in (b, c, d))
        self.middle = nn.Sequential(DoubleConv(d, 2 * d), DoubleConv(2 * d, 2 * d), DoubleConv(2 * d, d))
        self.up = nn.ModuleList([Up(d + c, b), Up(b + b, a), Up(a + a, a)])
        self.up_attention = nn.ModuleList(SelfAttention(w) for w in (b, a))
        self.out = nn.Conv1d(a, n_channels, 1)
        self.path = nn.Linear(_N_TIME, n_channels)
        nn.init.zeros_(self.path.weight)
        nn.init.ones_(self.path.bias)

    def _attend(self, attention: nn.Module, x: Tensor) -> Tensor:
        return attention(x) if self.attention_up_to is None or x.shape[-1] <= self.attention_up_to else x

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Prediction for ``x_t`` of shape ``(batch, n_channels, length)``."""
        time = time_features(t, _N_TIME)
        context = time + self.cond(scale_condition(cond))
        if torch.is_grad_enabled():
            out = self._predict(x_t, context)
        else:
            rows = max(1, _POSITIONS_AT_ONCE // x_t.shape[-1])
            parts = zip(x_t.split(rows), context.expand(len(x_t), -1).split(rows), strict=True)
            out = torch.cat([self._predict(x, c) for x, c in parts])
        return out + self.path(time)[:, :, None] * x_t

    def _predict(self, x_t: Tensor, context: Tensor) -> Tensor:
        length = x_t.shape[-1]
        x = F.pad(x_t, (0, -length % 8))
        position = position_features(x.shape[-1], x.device).to(x.dtype).expand(len(x), -1, -1)
        h = self.inp(torch.cat([x, position], dim=1))
        skips = []
        for down, attention in zip(self.down, self.down_attention, strict=True):
            skips.append(h)
            h = self._attend(attention, down(h, context))
        h = self.middle(h)
        for i, up in enumerate(self.up):
            h = up(h, skips.pop(), context)
            if i < len(self.up_attention):
                h = self._attend(self.up_attention[i], h)
        return self.out(h)[..., :length]
