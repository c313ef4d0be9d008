"""The loop: A (warm-up) -> [B -> fill the bank of views -> A (mixed)] x n_cycles, or both networks jointly.

Of an ensemble every encoder has its A phases. The one generator is conditioned on the mean of their vectors (jointly: on the first
encoder's), and draws views for each of them anew.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diffaug.core.bank import Positives, ViewBank, filled_bank, measured_trust, mix_views
from diffaug.core.batch_condition import OtherBatches, some_untold, with_batch
from diffaug.core.batches import contrastive_loss, encode_pair, pair_probes, shuffled_batches
from diffaug.core.config import Config
from diffaug.core.devices import random_streams, seeded_init
from diffaug.core.diffusion import GaussianDiffusion
from diffaug.core.ema import EMA
from diffaug.core.ensemble import aligned, as_one, members_of
from diffaug.core.inference import calibration_index, draw, encode
from diffaug.core.learner import Learner, Patience, finite_loss
from diffaug.core.member import ENCODER_STREAMS, Member, member_seed
from diffaug.core.networks import Encoding
from diffaug.core.plan import STREAMS, EpochRecord, Place, blocks_of, known_epochs
from diffaug.core.schedules import NoiseSchedule
from diffaug.core.trust import ViewTrust
from diffaug.core.views import HandViews, drop_features

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Trainer:
    """Trains one or several encoders and a conditional generator in turn.

    Parameters
    ----------
    fabric
        Device and precision.
    encoder
        Network ``x -> (semantic, latent)``.
    denoiser
        Network ``(x_t, t, cond) -> prediction``.
    data
        All events in the encoder's space, shape ``(n_obs, *event)``.
    hand_views
        Hand-made views.
    config
        Settings, with the epochs resolved (:meth:`diffaug.core.config.TrainingConfig.resolve`).
    labels
        One-hot labels, shape ``(n_obs, n_labels)``; only for ``condition="label"``.
    batches
        Batch of each event, codes from 0 without gaps, shape ``(n_obs,)``; only for ``condition_on_batch``.
    to_generator, from_generator
        To the space in which the generator works, and back; the encoder's own space by default.
    calibrate
        Sees a sample of what the generator draws, in its space, after each of its trainings.
    strata
        Stratum of each event, shape ``(n_obs,)``; ``from_generator`` and ``calibrate`` are told it of the events that
        condition what is drawn.
    seed
        Seed of all random streams.
    with_twin
        Keep what :meth:`run_twin` needs: the encoders at the end of the warm-up.
    further
        Further encoders of the ensemble, of the same make (:class:`diffaug.core.ensemble.EnsembleEncoder`). The mean of
        all conditions the generator; in the joint schedule, or without a cycle, ``encoder`` alone does.

    Attributes
    ----------
    encoder, denoiser
        The networks in training; between runs ``encoder`` is the first one.
    twin_encoder
        The encoder of the last twin, an ensemble where the model's is one; ``None`` before :meth:`run_twin`.
    ema
        Averaged denoiser, used for sampling.
    condition_encoder
        The encoder, or the ensemble, as it was when the generator last trained on its conditions. It moves on in the following
        A phase; sampling under its new vectors would show the generator conditions that it never learnt.
    bank
        The generated views of the encoder that last learnt from some, ``None`` until the first fill.
    trust
        What lambda is multiplied by, see :func:`diffaug.core.trust.view_trust`; 1 before the first fill.
    """

    def __init__(
        self,
        fabric: Fabric,
        encoder: nn.Module,
        denoiser: nn.Module,
        data: Tensor,
        hand_views: HandViews,
        config: Config,
        *,
        labels: Tensor | None = None,
        batches: Tensor | None = None,
        to_generator: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        from_generator: Callable[[Tensor, Tensor | None], Tensor] | None = None,
        calibrate: Callable[[Tensor, Tensor | None], None] | None = None,
        strata: Tensor | None = None,
        seed: int = 0,
        with_twin: bool = False,
        further: Sequence[nn.Module] = (),
    ) -> None:
        if config.diffusion.condition == "label" and labels is None:
            raise ValueError("Expected labels for condition='label' (ablation A1), found none. Name a label column.")
        self.config, self.hand_views = config, hand_views
        self._to_generator, self._from_generator, self._calibrate = to_generator, from_generator, calibrate
        plan = config.training
        self._epochs = known_epochs(plan)
        self.device = fabric.device
        self.data = data.to(self.device)
        self.labels = None if labels is None else labels.to(self.device)
        told = batches is not None and bool(config.diffusion.condition_on_batch)
        self.batches = batches.to(self.device) if batches is not None and told else None
        self.n_batches = 0 if self.batches is None else int(self.batches.max()) + 1
        # Of random conditions (ablation A2) nothing is to be known of the event.
        known = strata if config.diffusion.condition != "noise" else None
        self.strata = None if known is None else known.to(self.device)
        self.n_obs = data.shape[0]
        self._event_shape = tuple(data.shape[1:])
        self._dropout = plan.dropout_of(math.prod(self._event_shape))
        self.batch_size, self.generator_batch_size = plan.batch_sizes(self.n_obs)
        self.steps_per_epoch = self.n_obs // self.batch_size
        self.generator_steps_per_epoch = self.n_obs // self.generator_batch_size
        self.diffusion = GaussianDiffusion(
            NoiseSchedule(config.diffusion.schedule, config.diffusion.n_timesteps), config.diffusion.prediction_type
        )
        warmup, generate, _ = self._epochs
        joint = plan.schedule == "joint"
        untrained = warmup == 0 if joint else generate == 0
        if plan.n_cycles > 0 and plan.view_rate > 0 and untrained:
            raise ValueError(
                f"Expected at least 1 `{'warmup' if joint else 'generator'}_epochs` for view_rate={plan.view_rate:g}, found 0: "
                "the views of an untrained generator do harm. Set view_rate=0 to train without views."
            )
        encoder_steps = [epochs * self.steps_per_epoch for epochs in plan.encoder_phases]
        if len(further) != plan.n_encoders - 1:
            raise ValueError(f"Expected n_encoders={plan.n_encoders} encoders, found {1 + len(further)}.")
        streams = [random_streams(member_seed(seed, k), STREAMS, self.device) for k in range(plan.n_encoders)]
        self._members = [
            Member(
                Learner(fabric, each, plan.encoder_lr, plan.weight_decay, encoder_steps, plan.lr_schedule),
                {name: own[name] for name in ENCODER_STREAMS},
            )
            for each, own in zip([encoder, *further], streams, strict=True)
        ]
        self._member, self._is_warmup = self._members[0], False  # the one in training
        self._denoiser = Learner(
            fabric,
            denoiser,
            plan.generator_lr,
            plan.weight_decay,
            encoder_steps if joint else [generate * self.generator_steps_per_epoch] * plan.n_cycles,
            plan.lr_schedule,
        )
        self.ema = EMA(denoiser, config.diffusion.ema_decay)
        self.condition_encoder = copy.deepcopy(encoder) if joint or not plan.n_cycles else self.empty_ensemble()
        self.bank: ViewBank | None = None
        self._with_twin, self._view_rate = with_twin, plan.view_rate
        self.trust = 1.0
        self.twin_encoder: nn.Module | None = None
        self._place, self._patience = Place(), Patience(plan.patience)
        self._twin: dict[str, Any] | None = None  # the twin in training
        self._shared_random = {name: streams[0][name] for name in STREAMS if name not in ENCODER_STREAMS}

    @property
    def encoder(self) -> nn.Module:
        """The encoder in training."""
        return self._member.module

    @property
    def _encoder(self) -> Learner:
        return self._member.learner

    @property
    def _random(self) -> dict[str, torch.Generator]:
        """All streams by name: of the encoder in training, and those that the encoders share."""
        return {**self._shared_random, **self._member.random}

    @property
    def n_twin_epochs(self) -> int:
        """A epochs after the warm-up, of all encoders: as many as a twin will have."""
        return sum(member.n_mixed for member in self._members)

    def ensemble(self) -> nn.Module:
        """The trained encoder, or all of them as one."""
        return aligned(as_one([member.module for member in self._members], self._event_shape), self.data)

    def empty_ensemble(self) -> nn.Module:
        """A network of the make of :meth:`ensemble`, to be filled with weights."""
        return as_one([copy.deepcopy(member.module) for member in self._members], self._event_shape)

    @property
    def denoiser(self) -> nn.Module:
        """The denoiser in training."""
        return self._denoiser.module

    # --- steps -------------------------------------------------------------------------------------------------------

    def positives(self, index: Tensor) -> Positives:
        """Positive views of a batch: hand-made, after the warm-up a share ``view_rate`` of them generated."""
        hand_made = self.hand_views(index, self._random["hand"])
        bank = None if self._is_warmup else self.bank
        return mix_views(hand_made, bank, index, self._view_rate * self.trust, self._random["mix"])

    def a_step(self, index: Tensor, views: Tensor) -> tuple[Tensor, Encoding, Encoding]:
        """One step of the encoder on events ``index`` and their views; the generator is not touched."""
        x, v = encode_pair(self._encoder.net, self._dropped(self.data[index]), self._dropped(views))
        loss = contrastive_loss(x, v, self.config.loss)
        self._encoder.step(loss)
        return loss.detach(), x, v

    def _dropped(self, x: Tensor) -> Tensor:
        return drop_features(x, self._dropout, self._random["dropout"])

    def b_step(self, index: Tensor, cond: Tensor) -> Tensor:
        """One step of the generator on events ``index`` under fixed conditions; the encoder is not touched."""
        dropout = self.config.diffusion.condition_dropout
        if dropout > 0:
            keep = torch.rand(len(index), 1, generator=self._random["noise"], device=self.device) >= dropout
            cond = cond * keep
        if self.n_batches:
            cond = some_untold(cond, self.n_batches, self._random["noise"])
        x0 = self.data[index]
        if self._to_generator is not None:
            x0 = self._to_generator(x0, self._random["space"])
        loss = self.diffusion.loss(self._denoiser.net, x0, cond, self._random["noise"])
        self._denoiser.step(loss)
        self.ema.update(self.denoiser)
        return loss.detach()

    def conditions(
        self, index: Tensor, encoded: Encoding | None = None, stream: torch.Generator | None = None
    ) -> Tensor:
        """Conditions of events ``index``, shape ``(batch, n_cond)``; ``encoded`` holds all events' vectors if known.

        Random ones are drawn from ``stream``, by default from that of the conditions.
        """
        cond = self._own_conditions(index, encoded, stream or self._random["condition"])
        return cond if self.batches is None else with_batch(cond, self.batches[index], self.n_batches)

    def _own_conditions(self, index: Tensor, encoded: Encoding | None, stream: torch.Generator) -> Tensor:
        """Conditions without the batch."""
        kind = self.config.diffusion.condition
        if kind == "label":
            assert self.labels is not None  # checked on creation
            return self.labels[index]
        if encoded is None:
            encoded = encode(self.condition_encoder, self.data[index])
            index = torch.arange(len(index), device=self.device)
        vectors = encoded.semantic if kind != "latent" else encoded.latent
        if kind == "noise":  # ablation A2: the right shape, no information
            return torch.randn(len(index), vectors.shape[1], generator=stream, device=self.device)
        return vectors[index]

    def all_conditions(self) -> Tensor:
        """Conditions of all events, without their batches; asked a second time, as after a resumption, it gives the same."""
        stream = self._random["condition"]
        before = stream.get_state()
        conditions = self._own_conditions(
            torch.arange(self.n_obs, device=self.device), encode(self.condition_encoder, self.data), stream
        )
        stream.set_state(before)
        return conditions.detach()

    # --- phases ------------------------------------------------------------------------------------------------------

    def run(self) -> Iterator[EpochRecord]:
        """Train, from the beginning or on from a loaded state; yields a record after each epoch and each filling of the bank."""
        plan, place = self.config.training, self._place
        for kind, cycle, n_epochs, number in blocks_of(plan)[place.block :]:
            member = self._member = self._members[number]
            self._is_warmup = cycle == 0
            # What begins a block may be done a second time within it: B moves neither the encoder nor its conditions.
            if cycle > 0 and self._with_twin and member.warm is None:
                member.warm = member.state()
            if kind == "B":
                self._freeze_condition()
            while place.done < n_epochs:
                begin = time.perf_counter()
                record = {"A": self._a_epoch, "B": self._b_epoch, "fill": self._fill, "joint": self._joint_epoch}[
                    kind
                ]()
                seconds = time.perf_counter() - begin
                place.done, place.epoch = place.done + 1, place.epoch + (kind != "fill")
                member.n_mixed += cycle > 0 and kind in ("A", "joint")
                losses = [v for v in (record.encoder_loss, record.generator_loss) if not math.isnan(v)]
                if losses and self._patience.exhausted(sum(losses)):
                    place.done = n_epochs
                yield dataclasses.replace(record, cycle=cycle, epoch=place.epoch, seconds=seconds, member=number)
            if kind in ("B", "joint") and n_epochs and self._calibrate is not None:
                index = calibration_index(self.n_obs, self.device)
                self._calibrate(self._draw(self.conditions(index), self._random["calibration"]), self._strata_of(index))
            place.block, place.done, self._patience = place.block + 1, 0, Patience(plan.patience)
        self._member, self._is_warmup = self._members[0], False

    def run_twin(self, view_rate: float = 0.0) -> Iterator[EpochRecord]:
        """Train a twin after :meth:`run`, by default the loop-off twin; yields a record after each epoch.

        The twin goes on from the end of the warm-up for as many A epochs as the model had after it, in the same batches,
        with the same hidden features and the same hand-made views; only the share of them that generated views replace is
        another. Of an ensemble each encoder has its own. The difference between the model and its loop-off twin is what the
        generated views did. The model itself is left as it is.

        Parameters
        ----------
        view_rate
            The twin's lambda. Above 0 it needs a model of one alternating cycle, whose generator draws the same views again; it
            then equals a model trained at that rate.
        """
        plan = self.config.training
        if self._members[0].warm is None:
            raise RuntimeError("Expected a finished `run` of a trainer made with `with_twin=True`, found none.")
        if view_rate > 0 and (self.bank is None or plan.n_cycles != 1 or plan.schedule != "alternating"):
            raise ValueError(
                f"Expected a model of one alternating cycle with views for a twin of view_rate={view_rate:g}, found "
                f"n_cycles={plan.n_cycles}, schedule={plan.schedule!r}, view_rate={plan.view_rate:g}. Fit it on its own."
            )
        if self._twin is None:
            self._twin = {"view_rate": view_rate, "done": 0, "trained": None, "encoders": []}
        elif self._twin["view_rate"] != view_rate:
            raise ValueError(
                f"Expected view_rate={self._twin['view_rate']:g}, which the loaded state is in the middle of, found "
                f"{view_rate:g}. Run that twin first."
            )
        twin = self._twin
        self._view_rate = view_rate
        try:
            for number in range(len(twin["encoders"]), len(self._members)):
                yield from self._member_twin(number, twin)
            trained = self.empty_ensemble()
            for module, state in zip(members_of(trained), twin["encoders"], strict=True):
                module.load_state_dict(state)
            self.twin_encoder = aligned(trained, self.data)
        finally:
            self._member, self._view_rate, self._twin = self._members[0], plan.view_rate, None

    def _member_twin(self, number: int, twin: dict[str, Any]) -> Iterator[EpochRecord]:
        """The part of one encoder in a twin; the encoder itself is left as it was."""
        member = self._member = self._members[number]
        is_new = twin["trained"] is None
        if is_new:
            twin["trained"] = member.state()
        try:
            if is_new:
                assert member.warm is not None  # `run` has come to its end
                member.load_state(member.warm)
                if self._view_rate > 0 and len(self._members) > 1:  # a single encoder's views are still there
                    self._fill()
            while twin["done"] < member.n_mixed:
                begin = time.perf_counter()
                record = self._a_epoch()
                twin["done"] += 1
                yield dataclasses.replace(
                    record,
                    cycle=1,
                    epoch=self._epochs[0] + twin["done"],
                    seconds=time.perf_counter() - begin,
                    member=number,
                )
            twin["encoders"].append(copy.deepcopy(member.module.state_dict()))
        finally:
            member.load_state(twin["trained"])
            twin["done"], twin["trained"] = 0, None

    # --- state -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that the rest of a run depends on, besides what the trainer was made with.

        To be taken between two records of :meth:`run` or :meth:`run_twin`. Plain values and tensors; the weights are copies,
        the bank's views, which do not change, are not.
        """
        return {
            "encoders": [member.whole_state() for member in self._members],
            "denoiser": self._denoiser.state(),
            "ema": self.ema.state(),
            "condition_encoder": copy.deepcopy(self.condition_encoder.state_dict()),
            "bank": None if self.bank is None else self.bank.views,
            "trust": self.trust,
            "random": {name: stream.get_state() for name, stream in self._shared_random.items()},
            "place": dataclasses.asdict(self._place),
            "patience": self._patience.state(),
            "twin": None if self._twin is None else {**self._twin, "encoders": list(self._twin["encoders"])},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a :meth:`state` of a trainer that was made in the same way; :meth:`run` and :meth:`run_twin` go on from there.

        What :meth:`run` calibrates is the caller's, who keeps it and brings it back.
        """
        for member, one in zip(self._members, state["encoders"], strict=True):
            member.load_whole_state(one)
        self._denoiser.load_state(state["denoiser"])
        self.ema.load_state(state["ema"])
        self.condition_encoder.load_state_dict(state["condition_encoder"])
        self.bank, views = None, state["bank"]
        if views is not None:
            self.bank = ViewBank(views.shape[0], views.shape[1], tuple(views.shape[2:]), self.device)
            self.bank.put(slice(None), views)
        self.trust = state["trust"]
        for name, stream in self._shared_random.items():
            stream.set_state(state["random"][name])
        self._place = Place(**state["place"])
        self._patience.load_state(state["patience"])
        self._twin = None if state["twin"] is None else dict(state["twin"])

    def _freeze_condition(self) -> None:
        self.condition_encoder.load_state_dict(self.ensemble().state_dict())
        self._encoded = encode(self.condition_encoder, self.data)

    def _a_epoch(self, with_generator: bool = False) -> EpochRecord:
        self._encoder.net.train()
        loss, generator_loss = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        n_generated: int | Tensor = 0
        for index in shuffled_batches(self.n_obs, self.batch_size, self._random["order"]):
            positives = self.positives(index)
            step_loss, x, v = self.a_step(index, positives.views)
            loss += step_loss
            n_generated = n_generated + positives.n_generated
            if with_generator:
                self.condition_encoder.load_state_dict(self.encoder.state_dict())
                generator_loss += self.b_step(index, self.conditions(index))
        return EpochRecord(
            phase="joint" if with_generator else "A",
            cycle=0,
            epoch=0,
            encoder_loss=finite_loss(loss, "encoder") / self.steps_per_epoch,
            generator_loss=finite_loss(generator_loss, "generator") / self.steps_per_epoch
            if with_generator
            else math.nan,
            n_positives=self.steps_per_epoch * self.batch_size,
            n_generated=int(n_generated),
            **pair_probes(x, v),
        )

    def _seeded_network(self) -> AbstractContextManager[None]:
        """Dropout draws from torch's own generator: it is seeded for an epoch, and afterwards the caller's again."""
        stream = self._random["network"]
        return seeded_init(int(torch.randint(2**62, (), generator=stream, device=self.device)), self.device)

    def _joint_epoch(self) -> EpochRecord:
        self._denoiser.net.train()
        with self._seeded_network():
            return self._a_epoch(with_generator=True)

    def _b_epoch(self) -> EpochRecord:
        self._denoiser.net.train()
        loss = torch.zeros((), device=self.device)
        with self._seeded_network():
            for index in shuffled_batches(self.n_obs, self.generator_batch_size, self._random["generator_order"]):
                loss += self.b_step(index, self.conditions(index, self._encoded))
        return EpochRecord("B", 0, 0, generator_loss=finite_loss(loss, "generator") / self.generator_steps_per_epoch)

    def _fill(self) -> EpochRecord:
        stream, n_views = self._random["bank"], self.config.training.n_views
        others, like = self.other_batches(), list[Tensor]()

        def make(index: Tensor) -> Tensor:
            if others is not None:  # a view is drawn for a near event of another batch
                index = others.draw(index, stream)
                like.append(index)
            return self.draw(self.conditions(index, stream=stream), stream, self._strata_of(index))

        self.bank = None  # the views of before must not lie beside the new ones
        self.bank = filled_bank(self.n_obs, n_views, tuple(self.data.shape[1:]), self.device, make)
        found = ViewTrust(math.nan, math.nan, math.nan)
        if self.config.training.adapt_view_rate:
            found = measured_trust(
                self.condition_encoder,
                self.data,
                self.bank,
                self.hand_views,
                self._random["trust"],
                like=torch.cat(like).reshape(self.n_obs, n_views) if like else None,
            )
            self.trust = found.share
        return EpochRecord(
            "fill",
            0,
            0,
            n_generated=self.n_obs * n_views,
            view_rate=self._view_rate * self.trust,
            **found._asdict(),
        )

    def draw(self, cond: Tensor, generator: torch.Generator, strata: Tensor | None = None) -> Tensor:
        """Events under conditions ``(batch, n_cond)``, in the encoder's space, shape ``(batch, *event)``."""
        drawn = self._draw(cond, generator)
        return drawn if self._from_generator is None else self._from_generator(drawn, strata)

    def other_batches(self) -> OtherBatches | None:
        """Near events of other batches, by the vectors of the conditions' encoder; ``None`` without batches."""
        if self.batches is None:
            return None
        return OtherBatches(self.batches, encode(self.condition_encoder, self.data).semantic, self._random["bank"])

    def _strata_of(self, index: Tensor) -> Tensor | None:
        return None if self.strata is None else self.strata[index]

    def _draw(self, cond: Tensor, generator: torch.Generator) -> Tensor:
        return draw(self.diffusion, self.ema.module, cond, tuple(self.data.shape[1:]), self.config, generator)
