"""The model: fit, embed, augment, generate, save, load. Arrays in, arrays out."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from diffaug._model_file import Header, read_model, write_model
from diffaug._model_fit import new_trainer, run_identity, sweep_rates, told_of_batches
from diffaug.backends import Backend, get_backend
from diffaug.backends._events import (
    Batches,
    Embedding,
    embed_events,
    fewer_at_a_time,
    memory_of_training,
    model_space,
    resolve_config,
    training_events,
)
from diffaug.core.arguments import check_length, check_names, share, whole_number
from diffaug.core.batch_condition import UNKNOWN, with_batch
from diffaug.core.checkpoint import CheckpointFile, checkpoint_file, digest_of, made_with
from diffaug.core.config import Config, TrainingConfig
from diffaug.core.devices import make_fabric, random_streams, tuned_cpu
from diffaug.core.diffusion import GaussianDiffusion
from diffaug.core.ensemble import as_one
from diffaug.core.inference import draw, encode, events_at_once
from diffaug.core.memory import enough_memory
from diffaug.core.plan import EpochRecord, blocks_of
from diffaug.core.probes import split_half_overlap
from diffaug.core.resume import ResumableRun
from diffaug.core.schedules import NoiseSchedule
from diffaug.core.trust import view_share

logger = logging.getLogger(__name__)

T = TypeVar("T")
_BATCH = 2048


class Samples(NamedTuple):
    """Generated events ``values``, shape ``(n, *event)``, and the training event that conditioned each, ``(n,)``."""

    values: np.ndarray
    source: np.ndarray


class DiffAug:
    """Encoder and conditional diffusion generator trained in turn, on arrays of any registered domain.

    ``diffaug.tl.fit`` is the same on AnnData.

    Parameters
    ----------
    config
        A preset's name (``"default"``, ``"paper"``), a :class:`diffaug.Config`, or nested dictionaries of settings on
        top of the default preset.
    backend
        Name of the domain.
    random_state
        Seed of everything random in :meth:`fit`; equal seeds give equal results on one machine's CPU.
        On a GPU some of torch's gradients add in no fixed order, and last digits may differ.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Attributes
    ----------
    config
        The settings; after :meth:`fit` with what it takes from the data, such as the numbers of epochs, filled in.
    asked
        The settings as they were given, for a fit of other data. A cap by ``max_epochs`` is none of them.
    history
        List of :class:`diffaug.core.plan.EpochRecord`.
    sweep
        Models of ``fit(sweep=...)`` by their ``view_rate``, with the same generator.
    meta
        What the caller wants kept with the model, JSON-able (``tl.fit`` keeps gene names here).
    twin
        The loop-off twin of ``fit(twin=True)``, a model with the same generator, else ``None``. :meth:`save` leaves it out;
        it has a ``save`` of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from diffaug import DiffAug
    >>> x = np.random.default_rng(0).gamma(1.0, size=(60, 12)).astype("float32")
    >>> model = DiffAug({"training": {"warmup_steps": 4, "generator_steps": 4, "mixed_steps": 4}}).fit(
    ...     x, progress=False
    ... )
    >>> model.embed(x).semantic.shape
    (60, 80)
    >>> model.augment(x[:5], n_views=2).shape
    (5, 2, 12)
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | str | None = None,
        *,
        backend: str = "cells",
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self._backend_cls = get_backend(backend)
        self.config = resolve_config(config, self._backend_cls)
        self.asked = self.config  # what a fit fills in is for its own data; the next one must not inherit it
        self.random_state = whole_number("random_state", random_state)
        self.device = make_fabric(device).device
        self._device_name = device
        self.history: list[EpochRecord] = []
        self.meta: dict[str, Any] = {}
        self.twin: DiffAug | None = None
        self.sweep: dict[float, DiffAug] = {}
        self._backend: Backend | None = None
        self._strata: Tensor | None = None
        self._batches: Tensor | None = None
        #: Names of the batches that the generator is told of, in order; empty where it is told of none.
        self.batches: list[str] = []

    def __repr__(self) -> str:
        state = "not fitted" if self._backend is None else f"{self.n_obs} x {self.event_shape}, {self.device}"
        return f"DiffAug({self._backend_cls.name}, {state})"

    # --- fitting -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        *,
        batch: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        max_epochs: int | None = None,
        twin: bool = False,
        sweep: Iterable[float] = (),
        checkpoint: str | os.PathLike[str] | CheckpointFile | None = None,
        checkpoint_minutes: float = 10.0,
        progress: bool = True,
    ) -> DiffAug:
        """Train on events.

        Parameters
        ----------
        x
            Events, shape ``(n_obs, *event)``; for cells a dense array or a csr matrix.
        batch
            Batch of each event, codes or names, shape ``(n_obs,)``; for cells, mixup views then lead from batch to batch.
            Generated ones do so too: see ``condition_on_batch`` of :class:`diffaug.core.config.DiffusionConfig`.
        labels
            Labels, shape ``(n_obs,)``; used only with ``condition="label"`` (ablation A1).
        max_epochs
            Cap on the epochs of all phases of the generator and of an encoder; longer plans shrink in proportion.
        twin
            Also train the loop-off twin, as :attr:`twin`: the same warm-up, then the same batches and hand-made views for as
            many epochs, but no generated view. It costs one more mixed phase of each encoder.
        sweep
            Other values of ``view_rate`` (lambda) to train as well, as :attr:`sweep`: equal to fits at those rates, but the
            warm-up and the generator are trained once. Needs ``n_cycles=1``.
        checkpoint
            File that keeps the state of the training. If the process is killed, the same call with the same file goes on
            from there; its result equals that of an uncut training to the bit, on the same machine with the same versions
            and number of threads. Ctrl-C then ends the training after the epoch, whose state is kept. The finished
            training is kept too, and the same call then returns without training: delete the file when the results are saved.
            Each run needs a file of its own. A :class:`diffaug.core.checkpoint.CheckpointFile` may end the training at a time.
        checkpoint_minutes
            Write it at the end of an epoch when so many minutes have passed since the last time; 0 after every epoch. It
            is written less often where that would take more than a twentieth of the time. It is about twice as large as
            the events, once there are generated views of them.
        progress
            Show a progress bar.

        Returns
        -------
        The model itself.

        Raises
        ------
        TypeError, ValueError
            The input or a setting is unusable, or ``checkpoint`` is damaged, or of another run: other settings, another
            seed, other data. The file then stays as it is.
        OSError
            ``checkpoint`` cannot be read, or there is no place to write it.
        diffaug.core.memory.OutOfMemory
            The device or the computer has too little memory; ``checkpoint`` keeps what it holds.
        KeyboardInterrupt, diffaug.core.timebox.OutOfTime
            Ctrl-C, or the end of the checkpoint's time, with the state kept in ``checkpoint``.
        """
        file = checkpoint_file(checkpoint, checkpoint_minutes)
        event_shape, n_obs, batches = training_events(self._backend_cls, x, batch)
        if self.asked.diffusion.condition == "label":
            check_names("labels", labels, n_obs)
        else:
            check_length("labels", labels, n_obs)
        plan = self.asked.training.resolve(n_obs, max_epochs)
        n_views = plan.n_views if plan.n_cycles and plan.view_rate else 0
        sizes = dict(zip(("batch_size", "generator_batch_size"), plan.batch_sizes(n_obs), strict=True))
        needs = memory_of_training(self._backend_cls, n_obs, event_shape, n_views, sizes)
        with enough_memory(self.device, *needs, kept=None if file is None else file.path):
            self._fit(
                x,
                event_shape,
                batches=batches,
                labels=labels,
                plan=plan,
                twin=twin,
                sweep=sweep,
                file=file,
                progress=progress,
            )
        self._say_view_share()
        return self

    def _fit(
        self,
        x: Any,
        event_shape: tuple[int, ...],
        *,
        batches: Batches | None,
        labels: np.ndarray | None,
        plan: TrainingConfig,
        twin: bool,
        sweep: Iterable[float],
        file: CheckpointFile | None,
        progress: bool,
    ) -> None:
        """:meth:`fit` on checked events by a resolved plan, in a frame of its own: see :func:`diffaug.core.memory.enough_memory`."""
        n_obs = x.shape[0]
        config = dataclasses.replace(self.asked, training=plan)
        rates = sweep_rates(sweep, twin=twin, plan=config.training)
        twin_rates = list(dict.fromkeys([*[0.0] * twin, *rates]))
        fabric = make_fabric(self._device_name, config.training.precision)
        one_hot = self._one_hot_of(labels) if config.diffusion.condition == "label" else None
        settled = self._backend_cls(config.domain, event_shape).settled(batched=batches is not None)
        config = dataclasses.replace(config, domain=settled)
        batch = None if batches is None else batches.codes
        told = told_of_batches(config.diffusion, 0 if batches is None else len(batches.names))
        if batches is not None:
            config = config.updated("diffusion", condition_on_batch=told)
        backend = self._backend_cls(settled, event_shape)
        backend.prepare(x)
        with tuned_cpu():
            data = backend.to_model(x)
            saved = None
            if file is not None:
                identity = run_identity(
                    backend,
                    data,
                    config,
                    batch=batch,
                    one_hot=one_hot,
                    random_state=self.random_state,
                    device=self.device,
                    twin_rates=twin_rates,
                )
                saved = file.open(identity, made_with(self.device))
            data = data.to(self.device)  # the one copy from host to device
            backend.to(self.device)
            trainer = new_trainer(
                fabric,
                backend,
                data,
                config,
                batch=batch,
                one_hot=one_hot,
                seed=self.random_state,
                with_twin=bool(twin_rates),
            )
            run = ResumableRun(trainer, backend, file, saved)
            del saved
            with run.interruptible():
                self._train(run, progress)
                self._has_generator = any(r.phase in ("B", "joint") for r in run.history)
                self._backend, self._encoder, self._denoiser = backend, trainer.ensemble().eval(), trainer.ema.module
                self._condition_encoder = trainer.condition_encoder.eval()
                self.config, self.history, self.n_obs = config, run.history, n_obs
                self._conditions, self._strata = trainer.all_conditions(), trainer.strata
                self._batches = trainer.batches
                self.batches = [] if batches is None or not told else [str(name) for name in batches.names]
                self.twin, self.sweep = None, {}
                twins = {rate: self._twin(run, rate, progress) for rate in twin_rates}
                self.twin, self.sweep = twins.get(0.0) if twin else None, {rate: twins[rate] for rate in rates}
                run.finish()

    def _say_view_share(self) -> None:
        """Say the lambda in force, and what it means where it is low."""
        found = view_share(map(dataclasses.asdict, self.history), self.config.training.view_rate)
        if found is None:
            return
        events, where = self._backend_cls.events, self._backend_cls.views_helped
        said = found.sentence(events)
        has_twin = self.twin is not None or 0.0 in self.sweep
        if where and not has_twin and not found.is_low:
            if self.config.training.n_encoders > 1:
                said += (
                    f" In the benchmarks such views helped on a few sets, where {where}; on others that is not shown."
                )
            said += f" What they did for these {events} is not known: a fit with twin=True measures it, best by labels."
        logger.log(logging.WARNING if found.is_low else logging.INFO, "%s", said)

    def _twin(self, run: ResumableRun, view_rate: float, progress: bool) -> DiffAug:
        """A twin: it differs by its encoder, its history and its view_rate."""
        twin = copy.copy(self)
        twin.config = self.config.updated("training", view_rate=view_rate)
        twin.asked = self.asked.updated("training", view_rate=view_rate)
        twin.sweep, twin.meta = {}, dict(self.meta)
        for _ in _shown(run.twin(view_rate), run.trainer.n_twin_epochs, f"twin {view_rate:g}", progress, unit="epoch"):
            pass
        trained = run.twins[view_rate]
        warm = [r for r in self.history if r.cycle == 0]
        # The sort is stable: each encoder's warm-up stays before its twin.
        records = sorted([*warm, *trained.history], key=lambda record: record.member)
        twin.history = [dataclasses.replace(record, epoch=i) for i, record in enumerate(records, 1)]
        assert trained.encoder is not None
        twin._encoder = trained.encoder.eval()
        return twin

    def _train(self, run: ResumableRun, progress: bool) -> None:
        from tqdm.auto import tqdm

        total = sum(block.n_epochs for block in blocks_of(run.trainer.config.training) if block.phase != "fill")
        with tqdm(total=total, initial=run.n_epochs, desc="fit", unit="epoch", disable=not progress) as bar:
            for record in run.main():
                bar.set_postfix(phase=record.phase, cycle=record.cycle, refresh=False)
                bar.update(record.phase != "fill")

    def _one_hot_of(self, labels: np.ndarray | None) -> Tensor | None:
        if labels is None:
            return None
        names, codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)
        self.meta["condition_labels"] = names.tolist()
        return nn.functional.one_hot(torch.as_tensor(codes), len(names)).float()

    # --- using -------------------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        """The fitted domain; raises ``RuntimeError`` before :meth:`fit`."""
        if self._backend is None:
            raise RuntimeError("Expected a fitted model, found one that was never fitted. Call `fit` or `load` first.")
        return self._backend

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        return self.backend.event_shape

    @property
    def n_parameters(self) -> dict[str, int]:
        """Number of weights of the encoder and of the generator."""
        return {
            "encoder": sum(p.numel() for p in self._encoder.parameters()),
            "generator": sum(p.numel() for p in self._denoiser.parameters()),
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all weights, the conditions among them: equal for equal models, on any device, also once loaded."""
        return digest_of(self._tensors())

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that is trained or learnt from the data, by the name under which it is saved."""
        parts = self._modules()
        tensors = {f"{part}.{key}": t for part, module in parts.items() for key, t in module.state_dict().items()}
        of_events = {"conditions": self._conditions, "strata": self._strata, "batches": self._batches}
        return tensors | {name: values for name, values in of_events.items() if values is not None}

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
        with tuned_cpu():
            return embed_events(self._encoder_or_raise(), self.backend, x, self.device)

    def split_half_overlap(
        self, x: Any, *, k: int = 15, n_splits: int = 4, max_obs: int = 5000, random_state: int = 0
    ) -> np.ndarray:
        """How far two halves of the features agree on each event's neighbours: a reading of the embedding without labels.

        See :func:`diffaug.core.probes.split_half_overlap`. It does not tell the better of two embeddings: over 68 pairs the
        rank correlation of its change with that of any labelled score was between -0.05 and 0.12 (entry 5 of
        ``docs/experiments.md``). A fall is a warning, a rise no proof. Equal seeds give equal splits and equal events,
        so that two models can be compared event by event.

        Parameters
        ----------
        x
            Events, shape ``(n, *event)``.
        k
            Size of the neighbourhoods.
        n_splits
            Random splits to average over.
        max_obs
            Of more events so many are drawn.
        random_state
            Seed.

        Returns
        -------
        Share of the neighbours found by both halves, in [0, 1], shape ``(min(n, max_obs),)``.

        Raises
        ------
        ValueError
            There are not more than ``k`` events, or they do not fit the model.
        """
        backend = self.backend
        backend.event_shape_of(x)
        max_obs = whole_number("max_obs", max_obs, 2)
        rows = np.arange(x.shape[0])
        if len(rows) > max_obs:
            rows = np.sort(
                np.random.default_rng(whole_number("random_state", random_state)).permutation(rows)[:max_obs]
            )
        what = f"the two embeddings of {len(rows):,} {backend.events}"
        with enough_memory(self.device, what, "Lower `max_obs`."), tuned_cpu():
            shared = split_half_overlap(
                lambda events: encode(self._encoder, events).semantic,
                torch.cat(list(model_space(backend, x[rows], self.device))),
                self._stream("augment", random_state),
                k=whole_number("k", k, 1),
                n_splits=whole_number("n_splits", n_splits, 1),
            )
        return shared.cpu().numpy().astype(np.float64)

    def augment(
        self,
        x: Any,
        n_views: int = 1,
        *,
        kind: str = "diffaug",
        labels: np.ndarray | None = None,
        batch: np.ndarray | Sequence[str | None] | str | None = None,
        strength: float = 1.0,
        random_state: int = 0,
        progress: bool = False,
    ) -> np.ndarray:
        """Views of given events.

        Parameters
        ----------
        x
            Events, shape ``(n, *event)``.
        n_views
            Views of each.
        kind
            ``"diffaug"`` (generated) or one of the backend's hand-made kinds.
        labels
            Labels of ``x``, for a model fitted with ``condition="label"``.
        batch
            For a model whose generator is told of batches (:attr:`batches`): which of them it is told for generated views, one
            name for all or one for each event; what an event's vector says of its own batch stays. ``None``, also among the
            names, tells it none in particular.
        strength
            How far a generated view starts from the event itself: 1 starts from pure noise and knows the event only
            through its condition (and, of cells, the depth), less keeps more of its own values.
        random_state
            Seed.
        progress
            Show a progress bar.

        Returns
        -------
        Shape ``(n, n_views, *event)``, on the scale of the input.
        """
        backend = self.backend
        n_views = whole_number("n_views", n_views, 1)
        strength = share("strength", strength)
        backend.event_shape_of(x)  # says what is wrong with an ``x`` that has no shape
        check_length("labels", labels, x.shape[0])
        codes = self._batch_codes(batch, x.shape[0])
        kinds = ("diffaug", *backend.view_kinds)
        if kind not in kinds:
            raise ValueError(f"Expected `kind` in {list(kinds)}, found {kind!r}.")
        if batch is not None and kind != "diffaug":
            raise ValueError(f"Expected kind='diffaug' with `batch`, found {kind!r}. Leave out the one or the other.")
        if strength < 1 and kind != "diffaug":
            raise ValueError(
                f"Expected kind='diffaug' for `strength` below 1, found {kind!r} (strength={strength:g}): a hand-made view has "
                "no such start. Leave out the one or the other."
            )
        stream = self._stream("augment", random_state)
        at_once = self._drawn_at_once if kind == "diffaug" else x.shape[0] * n_views
        what = f"views (n_views={n_views}) of {x.shape[0]:,} {backend.events}"
        with enough_memory(self.device, what, fewer_at_a_time(at_once)), tuned_cpu(), torch.no_grad():
            if kind == "diffaug":
                self._require_generator()
                views = self._generated_views(x, n_views, labels, codes, strength, stream, progress)
            else:
                views = self._hand_made_views(x, n_views, kind, stream)
            return views.reshape(-1, n_views, *self.event_shape)

    def _hand_made_views(self, x: Any, n_views: int, kind: str, stream: torch.Generator) -> np.ndarray:
        """Hand-made views of each event, one event after the other."""
        data = torch.cat(list(model_space(self.backend, x, self.device)))
        index = torch.arange(len(data), device=self.device).repeat_interleave(n_views)
        return self.backend.from_model(self.backend.hand_views(data, kind=kind)(index, stream))

    def _generated_views(
        self,
        x: Any,
        n_views: int,
        labels: np.ndarray | None,
        codes: np.ndarray,
        strength: float,
        stream: torch.Generator,
        progress: bool,
    ) -> np.ndarray:
        """Views of the trained generator, those of one event after the other, made chunk by chunk."""
        backend = self.backend
        made, done = [], 0
        size = max(1, _BATCH // n_views)
        for chunk in _shown(model_space(backend, x, self.device, size), -(-x.shape[0] // size), "augment", progress):
            rows = slice(done, done + len(chunk))
            part, done = None if labels is None else np.asarray(labels)[rows], rows.stop
            cond = self._conditions_of(chunk, part, codes[rows], stream).repeat_interleave(n_views, dim=0)
            start = None
            if strength < 1:
                start = backend.to_generator(chunk.repeat_interleave(n_views, dim=0), stream)
            strata = None if self._strata is None else backend.strata(chunk)
            strata = None if strata is None else strata.repeat_interleave(n_views)
            made.append(self._drawn(cond, strata, stream, start=start, strength=strength))
        return np.concatenate(made)

    def generate(
        self,
        n_obs: int | None = None,
        *,
        source: np.ndarray | None = None,
        random_state: int = 0,
        progress: bool = False,
    ) -> Samples:
        """New events under the conditions of training events.

        Parameters
        ----------
        n_obs
            How many; their training events are drawn at random, each about equally often.
        source
            Instead: the training event (row number) that conditions each, shape ``(n,)``.
        random_state
            Seed.
        progress
            Show a progress bar.

        Returns
        -------
        :class:`Samples`, on the scale of the input.
        """
        self._require_generator()
        if (n_obs is None) == (source is None):
            raise ValueError(
                "Expected exactly one of `n_obs` and `source`, found " + ("neither." if n_obs is None else "both.")
            )
        stream = self._stream("generate", random_state)
        source = self._rows_at_random(n_obs, random_state) if source is None else _checked_rows(source, self.n_obs)
        what = f"{len(source):,} synthetic {self.backend.events}"
        with enough_memory(self.device, what, fewer_at_a_time(self._drawn_at_once)), tuned_cpu():
            return Samples(self._generated(source, stream, progress), source)

    def _generated(self, source: np.ndarray, stream: torch.Generator, progress: bool) -> np.ndarray:
        """New events under the conditions of these training events, made chunk by chunk."""
        made = []
        parts = np.array_split(source, math.ceil(len(source) / _BATCH))
        for rows in _shown(parts, len(parts), "generate", progress):
            index = torch.as_tensor(rows, device=self.device)
            cond, strata = self._conditions[index], None if self._strata is None else self._strata[index]
            if self.config.diffusion.condition == "noise":
                cond = torch.randn(cond.shape, generator=stream, device=self.device)
            if self._batches is not None:
                cond = with_batch(cond, self._batches[index], len(self.batches))
            made.append(self._drawn(cond, strata, stream))
        return np.concatenate(made)

    @property
    def _drawn_at_once(self) -> int:
        return min(_BATCH, events_at_once(self.event_shape))

    def _rows_at_random(self, n: int | None, seed: int) -> np.ndarray:
        """Rows of training events, each about equally often."""
        n = whole_number("n_obs", n, 1)
        rng = np.random.default_rng(seed)
        rounds = math.ceil(n / self.n_obs)
        return np.concatenate([rng.permutation(self.n_obs) for _ in range(rounds)])[:n]

    def batch_of(self, source: np.ndarray) -> np.ndarray | None:
        """Batches of training events, as the generator is told them.

        Parameters
        ----------
        source
            Row numbers of training events, shape ``(n,)``.

        Returns
        -------
        Names among :attr:`batches`, shape ``(n,)``; ``None`` for a model whose generator is told of none.
        """
        if self._batches is None:
            return None
        return np.array(self.batches)[self._batches[torch.as_tensor(source, device=self.device)].cpu().numpy()]

    def _batch_codes(self, batch: Any, n_obs: int) -> np.ndarray:
        """Code of the batch of each event, -1 where none is named."""
        if batch is None:
            return np.full(n_obs, UNKNOWN)
        known = {name: code for code, name in enumerate(self.batches)}
        if not known:
            raise ValueError(
                f"Expected no `batch` for a model whose generator is told of none, found {batch!r}. Fit with two batches or more "
                "(`batch_key`, or `batch`), or leave it out."
            )
        if np.ndim(batch) == 0:
            batch = [batch] * n_obs
        check_length("batch", batch, n_obs)
        names = [name if name is None else str(name) for name in np.asarray(batch, dtype=object).tolist()]
        unknown = sorted({name for name in names if name is not None} - set(known))
        if unknown:
            raise ValueError(
                f"Expected batches among {self.batches}, found {unknown[0]!r}. Name one of these, or None for none in particular."
            )
        return np.array([UNKNOWN if name is None else known[name] for name in names])

    def _conditions_of(
        self, data: Tensor, labels: np.ndarray | None, codes: np.ndarray, stream: torch.Generator
    ) -> Tensor:
        """Conditions of events in model space, with the batches of these codes where the generator is told of batches."""
        cond = self._own_conditions_of(data, labels, stream)
        if not self.batches:
            return cond
        return with_batch(cond, torch.as_tensor(codes, device=self.device), len(self.batches))

    def _own_conditions_of(self, data: Tensor, labels: np.ndarray | None, stream: torch.Generator) -> Tensor:
        """Conditions of events in model space, without the batch."""
        kind = self.config.diffusion.condition
        if kind == "noise":
            return torch.randn(len(data), self._conditions.shape[1], generator=stream, device=self.device)
        if kind == "label":
            known: list[str] = self.meta["condition_labels"]
            if labels is None:
                raise ValueError(f"This generator is conditioned on labels ({known}). Expected `labels`, found none.")
            names = np.asarray(labels).astype(str)
            unknown = sorted(set(names.tolist()) - set(known))
            if unknown:
                raise ValueError(f"Expected labels among {known}, found {unknown[0]!r}.")
            codes = torch.as_tensor(np.searchsorted(known, names), device=self.device)
            return nn.functional.one_hot(codes, len(known)).float()
        encoded = encode(self._condition_encoder, data)
        return encoded.semantic if kind == "semantic" else encoded.latent

    @torch.no_grad()
    def _drawn(
        self,
        cond: Tensor,
        strata: Tensor | None,
        stream: torch.Generator,
        *,
        start: Tensor | None = None,
        strength: float = 1.0,
    ) -> np.ndarray:
        """Sampled events as user data, under conditions and in the strata of the events that these come from."""
        settings, backend = self.config.diffusion, self.backend
        diffusion = GaussianDiffusion(NoiseSchedule(settings.schedule, settings.n_timesteps), settings.prediction_type)
        drawn = draw(
            diffusion, self._denoiser, cond, self.event_shape, self.config, stream, start=start, strength=strength
        )
        return backend.from_model(backend.from_generator(drawn, strata))

    def _stream(self, name: str, seed: int) -> torch.Generator:
        return random_streams(whole_number("random_state", seed), ("augment", "generate"), self.device)[name]

    def _require_generator(self) -> None:
        if not (self.backend is not None and self._has_generator):
            raise RuntimeError(
                "Expected a trained generator, found a model fitted with the encoder alone "
                f"(n_cycles={self.config.training.n_cycles}). Fit with n_cycles of at least 1."
            )

    # --- keeping -----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model to a folder: ``config.json``, ``weights.safetensors``, ``history.csv``.

        The conditions of the training events go with it, and what ``tl.fit`` keeps in :attr:`meta`: the names of the
        training cells, their library sizes and the groups in their ``.obs``. Share the folder only where those may be shared.

        Parameters
        ----------
        path
            Folder to create; it appears whole or not at all.
        overwrite
            Replace an existing model. A folder with anything else in it is never replaced.

        Returns
        -------
        The folder.

        Raises
        ------
        FileExistsError
            The folder exists and ``overwrite`` is false, or it holds other files than a model's.
        OSError
            The place cannot be written.
        """
        tensors = self._tensors()
        header = Header(
            backend=self._backend_cls.name,
            event_shape=list(self.event_shape),
            n_obs=self.n_obs,
            n_cond=self._conditions.shape[1],
            has_generator=self._has_generator,
            random_state=self.random_state,
            config=self.config.to_dict(),
            asked=self.asked.to_dict(),
            batches=self.batches,
            meta=self.meta,
        )
        return write_model(path, header, tensors, self.history, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> DiffAug:
        """Read a model that :meth:`save` wrote, on any machine.

        Parameters
        ----------
        path
            The folder.
        device
            Where to put it.

        Returns
        -------
        The fitted model.

        Raises
        ------
        FileNotFoundError
            The folder or one of its files is missing.
        ValueError
            It is not a model, is damaged, or was written by a newer version.
        """
        saved = read_model(path)
        header, backend_cls = saved.header, get_backend(saved.header.backend)
        config = saved.settings(backend_cls)
        model = cls(config, backend=header.backend, random_state=header.random_state, device=device)
        model.asked = saved.asked(backend_cls)
        backend = backend_cls(config.domain, tuple(header.event_shape))

        def encoders(n: int) -> nn.Module:
            return as_one([backend.make_encoder() for _ in range(n)], backend.event_shape)

        n_encoders = config.training.n_encoders
        model._backend, model._encoder = backend, encoders(n_encoders)
        model._condition_encoder = encoders(n_encoders if saved.is_ensemble("condition_encoder") else 1)
        model._denoiser = backend.make_denoiser(header.n_cond + len(header.batches))
        with enough_memory(model.device, f"the model in {str(path)!r}"):
            for part, module in model._modules().items():
                saved.fill(part, module)
                module.to(model.device).eval().requires_grad_(False)
            model._conditions, strata = saved.conditions().to(model.device), saved.strata()
            model._strata = None if strata is None else strata.to(model.device)
            codes = saved.batch_codes()
            model._batches = None if codes is None else codes.to(model.device)
        model.batches = list(header.batches)
        model.n_obs, model._has_generator, model.meta = header.n_obs, header.has_generator, header.meta
        model.history = saved.history()
        return model

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "encoder": self._encoder_or_raise(),
            "condition_encoder": self._condition_encoder,
            "denoiser": self._denoiser,
            "backend": self.backend,
        }

    def _encoder_or_raise(self) -> nn.Module:
        assert self.backend is not None  # raises the clear error before fit
        return self._encoder


def _shown(items: Iterable[T], total: int, name: str, progress: bool, unit: str = "batch") -> Iterable[T]:
    """Items under a progress bar, if one is wanted and there is more than one item."""
    from tqdm.auto import tqdm

    return tqdm(items, total=total, desc=name, unit=unit, disable=not (progress and total > 1))


def _checked_rows(source: Any, n_obs: int) -> np.ndarray:
    """Row numbers of training events as an array."""
    source = np.asarray(source)
    if source.dtype.kind not in "iu" or source.ndim != 1:
        raise TypeError(
            f"Expected `source` to be a list of row numbers, found dtype {source.dtype}, shape {source.shape}."
        )
    if not len(source) or source.min() < 0 or source.max() >= n_obs:
        raise ValueError(f"Expected `source` to be row numbers below {n_obs}, found {source!r}.")
    return source
