"""``Baseline``: a self-supervised method on the encoder of any registered domain. Arrays in, arrays out."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from diffaug.backends import Backend, get_backend
from diffaug.backends._events import Embedding, embed_events, memory_of_training, resolve_config, training_events
from diffaug.baselines._byol import BYOL
from diffaug.baselines._dino import DINO
from diffaug.baselines._dlme import DLME
from diffaug.baselines._method import Method, Sizes
from diffaug.baselines._moco import MoCo
from diffaug.baselines._resume import Kept
from diffaug.baselines._simclr import SimCLR
from diffaug.baselines._simsiam import SimSiam
from diffaug.baselines._training import PairTrainer
from diffaug.core.arguments import whole_number
from diffaug.core.bank import ViewBank
from diffaug.core.checkpoint import CheckpointFile, checkpoint_file
from diffaug.core.config import Config, settings_from_dict
from diffaug.core.devices import make_fabric, seeded_init, tuned_cpu
from diffaug.core.inference import encode
from diffaug.core.memory import enough_memory
from diffaug.core.plan import EpochRecord
from diffaug.core.views import HandViews, one_kind_each

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_METHODS: dict[str, type[Method]] = {method.name: method for method in (SimCLR, MoCo, BYOL, SimSiam, DINO, DLME)}
#: Names of the methods.
METHODS: tuple[str, ...] = tuple(_METHODS)
_ROWS_AT_ONCE = 4096


class Baseline:
    """A self-supervised method of others on the encoder, the views and the training of DiffAug.

    What differs from DiffAug is the method: the network is ``backend.make_encoder()`` from the same seed, a pair is an
    event and its view, and batches, optimiser, learning rate and hidden features are those of ``config.training``. The
    encoder trains for as many epochs as DiffAug's has in all phases (``TrainingConfig.encoder_epochs``), which is also what
    its loop-off twin has. It is one encoder, whatever ``n_encoders``: beside an ensemble, compare it with
    ``DiffAug({"training": {"n_encoders": 1}})``.

    Parameters
    ----------
    method
        ``"simclr"``, ``"moco"`` (version 2), ``"byol"``, ``"simsiam"``, ``"dino"`` or ``"dlme"``.
    config
        As in :class:`diffaug.DiffAug`. Of its section ``loss`` only SimCLR reads something, the temperature; the section
        ``diffusion`` is not used.
    views
        Kinds of hand-made views, one or several of the backend's; of several, one is drawn for each event and step. By
        default the one that DiffAug would use.
    settings
        Settings of the method itself, on top of its defaults, such as ``{"temperature": 0.1}``.
    augment_both
        Make views of both members of a pair, as the papers do, and not only of one as DiffAug.
    backend
        Name of the domain.
    random_state
        Seed of everything random in :meth:`fit`; equal seeds give equal results on one machine's CPU.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Attributes
    ----------
    config
        The settings; after :meth:`fit` with the numbers of epochs filled in, and ``view_rate`` as it was.
    settings
        Settings of the method, a frozen dataclass.
    history
        List of :class:`diffaug.core.plan.EpochRecord`. An ``effective_rank`` near 1 means collapse. MoCo's
        ``semantic_cosine`` is to the view's vector of the key encoder.
    hand_made
        Kinds of hand-made views of the last :meth:`fit`.
    meta
        What the caller wants kept with the model.

    Examples
    --------
    >>> import numpy as np
    >>> from diffaug.baselines import Baseline
    >>> x = np.random.default_rng(0).gamma(1.0, size=(60, 12)).astype("float32")
    >>> model = Baseline("byol", {"training": {"warmup_steps": 4, "mixed_steps": 4}}).fit(x, progress=False)
    >>> model.embed(x).semantic.shape
    (60, 80)
    """

    def __init__(
        self,
        method: str,
        config: Config | Mapping[str, Any] | str | None = None,
        *,
        views: str | Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        augment_both: bool = False,
        backend: str = "cells",
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self._method_cls = _METHODS[check_method(method)]
        self._backend_cls = get_backend(backend)
        self.config = resolve_config(config, self._backend_cls)
        self.asked = self.config  # what a fit fills in is for its own data; the next one must not inherit it
        self.views = _kinds(views, self._backend_cls.view_kinds)
        self.settings = settings_from_dict(
            self._method_cls.Settings, settings or {}, method, self._method_cls.default_settings(self.config)
        )
        self.augment_both = augment_both
        self.random_state = whole_number("random_state", random_state)
        self.device = make_fabric(device).device
        self._device_name = device
        self.history: list[EpochRecord] = []
        self.hand_made: tuple[str, ...] = ()
        self.meta: dict[str, Any] = {}
        self._backend: Backend | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self._backend is None else f"{self.n_obs} x {self._backend.event_shape}, {self.device}"
        return f"Baseline({self.method}, {self._backend_cls.name}, {state})"

    @property
    def backend(self) -> Backend:
        """The fitted domain; raises ``RuntimeError`` before :meth:`fit`."""
        if self._backend is None:
            raise RuntimeError("Expected a fitted model, found one that was never fitted. Call `fit` first.")
        return self._backend

    @property
    def method(self) -> str:
        """Name of the method."""
        return self._method_cls.name

    def fit(
        self,
        x: Any,
        *,
        batch: np.ndarray | None = None,
        generated: np.ndarray | None = None,
        view_rate: float = 0.5,
        max_epochs: int | None = None,
        checkpoint: str | os.PathLike[str] | CheckpointFile | None = None,
        checkpoint_minutes: float = 10.0,
        progress: bool = True,
    ) -> Baseline:
        """Train on events.

        Parameters
        ----------
        x
            Events, shape ``(n_obs, *event)``.
        batch
            Batch of each event, codes or names, shape ``(n_obs,)``, as in :meth:`diffaug.DiffAug.fit`.
        generated
            Generated views of each event, shape ``(n_obs, n_views, *event)``, as :meth:`diffaug.DiffAug.augment` returns
            them: from the first epoch on, a positive is one of them with probability ``view_rate``.
        view_rate
            See ``generated``; without effect where there are none.
        max_epochs
            Cap on the epochs of the whole plan, as in :meth:`diffaug.DiffAug.fit`: equal caps give equal encoder epochs,
            the generator's share of the plan being left out here.
        checkpoint, checkpoint_minutes
            File that keeps the state of the training, as in :meth:`diffaug.DiffAug.fit`. It belongs to these views too, and
            does not hold them.
        progress
            Show a progress bar.

        Returns
        -------
        The model itself.
        """
        file = checkpoint_file(checkpoint, checkpoint_minutes)
        event_shape, n_obs, batches = training_events(self._backend_cls, x, batch)
        batch = None if batches is None else batches.codes
        plan = self.asked.training.resolve(n_obs, max_epochs)
        plan = dataclasses.replace(plan, view_rate=view_rate)  # checks it, also where it is not used
        if generated is None:
            plan = dataclasses.replace(plan, view_rate=0.0)
        config = dataclasses.replace(self.asked, training=plan)
        fabric = make_fabric(self._device_name, plan.precision)
        backend = self._backend_cls(config.domain, event_shape)
        n_views = 0
        if generated is not None:
            _check_generated(backend, generated, n_obs)
            n_views = generated.shape[1]
        sizes = {"batch_size": min(plan.batch_size, n_obs)}
        needs = memory_of_training(self._backend_cls, n_obs, event_shape, n_views, sizes)
        with enough_memory(self.device, *needs, kept=None if file is None else file.path):
            self._fit(x, backend, fabric, config, batch=batch, generated=generated, file=file, progress=progress)
        return self

    def _fit(
        self,
        x: Any,
        backend: Backend,
        fabric: Fabric,
        config: Config,
        *,
        batch: np.ndarray | None,
        generated: np.ndarray | None,
        file: CheckpointFile | None,
        progress: bool,
    ) -> None:
        """:meth:`fit` on checked events, in a frame of its own: see :func:`diffaug.core.memory.enough_memory`."""
        plan, n_obs = config.training, x.shape[0]
        backend.prepare(x)
        kinds = self.views or (backend.settled(batched=batch is not None).views,)
        with tuned_cpu():
            data = backend.to_model(x).to(self.device)
            backend.to(self.device)
            with seeded_init(self.random_state):
                encoder = backend.make_encoder()
                sizes = Sizes(encode(encoder, data[:2].cpu()).latent.shape[1], n_obs, min(plan.batch_size, n_obs))
                method = self._method_cls(encoder, self.settings, sizes)
            bank = None if generated is None else _bank(backend, generated, self.device)
            learnt_from = {**backend.state_dict(), "events": data}
            if bank is not None:
                learnt_from["generated"] = bank.views
            if batch is not None:
                learnt_from["batch"] = torch.as_tensor(np.ascontiguousarray(batch, dtype=np.int64))
            kept = Kept(file, config, self.device, learnt_from, **self._identity(data, kinds))
            trainer = PairTrainer(
                fabric,
                method,
                data,
                _hand_views(backend, data, kinds, batch),
                plan,
                bank=bank,
                augment_both=self.augment_both,
                seed=self.random_state,
            )
            with kept.interruptible():
                history = _train(trainer, kept, self.method, progress)
        self._backend, self._encoder = backend, method.encoder.eval()
        self.config, self.history, self.n_obs, self.hand_made = config, history, n_obs, kinds

    def _identity(self, data: Tensor, kinds: Sequence[str]) -> dict[str, Any]:
        """What makes a fit the one it is, besides its settings and numbers."""
        return {
            "method": self.method,
            "of_method": dataclasses.asdict(self.settings),
            "views": list(kinds),
            "augment_both": self.augment_both,
            "backend": self._backend_cls.name,
            "events": list(data.shape),
            "random_state": self.random_state,
        }

    def embed(self, x: Any) -> Embedding:
        """Embed events; new ones as well as those of the training.

        Parameters
        ----------
        x
            Events, shape ``(n, *event)``.

        Returns
        -------
        :class:`Embedding`: semantic and latent vectors, float32.
        """
        backend = self.backend
        with tuned_cpu():
            return embed_events(self._encoder, backend, x, self.device)


def check_method(method: object) -> str:
    """The name of a method, or an error that has the nearest one."""
    if method not in METHODS:
        near = difflib.get_close_matches(str(method).lower(), METHODS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Expected `method` in {list(METHODS)}, found {method!r}.{hint}")
    return str(method)


def _kinds(views: str | Sequence[str] | None, known: tuple[str, ...]) -> tuple[str, ...] | None:
    """Kinds of views as a tuple without doubles; ``None`` is the backend's own choice."""
    if views is None:
        return None
    if not isinstance(views, (str, Sequence)):
        raise TypeError(f"Expected `views` to be a name or a list of names, found {views!r}.")
    kinds = tuple(dict.fromkeys([views] if isinstance(views, str) else views))
    wrong = [kind for kind in kinds if kind not in known]
    if wrong or not kinds:
        near = difflib.get_close_matches(str(wrong[0]), known, n=1) if wrong else []
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Expected `views` among {list(known)}, found {repr(wrong[0]) if wrong else 'none'}.{hint}")
    return kinds


def _hand_views(backend: Backend, data: Tensor, kinds: tuple[str, ...], batch: np.ndarray | None) -> HandViews:
    makers = [backend.hand_views(data, kind=kind, batch=batch) for kind in kinds]
    return makers[0] if len(makers) == 1 else partial(one_kind_each, makers)


def _check_generated(backend: Backend, generated: object, n_obs: int) -> None:
    if not isinstance(generated, np.ndarray):
        raise TypeError(f"Expected `generated` to be a numpy array, found {type(generated).__name__}.")
    shape = generated.shape
    if len(shape) < 2 or shape[0] != n_obs or shape[1] < 1 or shape[2:] != backend.event_shape:
        event = ", ".join(map(str, backend.event_shape))
        raise ValueError(
            f"Expected `generated` of shape ({n_obs}, n_views, {event}), found {shape}. Make it by `DiffAug.augment`."
        )


def _bank(backend: Backend, generated: np.ndarray, device: torch.device) -> ViewBank:
    """Generated views in the encoder's space."""
    n_obs, n_views = generated.shape[:2]
    bank = ViewBank(n_obs, n_views, backend.event_shape, device)
    step = max(1, _ROWS_AT_ONCE // n_views)
    for begin in range(0, n_obs, step):
        rows = slice(begin, min(begin + step, n_obs))
        events = generated[rows].reshape(-1, *backend.event_shape)
        bank.put(rows, backend.to_model(events).to(device).reshape(-1, n_views, *backend.event_shape))
    return bank


def _train(trainer: PairTrainer, kept: Kept, name: str, progress: bool) -> list[EpochRecord]:
    from tqdm.auto import tqdm

    history = []
    with tqdm(total=trainer.plan.encoder_epochs, desc=name, unit="epoch", disable=not progress) as bar:
        for record in kept.run(trainer, trainer.run, EpochRecord):
            history.append(record)
            bar.update()
    return history
