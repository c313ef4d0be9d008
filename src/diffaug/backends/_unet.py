"""The paper's denoiser for images (Listing 1): a small U-Net with self-attention."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffaug.core.networks import scale_condition, time_features

Attention = Literal["coarse", "limited", "full"]
#: Images of up to so many pixels a side may attend on every map, and the largest map that others attend on.
SMALL_IMAGE, LARGEST_MAP = 32, 16
_N_TIME = 256
_N_HEADS = 4


class DoubleConv(nn.Module):
    """Two 3 x 3 convolutions, each normalised over the whole image; with ``residual`` around the input."""

    def __init__(self, n_in: int, n_out: int, n_mid: int | None = None, *, residual: bool = False) -> None:
        super().__init__()
        n_mid = n_out if n_mid is None else n_mid
        self.residual = residual
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_mid, 3, padding=1, bias=False),
            nn.GroupNorm(1, n_mid),
            nn.GELU(),
            nn.Conv2d(n_mid, n_out, 3, padding=1, bias=False),
            nn.GroupNorm(1, n_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.body(x)) if self.residual else self.body(x)


class _Context(nn.Module):
    """Adds time and condition to every place of a map."""

    def __init__(self, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(_N_TIME, n_out)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return x + self.linear(F.silu(context))[:, :, None, None]


class Down(nn.Module):
    """Half the resolution, then convolutions."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.MaxPool2d(2), DoubleConv(n_in, n_in, residual=True), DoubleConv(n_in, n_out))
        self.context = _Context(n_out)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.context(self.convs(x), context)


class Up(nn.Module):
    """The resolution of the skipped map, joined with it, then convolutions."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(DoubleConv(n_in, n_in, residual=True), DoubleConv(n_in, n_out, n_in // 2))
        self.context = _Context(n_out)

    def forward(self, x: Tensor, skip: Tensor, context: Tensor) -> Tensor:
        # To the skipped map's own size and not twice the size, so that sides need not be multiples of eight.
        x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=True)
        return self.context(self.convs(torch.cat([skip, x], dim=1)), context)


class SelfAttention(nn.Module):
    """Every place of a map attends to all others (four heads), then a two-layer network; both around the input."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_channels)
        self.qkv = nn.Linear(n_channels, 3 * n_channels)
        self.out = nn.Linear(n_channels, n_channels)
        self.feed = nn.Sequential(
            nn.LayerNorm(n_channels), nn.Linear(n_channels, n_channels), nn.GELU(), nn.Linear(n_channels, n_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).reshape(n, -1, 3, _N_HEADS, c // _N_HEADS).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(tokens.shape)
        tokens = tokens + self.out(found)
        tokens = tokens + self.feed(tokens)
        return tokens.transpose(1, 2).reshape(n, c, height, width)


class UNet(nn.Module):
    """Listing 1 of the paper, with its condition: widths 16, 32, 64 and 64, down to an eighth of the resolution and back.

    The listing has no condition; here it is added to the sinusoidal time embedding through a linear layer, as the label
    embedding of conditional U-Nets is. Time and condition enter after every change of resolution, and self-attention
    follows each.

    Parameters
    ----------
    n_channels
        Channels of the images.
    n_cond
        Width of the condition.
    width
        Channels at full resolution, a multiple of the four attention heads; the deeper maps have two and four times as
        many.
    image_size
        Height and width of the images; they decide where there is attention.
    attention
        ``"full"`` attends on every map, as the listing. ``"limited"`` does the same for images of up to 32 pixels, and for
        larger ones only on maps of at most 16 x 16: time and memory of attention grow with the fourth power of the side.
        ``"coarse"`` keeps to those maps whatever the size of the images; at 32 pixels that takes a third of the time.
    """

    def __init__(
        self,
        n_channels: int,
        n_cond: int,
        width: int = 16,
        *,
        image_size: tuple[int, int],
        attention: Attention = "limited",
    ) -> None:
        super().__init__()
        if width < _N_HEADS or width % _N_HEADS:
            raise ValueError(f"Expected `width` to be a multiple of {_N_HEADS} (attention heads), found {width}.")
        largest = max(image_size)

        def attend(n: int, halvings: int) -> nn.Module:
            everywhere = attention == "full" or (attention == "limited" and largest <= SMALL_IMAGE)
            return SelfAttention(n) if everywhere or largest >> halvings <= LARGEST_MAP else nn.Identity()

        w1, w2, w4, w8 = width, 2 * width, 4 * width, 8 * width
        self.cond = nn.Linear(n_cond, _N_TIME)
        self.inp = DoubleConv(n_channels, w1)
        self.downs = nn.ModuleList([Down(w1, w2), Down(w2, w4), Down(w4, w4)])
        self.down_attention = nn.ModuleList([attend(w2, 1), attend(w4, 2), attend(w4, 3)])
        self.bottom = nn.Sequential(DoubleConv(w4, w8), DoubleConv(w8, w8), DoubleConv(w8, w4))
        self.ups = nn.ModuleList([Up(w4 + w4, w2), Up(w2 + w2, w1), Up(w1 + w1, w1)])
        self.up_attention = nn.ModuleList([attend(w2, 2), attend(w1, 1), attend(w1, 0)])
        self.out = nn.Conv2d(w1, n_channels, 1)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Prediction for ``x_t`` of shape ``(batch, n_channels, height, width)``."""
        context = time_features(t, _N_TIME) + self.cond(scale_condition(cond))
        h = self.inp(x_t)
        skips = []
        for down, attention in zip(self.downs, self.down_attention, strict=True):
            skips.append(h)
            h = attention(down(h, context))
        h = self.bottom(h)
        for up, attention in zip(self.ups, self.up_attention, strict=True):
            h = attention(up(h, skips.pop(), context))
        return self.out(h)
