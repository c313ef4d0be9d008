"""One network in training: its optimiser, the learning rate of each step, when to stop, and when it diverged."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def learning_rate(step: int, phases: Sequence[int], schedule: str) -> float:
    """Factor of the learning rate.

    Parameters
    ----------
    step
        Number of the step, from 0.
    phases
        Steps of each phase of the network, in their order.
    schedule
        ``"constant"``: 1. ``"cosine"``: linear warm-up over a tenth of all steps, then a cosine to zero.
        ``"cosine_restarts"``: the same anew in each phase (Loshchilov & Hutter 2017, with a warm-up).

    Returns
    -------
    In [0, 1].
    """
    if schedule == "constant":
        return 1.0
    total = sum(phases)
    if schedule == "cosine_restarts":
        for total in phases:
            if step < total:
                break
            step -= total
        else:
            return 0.0
    warmup = max(1, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


class Learner:
    """A network with its optimiser and its place in the learning-rate schedule; ``phases`` as in :func:`learning_rate`."""

    def __init__(
        self, fabric: Fabric, module: nn.Module, lr: float, weight_decay: float, phases: Sequence[int], schedule: str
    ) -> None:
        fused = fabric.device.type in ("cpu", "cuda")
        optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=weight_decay, fused=fused)
        self.net, self.optimizer = fabric.setup(module, optimizer)
        self.module = module
        self._fabric, self._lr, self._phases, self._schedule, self._step = fabric, lr, phases, schedule, 0

    @property
    def n_steps(self) -> int:
        """Steps that were made."""
        return self._step

    def step(self, loss: Tensor) -> None:
        """One step of the optimiser down the gradient of ``loss``."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr * learning_rate(self._step, self._phases, self._schedule)
        self.optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(loss)
        self.optimizer.step()
        self._step += 1

    def state(self) -> dict[str, Any]:
        """A copy of the weights, of the optimiser and of the place in the learning rate's schedule."""
        return copy.deepcopy(
            {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self._step}
        )

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a :meth:`state`."""
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._step = state["step"]


class Patience:
    """Says when a training loss has stopped improving."""

    def __init__(self, patience: int | None) -> None:
        self.patience, self.best, self.waited, self.smooth = patience, math.inf, 0, math.nan

    def exhausted(self, loss: float) -> bool:
        """Take in the loss of one more epoch."""
        self.smooth = loss if math.isnan(self.smooth) else 0.7 * self.smooth + 0.3 * loss
        if self.smooth < self.best - 1e-3 * abs(self.best) or math.isinf(self.best):
            self.best, self.waited = self.smooth, 0
        else:
            self.waited += 1
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, float]:
        """What it remembers of the losses so far."""
        return {"best": self.best, "waited": self.waited, "smooth": self.smooth}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a :meth:`state`."""
        self.best, self.waited, self.smooth = state["best"], state["waited"], state["smooth"]


def finite_loss(loss: Tensor, network: str) -> float:
    """The loss as a number, or a clear error; ``network`` names the setting of its learning rate."""
    if not torch.isfinite(loss):
        raise RuntimeError(
            f"Expected a finite loss of the {network}, found {float(loss)}: its training diverged. "
            f"Lower `{network}_lr`, or look for extreme values in the data."
        )
    return float(loss)
