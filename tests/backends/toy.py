"""A domain in one file: vectors as they are, scaled by one number.

Nothing outside this file knows of it. It proves that the door is open to others than cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffaug.backends import Backend, register
from diffaug.core.config import Config, TrainingConfig
from diffaug.core.networks import BottleneckMLP, MLPEncoder
from diffaug.core.views import HandViews


@dataclass(frozen=True)
class ToyConfig:
    """Settings of the toy domain."""

    n_semantic: int = 6
    jitter: float = 0.1
    views: str = "jitter"


@register
class ToyBackend(Backend):
    """Dense vectors; a view is the vector with a little noise."""

    name = "toy"
    Settings = ToyConfig
    view_kinds = ("jitter",)
    scale: Tensor

    def __init__(self, settings: ToyConfig, event_shape: tuple[int, ...]) -> None:
        super().__init__(settings, event_shape)
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def preset(cls, name: str) -> Config:
        if name != "default":
            raise ValueError(f"Expected a preset among ['default'], found {name!r}.")
        training = TrainingConfig(
            n_encoders=1, warmup_epochs=2, generator_epochs=2, mixed_epochs=2, batch_size=32, view_rate=0.5
        )
        return Config(training=training, domain=ToyConfig())

    @classmethod
    def event_shape_of(cls, x: Any) -> tuple[int, ...]:
        if not isinstance(x, np.ndarray) or x.ndim != 2:
            raise TypeError(f"Expected an array of shape (n, d), found {type(x).__name__}.")
        return (x.shape[1],)

    def prepare(self, x: np.ndarray) -> None:
        self.scale = torch.tensor(float(x.std()))

    def to_model(self, x: np.ndarray) -> Tensor:
        return torch.as_tensor(x, dtype=torch.float32) / self.scale.cpu()

    def from_model(self, v: Tensor) -> np.ndarray:
        return (v * self.scale.to(v.device)).cpu().numpy()

    def make_encoder(self) -> nn.Module:
        return MLPEncoder(self.event_shape[0], (16,), self.settings.n_semantic, 5)

    def make_denoiser(self, n_cond: int) -> nn.Module:
        return BottleneckMLP(self.event_shape[0], n_cond, (16, 8, 16))

    def hand_views(self, data: Tensor, *, kind: str | None = None, batch: np.ndarray | None = None) -> HandViews:
        def jitter(index: Tensor, generator: torch.Generator) -> Tensor:
            x = data[index]
            return x + self.settings.jitter * torch.randn(x.shape, generator=generator, device=x.device)

        return jitter
