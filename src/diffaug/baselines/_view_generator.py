"""``ViewGenerator``: views by other generators than diffusion, the paper's rows "+ VAE" and "+ GAN". Arrays in and out."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from diffaug.backends import Backend, get_backend
from diffaug.backends._events import fewer_at_a_time, memory_of_training, model_space, resolve_config, training_events
from diffaug.baselines._baseline import Baseline
from diffaug.baselines._event_networks import Layout, Values, layout_of
from diffaug.baselines._gan import Critic, GANGenerator, GANSettings, critic_loss, generator_loss
from diffaug.baselines._resume import Kept
from diffaug.baselines._vae import VAE, Posterior, VAESettings, evidence_lower_bound
from diffaug.core.arguments import whole_number
from diffaug.core.batches import shuffled_batches
from diffaug.core.checkpoint import CheckpointFile, checkpoint_file
from diffaug.core.config import Config, TrainingConfig, settings_from_dict
from diffaug.core.devices import make_fabric, random_streams, seeded_init, tuned_cpu
from diffaug.core.ema import EMA
from diffaug.core.inference import calibration_index, encode, events_at_once
from diffaug.core.learner import Learner, finite_loss
from diffaug.core.memory import enough_memory

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_STREAMS = ("order", "noise", "space", "calibration")
#: Adam's decay rates for the two networks of a GAN, whose gradients change direction (Miyato et al. 2018).
_GAN_BETAS = (0.0, 0.9)


@dataclasses.dataclass(frozen=True)
class ViewEpoch:
    """One epoch of a :class:`ViewGenerator`.

    Attributes
    ----------
    epoch
        From 1 on.
    loss
        Mean over the steps: of the VAE, the negative evidence lower bound of an event divided by its numbers, in nats; of
        the GAN, the generator's.
    critic_loss
        Of the GAN's other network; NaN for the VAE.
    seconds
        Wall time.
    """

    epoch: int
    loss: float
    critic_loss: float = math.nan
    seconds: float = 0.0


class ViewGenerator:
    """A generator of others that makes views of given events, to stand in for DiffAug's in a comparison.

    ``"vae"``: a view is a decoded sample of the event's posterior. ``"gan"``: a view is drawn under the event's condition,
    as DiffAug's are. The condition is the semantic vector of an encoder trained by SimCLR for DiffAug's warm-up, which with
    one encoder, the default loss and schedule is DiffAug's own at the start of its first B phase; noise comes beside it.

    Both work in the space of DiffAug's generator and go the same way back, calibration included. They train for as many
    epochs as DiffAug's generator has, ``n_cycles * generator_epochs``, with its batch size, learning rate and schedule. Their
    networks are small and plain: dense layers for vectors, convolutions for images and sequences.

    Parameters
    ----------
    kind
        ``"vae"`` or ``"gan"``.
    config
        As in :class:`diffaug.DiffAug`. Its section ``diffusion`` is not used.
    settings
        Settings of the generator itself, on top of the defaults of :class:`VAESettings` or :class:`GANSettings`.
    backend
        Name of the domain.
    random_state
        Seed of everything random in :meth:`fit`; equal seeds give equal results on one machine's CPU.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Attributes
    ----------
    config
        The settings; after :meth:`fit` with the numbers of epochs filled in.
    settings
        Settings of the generator, a frozen dataclass.
    history
        List of :class:`ViewEpoch`.

    Examples
    --------
    >>> import numpy as np
    >>> from diffaug.baselines import Baseline, ViewGenerator
    >>> x = np.random.default_rng(0).gamma(1.0, size=(60, 12)).astype("float32")
    >>> config = {"training": {"warmup_steps": 4, "generator_steps": 4, "mixed_steps": 4}}
    >>> views = ViewGenerator("vae", config).fit(x, progress=False).augment(x, 2)
    >>> views.shape
    (60, 2, 12)
    >>> model = Baseline("simclr", config).fit(x, generated=views, progress=False)
    """

    def __init__(
        self,
        kind: str,
        config: Config | Mapping[str, Any] | str | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        backend: str = "cells",
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        if kind not in VIEW_GENERATORS:
            raise ValueError(f"Expected `kind` in {list(VIEW_GENERATORS)}, found {kind!r}.")
        self.kind = kind
        self._maker_cls = _MAKERS[kind]
        self._backend_cls = get_backend(backend)
        self.config = resolve_config(config, self._backend_cls)
        self.asked = self.config  # what a fit fills in is for its own data; the next one must not inherit it
        self.settings: Any = settings_from_dict(self._maker_cls.Settings, settings or {}, kind)
        self.random_state = whole_number("random_state", random_state)
        self.device = make_fabric(device).device
        self._device_name = device
        self.history: list[ViewEpoch] = []
        self._backend: Backend | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self._backend is None else f"{self._backend.event_shape}, {self.device}"
        return f"ViewGenerator({self.kind}, {self._backend_cls.name}, {state})"

    def fit(
        self,
        x: Any,
        *,
        max_epochs: int | None = None,
        checkpoint: str | os.PathLike[str] | CheckpointFile | None = None,
        checkpoint_minutes: float = 10.0,
        progress: bool = True,
    ) -> ViewGenerator:
        """Train on events.

        Parameters
        ----------
        x
            Events, shape ``(n_obs, *event)``.
        max_epochs
            Cap on the epochs of DiffAug's whole plan, of which the generator's share is used here.
        checkpoint, checkpoint_minutes
            File that keeps the state of the training, as in :meth:`diffaug.DiffAug.fit`. That of the encoder which the GAN
            trains first is kept beside it, under the same name with ``.encoder`` behind it.
        progress
            Show a progress bar.

        Returns
        -------
        The generator itself.
        """
        file = checkpoint_file(checkpoint, checkpoint_minutes)
        event_shape, n_obs, _ = training_events(self._backend_cls, x, None)
        plan = self.asked.training.resolve(n_obs, max_epochs)
        n_epochs = plan.n_cycles * (plan.generator_epochs or 0)
        if n_epochs < 1:
            raise ValueError(
                f"Expected epochs of the generator, found n_cycles={plan.n_cycles} and "
                f"generator_epochs={plan.generator_epochs}. Set both to at least 1."
            )
        config = dataclasses.replace(self.asked, training=plan)
        fabric = make_fabric(self._device_name, plan.precision)
        sizes = {"generator_batch_size": plan.batch_sizes(n_obs)[1]}
        needs = memory_of_training(self._backend_cls, n_obs, event_shape, 0, sizes)
        with enough_memory(self.device, *needs, kept=None if file is None else file.path):
            self._fit(x, event_shape, fabric, config, n_epochs, file=file, progress=progress)
        return self

    def _fit(
        self,
        x: Any,
        event_shape: tuple[int, ...],
        fabric: Fabric,
        config: Config,
        n_epochs: int,
        *,
        file: CheckpointFile | None,
        progress: bool,
    ) -> None:
        """:meth:`fit` on checked events, in a frame of its own: see :func:`diffaug.core.memory.enough_memory`."""
        from tqdm.auto import tqdm

        plan, n_obs = config.training, x.shape[0]
        backend = self._backend_cls(config.domain, event_shape)
        backend.prepare(x)
        with tuned_cpu():
            data = backend.to_model(x).to(self.device)
            backend.to(self.device)
            layout = layout_of(self._backend_cls.name, event_shape, self.settings.width)
            kept = Kept(
                file,
                config,
                self.device,
                {**backend.state_dict(), "events": data},
                kind=self.kind,
                of_kind=dataclasses.asdict(self.settings),
                backend=self._backend_cls.name,
                events=list(data.shape),
                random_state=self.random_state,
            )
            maker = self._maker_cls(self, x, data, layout, plan, fabric, backend, file)
            history = []
            with (
                kept.interruptible(),
                tqdm(total=n_epochs, desc=self.kind, unit="epoch", disable=not progress) as bar,
            ):
                for record in kept.run(maker, lambda: maker.run(n_epochs), ViewEpoch):
                    history.append(record)
                    bar.update()
            if backend.calibrates():
                some = data[calibration_index(n_obs, data.device)]
                backend.calibrate(_drawn(maker, some, maker.random["calibration"]), backend.strata(some))
        self._backend, self._maker, self.config, self.history = backend, maker, config, history

    def augment(self, x: Any, n_views: int = 1, *, random_state: int = 0) -> np.ndarray:
        """Views of given events, as :meth:`diffaug.DiffAug.augment` returns them.

        Parameters
        ----------
        x
            Events, shape ``(n, *event)``.
        n_views
            Views of each.
        random_state
            Seed.

        Returns
        -------
        Shape ``(n, n_views, *event)``, on the scale of the input.
        """
        if self._backend is None:
            raise RuntimeError("Expected a fitted generator, found one that was never fitted. Call `fit` first.")
        n_views = whole_number("n_views", n_views, 1)
        stream = random_streams(whole_number("random_state", random_state), ("augment",), self.device)["augment"]
        what = f"views (n_views={n_views}) of {self._backend.events}"
        at_once = events_at_once(self._backend.event_shape)
        with enough_memory(self.device, what, fewer_at_a_time(at_once)), tuned_cpu():
            return self._generated_views(self._backend, x, n_views, stream)

    def _generated_views(self, backend: Backend, x: Any, n_views: int, stream: torch.Generator) -> np.ndarray:
        made = []
        for chunk in model_space(backend, x, self.device):
            each = chunk.repeat_interleave(n_views, dim=0)
            drawn = _drawn(self._maker, each, stream)
            made.append(backend.from_model(backend.from_generator(drawn, backend.strata(each))))
        return np.concatenate(made).reshape(-1, n_views, *backend.event_shape)


@torch.no_grad()
def _drawn(maker: _Maker, data: Tensor, stream: torch.Generator) -> Tensor:
    """A view of each event of ``data``, in the generator's space."""
    return torch.cat([maker.views(part, stream) for part in data.split(events_at_once(tuple(data.shape[1:])))])


class _Maker(ABC):
    """The networks of one kind and their training; the epoch is a subclass's."""

    Settings: ClassVar[type]

    def __init__(
        self,
        owner: ViewGenerator,
        x: Any,
        data: Tensor,
        layout: Layout,
        plan: TrainingConfig,
        fabric: Fabric,
        backend: Backend,
        file: CheckpointFile | None = None,
    ) -> None:
        self.settings, self.data, self.plan, self.backend = owner.settings, data, plan, backend
        self.n_obs = len(data)
        self.batch_size = plan.batch_sizes(self.n_obs)[1]
        self.device = data.device
        self.random = random_streams(owner.random_state, _STREAMS, self.device)
        self._n_steps = plan.n_cycles * (plan.generator_epochs or 0) * (self.n_obs // self.batch_size)
        self._fabric, self._n_epochs = fabric, 0
        self._build(owner, x, layout, file)

    @abstractmethod
    def _build(self, owner: ViewGenerator, x: Any, layout: Layout, file: CheckpointFile | None) -> None:
        """Make the networks; what is trained before is kept in a file beside ``file``."""

    @abstractmethod
    def networks(self) -> dict[str, Learner | EMA]:
        """What the epochs change, by name."""

    @abstractmethod
    def step(self, index: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        """One step on events in the generator's space: the loss, and that of the critic (NaN without one)."""

    @abstractmethod
    def views(self, data: Tensor, stream: torch.Generator) -> Tensor:
        """A view of each event in model space, in the generator's space."""

    def learner(self, network: nn.Module) -> Learner:
        """A network with DiffAug's settings for its generator."""
        plan = self.plan
        return Learner(self._fabric, network, plan.generator_lr, plan.weight_decay, [self._n_steps], plan.lr_schedule)

    def noise(self, n: int, width: int, stream: torch.Generator) -> Tensor:
        """Standard normal numbers, shape ``(n, width)``."""
        return torch.randn(n, width, generator=stream, device=self.device)

    def run(self, n_epochs: int) -> Iterator[ViewEpoch]:
        """Train, or go on from a loaded state; yields a record after each epoch."""
        while self._n_epochs < n_epochs:
            begin, losses = time.perf_counter(), []
            for index in shuffled_batches(self.n_obs, self.batch_size, self.random["order"]):
                events = self.backend.to_generator(self.data[index], self.random["space"])
                losses.append(torch.stack(self.step(index, events)))
            loss, critic = torch.stack(losses).mean(dim=0)
            self._n_epochs += 1
            loss_told = finite_loss(loss, "generator")
            yield ViewEpoch(self._n_epochs, loss_told, float(critic), time.perf_counter() - begin)

    def state(self) -> dict[str, Any]:
        """All that the rest of a run depends on, besides what this was made with; to be taken between two records."""
        return {
            "networks": {name: network.state() for name, network in self.networks().items()},
            "random": {name: stream.get_state() for name, stream in self.random.items()},
            "n_epochs": self._n_epochs,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a :meth:`state` of one that was made in the same way; :meth:`run` goes on from there."""
        for name, network in self.networks().items():
            network.load_state(state["networks"][name])
        for name, stream in self.random.items():
            stream.set_state(state["random"][name])
        self._n_epochs = state["n_epochs"]


class _VAEMaker(_Maker):
    Settings = VAESettings
    settings: VAESettings

    def _build(self, owner: ViewGenerator, x: Any, layout: Layout, file: CheckpointFile | None) -> None:
        with seeded_init(owner.random_state):
            self.network = VAE.of(layout, self.settings)
        self._learner = self.learner(self.network)

    def networks(self) -> dict[str, Learner | EMA]:
        return {"vae": self._learner}

    def step(self, index: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        noise = self.noise(len(index), self.settings.n_code, self.random["noise"])
        out, *posterior = self._learner.net(events, noise)
        likelihood = self.network.values.log_likelihood(out, events)
        n_numbers, rising = (
            events[0].numel(),
            self._learner.n_steps / max(1.0, self.settings.beta_warmup * self._n_steps),
        )
        beta = self.settings.beta
        bound = evidence_lower_bound(likelihood, Posterior(*posterior), beta * min(1.0, rising))
        self._learner.step(-bound.mean() / n_numbers)
        # What is told is the bound itself, also while the weight of the divergence rises.
        loss = -evidence_lower_bound(likelihood, Posterior(*posterior), beta).mean().detach() / n_numbers
        return loss, torch.full_like(loss, math.nan)

    def views(self, data: Tensor, stream: torch.Generator) -> Tensor:
        events = self.backend.to_generator(data, stream)
        codes = self.network.posterior(events).sample(self.noise(len(data), self.settings.n_code, stream))
        return self.network.values.drawn(self.network.decoder(codes), stream)


class _GANMaker(_Maker):
    Settings = GANSettings
    settings: GANSettings

    def _build(self, owner: ViewGenerator, x: Any, layout: Layout, file: CheckpointFile | None) -> None:
        warmup = dataclasses.replace(self.plan, n_cycles=0, mixed_epochs=0)
        config = dataclasses.replace(owner.config, training=warmup)
        simclr = Baseline(
            "simclr",
            config,
            backend=owner._backend_cls.name,
            random_state=owner.random_state,
            device=owner._device_name,
        )
        beside = None if file is None else file.beside(".encoder")
        self.encoder = simclr.fit(x, checkpoint=beside, progress=False)._encoder
        if beside is not None and file is not None and not file.earlier_seconds:  # else they are among the file's own
            file.earlier_seconds = beside.earlier_seconds
        self.cond = encode(self.encoder, self.data).semantic
        n_cond = self.cond.shape[1]
        with seeded_init(owner.random_state):
            generator, critic = GANGenerator(layout, n_cond, self.settings.n_noise), Critic(layout, n_cond)
        self.values: Values = layout.Values().to(self.device)
        self.ema = EMA(generator.to(self.device), self.settings.ema_decay)
        self._generator, self._critic = self.learner(generator), self.learner(critic)
        for learner in (self._generator, self._critic):
            for group in learner.optimizer.param_groups:
                group["betas"] = _GAN_BETAS

    def networks(self) -> dict[str, Learner | EMA]:
        return {"generator": self._generator, "critic": self._critic, "ema": self.ema}

    def step(self, index: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        cond, others = self.cond[index], self.cond[index.roll(1)]
        noise = self.noise(len(index), self.settings.n_noise, self.random["noise"])
        drawn = self.values.drawn(self._generator.net(cond, noise), self.random["noise"])
        # The three kinds in one batch, as one pass is faster than three.
        three = torch.cat([events, drawn.detach(), events]), torch.cat([cond, cond, others])
        of_critic = critic_loss(*self._critic.net(*three).chunk(3))
        self._critic.step(of_critic)
        self._critic.module.requires_grad_(False)
        of_generator = generator_loss(self._critic.net(drawn, cond))
        self._generator.step(of_generator)
        self._critic.module.requires_grad_(True)
        self.ema.update(self._generator.module)
        return of_generator.detach(), of_critic.detach()

    def views(self, data: Tensor, stream: torch.Generator) -> Tensor:
        cond = encode(self.encoder, data).semantic
        return self.values.drawn(self.ema.module(cond, self.noise(len(data), self.settings.n_noise, stream)), stream)


_MAKERS: dict[str, type[_Maker]] = {"vae": _VAEMaker, "gan": _GANMaker}
#: Kinds of :class:`ViewGenerator`.
VIEW_GENERATORS: tuple[str, ...] = tuple(_MAKERS)
