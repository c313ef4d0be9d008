"""SimCLR (Chen et al. 2020, "A simple framework for contrastive learning of visual representations")."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diffaug.baselines._method import Method, Pass
from diffaug.core.config import Config, check_fields
from diffaug.core.losses import info_nce_loss


@dataclass(frozen=True)
class SimCLRSettings:
    """Settings of SimCLR.

    Parameters
    ----------
    temperature
        Temperature of InfoNCE; by default that of ``config.loss``.
    """

    temperature: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.temperature > 0:
            raise ValueError(f"Expected `temperature` above 0, found {self.temperature}.")


class SimCLR(Method):
    """InfoNCE over events and views of a batch.

    With the default pairs of an event and its view, this is DiffAug with ``loss.name="info_nce"`` and the loop off: equal
    seeds give equal weights.
    """

    name = "simclr"
    Settings = SimCLRSettings
    settings: SimCLRSettings

    @classmethod
    def default_settings(cls, config: Config) -> SimCLRSettings:
        """The temperature of DiffAug's InfoNCE."""
        return SimCLRSettings(config.loss.temperature)

    def loss(self, made: Pass, index: Tensor) -> Tensor:
        """Algorithm 1 of the paper."""
        return info_nce_loss(made.x.latent, made.views.latent, temperature=self.settings.temperature)
