"""Settings of the domain-free part: frozen, checked on creation, and read from plain dictionaries."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from diffaug.core.devices import Precision
from diffaug.core.diffusion import PredictionType
from diffaug.core.losses import Target
from diffaug.core.samplers import SamplerName
from diffaug.core.schedules import ScheduleName
from diffaug.core.similarity import Kernel

Condition = Literal["semantic", "latent", "label", "noise"]
T = TypeVar("T")
#: Hidden features where ``input_dropout`` is ``None``: of events in general, and of those with fewer numbers than the last
#: (``docs/experiments.md``).
_DROPOUT, _DROPOUT_SHORT, _SHORT = 0.3, 0.1, 100


def _check(ok: bool, expected: str, found: object) -> None:
    if not ok:
        raise ValueError(f"Expected {expected}, found {found!r}.")


def check_fields(settings: Any) -> None:
    """Check every field of a settings dataclass against its type: ``Literal`` choices, kinds, finite numbers.

    NumPy's numbers become Python's and lists become tuples, so that equal settings compare and print as equal.
    """
    for name, hint in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        choices = _choices(hint)
        if choices:
            _check(value in choices, f"`{name}` in {choices}", value)
            continue
        value = _coerce(name, hint, value)
        _check(not isinstance(value, float) or math.isfinite(value), f"a finite `{name}`", value)
        object.__setattr__(settings, name, value)  # frozen for users; this runs while the object is made


def _choices(hint: Any) -> list[Any]:
    """Choices of a ``Literal``, and of one or ``None``; of other types none."""
    if typing.get_origin(hint) is Literal:
        return list(typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        found = [_choices(option) for option in typing.get_args(hint)]
        if any(found):
            return [None, *(choice for part in found for choice in part)]
    return []


@dataclass(frozen=True)
class LossConfig:
    """Contrastive loss of the A-step.

    Parameters
    ----------
    name
        ``"info_nce"`` (ablation B3 of the paper) or ``"soft"`` (Eq. 2).
    temperature
        Temperature of InfoNCE.
    beta
        Extra trust in the positive of the soft loss, in [0, 1]. Without effect where the positive's target is 1 already:
        with ``kernel="unit_peak"`` and ``target="scale_free"`` together.
    dof_semantic, dof_latent
        Degrees of freedom (nu) of the soft loss's kernels.
    kernel
        ``"student_t"`` (Eq. 9), ``"released"`` (the authors' code) or ``"unit_peak"``.
    target
        ``"literal"`` (Eq. 2 as printed) or ``"scale_free"``.
    """

    name: Literal["soft", "info_nce"] = "info_nce"
    temperature: float = 0.5
    beta: float = 1.0
    dof_semantic: float = 1.0
    dof_latent: float = 1.0
    kernel: Kernel = "unit_peak"
    target: Target = "scale_free"

    def __post_init__(self) -> None:
        check_fields(self)
        _check(self.temperature > 0, "`temperature` above 0", self.temperature)
        _check(0 <= self.beta <= 1, "`beta` in [0, 1]", self.beta)
        _check(self.dof_semantic > 0, "`dof_semantic` above 0", self.dof_semantic)
        _check(self.dof_latent > 0, "`dof_latent` above 0", self.dof_latent)


@dataclass(frozen=True)
class DiffusionConfig:
    """The generator's diffusion process, its condition and its sampler.

    Parameters
    ----------
    n_timesteps, schedule, prediction_type
        See :class:`diffaug.core.schedules.NoiseSchedule` and :class:`diffaug.core.diffusion.GaussianDiffusion`.
    condition
        What the generator is conditioned on: the ``"semantic"`` or ``"latent"`` vector of the event, its ``"label"`` as
        one-hot (ablation A1, supervised) or fresh ``"noise"`` (ablation A2).
    condition_dropout
        Probability of training on the null condition, which ``guidance_scale`` needs.
    condition_on_batch
        Whether the generator is also told of which batch an event is, and the encoder's views of an event are drawn for near
        events of other batches (:class:`diffaug.core.batch_condition.OtherBatches`), so that they lead from batch to batch.
        Needs batches, two at least, in the fit; ``None`` is whether there are.
    sampler, n_steps, eta
        See :func:`diffaug.core.samplers.sample`.
    guidance_scale
        Weight of the condition in sampling; 1 is plain conditional sampling.
    clip_x0
        Sampling clips the predicted clean event to plus or minus this in every step. Right where events are bounded in
        the generator's space, and harmful where they are not; ``None`` never clips.
    ema_decay
        Decay of the averaged weights that sampling uses.
    """

    n_timesteps: int = 1000
    schedule: ScheduleName = "linear"
    prediction_type: PredictionType = "v"
    condition: Condition = "semantic"
    condition_dropout: float = 0.0
    condition_on_batch: bool | None = None
    sampler: SamplerName = "dpmpp_2m"
    n_steps: int = 20
    eta: float = 0.0
    guidance_scale: float = 1.0
    clip_x0: float | None = None
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        check_fields(self)
        _check(self.n_timesteps >= 2, "`n_timesteps` of at least 2", self.n_timesteps)
        _check(1 <= self.n_steps <= self.n_timesteps, f"`n_steps` in 1 .. {self.n_timesteps}", self.n_steps)
        _check(0 <= self.condition_dropout < 1, "`condition_dropout` in [0, 1)", self.condition_dropout)
        _check(0 <= self.eta <= 1, "`eta` in [0, 1]", self.eta)
        _check(self.guidance_scale >= 0, "`guidance_scale` of at least 0", self.guidance_scale)
        _check(self.clip_x0 is None or self.clip_x0 > 0, "`clip_x0` above 0 or None", self.clip_x0)
        _check(0 <= self.ema_decay < 1, "`ema_decay` in [0, 1)", self.ema_decay)
        if self.condition_on_batch and self.condition == "noise":
            raise ValueError(
                "Expected `condition_on_batch` of False for `condition` 'noise', of which nothing of the event is to be known, found "
                "True. Leave it out."
            )
        if self.eta != 0 and self.sampler != "ddim":
            raise ValueError(
                f"Expected `eta` of 0 for `sampler` {self.sampler!r}, which does not read it, found {self.eta}. Set `sampler` to "
                "'ddim'."
            )
        if self.guidance_scale != 1 and self.condition_dropout == 0:
            raise ValueError(
                f"Expected `condition_dropout` above 0 for `guidance_scale` {self.guidance_scale}, found 0: "
                "the generator never learns the null condition. Set `condition_dropout` to 0.1, say."
            )


@dataclass(frozen=True)
class TrainingConfig:
    """Phases, optimiser and the loop.

    Parameters
    ----------
    schedule
        ``"alternating"``: A (warm-up) -> [B -> fill the bank -> A (mixed)] x ``n_cycles``; of an ensemble each encoder has its
        warm-up first, and in each cycle its own filling and mixed phase after the one B. ``"joint"``: both networks in
        one pass (the paper's first version, ablation B4), the bank filled before each mixed block.
    n_cycles
        Times the generator is trained and its views shown to the encoder. 0 trains the encoders alone, on hand-made views in the
        phases of one cycle. They are those of that loop's twin, to the last bit, unless ``patience`` or a cap on the epochs,
        which then holds no epochs of a generator, ends a phase elsewhere.
    warmup_epochs, generator_epochs, mixed_epochs
        Epochs of the warm-up, and of each cycle's B and A phase. ``None`` takes them from the number of events, so
        that the phases have about ``warmup_steps``, ``generator_steps`` and ``mixed_steps`` optimiser steps in all.
    warmup_steps, generator_steps, mixed_steps
        Optimiser steps over all cycles, used where the epochs are ``None``.
    encoder_passes, generator_passes
        Where the epochs are ``None``: the warm-up, all mixed phases together, and all B phases together go over the data
        at least so often, as far as that takes no more than ``max_steps`` steps. Large sets need more steps than
        small ones. Phases have whole epochs, one at least, so that sets of more than ``max_steps`` batches take more steps.
    max_steps
        See ``encoder_passes``.
    batch_size
        Events per step; smaller sets use one batch of all their events.
    generator_batch_size
        Events per step of the generator in a B phase; ``None`` is ``batch_size``. A contrast needs many events at once, a
        regression does not: where a step's time goes with its events, as that of convolutions on a CPU does, small batches
        give more steps in the same time (entry 20 of ``docs/experiments.md``). In the ``"joint"`` schedule both networks
        take the same batches, and this is not used.
    encoder_lr, generator_lr, weight_decay
        AdamW's settings.
    lr_schedule
        ``"constant"``, ``"cosine"`` (linear warm-up over a tenth, then to zero over all of a network's epochs), or
        ``"cosine_restarts"`` (the same anew in each phase: the encoder meets the generated views at its full rate).
    view_rate
        Probability lambda that a positive is a generated view after the warm-up.
    adapt_view_rate
        Whether to lower lambda where the generated views are worth less than hand-made ones, as told without labels by
        :func:`diffaug.core.trust.view_trust`: copies of their events, or strangers to them.
    n_views
        Generated views of each event in the bank; no more than a mixed phase has epochs, of which each shows one.
    n_encoders
        Encoders of the ensemble whose vectors, turned onto each other, are averaged to the embedding
        (:class:`diffaug.core.ensemble.EnsembleEncoder`). Each has first weights, batches and views of its own and as many
        epochs as a single one. There is one generator, conditioned on the mean of them all (jointly: on the first). Presets of domains whose
        encoders take most of the time have 1, and so has ``"paper"``.
    input_dropout
        Share of the input features hidden from the encoder in the A-step, in originals and views alike. ``None`` is 0.3,
        and 0.1 for events of fewer than 100 numbers, of which none can be spared.
    precision
        ``"32-true"``, or ``"bf16-mixed"`` for training on a GPU (or a CPU with fast bfloat16 products).
    patience
        Stop a phase when its training loss has not improved by a thousandth for so many epochs; ``None`` never stops.
    """

    schedule: Literal["alternating", "joint"] = "alternating"
    n_cycles: int = 1
    warmup_epochs: int | None = None
    generator_epochs: int | None = None
    mixed_epochs: int | None = None
    warmup_steps: int = 400
    generator_steps: int = 1500
    mixed_steps: int = 400
    encoder_passes: int = 50
    generator_passes: int = 100
    max_steps: int = 2500
    batch_size: int = 256
    generator_batch_size: int | None = None
    encoder_lr: float = 1e-3
    generator_lr: float = 1e-3
    weight_decay: float = 1e-6
    lr_schedule: Literal["constant", "cosine", "cosine_restarts"] = "cosine_restarts"
    view_rate: float = 1.0
    adapt_view_rate: bool = True
    n_views: int = 2
    n_encoders: int = 5
    input_dropout: float | None = None
    precision: Precision = "32-true"
    patience: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        _check(self.n_cycles >= 0, "`n_cycles` of at least 0", self.n_cycles)
        for name in ("warmup_epochs", "generator_epochs", "mixed_epochs"):
            value = getattr(self, name)
            _check(value is None or value >= 0, f"`{name}` of at least 0 or None", value)
        for name in (
            "warmup_steps",
            "generator_steps",
            "mixed_steps",
            "encoder_passes",
            "generator_passes",
            "max_steps",
        ):
            _check(getattr(self, name) >= 0, f"`{name}` of at least 0", getattr(self, name))
        _check(self.batch_size >= 2, "`batch_size` of at least 2", self.batch_size)
        size = self.generator_batch_size
        _check(size is None or size >= 1, "`generator_batch_size` of at least 1 or None", size)
        for name in ("encoder_lr", "generator_lr"):
            _check(getattr(self, name) > 0, f"`{name}` above 0", getattr(self, name))
        _check(self.weight_decay >= 0, "`weight_decay` of at least 0", self.weight_decay)
        _check(0 <= self.view_rate <= 1, "`view_rate` in [0, 1]", self.view_rate)
        _check(self.n_views >= 1, "`n_views` of at least 1", self.n_views)
        _check(self.n_encoders >= 1, "`n_encoders` of at least 1", self.n_encoders)
        rate = self.input_dropout
        _check(rate is None or 0 <= rate < 1, "`input_dropout` in [0, 1) or None", rate)
        _check(self.patience is None or self.patience >= 1, "`patience` of at least 1 or None", self.patience)

    def dropout_of(self, n_features: int) -> float:
        """The share of hidden features for events of ``n_features`` numbers."""
        if self.input_dropout is not None:
            return self.input_dropout
        return _DROPOUT if n_features >= _SHORT else _DROPOUT_SHORT

    def batch_sizes(self, n_obs: int) -> tuple[int, int]:
        """Events per step of the encoder and of the generator, for ``n_obs`` events."""
        encoder = min(self.batch_size, n_obs)
        if self.generator_batch_size is None or self.schedule == "joint":
            return encoder, encoder
        return encoder, min(self.generator_batch_size, n_obs)

    @property
    def encoder_phases(self) -> tuple[int, ...]:
        """Epochs of each A phase, the warm-up first; they are known once :meth:`resolve` has filled them in."""
        if self.warmup_epochs is None or self.mixed_epochs is None:
            raise ValueError(
                "Expected known numbers of epochs, found None. Call `TrainingConfig.resolve(n_obs)` first."
            )
        return (self.warmup_epochs, *[self.mixed_epochs] * max(self.n_cycles, 1))

    @property
    def encoder_epochs(self) -> int:
        """Epochs of an encoder over all its phases."""
        return sum(self.encoder_phases)

    def resolve(self, n_obs: int, max_epochs: int | None = None) -> TrainingConfig:
        """Fill in the epochs that are ``None`` for ``n_obs`` events.

        ``max_epochs`` then caps the sum over all phases and cycles of one encoder and the generator: longer plans are shrunk
        in proportion, each planned phase keeping at least one epoch, also where that is more than the cap. Each further
        encoder of an ensemble has the epochs of the first. Of ``n_views`` no more are kept than a mixed phase has epochs.
        """
        encoder_steps, generator_steps = (max(1, n_obs // size) for size in self.batch_sizes(n_obs))
        cycles = max(self.n_cycles, 1)

        def epochs(given: int | None, steps: int, passes: int, per_epoch: int, shares: int = 1) -> int:
            if given is not None:
                return given
            least = max(steps, min(passes * per_epoch, self.max_steps)) if steps else 0
            return -(-least // (per_epoch * shares))

        warmup = epochs(self.warmup_epochs, self.warmup_steps, self.encoder_passes, encoder_steps)
        generator = epochs(self.generator_epochs, self.generator_steps, self.generator_passes, generator_steps, cycles)
        mixed = epochs(self.mixed_epochs, self.mixed_steps, self.encoder_passes, encoder_steps, cycles)

        def total() -> int:
            return warmup + self.n_cycles * generator + cycles * mixed

        if max_epochs is not None:
            _coerce("max_epochs", int, max_epochs)
            _check(max_epochs >= 1, "`max_epochs` of at least 1", max_epochs)
            shrink = max_epochs / max(1, total())
            if shrink < 1:
                warmup, generator, mixed = (max(1, int(e * shrink)) if e else 0 for e in (warmup, generator, mixed))
                # A phase rounded up to one epoch takes it from the longest.
                while total() > max_epochs:
                    longest = max(warmup, generator, mixed)
                    if longest == 1:
                        break
                    if warmup == longest:
                        warmup -= 1
                    elif generator == longest:
                        generator -= 1
                    else:
                        mixed -= 1
        n_views = max(1, min(self.n_views, mixed))
        return dataclasses.replace(
            self, warmup_epochs=warmup, generator_epochs=generator, mixed_epochs=mixed, n_views=n_views
        )


@dataclass(frozen=True)
class Config:
    """All settings of a fit; ``domain`` holds those of the backend, a dataclass of its own."""

    loss: LossConfig = field(default_factory=LossConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    domain: Any = None

    def __post_init__(self) -> None:
        for name, cls in (("loss", LossConfig), ("diffusion", DiffusionConfig), ("training", TrainingConfig)):
            if not isinstance(getattr(self, name), cls):
                raise TypeError(f"Expected `{name}` to be a {cls.__name__}, found {getattr(self, name)!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, ready for JSON, TOML or ``.uns``; inverse of :func:`config_from_dict`."""
        return {
            section: {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in dataclasses.asdict(getattr(self, section)).items()
                if value is not None
            }
            for section in ("loss", "diffusion", "training", "domain")
            if getattr(self, section) is not None
        }

    def updated(self, section: str, **changes: Any) -> Config:
        """Copy with some settings of one section changed; ``None`` leaves a setting as it is."""
        changes = {k: v for k, v in changes.items() if v is not None}
        if not changes:
            return self
        return dataclasses.replace(self, **{section: dataclasses.replace(getattr(self, section), **changes)})


def _coerce(name: str, hint: Any, value: Any) -> Any:
    """Check a plain value against a field's type. Integers pass as floats, lists as tuples, NumPy's numbers as Python's."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        if isinstance(value, bool) and option is not bool:  # a bool is an int to Python, and a mistake here
            continue
        if option is type(None) and value is None:
            return None
        if typing.get_origin(option) is Literal:
            return value  # the dataclass checks it, and its message lists the choices
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            return tuple(_coerce(name, typing.get_args(option)[0], v) for v in value)
        if option is float and isinstance(value, numbers.Real):
            return float(value)
        if option is int and isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(option, type) and isinstance(value, option):
            return value
    raise TypeError(f"Expected `{name}` of type {getattr(hint, '__name__', hint)}, found {value!r}.")


def settings_from_dict(cls: type[T], values: Mapping[str, Any], section: str, base: T | None = None) -> T:
    """Build a settings dataclass from a plain dictionary, on top of ``base``; unknown names get the nearest one."""
    hints = typing.get_type_hints(cls)
    unknown = [k for k in values if k not in hints]
    if unknown:
        near = difflib.get_close_matches(unknown[0], hints, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"Expected settings of [{section}] among {sorted(hints)}, found {unknown[0]!r}.{hint}")
    changes = {k: _coerce(f"{section}.{k}", hints[k], v) for k, v in values.items()}
    return dataclasses.replace(base, **changes) if base is not None else cls(**changes)  # type: ignore[type-var]


def config_from_dict(values: Mapping[str, Any], domain_cls: type, base: Config | None = None) -> Config:
    """Build a :class:`Config` from nested dictionaries (TOML, JSON), on top of ``base``.

    Parameters
    ----------
    values
        Sections ``loss``, ``diffusion``, ``training``, ``domain``, each optional.
    domain_cls
        The backend's settings dataclass.
    base
        Settings that ``values`` changes; defaults otherwise.
    """
    base = base if base is not None else Config(domain=domain_cls())
    sections = {"loss": LossConfig, "diffusion": DiffusionConfig, "training": TrainingConfig, "domain": domain_cls}
    unknown = [s for s in values if s not in sections]
    if unknown:
        raise KeyError(f"Expected sections among {list(sections)}, found {unknown[0]!r}.")
    built = {}
    for name, cls in sections.items():
        part = values.get(name, {})
        if not isinstance(part, Mapping):
            raise TypeError(f"Expected section [{name}] to be a table of settings, found {part!r}.")
        built[name] = settings_from_dict(cls, part, name, getattr(base, name))
    return Config(**built)
