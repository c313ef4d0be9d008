"""SimSiam (Chen and He 2021, "Exploring simple Siamese representation learning")."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from diffaug.baselines._method import Method, Pass, Sizes, both_latents, predictor
from diffaug.core.config import check_fields


def simsiam_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Negative cosine similarity (Algorithm 1 of the paper); no gradient flows into ``target``.

    Parameters
    ----------
    prediction, target
        Shape ``(batch, n_latent)``, of any length.

    Returns
    -------
    Scalar in [-1, 1], mean over the batch.
    """
    return -F.cosine_similarity(prediction, target.detach()).mean()


@dataclass(frozen=True)
class SimSiamSettings:
    """Settings of SimSiam.

    Parameters
    ----------
    n_hidden
        Width of the predictor's hidden layer; ``None`` for a quarter of the latent width, as in the paper.
    """

    n_hidden: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n_hidden is not None and self.n_hidden < 1:
            raise ValueError(f"Expected `n_hidden` of at least 1 or None, found {self.n_hidden}.")


class SimSiam(Method):
    """The encoder's vector of one member of a pair predicts that of the other, which gets no gradient; both ways.

    The paper's projector ends in batch normalisation and the encoder's head does not, so the method has that layer. The
    predictor follows the learning rate of the rest; the paper's later trick of a constant one is left out.
    """

    name = "simsiam"
    Settings = SimSiamSettings
    settings: SimSiamSettings

    def __init__(self, encoder: nn.Module, settings: SimSiamSettings, sizes: Sizes) -> None:
        super().__init__(encoder, settings, sizes)
        self.norm = nn.BatchNorm1d(sizes.n_latent, affine=False)
        self.predictor = predictor(sizes.n_latent, settings.n_hidden or max(2, sizes.n_latent // 4))

    def forward(self, x: Tensor, views: Tensor) -> Pass:
        """Predictions of events and views, and what they predict."""
        made = super().forward(x, views)
        projections = self.norm(both_latents(made.x, made.views))
        return made._replace(extra=(self.predictor(projections), projections))

    def loss(self, made: Pass, index: Tensor) -> Tensor:
        """Symmetric mean of the paper."""
        (p_x, p_views), (z_x, z_views) = (both.chunk(2) for both in made.extra)
        return (simsiam_loss(p_x, z_views) + simsiam_loss(p_views, z_x)) / 2
