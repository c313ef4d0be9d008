"""Noise schedules of the diffusion process and where a sampler stops along them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

ScheduleName = Literal["linear", "cosine"]
SCHEDULES: tuple[ScheduleName, ...] = ("linear", "cosine")
Spacing = Literal["trailing", "log_snr"]


class NoiseSchedule:
    r"""Variance-preserving schedule :math:`x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon`.

    This is Eq. 4 of Ho et al. (2020); Eq. 6 of the paper lacks the noise and is not used.

    Parameters
    ----------
    name
        ``"linear"`` (Ho et al. 2020) or ``"cosine"`` (Nichol & Dhariwal 2021).
    n_timesteps
        Number T of discrete times ``t = 0 .. T-1``. The linear betas 1e-4 .. 2e-2 are those of T = 1000; for another
        T they are scaled by 1000 / T, so that the last time is always close to pure noise.

    Attributes
    ----------
    alpha_bar
        float64, shape ``(T,)``, decreasing.
    log_snr
        :math:`\log(\sqrt{\bar\alpha}/\sqrt{1-\bar\alpha})`, float64, shape ``(T,)``, decreasing.
    """

    def __init__(self, name: ScheduleName = "linear", n_timesteps: int = 1000) -> None:
        if name not in SCHEDULES:
            raise ValueError(f"Expected `schedule` in {list(SCHEDULES)}, found {name!r}.")
        if n_timesteps < 2:
            raise ValueError(f"Expected at least 2 timesteps, found {n_timesteps}.")
        self.name, self.n_timesteps = name, n_timesteps
        steps = torch.arange(n_timesteps, dtype=torch.float64)
        if name == "linear":
            scale = 1000 / n_timesteps
            beta = torch.linspace(1e-4 * scale, 2e-2 * scale, n_timesteps, dtype=torch.float64)
        else:
            f = torch.cos(
                (torch.cat([steps, torch.tensor([float(n_timesteps)], dtype=torch.float64)]) / n_timesteps + 0.008)
                / 1.008
                * math.pi
                / 2
            ).square()
            beta = 1 - f[1:] / f[:-1]
        self.alpha_bar = torch.cumprod(1 - beta.clamp(max=0.999), dim=0)
        self.log_snr = 0.5 * (torch.log(self.alpha_bar) - torch.log1p(-self.alpha_bar))
        self._on_device: dict[torch.device, Tensor] = {}

    def log_snr_at(self, t: Tensor) -> Tensor:
        """Half log signal-to-noise ratio at (possibly fractional) times, float64, linear between the discrete ones.

        On the device of ``t``, so that a sampler's steps do not wait for it; for ``mps``, which has no float64, on the CPU.
        """
        device = torch.device("cpu") if t.device.type == "mps" else t.device
        if device not in self._on_device:
            self._on_device[device] = self.log_snr.to(device)
        log_snr, t = self._on_device[device], t.to(device, torch.float64).clamp(0, self.n_timesteps - 1)
        low = t.floor().long().clamp(max=self.n_timesteps - 2)
        return torch.lerp(log_snr[low], log_snr[low + 1], t - low)

    def signal_noise_at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of signal and noise, each the shape of ``t``, float64, where :meth:`log_snr_at` is."""
        twice = 2 * self.log_snr_at(t)
        return torch.sigmoid(twice).sqrt(), torch.sigmoid(-twice).sqrt()

    def time_of(self, log_snr: Tensor) -> Tensor:
        """Fractional time with the given half log-SNR; inverse of :meth:`log_snr_at`, float64."""
        grid = self.log_snr.flip(0)  # increasing
        value = log_snr.to(torch.float64).clamp(grid[0], grid[-1])
        high = torch.searchsorted(grid, value).clamp(1, self.n_timesteps - 1)
        weight = (value - grid[high - 1]) / (grid[high] - grid[high - 1])
        return (self.n_timesteps - 1) - (high - 1 + weight)

    def sampling_times(self, n_steps: int, spacing: Spacing, t_start: float | None = None) -> Tensor:
        """Decreasing times a sampler visits, float64, shape ``(n_steps,)``; after the last comes the clean sample.

        ``"trailing"`` spaces them evenly in t, ``"log_snr"`` evenly in log-SNR. The second keeps the variance of the
        samples at 20 steps, where the first loses a fifth of it.
        """
        last = float(self.n_timesteps - 1) if t_start is None else t_start
        if not 1 <= n_steps <= int(last) + 1:  # more would visit a time twice
            raise ValueError(f"Expected `n_steps` between 1 and {int(last) + 1}, the times left, found {n_steps}.")
        if spacing == "trailing":
            return torch.round((last + 1) * torch.arange(n_steps, 0, -1, dtype=torch.float64) / n_steps) - 1
        if spacing == "log_snr":
            high = self.log_snr_at(torch.tensor(last, dtype=torch.float64))
            return self.time_of(torch.linspace(float(high), float(self.log_snr[0]), n_steps, dtype=torch.float64))
        raise ValueError(f"Expected `spacing` in ['trailing', 'log_snr'], found {spacing!r}.")
