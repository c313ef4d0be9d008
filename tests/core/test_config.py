"""Settings: every check, the way to and from plain dictionaries, and the arithmetic of epochs."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffaug.core.config import (
    Config,
    DiffusionConfig,
    LossConfig,
    TrainingConfig,
    config_from_dict,
    settings_from_dict,
)


@dataclass(frozen=True)
class Toy:
    """Settings of a backend, of every kind that a field may have."""

    hidden: tuple[int, ...] = (500, 300)
    width: int | None = None
    rate: float = 0.5
    scale: bool = True
    kind: Literal["a", "b"] = "a"
    name: str = "toy"


# (section, setting, bad value, what the message says is expected)
BAD = [
    (LossConfig, "name", "triplet", "`name` in ['soft', 'info_nce']"),
    (LossConfig, "kernel", 1, "`kernel` in ['student_t', 'released', 'unit_peak']"),
    (LossConfig, "kernel", "rbf", "`kernel` in ['student_t', 'released', 'unit_peak']"),
    (LossConfig, "target", "umap", "`target` in ['literal', 'scale_free']"),
    (LossConfig, "temperature", 0.0, "`temperature` above 0"),
    (LossConfig, "temperature", math.nan, "a finite `temperature`"),
    (LossConfig, "dof_latent", math.inf, "a finite `dof_latent`"),
    (LossConfig, "beta", -0.1, "`beta` in [0, 1]"),
    (LossConfig, "beta", 1.1, "`beta` in [0, 1]"),
    (LossConfig, "dof_semantic", 0.0, "`dof_semantic` above 0"),
    (LossConfig, "dof_latent", -1.0, "`dof_latent` above 0"),
    (DiffusionConfig, "n_timesteps", 1, "`n_timesteps` of at least 2"),
    (DiffusionConfig, "schedule", "sigmoid", "`schedule` in ['linear', 'cosine']"),
    (DiffusionConfig, "prediction_type", "score", "`prediction_type` in ['epsilon', 'v', 'x0']"),
    (DiffusionConfig, "condition", "gene", "`condition` in ['semantic', 'latent', 'label', 'noise']"),
    (DiffusionConfig, "sampler", "euler", "`sampler` in ['ddpm', 'ddim', 'dpmpp_2m']"),
    (DiffusionConfig, "n_steps", 0, "`n_steps` in 1 .. 1000"),
    (DiffusionConfig, "n_steps", 1001, "`n_steps` in 1 .. 1000"),
    (DiffusionConfig, "condition_dropout", 1.0, "`condition_dropout` in [0, 1)"),
    (DiffusionConfig, "condition_dropout", -0.1, "`condition_dropout` in [0, 1)"),
    (DiffusionConfig, "eta", 1.5, "`eta` in [0, 1]"),
    (DiffusionConfig, "guidance_scale", -1.0, "`guidance_scale` of at least 0"),
    (DiffusionConfig, "clip_x0", 0.0, "`clip_x0` above 0 or None"),
    (DiffusionConfig, "clip_x0", math.nan, "a finite `clip_x0`"),
    (DiffusionConfig, "ema_decay", 1.0, "`ema_decay` in [0, 1)"),
    (TrainingConfig, "schedule", "both", "`schedule` in ['alternating', 'joint']"),
    (TrainingConfig, "lr_schedule", "step", "`lr_schedule` in ['constant', 'cosine', 'cosine_restarts']"),
    (TrainingConfig, "precision", "half", "`precision` in ['32-true', 'bf16-mixed']"),
    (TrainingConfig, "n_cycles", -1, "`n_cycles` of at least 0"),
    (TrainingConfig, "warmup_epochs", -1, "`warmup_epochs` of at least 0 or None"),
    (TrainingConfig, "generator_epochs", -1, "`generator_epochs` of at least 0 or None"),
    (TrainingConfig, "mixed_epochs", -1, "`mixed_epochs` of at least 0 or None"),
    (TrainingConfig, "warmup_steps", -1, "`warmup_steps` of at least 0"),
    (TrainingConfig, "generator_steps", -1, "`generator_steps` of at least 0"),
    (TrainingConfig, "mixed_steps", -1, "`mixed_steps` of at least 0"),
    (TrainingConfig, "encoder_passes", -1, "`encoder_passes` of at least 0"),
    (TrainingConfig, "generator_passes", -1, "`generator_passes` of at least 0"),
    (TrainingConfig, "max_steps", -1, "`max_steps` of at least 0"),
    (TrainingConfig, "batch_size", 1, "`batch_size` of at least 2"),
    (TrainingConfig, "generator_batch_size", 0, "`generator_batch_size` of at least 1 or None"),
    (TrainingConfig, "encoder_lr", 0.0, "`encoder_lr` above 0"),
    (TrainingConfig, "generator_lr", 0.0, "`generator_lr` above 0"),
    (TrainingConfig, "generator_lr", math.nan, "a finite `generator_lr`"),
    (TrainingConfig, "input_dropout", 1.0, "`input_dropout` in [0, 1) or None"),
    (TrainingConfig, "input_dropout", -0.1, "`input_dropout` in [0, 1) or None"),
    (TrainingConfig, "weight_decay", -1e-6, "`weight_decay` of at least 0"),
    (TrainingConfig, "view_rate", 1.01, "`view_rate` in [0, 1]"),
    (TrainingConfig, "view_rate", -0.01, "`view_rate` in [0, 1]"),
    (TrainingConfig, "n_views", 0, "`n_views` of at least 1"),
    (TrainingConfig, "n_encoders", 0, "`n_encoders` of at least 1"),
    (TrainingConfig, "patience", 0, "`patience` of at least 1 or None"),
]


@pytest.mark.parametrize(("cls", "name", "value", "expected"), BAD)
def test_bad_value(cls: type, name: str, value: Any, expected: str) -> None:
    """On creation, on a change, and from a dictionary."""
    with pytest.raises(ValueError) as error:
        cls(**{name: value})
    assert str(error.value) == f"Expected {expected}, found {value!r}."
    with pytest.raises(ValueError, match=f"`{name}`"):
        dataclasses.replace(cls(), **{name: value})
    section = {LossConfig: "loss", DiffusionConfig: "diffusion", TrainingConfig: "training"}[cls]
    with pytest.raises(ValueError, match=f"`{name}`"):
        config_from_dict({section: {name: value}}, Toy)


def test_every_checked_setting_has_a_bad_value_above() -> None:
    """Except switches, which have no wrong value: the list grows with the settings."""
    for cls in (LossConfig, DiffusionConfig, TrainingConfig):
        checked = {f.name for f in dataclasses.fields(cls) if f.type not in ("bool", "bool | None")}
        assert checked == {name for c, name, _, _ in BAD if c is cls}


def test_guidance_needs_condition_dropout() -> None:
    with pytest.raises(ValueError, match="Expected `condition_dropout` above 0 for `guidance_scale` 2.0, found 0"):
        DiffusionConfig(guidance_scale=2.0)
    assert DiffusionConfig(guidance_scale=2.0, condition_dropout=0.1).guidance_scale == 2.0


@pytest.mark.parametrize(
    "good",
    [
        {"beta": 0.0},
        {"beta": 1.0},
        {"dof_latent": 0.01},
    ],
)
def test_the_ends_of_closed_intervals_are_allowed(good: dict[str, Any]) -> None:
    assert dataclasses.asdict(LossConfig(**good)).items() >= good.items()


def test_settings_are_frozen() -> None:
    for section in (LossConfig(), DiffusionConfig(), TrainingConfig(), Config()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, dataclasses.fields(section)[0].name, "soft")


# --- to and from dictionaries -----------------------------------------------------------------------------------------


def unusual() -> Config:
    """No setting at its default, so that a forgotten one is noticed."""
    config = Config(
        loss=LossConfig(
            name="soft",
            temperature=0.7,
            beta=0.3,
            dof_semantic=100.0,
            dof_latent=0.1,
            kernel="released",
            target="literal",
        ),
        diffusion=DiffusionConfig(
            n_timesteps=50,
            schedule="cosine",
            prediction_type="epsilon",
            condition="latent",
            condition_dropout=0.1,
            condition_on_batch=True,
            sampler="ddim",
            n_steps=10,
            eta=0.5,
            guidance_scale=1.5,
            clip_x0=0.9,
            ema_decay=0.99,
        ),
        training=TrainingConfig(
            schedule="joint",
            n_cycles=3,
            warmup_epochs=5,
            generator_epochs=6,
            mixed_epochs=7,
            warmup_steps=10,
            generator_steps=20,
            generator_batch_size=8,
            mixed_steps=30,
            encoder_passes=40,
            generator_passes=70,
            max_steps=999,
            batch_size=64,
            encoder_lr=1e-4,
            generator_lr=2e-4,
            weight_decay=1e-3,
            lr_schedule="constant",
            view_rate=0.2,
            adapt_view_rate=False,
            n_views=8,
            n_encoders=4,
            input_dropout=0.4,
            precision="bf16-mixed",
            patience=9,
        ),
        domain=Toy(hidden=(64, 32), width=16, rate=0.25, scale=False, kind="b", name="other"),
    )
    for section in ("loss", "diffusion", "training", "domain"):
        chosen = getattr(config, section)
        default = type(chosen)()
        for field in dataclasses.fields(chosen):
            assert getattr(chosen, field.name) != getattr(default, field.name), field.name
    return config


def as_toml(values: dict[str, Any]) -> str:
    """Enough of TOML for these settings; JSON's scalars and lists are also TOML's."""
    lines = []
    for section, part in values.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in part.items())]
    return "\n".join(lines)


@pytest.mark.parametrize("which", ["default", "unusual"])
def test_dictionary_round_trip(which: str) -> None:
    config = unusual() if which == "unusual" else Config(domain=Toy())
    values = config.to_dict()
    assert config_from_dict(values, Toy) == config
    assert config_from_dict(json.loads(json.dumps(values)), Toy) == config
    assert config_from_dict(tomllib.loads(as_toml(values)), Toy) == config


def test_dictionary_holds_plain_values_only() -> None:
    """``.uns`` takes no tuples and no None."""
    for config in (unusual(), Config(domain=Toy()), Config()):
        for part in config.to_dict().values():
            assert all(isinstance(v, str | bool | int | float | list) for v in part.values())


def test_dictionary_changes_the_base_only_where_it_speaks() -> None:
    base = unusual()
    found = config_from_dict({"training": {"view_rate": 0.7}, "domain": {"hidden": [9]}}, Toy, base)
    assert found.loss == base.loss and found.diffusion == base.diffusion
    assert found.training == dataclasses.replace(base.training, view_rate=0.7)
    assert found.domain == dataclasses.replace(base.domain, hidden=(9,))
    assert config_from_dict({}, Toy, base) == base


def test_none_unsets_a_setting() -> None:
    """JSON's null; TOML has none."""
    assert config_from_dict({"training": {"patience": None}}, Toy, unusual()).training.patience is None


def test_integers_pass_as_floats() -> None:
    """TOML's ``beta = 1``."""
    beta = config_from_dict({"loss": {"beta": 1}}, Toy).loss.beta
    assert beta == 1.0 and isinstance(beta, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"view_rat": 0.1}}, r"\[training\] among .*'view_rate'.*, found 'view_rat'.* mean 'view_rate'\?"),
        ({"loss": {"dof": 1.0}}, r"Expected settings of \[loss\] among .*, found 'dof'"),
        ({"diffusion": {"steps": 9}}, r"\[diffusion\] among .*found 'steps'.* mean 'n_steps'\?"),
        ({"domain": {"hiden": [1]}}, r"\[domain\] among .*, found 'hiden'.* mean 'hidden'\?"),
        (
            {"optimizer": {}},
            r"Expected sections among \['loss', 'diffusion', 'training', 'domain'\], found 'optimizer'",
        ),
    ],
)
def test_unknown_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(KeyError, match=message):
        config_from_dict(values, Toy)


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(KeyError) as error:
        settings_from_dict(LossConfig, {"zzz": 1}, "loss")
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("section", "name", "value", "type_name"),
    [
        ("loss", "beta", "1", "float"),
        ("loss", "beta", True, "float"),
        ("loss", "beta", None, "float"),
        ("diffusion", "n_steps", 20.0, "int"),
        ("diffusion", "n_steps", True, "int"),
        ("training", "patience", "3", r"int \| None"),
        ("training", "warmup_epochs", 1.5, r"int \| None"),
        ("domain", "hidden", 500, "tuple"),
        ("domain", "scale", 1, "bool"),
        ("domain", "name", 3, "str"),
    ],
)
def test_wrong_type(section: str, name: str, value: Any, type_name: str) -> None:
    with pytest.raises(TypeError, match=rf"Expected `{section}.{name}` of type {type_name}.*, found {value!r}"):
        config_from_dict({section: {name: value}}, Toy)


@pytest.mark.parametrize(
    ("cls", "name", "value", "type_name"),
    [
        (LossConfig, "beta", "1", "float"),
        (DiffusionConfig, "n_steps", 2.5, "int"),
        (TrainingConfig, "batch_size", True, "int"),
        (TrainingConfig, "patience", "3", r"int \| None"),
    ],
)
def test_wrong_type_on_creation(cls: type, name: str, value: Any, type_name: str) -> None:
    with pytest.raises(TypeError, match=rf"Expected `{name}` of type {type_name}, found {value!r}"):
        cls(**{name: value})


def test_numpy_numbers_become_pythons() -> None:
    """So that settings print, compare and serialise alike, wherever a number came from."""
    found = TrainingConfig(batch_size=np.int64(64), view_rate=np.float32(0.5), encoder_lr=1)  # type: ignore[arg-type]
    assert found == TrainingConfig(batch_size=64, view_rate=0.5, encoder_lr=1.0)
    assert [type(v) for v in (found.batch_size, found.view_rate, found.encoder_lr)] == [int, float, float]
    assert json.loads(json.dumps(dataclasses.asdict(found))) == dataclasses.asdict(found)


def test_list_with_a_wrong_element() -> None:
    with pytest.raises(TypeError, match=r"Expected `domain.hidden` of type .*, found 'a'"):
        config_from_dict({"domain": {"hidden": [500, "a"]}}, Toy)


@pytest.mark.parametrize(
    ("name", "cls"), [("loss", "LossConfig"), ("diffusion", "DiffusionConfig"), ("training", "TrainingConfig")]
)
def test_section_of_another_kind(name: str, cls: str) -> None:
    with pytest.raises(TypeError, match=f"Expected `{name}` to be a {cls}, found .*'beta'"):
        Config(**{name: {"beta": 1.0}})


def test_section_that_is_no_table() -> None:
    with pytest.raises(TypeError, match=r"Expected section \[loss\] to be a table of settings, found 'soft'"):
        config_from_dict({"loss": "soft"}, Toy)


def test_encoder_epochs_are_those_of_all_phases() -> None:
    assert TrainingConfig(warmup_epochs=3, mixed_epochs=2, generator_epochs=9, n_cycles=4).encoder_epochs == 11
    assert TrainingConfig(warmup_epochs=3, mixed_epochs=2, n_cycles=0).encoder_phases == (3, 2)
    for n_obs in (300, 2000, 40_000):  # the encoder alone is trained as long as in the loop, and in the same phases
        whole, alone = TrainingConfig().resolve(n_obs), TrainingConfig(n_cycles=0).resolve(n_obs)
        assert alone.encoder_phases == whole.encoder_phases and alone.resolve(n_obs) == alone
    assert TrainingConfig(warmup_epochs=3, mixed_epochs=2, n_cycles=2).encoder_phases == (3, 2, 2)
    assert TrainingConfig().resolve(1000).encoder_epochs > 100
    for unknown in ({"warmup_epochs": 3}, {"mixed_epochs": 3}, {}):
        with pytest.raises(
            ValueError, match="Expected known numbers of epochs, found None. Call `TrainingConfig.resol"
        ):
            assert TrainingConfig(**unknown).encoder_epochs  # type: ignore[arg-type]


def test_updated() -> None:
    config = Config(domain=Toy())
    changed = config.updated("training", view_rate=0.3, n_cycles=None)
    assert changed.training == dataclasses.replace(config.training, view_rate=0.3)
    assert changed.loss == config.loss and config.training.view_rate != 0.3
    assert config.updated("training", view_rate=None) is config
    with pytest.raises(ValueError, match=r"`view_rate` in \[0, 1\], found 3"):
        config.updated("training", view_rate=3)


# --- epochs -----------------------------------------------------------------------------------------------------------

plans = st.builds(
    TrainingConfig,
    n_cycles=st.integers(0, 4),
    warmup_epochs=st.none() | st.integers(0, 50),
    generator_epochs=st.none() | st.integers(0, 50),
    mixed_epochs=st.none() | st.integers(0, 50),
    warmup_steps=st.integers(0, 3000),
    generator_steps=st.integers(0, 3000),
    mixed_steps=st.integers(0, 3000),
    encoder_passes=st.just(0),
    generator_passes=st.just(0),
    batch_size=st.integers(2, 600),
    generator_batch_size=st.none() | st.integers(1, 600),
)


def phases(plan: TrainingConfig) -> tuple[int, int, int]:
    assert plan.warmup_epochs is not None and plan.generator_epochs is not None and plan.mixed_epochs is not None
    return plan.warmup_epochs, plan.generator_epochs, plan.mixed_epochs


def total(plan: TrainingConfig) -> int:
    warmup, generator, mixed = phases(plan)
    return warmup + plan.n_cycles * generator + max(plan.n_cycles, 1) * mixed


@settings(deadline=None)
@given(plan=plans, n_obs=st.integers(1, 100_000))
def test_epochs_hold_the_planned_steps_and_no_epoch_more(plan: TrainingConfig, n_obs: int) -> None:
    resolved = plan.resolve(n_obs)
    encoder = max(1, n_obs // plan.batch_size)  # whole batches; a small set is one batch
    denoiser = max(1, n_obs // (plan.generator_batch_size or plan.batch_size))
    cycles = max(plan.n_cycles, 1)
    warmup, generator, mixed = phases(resolved)
    for given_epochs, steps, epochs, per_epoch, times in (
        (plan.warmup_epochs, plan.warmup_steps, warmup, encoder, 1),
        (plan.generator_epochs, plan.generator_steps, generator, denoiser, cycles),
        (plan.mixed_epochs, plan.mixed_steps, mixed, encoder, cycles),
    ):
        if given_epochs is not None:
            assert epochs == given_epochs
        else:
            assert times * epochs * per_epoch >= steps
            assert (epochs - 1) * per_epoch * times < steps or epochs == 0
    assert resolved.resolve(n_obs) == resolved
    assert resolved.n_views == max(1, min(plan.n_views, resolved.mixed_epochs or 0))
    unchanged = {"warmup_epochs": None, "generator_epochs": None, "mixed_epochs": None, "n_views": 1}
    assert dataclasses.replace(resolved, **unchanged) == dataclasses.replace(plan, **unchanged)


def test_batch_sizes() -> None:
    """Those of the generator are its own where they are given, but in one pass for both networks."""
    assert TrainingConfig(batch_size=128).batch_sizes(1000) == (128, 128)
    assert TrainingConfig(batch_size=128, generator_batch_size=16).batch_sizes(1000) == (128, 16)
    assert TrainingConfig(batch_size=128, generator_batch_size=16).batch_sizes(10) == (10, 10)
    assert TrainingConfig(batch_size=128, generator_batch_size=16, schedule="joint").batch_sizes(1000) == (128, 128)


def test_default_plan() -> None:
    """50 passes a phase of the encoder and 100 of the generator, within bounds of steps."""
    assert phases(TrainingConfig().resolve(2638)) == (50, 150, 50)  # ten batches of 256 an epoch
    assert phases(TrainingConfig(n_cycles=2).resolve(2638)) == (50, 75, 25)
    assert phases(TrainingConfig().resolve(100)) == (400, 1500, 400)  # one batch of all: the least steps
    assert phases(TrainingConfig().resolve(256_000)) == (3, 3, 3)  # 1,000 batches: the most steps


@settings(deadline=None)
@given(
    steps=st.integers(1, 3000),
    passes=st.integers(0, 100),
    max_steps=st.integers(0, 5000),
    n_obs=st.integers(1, 100_000),
)
def test_encoder_passes_lengthen_the_phases_of_large_sets(steps: int, passes: int, max_steps: int, n_obs: int) -> None:
    short = TrainingConfig(warmup_steps=steps, mixed_steps=steps, encoder_passes=0, generator_passes=0)
    plan = dataclasses.replace(short, encoder_passes=passes, max_steps=max_steps)
    per_epoch = max(1, n_obs // plan.batch_size)
    warmup, generator, mixed = phases(plan.resolve(n_obs))
    assert warmup == mixed >= phases(short.resolve(n_obs))[0]
    assert generator == phases(short.resolve(n_obs))[1]
    if passes * per_epoch <= max_steps:
        assert warmup >= passes
    assert (warmup - 1) * per_epoch < max(steps, min(passes * per_epoch, max_steps))  # and no epoch more
    without = dataclasses.replace(plan, warmup_steps=0, mixed_steps=0)
    assert phases(without.resolve(n_obs)) == (0, generator, 0)  # a phase that is not planned stays out


def test_cap_of_encoder_steps_is_shared_by_the_cycles() -> None:
    """100 batches an epoch, 50 passes: 2,500 steps of warm-up, and as many of all mixed phases together."""
    plan = TrainingConfig(encoder_passes=50, max_steps=2500)
    assert phases(plan.resolve(25_600))[::2] == (25, 25)
    assert phases(dataclasses.replace(plan, n_cycles=5).resolve(25_600))[::2] == (25, 5)


@settings(deadline=None)
@given(plan=plans, n_obs=st.integers(1, 100_000), max_epochs=st.integers(1, 300))
def test_cap_shrinks_every_phase_and_drops_none(plan: TrainingConfig, n_obs: int, max_epochs: int) -> None:
    free, capped = plan.resolve(n_obs), plan.resolve(n_obs, max_epochs)
    for before, after in zip(phases(free), phases(capped), strict=True):
        assert after <= before
        assert (after == 0) == (before == 0)
    if total(free) <= max_epochs:
        assert capped == free
    n_phases = (free.warmup_epochs != 0) + plan.n_cycles * (free.generator_epochs != 0)
    n_phases += max(plan.n_cycles, 1) * (free.mixed_epochs != 0)
    assert total(capped) < max_epochs + n_phases  # short phases are rounded up


def capped_total(max_epochs: int, *epochs: int) -> int:
    plan = TrainingConfig(warmup_epochs=epochs[0], generator_epochs=epochs[1], mixed_epochs=epochs[2])
    return total(plan.resolve(1000, max_epochs))


def test_cap_is_kept_in_proportion() -> None:
    plan = TrainingConfig(warmup_epochs=40, generator_epochs=200, mixed_epochs=40)
    assert phases(plan.resolve(1000, 28)) == (4, 20, 4)
    assert phases(plan.resolve(1000, 2)) == (1, 1, 1)  # a cap below the number of phases leaves one epoch each


def test_cap_is_kept_beside_short_phases() -> None:
    assert capped_total(10, 1, 100, 1) <= 10


def test_cap_below_one() -> None:
    with pytest.raises(ValueError, match="Expected `max_epochs` of at least 1, found 0"):
        TrainingConfig().resolve(100, 0)


@pytest.mark.parametrize(("n_features", "rate"), [(33, 0.1), (99, 0.1), (100, 0.3), (2000, 0.3)])
def test_small_panels_hide_fewer_features(n_features: int, rate: float) -> None:
    assert TrainingConfig().dropout_of(n_features) == rate
    assert TrainingConfig(input_dropout=0.2).dropout_of(n_features) == 0.2
    assert TrainingConfig(input_dropout=0.0).dropout_of(n_features) == 0.0
