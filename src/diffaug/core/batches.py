"""A batch in training: shuffled events, encoded together with their views, their loss and what is read of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffaug.core.config import LossConfig
from diffaug.core.losses import info_nce_loss, soft_contrastive_loss
from diffaug.core.networks import Encoding
from diffaug.core.probes import effective_rank


def shuffled_batches(n_obs: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled full batches of one epoch; the incomplete rest is left out, and is another rest in each epoch."""
    order = torch.randperm(n_obs, generator=generator, device=generator.device)
    yield from order[: n_obs // batch_size * batch_size].split(batch_size)


def encode_pair(encoder: nn.Module, x: Tensor, views: Tensor) -> tuple[Encoding, Encoding]:
    """Encode originals and views in one batch, so that batch normalisation sees both as one distribution."""
    both = encoder(torch.cat([x, views]))
    n = x.shape[0]
    return Encoding(both[0][:n], both[1][:n]), Encoding(both[0][n:], both[1][n:])


def contrastive_loss(x: Encoding, views: Encoding, config: LossConfig) -> Tensor:
    """The configured loss of centres and their views, scalar."""
    if config.name == "info_nce":
        return info_nce_loss(x.latent, views.latent, temperature=config.temperature)
    return soft_contrastive_loss(
        x.semantic,
        x.latent,
        views.semantic,
        views.latent,
        beta=config.beta,
        dof_semantic=config.dof_semantic,
        dof_latent=config.dof_latent,
        kernel=config.kernel,
        target=config.target,
    )


class PairProbes(TypedDict):
    """The label-free readings of a batch that an :class:`diffaug.core.plan.EpochRecord` holds."""

    semantic_cosine: float
    effective_rank: float


def pair_probes(x: Encoding, views: Encoding) -> PairProbes:
    """Read a batch of originals and views."""
    semantic = x.semantic.detach()
    return {
        "semantic_cosine": float(F.cosine_similarity(semantic, views.semantic.detach()).mean()),
        "effective_rank": effective_rank(semantic),
    }
