"""Images as events: their layout for convolutions, and hand-made views of them."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn

from diffaug.core.devices import seeded_init
from diffaug.core.inference import events_at_once
from diffaug.core.views import HandViews

#: Colour jitter of strength 1: brightness, contrast and saturation by so much, hue by so much of the colour circle.
_JITTER, _HUE = 0.4, 0.1


def to_planes(x: Tensor) -> Tensor:
    """Events ``(n, height, width[, channels])`` as ``(n, channels, height, width)``; nothing is copied."""
    return x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)


def from_planes(planes: Tensor, ndim: int) -> Tensor:
    """Inverse of :func:`to_planes` for events with ``ndim`` axes, the first of them the number of the event."""
    return planes[:, 0] if ndim == 3 else planes.permute(0, 2, 3, 1)


def import_kornia() -> ModuleType:
    """``kornia.augmentation``, or the error that names the extra."""
    try:
        import kornia.augmentation as augmentation
    except ImportError as error:
        raise ImportError(
            f'Expected kornia for hand-made views of images, found none ({error}). Do: pip install "diffaug[vision]"'
        ) from error
    return augmentation


def crop_and_flip(size: tuple[int, int], *, crop_scale: float, flip_rate: float) -> list[nn.Module]:
    """A random part of the image, of at least the share ``crop_scale`` of its area, brought back to its size."""
    kornia = import_kornia()
    crop = kornia.RandomResizedCrop(size, scale=(crop_scale, 1.0), cropping_mode="resample", p=1.0)
    return [crop, kornia.RandomHorizontalFlip(p=flip_rate)]


def alter_colors(
    size: tuple[int, int],
    n_channels: int,
    *,
    jitter_rate: float,
    jitter_strength: float,
    gray_rate: float,
    blur_rate: float,
    solarize_rate: float,
) -> list[nn.Module]:
    """Colour jitter, grey, blur and solarisation. Images that are not RGB are spared what needs three colours."""
    kornia = import_kornia()
    amount = _JITTER * jitter_strength
    colors = {"saturation": amount, "hue": min(0.5, _HUE * jitter_strength)} if n_channels == 3 else {}
    steps = [kornia.ColorJitter(brightness=min(1.0, amount), contrast=min(1.0, amount), **colors, p=jitter_rate)]
    if n_channels == 3:
        steps.append(kornia.RandomGrayscale(p=gray_rate))
    kernel = max(3, min(size) // 10 | 1)  # SimCLR's tenth of the side, as an odd number
    steps.append(kornia.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=blur_rate))
    steps.append(kornia.RandomSolarize(thresholds=(0.5, 0.5), additions=(0.0, 0.0), p=solarize_rate))
    return steps


def kornia_views(data: Tensor, steps: list[nn.Module]) -> HandViews:
    """Views by steps of kornia on images in [-1, 1], one after the other on the data's device.

    Kornia draws from torch's global random state. It is seeded from the stream for the time of the call and restored
    afterwards, so that equal streams give equal views and the caller's random state stays as it is.
    """
    at_once = events_at_once(tuple(data.shape[1:]))

    def views(index: Tensor, generator: torch.Generator) -> Tensor:
        made = []
        for rows in index.split(at_once):
            seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
            x = data[rows]
            planes = to_planes(x).add(1).div(2).clamp(0, 1)
            with torch.no_grad(), seeded_init(seed, x.device):
                for step in steps:
                    planes = step(planes)
            made.append(from_planes(planes.mul(2).sub(1), x.ndim))
        return torch.cat(made)

    return views


def random_mixup(data: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mixed with a random other, of which it gets less than half."""
    steps = torch.randint(1, len(data), index.shape, generator=generator, device=index.device)
    weight = torch.rand(len(index), generator=generator, device=index.device) / 2
    return torch.lerp(data[index], data[(index + steps) % len(data)], weight.reshape(-1, *(1,) * (data.ndim - 1)))
