"""Images: arrays of pixels, grey or with channels last."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from diffaug.backends import register
from diffaug.backends._base import Backend
from diffaug.backends._images import alter_colors, crop_and_flip, from_planes, kornia_views, random_mixup, to_planes
from diffaug.backends._resnet import ResNet, ResNetName
from diffaug.backends._unet import Attention, UNet
from diffaug.core.arguments import check_real_array
from diffaug.core.config import Config, DiffusionConfig, LossConfig, TrainingConfig, check_fields
from diffaug.core.networks import Encoding
from diffaug.core.views import HandViews

logger = logging.getLogger(__name__)

#: The networks halve the resolution three times.
MIN_SIDE = 8
#: Images of more pixels a side get the ImageNet stem by default.
SMALL_STEM_UP_TO = 64
#: Share of the range of the training values by which new images may leave it, as resizing makes values overshoot.
_SLACK = 0.1
_AT_ONCE = 4096


@dataclass(frozen=True)
class VisionConfig:
    """Settings of the vision backend.

    Parameters
    ----------
    encoder, encoder_width, stem
        The encoder; see :class:`diffaug.vision.ResNet`. With the stem ``"auto"``, images of up to 64 pixels a side get the
        small one.
    n_semantic
        Width of the semantic vector: that of a linear layer on the pooled features, or ``None`` for these themselves.
    n_latent
        Width of the latent vector, the projection head's output.
    generator_width, attention
        Channels of the U-Net at full resolution, and where it attends: see :class:`diffaug.backends._unet.UNet`.
    views
        Hand-made views: ``"standard"`` (crop, flip, colour jitter, grey, blur, solarisation), ``"crop"`` (crop and flip
        alone) or ``"mixup"`` with a random other image.
    crop_scale
        Least share of the image's area that a crop keeps.
    flip_rate, jitter_rate, gray_rate, blur_rate, solarize_rate
        How often a view is mirrored, jittered and so on. Set ``flip_rate`` to 0 where left and right differ in meaning, as
        in digits. Images of one channel are neither greyed nor changed in hue.
    jitter_strength
        1 changes brightness, contrast and saturation by up to 0.4 and the hue by 0.1.
    """

    encoder: ResNetName = "resnet18"
    encoder_width: float = 0.25
    stem: Literal["auto", "small", "imagenet"] = "auto"
    n_semantic: int | None = None
    n_latent: int = 128
    generator_width: int = 16
    attention: Attention = "coarse"
    views: Literal["standard", "crop", "mixup"] = "standard"
    crop_scale: float = 0.2
    flip_rate: float = 0.5
    jitter_rate: float = 0.8
    jitter_strength: float = 1.0
    gray_rate: float = 0.2
    blur_rate: float = 0.2
    solarize_rate: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.encoder_width > 0:
            raise ValueError(f"Expected `encoder_width` above 0, found {self.encoder_width}.")
        if self.n_semantic is not None and self.n_semantic < 1:
            raise ValueError(f"Expected `n_semantic` of at least 1 or None, found {self.n_semantic}.")
        if self.n_latent < 1:
            raise ValueError(f"Expected `n_latent` of at least 1, found {self.n_latent}.")
        if self.generator_width < 4 or self.generator_width % 4:
            raise ValueError(f"Expected `generator_width` to be a multiple of 4, found {self.generator_width}.")
        if not 0 < self.crop_scale <= 1:
            raise ValueError(f"Expected `crop_scale` in (0, 1], found {self.crop_scale}.")
        for name in ("flip_rate", "jitter_rate", "gray_rate", "blur_rate", "solarize_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Expected `{name}` in [0, 1], found {getattr(self, name)}.")
        if self.jitter_strength < 0:
            raise ValueError(f"Expected `jitter_strength` of at least 0, found {self.jitter_strength}.")


def default_config() -> Config:
    """Settings for small images on a laptop: a quarter of ResNet-18's width, and the number of steps from the data.

    Without a GPU a step of the encoder on 128 images of 32 pixels takes a second or two, so that A has no more than about
    a thousand. B has as many images as in a thousand such steps, in small batches, and predicts the clean image: a short
    training on velocity or noise leaves noise in photographs. Lambda is .2: one in five positives is generated, where the
    paper has one in ten, and where all of them were, the encoder lost (entry 20 of ``docs/experiments.md``).
    """
    return Config(
        diffusion=DiffusionConfig(prediction_type="x0", clip_x0=1.0),
        training=TrainingConfig(
            n_encoders=1,
            input_dropout=0.0,
            batch_size=128,
            generator_batch_size=16,
            generator_steps=8000,
            max_steps=1000,
            view_rate=0.2,
        ),
        domain=VisionConfig(),
    )


def paper_config() -> Config:
    """The paper's settings for images: ResNet-18, A 200 -> B 400 -> A 800 epochs, batch 256, learning rate 1e-3.

    Nu (``dof_latent``) is 1, its value for CIFAR-10; ``docs/vision.md`` has those of the other sets. The soft loss is in
    its scale-free form: literally, it does not train (``docs/method.md``).
    """
    return Config(
        loss=LossConfig(name="soft", dof_semantic=1.0, dof_latent=1.0),
        diffusion=DiffusionConfig(prediction_type="epsilon", clip_x0=1.0),
        training=TrainingConfig(
            n_encoders=1,
            warmup_epochs=200,
            generator_epochs=400,
            mixed_epochs=800,
            batch_size=256,
            encoder_lr=1e-3,
            generator_lr=1e-3,
            weight_decay=1e-6,
            lr_schedule="constant",
            view_rate=0.1,
            adapt_view_rate=False,
            input_dropout=0.0,
        ),
        domain=VisionConfig(encoder_width=1.0, attention="limited"),
    )


PRESETS = {"default": default_config, "paper": paper_config}


class ImageEncoder(nn.Module):
    """Residual network with a projection head on events ``(batch, height, width[, channels])``.

    ``backbone`` has torchvision's parameter names.
    """

    def __init__(self, backbone: ResNet, n_semantic: int, n_latent: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Linear(n_semantic, n_semantic), nn.BatchNorm1d(n_semantic), nn.ReLU(), nn.Linear(n_semantic, n_latent)
        )

    def forward(self, x: Tensor) -> Encoding:
        """Encode ``x``."""
        semantic = self.backbone(to_planes(x))
        return Encoding(semantic, self.head(semantic))


class ImageDenoiser(nn.Module):
    """U-Net on events ``(batch, height, width[, channels])``."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Prediction for ``x_t``."""
        return from_planes(self.unet(to_planes(x_t), t, cond), x_t.ndim)


@register
class VisionBackend(Backend):
    """Images scaled to [-1, 1]; what comes back has the range, the steps and (for bytes) the type of the input.

    Attributes
    ----------
    low, high
        Range of the training values: 0 and 255, 0 and 1, or -1 and 1 where they fit, else what was found.
    step
        Distance of two levels: 1 where all training values are whole numbers, else a 255th of the range.
    is_bytes
        Whether the input is of type uint8; the output then is.
    """

    name = "vision"
    events = "images"
    Settings = VisionConfig
    view_kinds = ("standard", "crop", "mixup")

    settings: VisionConfig
    low: Tensor
    high: Tensor
    step: Tensor
    is_bytes: Tensor

    def __init__(self, settings: VisionConfig, event_shape: tuple[int, ...]) -> None:
        super().__init__(settings, event_shape)
        self.size = (event_shape[0], event_shape[1])
        self.n_channels = event_shape[2] if len(event_shape) == 3 else 1
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(255.0))
        self.register_buffer("step", torch.tensor(0.0))  # nothing is known before `prepare`
        self.register_buffer("is_bytes", torch.tensor(False))

    @classmethod
    def preset(cls, name: str) -> Config:
        """``"default"`` or ``"paper"``."""
        if name not in PRESETS:
            raise ValueError(f"Expected a preset among {list(PRESETS)}, found {name!r}.")
        return PRESETS[name]()

    @classmethod
    def event_shape_of(cls, x: Any) -> tuple[int, ...]:
        """``(height, width)`` or ``(height, width, channels)``; raises ``TypeError`` or ``ValueError`` for what is no image."""
        check_real_array("images", "pixels", x)
        if x.ndim not in (3, 4) or 0 in x.shape[1:]:
            raise ValueError(
                f"Expected images of shape (n, height, width) or (n, height, width, channels), found shape {x.shape}."
            )
        if x.ndim == 4 and x.shape[1] in (1, 3, 4) and min(x.shape[2:]) >= MIN_SIDE:
            raise ValueError(
                f"Expected images of shape (n, height, width, channels), found shape {x.shape} with the channels in front. "
                "Use np.moveaxis(x, 1, -1)."
            )
        return tuple(map(int, x.shape[1:]))

    def prepare(self, x: Any) -> None:
        """Find the range of the values, their steps and their type."""
        if min(self.size) < MIN_SIDE:
            raise ValueError(
                f"Expected images of at least {MIN_SIDE} x {MIN_SIDE} pixels, found {self.size[0]} x {self.size[1]} in shape "
                f"{x.shape}. A single colour image needs an axis in front; smaller images can be enlarged."
            )
        _check_finite(x)
        least, most = float(x.min()), float(x.max())
        if least == most:
            raise ValueError(f"Expected images of more than one brightness, found {least:g} in every pixel.")
        low, high, step = _levels(least, most, is_whole=_is_whole(x))
        largest = max(abs(low), abs(high))
        if largest > float(np.finfo(np.float32).max) or (high - low) / 255 <= np.spacing(np.float32(largest)):
            raise ValueError(
                f"Expected pixels whose range float32 divides into 255 levels, found {least!r} to {most!r}. Scale them first."
            )
        logger.info("pixels from %g to %g are scaled from %g .. %g", least, most, low, high)
        self.low, self.high, self.step = (torch.tensor(v) for v in (low, high, step))
        self.is_bytes = torch.tensor(x.dtype == np.uint8)

    def to_model(self, x: Any) -> Tensor:
        """Scale to [-1, 1], float32, of the shape of ``x``."""
        self.check_range(x)
        low, high = float(self.low), float(self.high)
        out = torch.as_tensor(np.array(x, dtype=np.float32))  # a copy: the user's array is never written to
        return out.sub_(low).mul_(2 / (high - low)).sub_(1)

    def check_range(self, x: np.ndarray) -> None:
        """Raise ``ValueError`` where pixels are not finite, or not on the scale of the training images."""
        _check_finite(x)
        if not x.size:
            return
        low, high, least, most = float(self.low), float(self.high), float(x.min()), float(x.max())
        slack = _SLACK * (high - low)
        # Bytes divided by 255 would pass as dark images.
        divided = float(self.step) == 1 and high > 2 and least >= -1 and most <= 1 and not _is_whole(x)
        if divided or not (low - slack <= least and most <= high + slack):
            kind = "whole " if divided else ""
            raise ValueError(
                f"Expected {kind}pixels from {low:g} to {high:g}, the range of the training images, found {least:g} to "
                f"{most:g}. Scale them as those were."
            )

    def from_model(self, v: Tensor) -> np.ndarray:
        """Back to the range of the input, rounded to its levels; uint8 for an input of bytes, else float32."""
        low, high, step = (t.to(v) for t in (self.low, self.high, self.step))
        levels = ((v + 1) * ((high - low) / (2 * step))).round().clamp(0, float(((high - low) / step).round()))
        x = (levels * step + low).cpu().numpy()
        return x.astype(np.uint8) if self.is_bytes else x

    def to_generator(self, v: Tensor, generator: torch.Generator) -> Tensor:
        """Values cut at -1 and 1: sampling does not go beyond."""
        return v.clamp(-1, 1)

    def make_encoder(self) -> nn.Module:
        """Residual network with a projection head."""
        s = self.settings
        stem = s.stem if s.stem != "auto" else "small" if max(self.size) <= SMALL_STEM_UP_TO else "imagenet"
        backbone = ResNet(s.encoder, n_channels=self.n_channels, width=s.encoder_width, stem=stem, n_out=s.n_semantic)
        return ImageEncoder(backbone, s.n_semantic or backbone.n_features, s.n_latent)

    def make_denoiser(self, n_cond: int) -> nn.Module:
        """The paper's U-Net."""
        s = self.settings
        return ImageDenoiser(
            UNet(self.n_channels, n_cond, s.generator_width, image_size=self.size, attention=s.attention)
        )

    def hand_views(self, data: Tensor, *, kind: str | None = None, batch: np.ndarray | None = None) -> HandViews:
        """Crops, colours and blur by kornia (extra ``vision``), or mixup. ``batch`` is not used."""
        s = self.settings
        kind = s.views if kind is None else kind
        if kind not in self.view_kinds:
            raise ValueError(f"Expected views of a kind in {list(self.view_kinds)}, found {kind!r}.")
        if kind == "mixup":
            if len(data) < 2:
                raise ValueError(f"Expected at least 2 images for mixup views, found {len(data)}.")
            return partial(random_mixup, data)
        steps = crop_and_flip(self.size, crop_scale=s.crop_scale, flip_rate=s.flip_rate)
        if kind == "standard":
            steps += alter_colors(
                self.size,
                self.n_channels,
                jitter_rate=s.jitter_rate,
                jitter_strength=s.jitter_strength,
                gray_rate=s.gray_rate,
                blur_rate=s.blur_rate,
                solarize_rate=s.solarize_rate,
            )
        return kornia_views(data, steps)


def _check_finite(x: np.ndarray) -> None:
    if x.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        total = x.sum(dtype=np.float64)  # finite only if all values are, and needs no mask of the array's size
    if not np.isfinite(total):
        n_bad = int((~np.isfinite(x)).sum())
        if n_bad:
            raise ValueError(f"Expected finite pixels, found {n_bad} NaN or infinite ones.")


def _is_whole(x: np.ndarray) -> bool:
    """Whether all values are whole numbers."""
    if x.dtype.kind != "f":
        return True
    return all(bool((np.rint(part) == part).all()) for part in np.split(x, range(_AT_ONCE, len(x), _AT_ONCE)))


def _levels(least: float, most: float, *, is_whole: bool) -> tuple[float, float, float]:
    """Lowest and highest value of images, and the distance of two levels.

    A range that images usually have is taken for it, because a training set need not reach its ends.
    """
    if is_whole and (most > 1 or least < -1):
        if least >= 0 and 127 < most <= 255:
            return 0.0, 255.0, 1.0
        return min(least, 0.0), most, 1.0
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        if low <= least and most <= high:
            return low, high, 1.0 if is_whole else (high - low) / 255
    return least, most, (most - least) / 255
