"""What a domain must say of itself; everything else is shared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from diffaug.core.config import Config
from diffaug.core.views import HandViews


class Backend(nn.Module, ABC):
    """A domain: its events, networks, hand-made views and the way to and from model space.

    What it learns from the data (:meth:`prepare`) it keeps in buffers, so that saving and moving
    between devices come for free. Networks it makes are not its own submodules.

    Parameters
    ----------
    settings
        Instance of :attr:`Settings`.
    event_shape
        Shape of one event in model space.
    """

    #: Name in the registry and in saved models.
    name: ClassVar[str]
    #: What its events are called in what users read.
    events: ClassVar[str] = "events"
    #: Where generated views were seen to help the embedding of an ensemble, as advice says it; empty where that is not known.
    views_helped: ClassVar[str] = ""
    #: Frozen dataclass of the domain's settings.
    Settings: ClassVar[type]
    #: Kinds of hand-made views, the default first.
    view_kinds: ClassVar[tuple[str, ...]]

    def __init__(self, settings: Any, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.settings, self.event_shape = settings, event_shape

    @classmethod
    @abstractmethod
    def preset(cls, name: str) -> Config:
        """Complete settings by name; raises ``ValueError`` with the known names."""

    @classmethod
    @abstractmethod
    def event_shape_of(cls, x: Any) -> tuple[int, ...]:
        """Shape of an event of user data."""

    @abstractmethod
    def prepare(self, x: Any) -> None:
        """Learn the scaling from the training data."""

    @abstractmethod
    def to_model(self, x: Any) -> Tensor:
        """User data to model space, float32 on the CPU, shape ``(n, *event_shape)``."""

    @abstractmethod
    def from_model(self, v: Tensor) -> np.ndarray:
        """Model space to user data; inverse of :meth:`to_model` within the range of the training data."""

    @abstractmethod
    def make_encoder(self) -> nn.Module:
        """Network ``x -> Encoding(semantic, latent)``."""

    @abstractmethod
    def make_denoiser(self, n_cond: int) -> nn.Module:
        """Network ``(x_t, t, cond) -> prediction``."""

    @abstractmethod
    def hand_views(self, data: Tensor, *, kind: str | None = None, batch: np.ndarray | None = None) -> HandViews:
        """Maker of hand-made views of events in model space; ``batch`` holds integer batch codes."""

    def settled(self, *, batched: bool = False) -> Any:
        """The settings with what they leave open decided for events of this shape; ``batched`` where there are batch codes.

        Their ``views`` are a kind of hand-made views then, one of ``view_kinds``.
        What is saved with a model must not depend on rules that a later version may change.
        """
        return self.settings

    @classmethod
    def settings_of_older(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Settings as an earlier version saved them, with those that it did not have yet as it meant them."""
        return values

    def to_generator(self, v: Tensor, generator: torch.Generator) -> Tensor:
        """Model space to the space in which the generator works, of the same shape. The identity by default."""
        return v

    def from_generator(self, g: Tensor, strata: Tensor | None = None) -> Tensor:
        """Inverse of :meth:`to_generator`, in the given strata of :meth:`strata`. The identity by default."""
        return g

    def strata(self, v: Tensor) -> Tensor | None:
        """Parts of the domain whose events are of different distributions, as a whole number for each event in model space.

        Shape ``(n,)``; what is drawn is of the stratum of the event that conditions it. ``None``, the default: all are one.
        """
        return None

    def calibrate(self, generated: Tensor, strata: Tensor | None = None) -> None:
        """Learn from a sample of what the generator draws, in its space, after each B phase. Nothing by default."""

    @classmethod
    def calibrates(cls) -> bool:
        """Whether :meth:`calibrate` does anything, so that a sample is worth drawing."""
        return cls.calibrate is not Backend.calibrate
