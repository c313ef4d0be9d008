"""Samplers: from noise to clean events.

None of them clips, because events may be unbounded; ``GaussianDiffusion.predictor`` clips where events are bounded.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from diffaug.core.diffusion import PredictX0
from diffaug.core.schedules import NoiseSchedule

SamplerName = Literal["ddpm", "ddim", "dpmpp_2m"]
SAMPLERS: tuple[SamplerName, ...] = ("ddpm", "ddim", "dpmpp_2m")


def ddim(
    predict_x0: PredictX0,
    x_t: Tensor,
    schedule: NoiseSchedule,
    times: Tensor,
    generator: torch.Generator,
    *,
    eta: float = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2021, Eq. 12); ``eta=1`` is DDPM ancestral sampling (Ho et al. 2020, Eq. 7).

    Parameters
    ----------
    predict_x0
        The denoiser under its condition.
    x_t
        Noisy events at ``times[0]``, shape ``(batch, *event)``.
    schedule, times
        Where to stop; ``times`` decreases and the clean event follows its last entry.
    generator
        Source of the noise of ``eta > 0``, on the device of ``x_t``.
    eta
        Share of the posterior's noise that each step adds.
    """
    signal, noise = schedule.signal_noise_at(times)
    for i, t in enumerate(times.tolist()):
        x0 = predict_x0(x_t, torch.full((1,), t, device=x_t.device))
        if i == len(times) - 1:
            return x0
        a_t, s_t, a_s, s_s = (float(v) for v in (signal[i], noise[i], signal[i + 1], noise[i + 1]))
        eps = (x_t - a_t * x0) / s_t
        sigma = eta * (s_s / s_t) * max(1 - (a_t / a_s) ** 2, 0.0) ** 0.5
        x_t = a_s * x0 + max(s_s**2 - sigma**2, 0.0) ** 0.5 * eps
        if sigma > 0:
            x_t = x_t + sigma * torch.randn(x_t.shape, generator=generator, device=x_t.device, dtype=x_t.dtype)
    raise ValueError("Expected at least one time, found none.")


def dpmpp_2m(predict_x0: PredictX0, x_t: Tensor, schedule: NoiseSchedule, times: Tensor) -> Tensor:
    """DPM-Solver++ 2M (Lu et al. 2022, Algorithm 2), deterministic; the last step is of first order.

    Parameters and result as :func:`ddim`.
    """
    signal, noise = schedule.signal_noise_at(times)
    log_snr = schedule.log_snr_at(times)
    previous: Tensor | None = None
    for i, t in enumerate(times.tolist()):
        x0 = predict_x0(x_t, torch.full((1,), t, device=x_t.device))
        if i == len(times) - 1:
            return x0
        h = float(log_snr[i + 1] - log_snr[i])
        slope = x0
        if previous is not None:
            ratio = float(log_snr[i] - log_snr[i - 1]) / h
            slope = x0 + (x0 - previous) / (2 * ratio)
        shrink = float(noise[i + 1] / noise[i])
        x_t = shrink * x_t - float(signal[i + 1]) * math.expm1(-h) * slope
        previous = x0
    raise ValueError("Expected at least one time, found none.")


def sample(
    predict_x0: PredictX0,
    shape: tuple[int, ...],
    schedule: NoiseSchedule,
    generator: torch.Generator,
    *,
    sampler: SamplerName = "dpmpp_2m",
    n_steps: int = 20,
    eta: float = 0.0,
    start: Tensor | None = None,
    strength: float = 1.0,
) -> Tensor:
    """Draw events.

    Parameters
    ----------
    predict_x0
        The denoiser under its condition.
    shape
        ``(batch, *event)``.
    schedule
        The noise schedule of the denoiser's training.
    generator
        Source of noise; its device is where sampling happens.
    sampler
        ``"dpmpp_2m"`` (uniform log-SNR steps), ``"ddim"`` or ``"ddpm"`` (trailing steps).
    n_steps
        Evaluations of the denoiser; fewer where ``strength`` leaves fewer times than that.
    eta
        Noise of ``"ddim"``; the other samplers ignore it.
    start
        Clean events to start from, of ``shape``: with ``strength`` below 1 they are noised so far and
        denoised from there, with 1 they are not used.
    strength
        Share of the way to pure noise, in (0, 1]; below 1 needs ``start``.

    Returns
    -------
    Clean events of ``shape``.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"Expected `sampler` in {list(SAMPLERS)}, found {sampler!r}.")
    if not 0 < strength <= 1:
        raise ValueError(f"Expected `strength` in (0, 1], found {strength}.")
    if strength < 1 and start is None:
        raise ValueError(f"Expected `start` events to noise for `strength` below 1, found none and {strength}.")
    if not 1 <= n_steps <= schedule.n_timesteps:
        raise ValueError(f"Expected `n_steps` between 1 and n_timesteps={schedule.n_timesteps}, found {n_steps}.")
    t_start = strength * (schedule.n_timesteps - 1)
    steps = min(n_steps, max(1, int(t_start) + 1))
    times = schedule.sampling_times(steps, "log_snr" if sampler == "dpmpp_2m" else "trailing", t_start)
    x_t = torch.randn(shape, generator=generator, device=generator.device)
    if start is not None and strength < 1:
        a, s = (float(v) for v in schedule.signal_noise_at(times[0]))
        x_t = a * start + s * x_t
    if sampler == "dpmpp_2m":
        return dpmpp_2m(predict_x0, x_t, schedule, times)
    return ddim(predict_x0, x_t, schedule, times, generator, eta=1.0 if sampler == "ddpm" else eta)
