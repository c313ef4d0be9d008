"""Networks in use outside training: encoding events and drawing new ones, in parts that fit into memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffaug.core.config import Config
from diffaug.core.diffusion import GaussianDiffusion
from diffaug.core.networks import Encoding
from diffaug.core.samplers import sample

#: See :func:`events_at_once`. Vectors of up to 2,048 features are drawn 2,048 at a time, whatever the second number.
_MOST_AT_ONCE, _NUMBERS_AT_ONCE = 4096, 1 << 22
#: See :func:`calibration_index`: draws in all, and under the condition of one event.
_N_CALIBRATION, _MOST_CALIBRATIONS = 2048, 4


def events_at_once(event_shape: tuple[int, ...]) -> int:
    """Events that a network takes at once outside training: as many as fit into a fixed number of numbers.

    A network of convolutions holds many times the size of its input, so 4,096 large events would not fit into memory.
    """
    return max(1, min(_MOST_AT_ONCE, _NUMBERS_AT_ONCE // math.prod(event_shape)))


@torch.no_grad()
def encode(encoder: nn.Module, x: Tensor, batch_size: int | None = None) -> Encoding:
    """Encode all of ``x`` in evaluation mode, in chunks; the network's mode is restored."""
    was_training = encoder.training
    encoder.eval()
    parts = [encoder(chunk) for chunk in x.split(batch_size or events_at_once(tuple(x.shape[1:])))]
    encoder.train(was_training)
    return Encoding(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))


@torch.no_grad()
def draw(
    diffusion: GaussianDiffusion,
    denoiser: nn.Module,
    cond: Tensor,
    event_shape: tuple[int, ...],
    config: Config,
    generator: torch.Generator,
    *,
    start: Tensor | None = None,
    strength: float = 1.0,
) -> Tensor:
    """Sample events under conditions ``(batch, n_cond)`` with the configured sampler, shape ``(batch, *event)``.

    ``start`` and the result are in the generator's space; see :func:`diffaug.core.samplers.sample`.
    """
    settings, at_once, drawn = config.diffusion, events_at_once(event_shape), []
    for begin in range(0, cond.shape[0], at_once):
        rows = slice(begin, begin + at_once)
        part = cond[rows]
        drawn.append(
            sample(
                diffusion.predictor(denoiser, part, settings.guidance_scale, settings.clip_x0),
                (part.shape[0], *event_shape),
                diffusion.schedule,
                generator,
                sampler=settings.sampler,
                n_steps=settings.n_steps,
                eta=settings.eta,
                start=None if start is None else start[rows],
                strength=strength,
            )
        )
    return torch.cat(drawn)


def calibration_index(n_obs: int, device: torch.device) -> Tensor:
    """Events under whose conditions a trained generator is sampled for a domain's ``calibrate``, each about equally often."""
    n_drawn = min(_N_CALIBRATION, _MOST_CALIBRATIONS * n_obs)
    return torch.arange(n_drawn, device=device) * n_obs // n_drawn
