"""Gaussian diffusion: noising, what the denoiser predicts, its training loss (Ho et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from diffaug.core.schedules import NoiseSchedule

PredictionType = Literal["epsilon", "v", "x0"]
PREDICTION_TYPES: tuple[PredictionType, ...] = ("epsilon", "v", "x0")
#: ``denoiser(x_t, t, cond)``: noisy events ``(batch, *event)``, times ``(batch,)``, conditions ``(batch, n_cond)``.
#: Samplers pass one time for the whole batch, shape ``(1,)``: what depends on time alone is then computed once.
Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
#: ``predict_x0(x_t, t)``: what a sampler needs to know of a trained denoiser.
PredictX0 = Callable[[Tensor, Tensor], Tensor]


class GaussianDiffusion:
    """Forward process and training loss of a conditional denoiser.

    Parameters
    ----------
    schedule
        The noise schedule.
    prediction_type
        What the denoiser returns: the noise (``"epsilon"``, the paper), the velocity
        ``sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0`` (``"v"``, Salimans & Ho 2022) or the clean event (``"x0"``).
    """

    def __init__(self, schedule: NoiseSchedule, prediction_type: PredictionType = "v") -> None:
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"Expected `prediction_type` in {list(PREDICTION_TYPES)}, found {prediction_type!r}.")
        self.schedule, self.prediction_type = schedule, prediction_type
        self._on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def coefficients(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise coefficients of times ``(batch,)``, shaped to multiply ``like`` of ``(batch, *event)``."""
        shape = (-1,) + (1,) * (like.ndim - 1)
        if t.is_floating_point():
            signal, noise = self.schedule.signal_noise_at(t)
        else:  # training: look them up where the times are, without a trip to the host
            signal, noise = (table[t] for table in self._tables(t.device))
        return signal.to(like).reshape(shape), noise.to(like).reshape(shape)

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Coefficients of the discrete times, float64 where ``device`` has it; copied there once."""
        if device not in self._on_device:
            a, s = self.schedule.signal_noise_at(torch.arange(self.schedule.n_timesteps))
            dtype = torch.float32 if device.type == "mps" else torch.float64
            self._on_device[device] = (a.to(device, dtype), s.to(device, dtype))
        return self._on_device[device]

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Sample of q(x_t | x_0), shape of ``x0``."""
        a, s = self.coefficients(t, x0)
        return a * x0 + s * noise

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the denoiser should return for ``add_noise(x0, t, noise)``."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "x0":
            return x0
        a, s = self.coefficients(t, x0)
        return a * noise - s * x0

    def to_x0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Clean event implied by the denoiser's prediction."""
        if self.prediction_type == "x0":
            return prediction
        a, s = self.coefficients(t, x_t)
        if self.prediction_type == "epsilon":
            return (x_t - s * prediction) / a
        return a * x_t - s * prediction

    def loss(self, denoiser: Denoiser, x0: Tensor, cond: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the denoiser at uniform random times (the B-step's loss), scalar.

        Parameters
        ----------
        denoiser
            The network in training.
        x0
            Clean events, shape ``(batch, *event)``.
        cond
            Conditions, shape ``(batch, n_cond)``; no gradient flows into them.
        generator
            Source of times and noise, on the device of ``x0``.
        """
        t = torch.randint(self.schedule.n_timesteps, (x0.shape[0],), generator=generator, device=x0.device)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        prediction = denoiser(self.add_noise(x0, t, noise), t, cond.detach())
        return F.mse_loss(prediction, self.target(x0, t, noise))

    def predictor(
        self, denoiser: Denoiser, cond: Tensor, guidance_scale: float = 1.0, clip_x0: float | None = None
    ) -> PredictX0:
        """``predict_x0`` of a denoiser under a condition, with classifier-free guidance (Ho & Salimans 2022).

        ``guidance_scale`` w gives ``null + w (conditional - null)``: 1 is plain conditional sampling, above 1 is more
        faithful to the condition, 0 ignores it. The null condition is the zero vector. ``clip_x0`` bounds the predicted
        clean event, for events that are bounded themselves.
        """

        def predict_x0(x_t: Tensor, t: Tensor) -> Tensor:
            prediction = denoiser(x_t, t, cond)
            if guidance_scale != 1.0:
                null = denoiser(x_t, t, torch.zeros_like(cond))
                prediction = null + guidance_scale * (prediction - null)
            x0 = self.to_x0(prediction, x_t, t)
            return x0 if clip_x0 is None else x0.clamp(-clip_x0, clip_x0)

        return predict_x0
