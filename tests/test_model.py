"""The model: settings and one fit. What every domain must do is in ``backends/test_contract.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from small_cells import CONFIG, expression

from diffaug import Config, DiffAug, TrainingConfig
from diffaug._model import resolve_config
from diffaug.backends import get_backend
from diffaug.backends.cells import CellsConfig


@pytest.fixture(scope="module")
def model() -> DiffAug:
    return DiffAug(CONFIG, random_state=3, device="cpu").fit(expression(80), progress=False)


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_can_be_given_in_every_form() -> None:
    backend = get_backend("cells")
    default = backend.preset("default")
    assert resolve_config(None, backend) == resolve_config("default", backend) == default
    assert resolve_config("paper", backend) == backend.preset("paper")
    assert resolve_config(default, backend) is default
    changed = resolve_config({"training": {"n_cycles": 2}, "domain": {"n_semantic": 7}}, backend)
    assert (changed.training.n_cycles, changed.domain.n_semantic) == (2, 7)
    assert changed.loss == default.loss
    assert changed.updated("training", n_cycles=default.training.n_cycles).training == default.training
    bare = Config(training=TrainingConfig(n_cycles=3))
    assert resolve_config(bare, backend).domain == default.domain
    assert resolve_config(bare, backend).training == bare.training


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (3, TypeError, "Expected `config` to be a preset's name, a Config, a dictionary or None, found"),
        ("fast", ValueError, r"Expected a preset among \['default', 'paper'\], found 'fast'"),
        ({"trainig": {}}, KeyError, "Expected sections among .* found 'trainig'"),
        ({"training": 3}, TypeError, r"Expected section \[training\] to be a table of settings, found 3"),
        (Config(domain={"n_semantic": 3}), TypeError, "Expected `config.domain` to be CellsConfig, found"),
    ],
)
def test_wrong_settings(config: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DiffAug(config)


def test_config_parts_are_checked() -> None:
    with pytest.raises(TypeError, match="Expected `training` to be a TrainingConfig, found 'fast'"):
        Config(training="fast")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Expected `loss` to be a LossConfig, found TrainingConfig"):
        Config(loss=TrainingConfig())  # type: ignore[arg-type]


def test_settings_reach_the_fit(model: DiffAug) -> None:
    assert [r.phase for r in model.history] == ["A", "A", "B", "B", "B", "fill", "A", "A"]
    assert model.embed(expression(4)).semantic.shape == (4, 6)
    assert model.embed(expression(4)).latent.shape == (4, 5)
    assert model.config.training.warmup_epochs == 2
    assert isinstance(model.config.domain, CellsConfig)


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_leaves_the_process_as_it_was(model: DiffAug) -> None:
    """Denormals, random numbers, threads, default type, gradients."""

    def state() -> tuple:
        half = torch.full((1,), torch.finfo(torch.float32).tiny) / 2
        return (
            float(half * 2),
            torch.get_rng_state().numpy().tobytes(),
            np.random.get_state()[1].tobytes(),
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        )

    before = state()
    assert before[0] > 0
    DiffAug(CONFIG, device="cpu").fit(expression(60), progress=False)
    model.embed(expression(5))
    model.augment(expression(5), kind="mixup")
    model.generate(5)
    assert state() == before


def test_sparse_and_dense_and_column_order_give_the_same_model(model: DiffAug) -> None:
    x = expression(80)
    fortran = DiffAug(CONFIG, random_state=3, device="cpu").fit(np.asfortranarray(x), progress=False)
    np.testing.assert_array_equal(fortran.embed(x).semantic, model.embed(x).semantic)
    for form in (sp.csr_matrix, sp.csc_matrix):
        sparse = DiffAug(CONFIG, random_state=3, device="cpu").fit(form(x), progress=False)
        # Moments are summed in another order, so the last bit may differ and seven epochs may widen that.
        np.testing.assert_allclose(sparse.embed(form(x)).semantic, model.embed(x).semantic, rtol=0.01, atol=0.01)
    np.testing.assert_array_equal(model.embed(sp.csr_matrix(x)).semantic, model.embed(x).semantic)


def test_input_is_not_written_to() -> None:
    x = expression(60)
    x.flags.writeable = False
    kept = x.copy()
    model = DiffAug(CONFIG, device="cpu").fit(x, progress=False)
    model.embed(x)
    model.augment(x, kind="feature_swap")
    np.testing.assert_array_equal(x, kept)


def test_many_rows_are_embedded_in_chunks(model: DiffAug) -> None:
    x = expression(5000)
    whole = model.embed(x).semantic
    assert whole.shape == (5000, 6)
    halves = np.concatenate([model.embed(x[:2500]).semantic, model.embed(x[2500:]).semantic])
    np.testing.assert_allclose(whole, halves, rtol=1e-4, atol=1e-5)


def test_batches_may_be_names_or_codes() -> None:
    x, codes = expression(60), np.arange(60) % 2
    found = [
        DiffAug(CONFIG, device="cpu").fit(x, batch=batch, progress=False).embed(x).semantic
        for batch in (codes, np.array(["a", "b"])[codes], codes.tolist(), None)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[3])


@pytest.mark.parametrize("progress", [True, False])
def test_progress(progress: bool, capfd: pytest.CaptureFixture) -> None:
    DiffAug(CONFIG, device="cpu").fit(expression(40), progress=progress)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("fit: 100%" in err) == progress
    assert ("7/7" in err) == progress  # every epoch was counted, and the fill was not


def test_failed_fit_leaves_the_old_model(model: DiffAug) -> None:
    mine = DiffAug(CONFIG, random_state=3, device="cpu").fit(expression(80), progress=False)
    bad = expression(80)
    bad[3, 4] = np.nan
    for wrong in (bad, bad[:2], bad[0]):
        with pytest.raises(ValueError, match="Expected "):
            mine.fit(wrong, progress=False)
    np.testing.assert_array_equal(mine.embed(expression(9)).semantic, model.embed(expression(9)).semantic)


def test_one_step_sets_and_single_batches() -> None:
    """The smallest set there can be."""
    model = DiffAug(CONFIG, device="cpu").fit(expression(3), progress=False)
    assert np.isfinite(model.embed(expression(3)).semantic).all()
    assert np.isfinite(model.generate(4).values).all()


# --- the loop-off twin -----------------------------------------------------------------------------------------------


def test_twin_is_the_fit_without_views(tmp_path: Path) -> None:
    x = expression(80)
    model = DiffAug(CONFIG, random_state=3, device="cpu").fit(x, twin=True, progress=False)
    plain = DiffAug(CONFIG, random_state=3, device="cpu").fit(x, progress=False)
    off = {**CONFIG, "training": {**CONFIG["training"], "view_rate": 0.0}}
    without = DiffAug(off, random_state=3, device="cpu").fit(x, progress=False)
    assert model.twin is not None
    assert plain.twin is None
    for name in ("semantic", "latent"):
        np.testing.assert_array_equal(getattr(model.embed(x), name), getattr(plain.embed(x), name))
        np.testing.assert_array_equal(getattr(model.twin.embed(x), name), getattr(without.embed(x), name))
    assert np.abs(model.embed(x).semantic - model.twin.embed(x).semantic).max() > 0
    assert model.twin.config == without.config
    np.testing.assert_array_equal(model.twin.augment(x[:4]), model.augment(x[:4]))  # the generator is the same one
    a_epochs = [[r.epoch for r in m.history if r.phase == "A"] for m in (model, model.twin)]
    assert len(a_epochs[0]) == len(a_epochs[1]) == 4
    loaded = DiffAug.load(model.twin.save(tmp_path / "twin"))
    np.testing.assert_array_equal(loaded.embed(x).semantic, model.twin.embed(x).semantic)


def test_sweep_is_fits_at_other_rates() -> None:
    x = expression(80)
    model = DiffAug(CONFIG, random_state=3, device="cpu").fit(x, sweep=[0.0, 1.0], progress=False)
    assert list(model.sweep) == [0.0, 1.0]
    assert model.twin is None
    for rate, found in model.sweep.items():
        alone = {**CONFIG, "training": {**CONFIG["training"], "view_rate": rate}}
        expected = DiffAug(alone, random_state=3, device="cpu").fit(x, progress=False)
        np.testing.assert_array_equal(found.embed(x).semantic, expected.embed(x).semantic)
        assert found.config == expected.config
    model.fit(x, progress=False)
    assert model.sweep == {}


@pytest.mark.parametrize(
    ("sweep", "change", "error", "message"),
    [
        ([1.5], {}, ValueError, r"Expected `sweep` in \[0, 1\], found 1.5"),
        (["all"], {}, TypeError, "Expected `sweep` to be a number, found 'all'"),
        ([0.5], {"n_cycles": 2}, ValueError, "Expected n_cycles=1 and the alternating schedule for a sweep, found 2"),
        ([0.5], {"schedule": "joint"}, ValueError, "found 1 and 'joint'. Fit each rate on its own"),
        ([0.5], {"view_rate": 0.0}, ValueError, "own loop-off twin"),
    ],
)
def test_sweeps_that_cannot_be(sweep: list, change: dict[str, Any], error: type[Exception], message: str) -> None:
    model = DiffAug({**CONFIG, "training": {**CONFIG["training"], **change}})
    with pytest.raises(error, match=message):
        model.fit(expression(20), sweep=sweep, progress=False)


@pytest.mark.parametrize("off", [{"view_rate": 0.0}, {"n_cycles": 0}])
def test_twin_of_a_fit_without_views(off: dict[str, Any]) -> None:
    model = DiffAug({**CONFIG, "training": {**CONFIG["training"], **off}})
    with pytest.raises(
        ValueError, match=r"Expected n_cycles and view_rate above 0 for twin=True or a sweep, found .* own loop-off"
    ):
        model.fit(expression(20), twin=True, progress=False)


def test_less_strength_keeps_a_view_nearer_to_its_cell(model: DiffAug) -> None:
    x = expression(80)
    distance = [float(np.square(model.augment(x, 5, strength=s) - x[:, None]).sum(-1).mean()) for s in (0.05, 0.3, 1.0)]
    assert distance == sorted(distance)
    assert distance[0] < 0.5 * distance[-1]
    for wrong in (0, -1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"Expected `strength` in \(0, 1\], found"):
            model.augment(x[:2], strength=wrong)
    with pytest.raises(
        ValueError, match=r"Expected kind='diffaug' for `strength` below 1, found 'mixup' \(strength=0.3\)"
    ):
        model.augment(x, kind="mixup", strength=0.3)
