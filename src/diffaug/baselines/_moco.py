"""MoCo v2 (He et al. 2020, "Momentum contrast"; Chen et al. 2020, "Improved baselines with momentum contrastive learning")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffaug.baselines._method import Method, Pass, Sizes, frozen_copy
from diffaug.core.config import check_fields
from diffaug.core.ema import move_average, warmed_decay
from diffaug.core.networks import Encoding


def moco_loss(
    queries: Tensor, keys: Tensor, queue: Tensor, *, temperature: float = 0.2, own: Tensor | None = None
) -> Tensor:
    """InfoNCE of each query: its key against all keys of the queue (He et al. 2020, Algorithm 1).

    Parameters
    ----------
    queries, keys
        Shape ``(batch, n_latent)``, of any length; row i of one is the positive of row i of the other. No gradient flows
        into ``keys``.
    queue
        Earlier keys of unit length, shape ``(n_queue, n_latent)``.
    temperature
        Divides the cosine similarities.
    own
        Which keys of the queue are of the query's own event and are left out, shape ``(batch, n_queue)``. The papers have
        millions of images and need no such thing; of 500 cells the queue holds most.

    Returns
    -------
    Scalar, mean over the queries.
    """
    q, k = F.normalize(queries, dim=1), F.normalize(keys.detach(), dim=1)
    negative = q @ queue.T
    if own is not None:
        negative = negative.masked_fill(own, -torch.inf)
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), negative], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


@dataclass(frozen=True)
class MoCoSettings:
    """Settings of MoCo v2.

    Parameters
    ----------
    temperature
        As in MoCo v2.
    queue_size
        Keys in the queue at most: a multiple of the batch, and no more than there are events.
    momentum
        Share that the key encoder keeps of itself at each step. The paper's 0.999 is for runs of a million steps; those
        here have some thousands.
    """

    temperature: float = 0.2
    queue_size: int = 4096
    momentum: float = 0.99

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.temperature > 0:
            raise ValueError(f"Expected `temperature` above 0, found {self.temperature}.")
        if self.queue_size < 1:
            raise ValueError(f"Expected `queue_size` of at least 1, found {self.queue_size}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"Expected `momentum` in [0, 1), found {self.momentum}.")


class MoCo(Method):
    """Queries of the encoder against keys of its slow copy, with a queue of earlier keys as negatives.

    In batch normalisation a query and its key share statistics that the keys of the queue do not, which gives the positive
    away. The paper shuffles the keys over devices. Here there is one device, so the key encoder is in evaluation mode and
    averages the statistics as it does the weights (Cai et al. 2021, "Exponential moving average normalization").
    """

    name = "moco"
    Settings = MoCoSettings
    settings: MoCoSettings
    queue: Tensor
    queue_index: Tensor

    def __init__(self, encoder: nn.Module, settings: MoCoSettings, sizes: Sizes) -> None:
        super().__init__(encoder, settings, sizes)
        self.key_encoder = frozen_copy(encoder)
        batch = sizes.batch_size
        size = max(1, min(settings.queue_size, sizes.n_obs) // batch) * batch
        self.register_buffer("queue", F.normalize(torch.randn(size, sizes.n_latent), dim=1))
        self.register_buffer("queue_index", torch.full((size,), -1))
        self._begin, self._n_updates = 0, 0

    def train(self, mode: bool = True) -> MoCo:
        """The key encoder stays in evaluation mode."""
        super().train(mode)
        self.key_encoder.eval()
        return self

    def forward(self, x: Tensor, views: Tensor) -> Pass:
        """Queries are the events, keys their views."""
        with torch.no_grad():
            keys = Encoding(*self.key_encoder(views))
        return Pass(Encoding(*self.encoder(x)), keys)

    def loss(self, made: Pass, index: Tensor) -> Tensor:
        """Algorithm 1 of He et al. (2020)."""
        own = self.queue_index == index[:, None]
        return moco_loss(made.x.latent, made.views.latent, self.queue, temperature=self.settings.temperature, own=own)

    def get_extra_state(self) -> dict[str, int]:
        """The place in the queue and in the warm-up of the decay, for torch's ``state_dict``."""
        return {"begin": self._begin, "n_updates": self._n_updates}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Go back to :meth:`get_extra_state`."""
        self._begin, self._n_updates = state["begin"], state["n_updates"]

    @torch.no_grad()
    def after_step(self, made: Pass, index: Tensor, progress: float) -> None:
        """Move the key encoder, and put the keys in the place of the oldest."""
        self._n_updates += 1
        decay = warmed_decay(self.settings.momentum, self._n_updates)
        move_average(self.key_encoder, self.encoder, decay)
        for ours, theirs in zip(self.key_encoder.buffers(), self.encoder.buffers(), strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, 1 - decay)
            else:
                ours.copy_(theirs)
        rows = slice(self._begin, self._begin + len(index))
        self.queue[rows] = F.normalize(made.views.latent, dim=1)
        self.queue_index[rows] = index
        self._begin = rows.stop % len(self.queue)
