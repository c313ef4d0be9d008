"""What a self-supervised method adds to an encoder: further networks, a loss of pairs, and what happens between steps."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from diffaug.core.batches import encode_pair
from diffaug.core.config import Config
from diffaug.core.networks import Encoding


class Sizes(NamedTuple):
    """What a method needs to know of a fit to make its networks."""

    n_latent: int
    n_obs: int
    batch_size: int


class Pass(NamedTuple):
    """What a method's networks make of a batch of pairs; ``extra`` is between the method and its loss."""

    x: Encoding
    views: Encoding
    extra: tuple[Tensor, ...] = ()


class Method(nn.Module, ABC):
    """A method around an encoder that is made elsewhere and survives it.

    The optimiser gets every parameter that requires a gradient. :meth:`forward` runs the networks, in whatever precision
    the training has; :meth:`loss` is computed outside of it, in float32.

    Parameters
    ----------
    encoder
        Network ``x -> Encoding(semantic, latent)``; its head takes the part of the papers' projector.
    settings
        Instance of :attr:`Settings`.
    sizes
        Width of the latent vectors, number of events, and of events in a batch.
    """

    #: Name by which it is asked for.
    name: ClassVar[str]
    #: Frozen dataclass of the settings that the method has beyond those of every training.
    Settings: ClassVar[type]

    def __init__(self, encoder: nn.Module, settings: Any, sizes: Sizes) -> None:
        super().__init__()
        self.encoder, self.settings, self.sizes = encoder, settings, sizes

    @classmethod
    def default_settings(cls, config: Config) -> Any:
        """Settings of the method where the user says nothing."""
        return cls.Settings()

    def forward(self, x: Tensor, views: Tensor) -> Pass:
        """Encode a batch of pairs; events and views go through the encoder as one batch."""
        return Pass(*encode_pair(self.encoder, x, views))

    @abstractmethod
    def loss(self, made: Pass, index: Tensor) -> Tensor:
        """Scalar loss of a batch of pairs; ``index`` says which events they are."""

    def after_step(self, made: Pass, index: Tensor, progress: float) -> None:
        """Follow up a step of the optimiser; ``progress`` is the share of the steps before it. Nothing by default."""


def frozen_copy(encoder: nn.Module) -> nn.Module:
    """A copy that no gradient reaches."""
    return copy.deepcopy(encoder).requires_grad_(False)


def predictor(width: int, hidden: int) -> nn.Module:
    """The predictor of BYOL and SimSiam: two linear layers with batch normalisation and a ReLU between them."""
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, width))


def both_latents(x: Encoding, views: Encoding) -> Tensor:
    """Latent vectors of events and views in one batch, as :func:`diffaug.core.batches.encode_pair` has them."""
    return torch.cat([x.latent, views.latent])
