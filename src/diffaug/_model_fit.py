"""What a fit starts from: the rates of its twins, its networks and trainer, and what makes it the run that it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from diffaug.backends import Backend
from diffaug.core.arguments import rate
from diffaug.core.checkpoint import digest_of
from diffaug.core.config import Config, DiffusionConfig, TrainingConfig
from diffaug.core.devices import seeded_init
from diffaug.core.inference import encode
from diffaug.core.member import member_seed
from diffaug.core.training import Trainer


def sweep_rates(sweep: Iterable[float], *, twin: bool, plan: TrainingConfig) -> list[float]:
    """The rates of a sweep; raises ``ValueError`` where the plan cannot have these, or the loop-off twin."""
    rates = [rate("sweep", each) for each in sweep]
    if (twin or rates) and not (plan.n_cycles and plan.view_rate):
        raise ValueError(
            f"Expected n_cycles and view_rate above 0 for twin=True or a sweep, found {plan.n_cycles} and "
            f"{plan.view_rate:g}: this fit is its own loop-off twin. Set both, or leave the twins out."
        )
    if any(rates) and (plan.n_cycles != 1 or plan.schedule != "alternating"):
        raise ValueError(
            f"Expected n_cycles=1 and the alternating schedule for a sweep, found {plan.n_cycles} and {plan.schedule!r}. "
            "Fit each rate on its own."
        )
    return rates


def told_of_batches(settings: DiffusionConfig, n_batches: int) -> bool:
    """Whether the generator is told the batch; raises ``ValueError`` where it is to be and there are none to tell apart."""
    asked = settings.condition_on_batch
    if asked and n_batches < 2:
        raise ValueError(
            f"Expected two batches or more for condition_on_batch=True, found {n_batches}. Name them (`batch_key`, or `batch`), or "
            "leave the setting out; the settings of a fitted model as they were given are its `asked`."
        )
    return n_batches > 1 and settings.condition != "noise" if asked is None else asked


def run_identity(
    backend: Backend,
    data: Tensor,
    config: Config,
    *,
    batch: np.ndarray | None,
    one_hot: Tensor | None,
    random_state: int,
    device: torch.device,
    twin_rates: list[float],
) -> dict[str, Any]:
    """What makes a fit the one it is: another one must not go on from its checkpoint."""
    learnt_from = {**backend.state_dict(), "events": data}
    if batch is not None:
        learnt_from["batch"] = torch.as_tensor(np.ascontiguousarray(batch, dtype=np.int64))
    if one_hot is not None:
        learnt_from["labels"] = one_hot
    settings = {f"{s}.{key}": value for s, section in config.to_dict().items() for key, value in section.items()}
    return {
        "backend": backend.name,
        "events": list(data.shape),
        "data": digest_of(learnt_from),
        "random_state": random_state,
        "device": device.type,  # random numbers are the device's own
        "twins": twin_rates,
        **settings,
    }


def new_trainer(
    fabric: Fabric,
    backend: Backend,
    data: Tensor,
    config: Config,
    *,
    batch: np.ndarray | None,
    one_hot: Tensor | None,
    seed: int,
    with_twin: bool,
) -> Trainer:
    """A trainer of fresh networks on events in model space, on their device."""
    told = batch is not None and bool(config.diffusion.condition_on_batch)
    codes = torch.as_tensor(np.ascontiguousarray(batch, dtype=np.int64)) if told else None
    with seeded_init(seed):
        encoder = backend.make_encoder()
        n_cond = _n_cond(encoder, data[:2].cpu(), one_hot, config)
        denoiser = backend.make_denoiser(n_cond + (0 if codes is None else int(codes.max()) + 1))
    further = []
    for member in range(1, config.training.n_encoders):
        with seeded_init(member_seed(seed, member)):
            further.append(backend.make_encoder())
    return Trainer(
        fabric,
        encoder,
        denoiser,
        data,
        backend.hand_views(data, batch=batch),
        config,
        labels=one_hot,
        batches=codes,
        to_generator=backend.to_generator,
        from_generator=backend.from_generator,
        calibrate=backend.calibrate if backend.calibrates() else None,
        strata=backend.strata(data),
        seed=seed,
        with_twin=with_twin,
        further=further,
    )


def _n_cond(encoder: nn.Module, two: Tensor, one_hot: Tensor | None, config: Config) -> int:
    """Width of the condition, without the batch."""
    if one_hot is not None:
        return one_hot.shape[1]
    encoded = encode(encoder, two)
    return int((encoded.latent if config.diffusion.condition == "latent" else encoded.semantic).shape[1])
