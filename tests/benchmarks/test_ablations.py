"""benchmarks/ablations.toml: the settings of `reproduce` under the same names, each a run that can be made."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import bench_embeddings
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from harness.compute import Request, compute
from harness.page import Page
from harness.run import Plan, Runner
from harness.sets import Slice
from harness.store import COLUMNS, Entry, settings_hash
from peers import ARMS, PEERS, variants

from diffaug.backends.cells import CellsConfig, default_config
from diffaug.core.config import Config, config_from_dict
from diffaug.reproduce._arms import ARTEFACTS, LAMBDAS, PINNED, Arm, base_of, resolve, run_id

FILE = Path(bench_embeddings.__file__).parent / "ablations.toml"
FOUND = variants(FILE)
OF_REPRODUCE = {arm.key: arm for a in ARTEFACTS.values() for arm in a.arms}
#: Ablations of ours that no table of the paper has.
OWN = {"latent", "guidance_1", "guidance_2", "n_cycles_2"}
QUICK = {"warmup_steps": 4, "generator_steps": 4, "mixed_steps": 6, "encoder_passes": 0, "generator_passes": 0}


def config_of(settings: dict[str, Any]) -> Config:
    """As a run reads it."""
    return config_from_dict(settings["config"], CellsConfig, default_config())


def rows() -> dict[str, tuple[str, str]]:
    """Variant and role by row."""
    return {row.name: (name, row.role) for name, peer in FOUND.items() for row in peer.rows}


def settings_of_row(name: str) -> tuple[str, Config]:
    """Method of `reproduce` and settings that a row of the file stands for."""
    variant, role = rows()[name]
    peer = FOUND[variant]
    if peer.embed is PEERS["simclr"].embed:
        # Its settings are those of the encoder's training alone; the views are mixup in its name and in its settings.
        assert config_of(peer.settings).domain == base_of("bio").domain
        return "simclr", config_of(peer.settings).updated("training", n_encoders=1)  # it has one in any case
    config = config_of(peer.settings)
    if peer.embed is ARMS["diffaug_sweep"].embed:
        off = {"generator_epochs": 0, "adapt_view_rate": True} if float(role) == 0 else {}
        config = config.updated("training", view_rate=float(role), **off)
    return "diffaug", config


@pytest.mark.parametrize("name", sorted(set(rows()) & set(OF_REPRODUCE)))
def test_an_arm_of_reproduce_has_its_settings_here(name: str) -> None:
    arm: Arm = OF_REPRODUCE[name]
    method, config = settings_of_row(name)
    assert run_id(method, config) == run_id(arm.method, resolve(arm, base_of("bio")))


def test_every_ablation_is_here() -> None:
    """B5 stands for nu = 1; Table 2 compares methods, which the benchmark has as such."""
    asked = {arm.key for name in ("table4", "table5", "fig6", "fig7") for arm in ARTEFACTS[name].arms}
    assert asked - set(rows()) == {"loop_off", "nu_z=1", "nu_y=1"}
    twins = {"A3_loop_off", "B3_loop_off"}
    assert set(rows()) - asked == OWN | twins
    assert {row.role for row in FOUND["fig6"].rows} == {f"{rate:g}" for rate in LAMBDAS}


@pytest.mark.parametrize("name", FOUND)
def test_every_entry_is_a_valid_run(name: str) -> None:
    peer = FOUND[name]
    whole = config_of(peer.settings) if "diffusion" in peer.settings["config"] else None
    assert whole is None or whole.training.resolve(2000).encoder_epochs > 0
    assert peer.reads_labels(peer.settings) == name.startswith("A1")
    assert ("supervised" in peer.shown and "labels" in peer.note) == name.startswith("A1")


def test_own_ablations_change_what_they_say() -> None:
    base = base_of("bio")
    said = {name: config_of(FOUND[name].settings) for name in OWN}
    assert said["latent"] == base.updated("diffusion", condition="latent")
    assert said["guidance_1"] == base.updated("diffusion", condition_dropout=0.1)
    assert said["guidance_2"] == base.updated("diffusion", condition_dropout=0.1, guidance_scale=2.0)
    assert said["n_cycles_2"] == base.updated("training", n_cycles=2)


def test_all_have_the_papers_views_and_encoder_on_every_set() -> None:
    for peer in FOUND.values():
        config = peer.settings["config"]
        assert {k: config["domain"][k] for k in ("views", "linear_path")} == PINNED["bio"]["domain"]
        assert config["training"].get("n_encoders", 1) == PINNED["bio"]["training"]["n_encoders"] == 1


def test_equal_settings_are_computed_once(tmp_path: Path) -> None:
    """A3 and B3 have one place in the cache; A2 has another, and so have the recipes that decide by the features."""
    names = ("diffaug", "A3", "B3", "A2", "A2-fixed", "B1", "simclr")
    one = Slice("pbmc68k_reduced_scanpy", 100, 40)
    plan = Plan((one,), names, 1, ("knn",), tmp_path / "c", tmp_path / "r.parquet", variants=FILE)
    runner = Runner(plan)
    places = {name: runner.entry(runner.unit(one, name, 0), name).folder for name in names}
    assert places["A3"] == places["B3"] and len(set(places.values())) == 6
    twins = [runner.entry(runner.unit(one, name, 0), f"{name}_loop_off").folder for name in ("A3", "B3")]
    assert twins[0] == twins[1] != places["A3"]


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cells() -> AnnData:
    rng = np.random.default_rng(0)
    label = np.arange(60) % 3
    x = rng.gamma(1.0, size=(60, 30)).astype(np.float32) + 3 * np.eye(30, dtype=np.float32)[label]
    return AnnData(x, obs={"label": label.astype(str)})


def quick(name: str, **training: Any) -> dict[str, Any]:
    settings = FOUND[name].settings
    config = settings["config"]
    return {**settings, "config": {**config, "training": {**config["training"], **QUICK, **training}}}


@pytest.mark.parametrize("name", ["A1", "A2", "B2", "B4", "guidance_2", "n_cycles_2"])
def test_arms_run(name: str, cells: AnnData) -> None:
    peer = FOUND[name]
    if not peer.reads_labels(peer.settings):
        del cells.obs["label"]
    made = peer.embed(cells, 0, **quick(name))
    assert set(made) == {row.role for row in peer.rows} and made["model"].x.shape == (60, 80)
    rate = made["model"].readings["view_rate"]
    assert rate == 0 if name == "B2" else 0 <= rate <= 1


def test_a_sweep_is_the_runs_of_its_lambdas(cells: AnnData) -> None:
    del cells.obs["label"]
    made = FOUND["fig6"].embed(cells, 1, **quick("fig6"))
    assert set(made) == {row.role for row in FOUND["fig6"].rows}
    for rate in (0.1, 1.0):
        alone = FOUND["A3-fixed"].embed(cells, 1, **quick("A3-fixed", view_rate=rate))["model"]
        np.testing.assert_allclose(made[f"{rate:g}"].x, alone.x, rtol=1e-5, atol=1e-6)
        assert made[f"{rate:g}"].readings["view_rate"] == alone.readings["view_rate"] == rate
    off = FOUND["B2-InfoNCE"].embed(cells, 1, **quick("B2-InfoNCE"))["model"]
    np.testing.assert_allclose(made["0"].x, off.x, rtol=1e-5, atol=1e-6)
    assert not np.allclose(made["0"].x, made["1"].x)
    assert all(one.seconds > 0 for one in made.values()) and made["0"].readings["view_rate"] == 0


@pytest.mark.parametrize("name", ["A1", "A2"])
def test_labels_reach_the_supervised_ablation_alone(
    name: str, cells: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the process that runs methods: A1 fails without labels (its own check), A2 never has them."""
    seen: list[bool] = []
    peer = FOUND[name]

    def embed(adata: AnnData, seed: int, *, config: Any = None, max_epochs: Any = None) -> np.ndarray:
        seen.append("label" in adata.obs)
        return np.zeros((adata.n_obs, 2))

    planted = dataclasses.replace(peer, embed=embed)
    monkeypatch.setattr("harness.compute.peers_with", lambda file: {name: planted})
    monkeypatch.setattr("harness.compute.read_prepared", lambda file: cells)
    compute(Request(name, 0, tmp_path / "x", {"model": Entry(tmp_path / "out", 0)}))
    assert seen == [name == "A1"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_lists_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(sys, "argv", ["bench", "--variants", str(FILE), "--list"])
    assert bench_embeddings.main() == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in FOUND) and "diffaug_alone" not in shown


def test_a_page_of_variants_has_a_name_of_its_own(tmp_path: Path) -> None:
    plan = Plan((Slice("paul15", 100, 40),), ("diffaug", "A2"), 1, ("knn",), tmp_path, tmp_path / "r", variants=FILE)
    peers = {**PEERS, **FOUND}
    settings = {name: peers[name].settings for name in plan.peers}
    assert len({settings_hash(s) for s in settings.values()}) == 2
    empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    file = Page(empty, plan, peers, settings, tmp_path, "command").write()
    assert file.name == "ablations.md" and file.read_text().startswith("# Variants: ablations\n")
    assert "*A2: random condition*" in file.read_text()
