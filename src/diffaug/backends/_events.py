"""What every model does with a domain: its settings, the events it is given, and their embedding."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from diffaug.backends._base import Backend
from diffaug.core.arguments import check_names
from diffaug.core.config import Config, config_from_dict
from diffaug.core.inference import encode, events_at_once
from diffaug.core.memory import enough_memory, size_text


class Embedding(NamedTuple):
    """``semantic``, shape ``(n, n_semantic)``, and ``latent``, shape ``(n, n_latent)``; float32."""

    semantic: np.ndarray
    latent: np.ndarray


def resolve_config(config: Config | Mapping[str, Any] | str | None, backend: type[Backend]) -> Config:
    """Settings from a preset's name, a nested dictionary (on top of the default preset) or a ready :class:`Config`."""
    if config is None:
        return backend.preset("default")
    if isinstance(config, str):
        return backend.preset(config)
    if isinstance(config, Mapping):
        return config_from_dict(config, backend.Settings, backend.preset("default"))
    if not isinstance(config, Config):
        raise TypeError(
            f"Expected `config` to be a preset's name, a Config, a dictionary or None, found {type(config)}."
        )
    if config.domain is None:
        return dataclasses.replace(config, domain=backend.preset("default").domain)
    if not isinstance(config.domain, backend.Settings):
        raise TypeError(f"Expected `config.domain` to be {backend.Settings.__name__}, found {type(config.domain)}.")
    return config


class Batches(NamedTuple):
    """Batches of events: their ``names`` in order, and the place of each event's among them as ``codes``, ``(n_obs,)``."""

    names: np.ndarray
    codes: np.ndarray


def training_events(
    backend: type[Backend], x: Any, batch: np.ndarray | None
) -> tuple[tuple[int, ...], int, Batches | None]:
    """Shape of an event, number of events and batches of what a model is to be fitted on."""
    event_shape = backend.event_shape_of(x)
    n_obs = x.shape[0]
    if n_obs < 3:
        raise ValueError(f"Expected at least 3 events to train on, found {n_obs}.")
    check_names("batch", batch, n_obs)
    return event_shape, n_obs, None if batch is None else Batches(*np.unique(batch, return_inverse=True))


def memory_of_training(
    backend: type[Backend], n_obs: int, event_shape: tuple[int, ...], n_views: int, batch_sizes: Mapping[str, int]
) -> tuple[str, str]:
    """A training for :func:`diffaug.core.memory.enough_memory`: what it is, and what would take less memory.

    ``n_views`` are the generated views of each event that lie beside the events, ``batch_sizes`` the settings by name.
    """
    size = math.prod(event_shape)
    held = [f"{size_text(4 * n_obs * size)} of {backend.events}"]
    if n_views:
        held.append(f"{size_text(4 * n_obs * size * n_views)} of generated views (n_views={n_views})")
    batches = [f"{name}={value}" for name, value in batch_sizes.items()]
    settings = [*["n_views"] * (n_views > 1), *batch_sizes]
    return (
        f"the training on {n_obs:,} {backend.events} of {size:,} values",
        f"It holds {', '.join(held)} and the work of a step ({', '.join(batches)}). Lower {' or '.join(settings)}, or take "
        f"fewer {backend.events}, fewer values (genes, pixels, bases) of each, or smaller networks.",
    )


def fewer_at_a_time(at_once: int) -> str:
    """What would take less memory where a fitted model works on so many events at once."""
    return f"Up to {at_once:,} are worked on at once, and the results of all are kept. Ask for fewer at a time."


def model_space(backend: Backend, x: Any, device: torch.device, chunk: int = 4096) -> Iterator[Tensor]:
    """Chunks of user data in the model space of a fitted domain, on the device."""
    shape = backend.event_shape_of(x)
    if shape != backend.event_shape:
        hint = ""
        if {shape, backend.event_shape} == {shape[:2], (*shape[:2], 1)}:
            hint = f" Hand over {'x[..., None]' if len(shape) == 2 else 'x[..., 0]'}."
        raise ValueError(f"This model was fitted on events of shape {backend.event_shape}, found {shape}.{hint}")
    if x.shape[0] < 1:
        raise ValueError("Expected at least 1 event, found 0.")
    for begin in range(0, x.shape[0], chunk):
        yield backend.to_model(x[begin : begin + chunk]).to(device)


def embed_events(encoder: nn.Module, backend: Backend, x: Any, device: torch.device) -> Embedding:
    """Embedding of user data under a fitted encoder."""
    advice = fewer_at_a_time(events_at_once(backend.event_shape))
    with enough_memory(device, f"the embedding of {backend.events}", advice):
        parts = [encode(encoder, chunk) for chunk in model_space(backend, x, device)]
        semantic, latent = (torch.cat([p[i] for p in parts]).cpu().numpy() for i in (0, 1))
        return Embedding(semantic, latent)
