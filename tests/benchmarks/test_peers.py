"""The table of methods: settings, variants, and methods that run on a few cells."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from harness.store import settings_hash
from peers import PEERS, _registry, variants
from peers._registry import Peer, Row
from scipy import sparse

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cells() -> AnnData:
    """Three types, 60 cells."""
    rng = np.random.default_rng(0)
    x = rng.gamma(1.0, size=(60, 30)).astype(np.float32) + 3 * np.eye(30, dtype=np.float32)[np.arange(60) % 3]
    return AnnData(sparse.csr_matrix(x * (x > 0.3)))


def test_names_are_told_apart() -> None:
    rows = [row.name for peer in PEERS.values() for row in peer.rows]
    assert len(rows) == len(set(rows))
    assert all(peer.name == name for name, peer in PEERS.items())
    assert all(peer.needs in PEERS for peer in PEERS.values() if peer.needs)
    assert {"diffaug", "loop_off", "pca50", "raw", "umap", "scvi", "byol_plus"} <= set(rows)


@pytest.mark.parametrize("name", PEERS)
def test_settings_are_named_and_equal_each_time(name: str) -> None:
    assert settings_hash(PEERS[name].settings) == settings_hash(PEERS[name].settings)


@pytest.mark.parametrize("name", ["raw", "pca50", "kernel_pca", "random_encoder"])
@pytest.mark.parametrize("form", ["csr", "dense"])
def test_methods_of_this_environment(name: str, form: str, cells: AnnData) -> None:
    if form == "dense":
        cells.X = cells.X.toarray()
    before = cells.X.copy()
    peer = PEERS[name]
    x = peer.embed(cells, 0, **peer.settings)
    assert x.shape[0] == 60 and np.isfinite(x).all()
    same = (before != cells.X).sum() == 0
    assert same, "the method changed the cells that others get"
    again, other = (peer.embed(cells, seed, **peer.settings) for seed in (0, 1))
    np.testing.assert_array_equal(x, again)
    assert np.array_equal(x, other) != peer.stochastic
    if peer.flat == "first":
        spread = x.std(axis=0)
        assert (spread[:2] >= spread[2:].max()).all()


def test_our_rows_come_of_one_fit(cells: AnnData) -> None:
    made = PEERS["diffaug"].embed(cells, 0, config={"training": {"warmup_steps": 4, "mixed_steps": 4}}, max_epochs=9)
    assert set(made) == {row.role for row in PEERS["diffaug"].rows} == {"model", "twin"}
    assert made["model"].x.shape == made["twin"].x.shape == (60, 80)
    assert not np.array_equal(made["model"].x, made["twin"].x)
    assert 0 <= made["model"].readings["view_rate"] <= 1
    assert made["model"].kept["views"].shape == (60, 2, 30)
    assert 0 < made["twin"].seconds < made["model"].seconds  # which trains a generator too


def test_settings_hold_what_a_preset_stands_for() -> None:
    settings = PEERS["diffaug"].settings
    assert settings["config"]["training"]["view_rate"] == pytest.approx(settings["config"]["training"]["view_rate"])
    assert {"loss", "diffusion", "training", "domain"} == set(settings["config"])
    without = PEERS["simclr"].settings["config"]
    assert "diffusion" not in without and "view_rate" not in without["training"]
    assert "batch_size" in without["training"]


def test_the_settings_of_an_encoder_without_a_loop_make_the_same_encoder(cells: AnnData) -> None:
    """What is left out of the recorded settings is not read by these methods."""
    whole = PEERS["random_encoder"].embed(cells, 0)
    recorded = PEERS["random_encoder"].embed(cells, 0, **PEERS["random_encoder"].settings)
    np.testing.assert_array_equal(whole, recorded)


def test_variants(tmp_path: Path) -> None:
    file = tmp_path / "ablations.toml"
    file.write_text(
        '[lambda_03]\npeer = "diffaug"\nshown = "lambda 0.3"\nsettings.config.training.view_rate = 0.3\n'
        '[pca10]\npeer = "pca50"\nsettings.n_components = 10\n'
        '[byol_03]\npeer = "byol_plus"\nneeds = "lambda_03"\n'
    )
    found = variants(file)
    assert found["lambda_03"].settings["config"]["training"]["view_rate"] == 0.3
    assert (
        found["lambda_03"].settings["config"]["training"]["batch_size"]
        == (PEERS["diffaug"].settings["config"]["training"]["batch_size"])
    )
    assert {row.name: row.role for row in found["lambda_03"].rows} == {
        "lambda_03": "model",
        "lambda_03_loop_off": "twin",
    }
    assert (found["byol_03"].needs, PEERS["byol_plus"].needs, found["pca10"].needs) == (
        "lambda_03",
        "diffaug_one",
        None,
    )
    assert found["pca10"].rows == (Row("pca10", "pca10", kept_as="pca50"),)
    assert settings_hash(found["pca10"].settings) != settings_hash(PEERS["pca50"].settings)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('[a]\npeer = "pca5"\n', KeyError, "peer of \\[a\\] among .*found 'pca5'"),
        ("[a]\nshown = 'x'\n", KeyError, "Expected `peer`, `shown` and `settings` in \\[a\\], found \\['shown'\\]"),
        ('[a]\npeer = "raw"\nsetting.b = 1\n', KeyError, "found \\['peer', 'setting'\\]"),
        ('[a]\npeer = "byol_plus"\nneeds = "b"\n', KeyError, "builds on to come before it, found 'b'"),
        ('[a]\npeer = "raw"\nneeds = "pca50"\n', KeyError, "builds on to come before it, found 'pca50'"),
        ('[a]\npeer = "diffaug"\nrows.twin = "b"\n', KeyError, "rows of \\[a\\] among .*found 'twin'"),
        ('[a]\npeer = "diffaug"\nrows.loop_off = "umap"\n', ValueError, "new name for a variant, found 'umap'"),
        ('[pca50]\npeer = "raw"\n', ValueError, "new name for a variant, found 'pca50'"),
    ],
)
def test_bad_variants(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    file = tmp_path / "variants.toml"
    file.write_text(text)
    with pytest.raises(error, match=message):
        variants(file)


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "variants.toml"
    file.write_text('[a]\npeer = "pca50"\nsettings.n_comps = 3\n')
    with pytest.raises(KeyError, match="settings of 'a' among \\['n_components'\\], found 'n_comps'"):
        _ = variants(file)["a"].settings


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(adata: Any, seed: int) -> Any: ...

    assert Peer("a", "A", embed, requires=("numpy", "json")).why_missing() == ""
    reason = Peer("a", "A", embed, requires=("numpy", "no_such_package")).why_missing()
    assert reason == "ModuleNotFoundError: No module named 'no_such_package'"

    def broken(name: str) -> None:
        raise OSError("libcudart.so: cannot open")

    monkeypatch.setattr(_registry.importlib, "import_module", broken)
    assert Peer("a", "A", embed, requires=("torch",)).why_missing() == "OSError: libcudart.so: cannot open"


def test_every_package_of_others_is_in_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: _packages(lines) for name, lines in project["optional-dependencies"].items()}
    names = {"scvi": "scvi-tools", "concord": "concord-sc"}
    for peer in PEERS.values():
        modules = {m.partition(".")[0] for m in peer.requires} - {"diffaug", "peers"}
        needed = {names.get(m, m.lower()) for m in modules} - {"umap"}
        assert needed <= extras.get(peer.extra, set()), peer.name
        assert ("umap" in modules) <= ("umap-learn" in _packages(project["dependencies"]))


def _packages(lines: list[str]) -> set[str]:
    return {re.split(r"[<>=\[]", line)[0].lower() for line in lines}


def test_every_method_has_its_place() -> None:
    with pytest.raises(ValueError, match="names of all methods, found .*'nothing'"):
        _registry.in_order(*PEERS, "nothing")
    with pytest.raises(ValueError, match="a new name, found 'raw' again"):
        _registry.register("raw", "again")(lambda adata, seed: adata)


def test_an_ensemble_of_a_peer_is_turned_and_averaged(cells: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits that differ by a turn, a shift and a scale are one and the same, and seeds share no fit."""
    points, asked = np.random.default_rng(0).normal(size=(60, 5)), []

    def turned(adata: AnnData, seed: int, method: str, config: Any, **fit: Any) -> np.ndarray:
        asked.append((method, seed))
        rng = np.random.default_rng(seed)
        turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
        return (1 + seed) * points @ turn + rng.normal(size=5)

    monkeypatch.setattr("peers.contrastive._baseline", turned)
    peer = PEERS["dlme_ensemble"]
    found = [peer.embed(cells, seed, **peer.settings) for seed in (0, 1)]
    assert asked == [("dlme", seed) for seed in range(10)]
    own = np.linalg.norm(points[:, None] - points, axis=2)
    for x in found:
        apart = np.linalg.norm(x[:, None] - x, axis=2)
        np.testing.assert_allclose(apart / apart.mean(), own / own.mean(), rtol=1e-6, atol=1e-9)


def test_an_ensemble_of_a_peer_is_fitted(cells: AnnData) -> None:
    peer = PEERS["moco_ensemble"]
    x = peer.embed(cells, 0, **{**peer.settings, "max_epochs": 2, "n_encoders": 2})
    one = PEERS["moco"].embed(cells, 0, **{**PEERS["moco"].settings, "max_epochs": 2})
    assert x.shape == one.shape and np.isfinite(x).all() and not np.allclose(x, one)
