"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


@torch.no_grad()
def move_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the weights of ``average`` towards those of ``module``, which has the share ``1 - decay``.

    Buffers are left to the caller: what is right for them depends on who uses the average, and how.
    """
    ours = [p.detach() for p in average.parameters()]
    theirs = [p.detach() for p in module.parameters()]
    torch._foreach_lerp_(ours, theirs, 1 - decay)


def warmed_decay(decay: float, n_updates: int) -> float:
    """Decay of the ``n_updates``-th update: short runs must not be ruled by the network's first weights."""
    return min(decay, (1 + n_updates) / (10 + n_updates))


class EMA:
    """Running average of a network, for sampling.

    It starts as a copy of the trained network and its decay warms up as ``min(decay, (1 + n) / (10 + n))`` after n
    updates, so a short run does not sample from its random initialisation (as the released code does).

    Parameters
    ----------
    module
        The network in training.
    decay
        Final decay, in [0, 1); 0 makes the average equal the network.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"Expected `ema_decay` in [0, 1), found {decay}.")
        self.decay, self.n_updates = decay, 0
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards ``module``; buffers are copied."""
        self.n_updates += 1
        move_average(self.module, module, warmed_decay(self.decay, self.n_updates))
        for buffer, source in zip(self.module.buffers(), module.buffers(), strict=True):
            buffer.copy_(source)

    def state(self) -> dict[str, Any]:
        """A copy of the average, and the number of updates that the decay warms up by."""
        return {"module": copy.deepcopy(self.module.state_dict()), "n_updates": self.n_updates}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a :meth:`state`."""
        self.module.load_state_dict(state["module"])
        self.n_updates = state["n_updates"]
