"""Each ablation is a configuration that differs from the base in what it claims, and in nothing else."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from diffaug.backends import get_backend
from diffaug.backends.cells import CellsBackend, CellsConfig, default_config, paper_config
from diffaug.core.config import Config, config_from_dict
from diffaug.reproduce import _measure
from diffaug.reproduce._arms import (
    ARTEFACTS,
    BETAS,
    DOFS,
    LAMBDAS,
    Arm,
    artefact,
    artefacts,
    base_of,
    resolve,
    run_id,
)

ARMS = {f"{a.name}-{arm.key}": arm for a in ARTEFACTS.values() for arm in a.arms}

#: The claim of each arm that is no point of a curve: what differs from a base with the default settings.
CLAIMS = {
    "table2-diffaug": {},
    "table2-soft_2d": {"loss.name": "soft", "domain.n_latent": 2},
    "table2-loop_off": {"training.view_rate": 0.0, "training.generator_epochs": 0},
    "table2-simclr": {},
    "table2-byol": {},
    "table2-moco": {},
    "table2-dlme": {},
    "table4-A1": {"diffusion.condition": "label"},
    "table4-A2": {"diffusion.condition": "noise"},
    "table4-A3": {},
    "table4-A1-fixed": {"diffusion.condition": "label", "training.adapt_view_rate": False},
    "table4-A2-fixed": {"diffusion.condition": "noise", "training.adapt_view_rate": False},
    "table4-A3-fixed": {"training.adapt_view_rate": False},
    "table4-loop_off": {"training.view_rate": 0.0, "training.generator_epochs": 0},
    "table5-B1": {},
    "table5-B2": {"loss.name": "soft", "training.view_rate": 0.0, "training.generator_epochs": 0},
    "table5-B3": {},
    "table5-B4": {"loss.name": "soft", "training.schedule": "joint"},
    "table5-B5": {"loss.name": "soft"},
    "table5-B2-InfoNCE": {"training.view_rate": 0.0, "training.generator_epochs": 0},
    "table5-B4-InfoNCE": {"training.schedule": "joint"},
    "fig5-A3": {},
}


def flat(config: Config) -> dict[str, object]:
    return {f"{section}.{k}": v for section, part in config.to_dict().items() for k, v in part.items()}


def difference(config: Config, base: Config) -> dict[str, object]:
    """Settings that are not the base's. A setting that is ``None`` is absent."""
    ours, theirs = flat(config), flat(base)
    return {k: ours.get(k) for k in {**ours, **theirs} if ours.get(k) != theirs.get(k)}


@pytest.mark.parametrize("name", CLAIMS)
def test_an_arm_differs_in_what_it_claims(name: str) -> None:
    base = default_config()
    assert difference(resolve(ARMS[name], base), base) == CLAIMS[name]


def test_every_arm_has_a_claim_or_is_a_point_of_a_curve() -> None:
    assert set(CLAIMS) == {name for name, arm in ARMS.items() if arm.curve is None}


@pytest.mark.parametrize(
    ("figure", "curve", "setting", "values", "others"),
    [
        ("fig6", "view_rate", "training.view_rate", LAMBDAS, {"training.adapt_view_rate": False}),
        (
            "fig6",
            "view_rate_weak",
            "training.view_rate",
            LAMBDAS,
            {"training.adapt_view_rate": False, "training.generator_epochs": 5},
        ),
        ("fig7", "dof_latent", "loss.dof_latent", DOFS, {"loss.name": "soft"}),
        ("fig7", "dof_semantic", "loss.dof_semantic", DOFS, {"loss.name": "soft"}),
        ("fig7", "beta", "loss.beta", BETAS, {"loss.name": "soft", "loss.kernel": "student_t"}),
    ],
)
def test_a_curve_sweeps_one_setting(
    figure: str, curve: str, setting: str, values: tuple[float, ...], others: dict[str, object]
) -> None:
    base = default_config()
    arms = [arm for arm in ARTEFACTS[figure].arms if arm.curve == curve]
    assert [arm.x for arm in arms] == list(values)
    for arm, value in zip(arms, values, strict=True):
        settings = resolve(arm, base)
        assert flat(settings)[setting] == value
        found = difference(settings, base)
        found.pop(setting, None)  # absent where the value is the base's
        if setting == "training.view_rate" and value == 0:  # nothing to train a generator for
            assert found.pop("training.generator_epochs") == 0
            assert found == {}
        else:
            assert found == others


def test_beta_acts_where_it_is_swept() -> None:
    """With the default kernel it would not (control)."""
    import torch

    from diffaug.core.losses import soft_targets

    y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    arms = [arm for arm in ARTEFACTS["fig7"].arms if arm.curve == "beta"]

    def targets(kernel: str | None) -> list[torch.Tensor]:
        losses = [resolve(arm, default_config()).loss for arm in arms]
        return [
            soft_targets(
                y, y, beta=s.beta, dof_semantic=s.dof_semantic, kernel=kernel or s.kernel, target=s.target
            ).diagonal()
            for s in losses
        ]

    swept = torch.stack(targets(None))
    assert (swept.diff(dim=0) > 0.01).all()
    assert torch.stack(targets("unit_peak")).diff(dim=0).abs().max() == 0


@pytest.mark.parametrize("preset", [default_config, paper_config], ids=["default", "paper"])
@pytest.mark.parametrize("name", ARMS)
def test_every_arm_resolves_on_every_preset(name: str, preset: object) -> None:
    assert callable(preset)
    settings = resolve(ARMS[name], preset())
    # What was resolved stands for itself: a run in another process reads it back.
    assert config_from_dict(settings.to_dict(), CellsConfig, preset()) == settings


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("name", ARMS)
def test_on_a_panel_too_arms_have_mixup_and_no_linear_path(name: str, preset: str) -> None:
    """Of twelve features; the preset alone would have masks and the path there (control), the user may have them."""
    rng = np.random.default_rng(0)

    def on_a_panel(base: Config) -> tuple[str, bool]:
        backend = CellsBackend(resolve(ARMS[name], base).domain, (12,))
        backend.prepare(rng.gamma(1.0, size=(20, 12)).astype(np.float32))
        return backend.settled().views, any("path" in key for key in backend.make_encoder().state_dict())

    assert on_a_panel(base_of("bio", preset)) == ("mixup", False)
    assert on_a_panel(base_of("bio", preset, {"domain": {"views": "mask", "linear_path": True}})) == ("mask", True)
    assert on_a_panel(default_config()) == ("mask", True)


def test_other_domains_are_their_presets() -> None:
    assert base_of("dna", "paper") == get_backend("dna").preset("paper")
    assert base_of("vision") == get_backend("vision").preset("default")


def test_the_base_of_the_user_stays() -> None:
    base = config_from_dict(
        {"training": {"batch_size": 64}, "loss": {"temperature": 0.2}}, CellsConfig, default_config()
    )
    for arm in ARMS.values():
        settings = resolve(arm, base)
        assert settings.training.batch_size == 64 and settings.loss.temperature == 0.2


def test_equal_settings_share_their_runs_and_others_do_not() -> None:
    base = default_config()
    ids = {name: run_id(arm.method, resolve(arm, base)) for name, arm in ARMS.items()}
    assert (
        len(
            {
                ids[n]
                for n in (
                    "table2-diffaug",
                    "table4-A3",
                    "table5-B3",
                    "fig5-A3",
                )
            }
        )
        == 1
    )
    assert ids["table2-loop_off"] == ids["table4-loop_off"] == ids["fig6-lambda=0"] == ids["table5-B2-InfoNCE"]
    assert ids["table5-B1"] == ids["table2-simclr"]
    assert ids["table5-B5"] == ids["fig7-nu_z=1"] == ids["fig7-nu_y=1"]
    assert len({ids[f"table5-{b}"] for b in ("B1", "B2", "B3", "B4", "B5")}) == 5
    assert len({ids[f"table4-{arm.key}"] for arm in ARTEFACTS["table4"].arms}) == 7
    assert ids["table4-A3-fixed"] == ids["fig6-lambda=1"] and ids["fig6-weak_lambda=0"] == ids["fig6-lambda=0"]
    assert len({ids[n] for n in ids if n.startswith("fig7")}) == len(DOFS) * 2 - 1 + len(BETAS)
    assert run_id("simclr", base) != run_id("byol", base)


def test_no_arm_has_a_code_path_of_its_own() -> None:
    """What measures an arm is never told which one it is."""
    assert not {"arm", "key"} & set(inspect.signature(_measure.measure).parameters)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_like_is_compared_with_like(name: str) -> None:
    """Arms whose lambda is taken as asked are not compared with one that lowers it, nor the other way round."""
    base = default_config()
    by_key = {arm.key: resolve(arm, base).training for arm in ARTEFACTS[name].arms}
    for arm, other in ARTEFACTS[name].references.items():
        plans = by_key[arm], by_key[other]
        if all(plan.view_rate > 0 for plan in plans):  # the twin has no lambda
            assert plans[0].adapt_view_rate == plans[1].adapt_view_rate


@pytest.mark.parametrize("name", ARTEFACTS)
def test_an_artefact_is_whole(name: str) -> None:
    found = artefact(name)
    keys = [arm.key for arm in found.arms]
    assert len(set(keys)) == len(keys) and found.reference in keys
    assert found.notes and found.groups[0] == "probes"
    if found.is_figure and name != "fig5":
        assert all(arm.curve is not None and arm.x is not None for arm in found.arms)


def test_the_page_counts_the_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text(encoding="utf-8")
    said = {name: int(n) for name, n in re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\| (\d+) \|", page, flags=re.MULTILINE)}
    assert said == {
        name: len({run_id(arm.method, resolve(arm, base_of(a.domain))) for arm in a.arms})
        for name, a in artefacts().items()
    }


@pytest.mark.parametrize(
    ("given", "near"), [("tabel4", "table4"), ("Table 5", "table5"), ("figure6", "fig6"), ("FIG7", "fig7")]
)
def test_an_unknown_artefact_gets_the_nearest(given: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf"Expected a table or figure among .*'fig7'\], found .* mean '{near}'\?"):
        artefact(given)


def test_nothing_near_is_no_hint() -> None:
    with pytest.raises(ValueError, match=r"found 'xyz'\.$"):
        artefact("xyz")


def test_an_arm_with_a_wrong_setting_is_refused() -> None:
    with pytest.raises(KeyError, match=r"Did you mean 'view_rate'\?"):
        resolve(Arm("x", "x", {"training": {"view_rat": 0.5}}), default_config())
