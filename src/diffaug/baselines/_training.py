"""The training of a method: pairs from the same views, batches, optimiser and records as DiffAug's encoder has."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffaug.baselines._method import Method
from diffaug.core.bank import Positives, ViewBank, mix_views
from diffaug.core.batches import pair_probes, shuffled_batches
from diffaug.core.config import TrainingConfig
from diffaug.core.devices import random_streams
from diffaug.core.learner import Learner, Patience, finite_loss
from diffaug.core.plan import STREAMS, EpochRecord
from diffaug.core.views import HandViews, drop_features

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class PairTrainer:
    """Trains one method for as many epochs as DiffAug's encoder has in all its phases.

    Parameters
    ----------
    fabric
        Device and precision.
    method
        The method, with its networks.
    data
        All events in the encoder's space, shape ``(n_obs, *event)``.
    hand_views
        Hand-made views.
    plan
        Settings, with the epochs resolved.
    bank
        Generated views; each positive is one of them with probability ``plan.view_rate``.
    augment_both
        Whether both members of a pair are views, and not one of them the event itself.
    seed
        Seed of all random streams, which are those of :class:`diffaug.core.training.Trainer`.
    """

    def __init__(
        self,
        fabric: Fabric,
        method: Method,
        data: Tensor,
        hand_views: HandViews,
        plan: TrainingConfig,
        *,
        bank: ViewBank | None = None,
        augment_both: bool = False,
        seed: int = 0,
    ) -> None:
        self.method, self.hand_views, self.plan, self.bank, self.augment_both = (
            method,
            hand_views,
            plan,
            bank,
            augment_both,
        )
        self.device = fabric.device
        self.data = data.to(self.device)
        self.n_obs = len(data)
        self._dropout = plan.dropout_of(math.prod(data.shape[1:]))
        self.batch_size = min(plan.batch_size, self.n_obs)
        self.steps_per_epoch = self.n_obs // self.batch_size
        self._total = plan.encoder_epochs * self.steps_per_epoch
        self._done = self._n_epochs = 0
        self._patience, self._ended = Patience(plan.patience), False
        steps = [epochs * self.steps_per_epoch for epochs in plan.encoder_phases]
        self._learner = Learner(fabric, method, plan.encoder_lr, plan.weight_decay, steps, plan.lr_schedule)
        self._random = random_streams(seed, STREAMS, self.device)

    def positives(self, index: Tensor) -> Positives:
        """Views of a batch, a share of them generated."""
        hand_made = self.hand_views(index, self._random["hand"])
        return mix_views(hand_made, self.bank, index, self.plan.view_rate, self._random["mix"])

    def run(self) -> Iterator[EpochRecord]:
        """Train, or go on from a loaded state; yields a record after each epoch."""
        while self._n_epochs < self.plan.encoder_epochs and not self._ended:
            record = self._epoch(self._n_epochs + 1)
            self._n_epochs += 1
            self._ended = self._patience.exhausted(record.encoder_loss)
            yield record

    def state(self) -> dict[str, Any]:
        """All that the rest of a run depends on, besides what the trainer was made with; to be taken between two records."""
        return {
            "learner": self._learner.state(),
            "random": {name: stream.get_state() for name, stream in self._random.items()},
            "done": self._done,
            "n_epochs": self._n_epochs,
            "patience": self._patience.state(),
            "ended": self._ended,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a :meth:`state` of a trainer that was made in the same way; :meth:`run` goes on from there."""
        self._learner.load_state(state["learner"])
        for name, stream in self._random.items():
            stream.set_state(state["random"][name])
        self._done, self._n_epochs, self._ended = state["done"], state["n_epochs"], state["ended"]
        self._patience.load_state(state["patience"])

    def _epoch(self, epoch: int) -> EpochRecord:
        begin = time.perf_counter()
        self._learner.net.train()
        total, n_positives = torch.zeros((), device=self.device), 0
        n_generated: int | Tensor = 0
        for index in shuffled_batches(self.n_obs, self.batch_size, self._random["order"]):
            first = self.positives(index) if self.augment_both else Positives(self.data[index], 0)
            second = self.positives(index)
            made = self._learner.net(self._dropped(first.views), self._dropped(second.views))
            loss = self.method.loss(made, index)
            self._learner.step(loss)
            self.method.after_step(made, index, self._done / self._total)
            self._done += 1
            total += loss.detach()
            n_positives += len(index) * (1 + self.augment_both)
            n_generated = n_generated + first.n_generated + second.n_generated
        return EpochRecord(
            phase="A",
            cycle=0,
            epoch=epoch,
            encoder_loss=finite_loss(total, "encoder") / self.steps_per_epoch,
            n_positives=n_positives,
            n_generated=int(n_generated),
            seconds=time.perf_counter() - begin,
            **pair_probes(made.x, made.views),
        )

    def _dropped(self, x: Tensor) -> Tensor:
        return drop_features(x, self._dropout, self._random["dropout"])
