"""A conditional GAN as a maker of views (Goodfellow et al. 2014; Mirza and Osindero 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from diffaug.baselines._event_networks import Layout
from diffaug.core.config import check_fields
from diffaug.core.networks import scale_condition


@dataclass(frozen=True)
class GANSettings:
    """Settings of the conditional GAN.

    Parameters
    ----------
    n_noise
        Width of the noise beside the condition.
    width
        As in :class:`VAESettings`.
    ema_decay
        Of the generator's averaged weights, which make the views.
    """

    n_noise: int = 32
    width: int = 32
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("n_noise", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` of at least 1, found {getattr(self, name)}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"Expected `ema_decay` in [0, 1), found {self.ema_decay}.")


class GANGenerator(nn.Module):
    """Network from a condition, scaled as DiffAug's is, and noise to what the layout's values read."""

    def __init__(self, layout: Layout, n_cond: int, n_noise: int) -> None:
        super().__init__()
        self.decoder = layout.decoder(n_cond + n_noise)

    def forward(self, cond: Tensor, noise: Tensor) -> Tensor:
        """For ``cond`` of shape ``(batch, n_cond)`` and ``noise`` of shape ``(batch, n_noise)``."""
        return self.decoder(torch.cat([scale_condition(cond), noise], dim=1))


class Critic(nn.Module):
    """Score of an event beside a condition: how real it is, and how far the two belong together.

    A linear reading of the event's features plus their product with those of the condition (Miyato and Koyama 2018), every
    layer of spectral norm 1 (Miyato et al. 2018).
    """

    def __init__(self, layout: Layout, n_cond: int) -> None:
        super().__init__()
        self.body, n_features = layout.body(normalised=False)
        self.real, self.own = nn.Linear(n_features, 1), nn.Linear(n_cond, n_features)
        for module in list(self.modules()):
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                spectral_norm(module)

    def forward(self, events: Tensor, cond: Tensor) -> Tensor:
        """Scores, shape ``(batch,)``."""
        features = self.body(events)
        return self.real(features)[:, 0] + (self.own(scale_condition(cond)) * features).sum(dim=1)


def critic_loss(real: Tensor, generated: Tensor, mismatched: Tensor) -> Tensor:
    """Hinge loss of scores: real events above 1; generated ones, and real ones beside another's condition, below -1.

    Without the third kind a generator may leave the condition alone (Reed et al. 2016, GAN-CLS).

    Parameters
    ----------
    real, generated, mismatched
        Scores of the three kinds of pairs, shape ``(batch,)``.

    Returns
    -------
    Scalar; real pairs weigh as much as the two other kinds together.
    """
    return F.relu(1 - real).mean() + (F.relu(1 + generated).mean() + F.relu(1 + mismatched).mean()) / 2


def generator_loss(generated: Tensor) -> Tensor:
    """Scores of generated events shall rise; scalar."""
    return -generated.mean()
