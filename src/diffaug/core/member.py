"""One encoder of a training: the network, the random streams of its epochs, and what its twins start from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diffaug.core.learner import Learner

#: Streams of an encoder's own: the order of the events, the hand-made views, its generated views and which pairs have one,
#: the hidden features, and the events by which its views are judged.
ENCODER_STREAMS = ("order", "hand", "mix", "dropout", "bank", "trust")
#: Distance between the seeds of two encoders: far enough that the seeds that people choose do not meet.
_APART = 100_003


def member_seed(seed: int, member: int) -> int:
    """Seed of the first weights and of the streams of an encoder; the first one has the training's own."""
    return seed + _APART * member


class Member:
    """An encoder in training; ``random`` holds its :data:`ENCODER_STREAMS`.

    Attributes
    ----------
    warm
        Its :meth:`state` at the end of the warm-up, kept for twins.
    n_mixed
        Epochs since then.
    """

    def __init__(self, learner: Learner, random: dict[str, torch.Generator]) -> None:
        self.learner, self.random = learner, random
        self.warm: dict[str, Any] | None = None
        self.n_mixed = 0

    @property
    def module(self) -> nn.Module:
        """The encoder."""
        return self.learner.module

    def state(self) -> dict[str, Any]:
        """All that its next epoch depends on, besides the data and the bank."""
        return {
            "learner": self.learner.state(),
            "random": {name: stream.get_state() for name, stream in self.random.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a :meth:`state`."""
        self.learner.load_state(state["learner"])
        for name, numbers in state["random"].items():
            self.random[name].set_state(numbers)

    def whole_state(self) -> dict[str, Any]:
        """:meth:`state`, and what is kept for twins."""
        return {"now": self.state(), "warm": self.warm, "n_mixed": self.n_mixed}

    def load_whole_state(self, state: dict[str, Any]) -> None:
        """Go back to a :meth:`whole_state`."""
        self.load_state(state["now"])
        self.warm, self.n_mixed = state["warm"], state["n_mixed"]
