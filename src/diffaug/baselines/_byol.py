"""BYOL (Grill et al. 2020, "Bootstrap your own latent")."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffaug.baselines._method import Method, Pass, Sizes, both_latents, frozen_copy, predictor
from diffaug.core.config import check_fields
from diffaug.core.ema import move_average
from diffaug.core.networks import Encoding


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of unit vectors, ``2 - 2 cos`` (Eq. 2 of the paper); no gradient flows into ``target``.

    Parameters
    ----------
    prediction, target
        Shape ``(batch, n_latent)``, of any length.

    Returns
    -------
    Scalar, mean over the batch.
    """
    return (F.normalize(prediction, dim=1) - F.normalize(target.detach(), dim=1)).square().sum(dim=1).mean()


def cosine_momentum(base: float, progress: float) -> float:
    """Momentum of the target, from ``base`` to 1 along a cosine (section 3.2 of the paper)."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2


@dataclass(frozen=True)
class BYOLSettings:
    """Settings of BYOL.

    Parameters
    ----------
    n_hidden
        Width of the predictor's hidden layer.
    momentum
        Share that the target keeps of itself at the first step; it rises to 1. The paper has 0.996 for 1,000 epochs of
        ImageNet and 0.99 for 300.
    """

    n_hidden: int = 512
    momentum: float = 0.99

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n_hidden < 1:
            raise ValueError(f"Expected `n_hidden` of at least 1, found {self.n_hidden}.")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"Expected `momentum` in [0, 1], found {self.momentum}.")


class BYOL(Method):
    """The encoder's vector of one member of a pair predicts the target's vector of the other; both ways."""

    name = "byol"
    Settings = BYOLSettings
    settings: BYOLSettings

    def __init__(self, encoder: nn.Module, settings: BYOLSettings, sizes: Sizes) -> None:
        super().__init__(encoder, settings, sizes)
        self.target = frozen_copy(encoder)
        self.predictor = predictor(sizes.n_latent, settings.n_hidden)

    def forward(self, x: Tensor, views: Tensor) -> Pass:
        """Predictions of events and views, and their targets."""
        made = super().forward(x, views)
        predictions = self.predictor(both_latents(made.x, made.views))
        with torch.no_grad():
            targets = Encoding(*self.target(torch.cat([x, views]))).latent
        return made._replace(extra=(predictions, targets))

    def loss(self, made: Pass, index: Tensor) -> Tensor:
        """Symmetric sum of the paper."""
        (p_x, p_views), (t_x, t_views) = (both.chunk(2) for both in made.extra)
        return byol_loss(p_x, t_views) + byol_loss(p_views, t_x)

    def after_step(self, made: Pass, index: Tensor, progress: float) -> None:
        """Move the target; its batch normalisation uses the batch's statistics, so its buffers do not matter."""
        move_average(self.target, self.encoder, cosine_momentum(self.settings.momentum, progress))
