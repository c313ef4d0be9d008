"""Samplers step for step against diffusers, and driven by denoisers that are known exactly.

Two exact denoisers need no training: the posterior mean of a finite set of points (every sampler has to end on the
points, on each about equally often) and that of a mixture of two normal distributions (every sampler has to keep their
spread).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from diffaug.core.samplers import SAMPLERS, ddim, dpmpp_2m, sample
from diffaug.core.schedules import NoiseSchedule

SCHEDULE = NoiseSchedule("linear", 1000)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def finite_set(n: int = 8, dim: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    """Centred points at irregular distances of 2.8 and more."""
    points = torch.randn(n, dim, generator=generator(2), dtype=torch.float64)
    points = 2 * (points - points.mean(dim=0))
    assert torch.pdist(points).min() > 2
    return points.to(dtype)


def posterior_mean(points: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """E[x0 | x_t] of a uniform distribution on ``points``, as a function of x_t and its two coefficients."""

    def x0(x_t: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        sq_dist = (x_t[:, None] - signal * points).square().sum(dim=2)
        return (-sq_dist / (2 * noise**2)).softmax(dim=1) @ points

    return x0


def exact_denoiser(points: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    mean = posterior_mean(points)

    def predict_x0(x_t: Tensor, t: Tensor) -> Tensor:
        assert t.shape == x_t.shape[:1]
        signal, noise = SCHEDULE.signal_noise_at(t[:1])
        return mean(x_t, signal.to(x_t), noise.to(x_t))

    return predict_x0


# --- against diffusers ------------------------------------------------------------------------------------------------


def our_steps(solver: Callable[..., Tensor], x_t: Tensor, times: Tensor, **settings: Any) -> list[Tensor]:
    """The noisy events that the denoiser is given, and at last the sample."""
    seen: list[Tensor] = []
    mean = posterior_mean(finite_set(dtype=torch.float64))
    signal, noise = SCHEDULE.signal_noise_at(times)

    def predict_x0(x_t: Tensor, t: Tensor) -> Tensor:
        i = len(seen)
        # Times reach a network as float32; the coefficients here are those of the exact time, so that the comparison
        # of the steps is one in float64.
        assert (t - times[i]).abs().max() < 1e-4
        seen.append(x_t)
        return mean(x_t, signal[i], noise[i])

    return [*seen, solver(predict_x0, x_t, SCHEDULE, times, **settings)] if False else _run(solver, predict_x0, seen, x_t, times, settings)
