"""A model whose embedding is that of an ensemble: fitted, saved, loaded, killed, and beside its twin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cells

from diffaug import DiffAug
from diffaug.core.ensemble import members_of


def config(n_encoders: int, **training: Any) -> dict[str, Any]:
    given = {**small_cells.CONFIG["training"], "n_encoders": n_encoders, **training}
    return {**small_cells.CONFIG, "training": given}


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return small_cells.expression()


@pytest.fixture(scope="module")
def model(x: np.ndarray) -> DiffAug:
    return DiffAug(config(3), device="cpu").fit(x, twin=True, progress=False)


def test_the_default_is_an_ensemble_and_the_papers_is_none() -> None:
    assert DiffAug(device="cpu").config.training.n_encoders == 5
    assert DiffAug("paper", device="cpu").config.training.n_encoders == 1
    for backend in ("vision", "dna"):  # their encoders cost too much to have five
        assert DiffAug(backend=backend, device="cpu").config.training.n_encoders == 1


def test_embedding_and_synthetic_cells_are_others_of_the_same_shape(model: DiffAug, x: np.ndarray) -> None:
    alone = DiffAug(config(1), device="cpu").fit(x, progress=False)
    ours, theirs = model.embed(x), alone.embed(x)
    assert ours.semantic.shape == theirs.semantic.shape and ours.latent.shape == theirs.latent.shape
    assert not np.allclose(ours.semantic, theirs.semantic, atol=1e-2)
    made, made_alone = model.generate(20), alone.generate(20)
    np.testing.assert_array_equal(made.source, made_alone.source)
    assert made.values.shape == made_alone.values.shape and not np.array_equal(made.values, made_alone.values)
    assert model.augment(x[:5], 2).shape == alone.augment(x[:5], 2).shape
    assert model.n_parameters["encoder"] == 3 * alone.n_parameters["encoder"]
    assert model.n_parameters["generator"] == alone.n_parameters["generator"]


def test_the_twin_is_the_ensemble_without_views(model: DiffAug, x: np.ndarray) -> None:
    off = DiffAug(config(3, view_rate=0.0), device="cpu").fit(x, progress=False)
    assert model.twin is not None
    np.testing.assert_array_equal(model.twin.embed(x).semantic, off.embed(x).semantic)
    alone = DiffAug(config(3, n_cycles=0), device="cpu").fit(x, progress=False)
    np.testing.assert_array_equal(alone.embed(x).semantic, off.embed(x).semantic)
    assert not np.array_equal(model.twin.embed(x).semantic, model.embed(x).semantic)
    epochs = [r.epoch for r in model.twin.history]
    assert (
        epochs == list(range(1, len(epochs) + 1))
        and [r.member for r in model.twin.history] == [0] * 4 + [1] * 4 + [2] * 4
    )


def test_it_is_saved_and_loaded(model: DiffAug, x: np.ndarray, tmp_path: Path) -> None:
    loaded = DiffAug.load(model.save(tmp_path / "model"), device="cpu")
    assert len(members_of(loaded._encoder)) == len(members_of(loaded._condition_encoder)) == 3
    for ours, theirs in zip(loaded.embed(x[:7]), model.embed(x[:7]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded.fingerprint == model.fingerprint
    assert repr(loaded.history) == repr(model.history)
    np.testing.assert_array_equal(loaded.augment(x[:3], 2), model.augment(x[:3], 2))


def test_a_generator_that_was_conditioned_on_the_first_encoder_alone_is_loaded(
    model: DiffAug, x: np.ndarray, tmp_path: Path
) -> None:
    """As those of the first ensembles were."""
    from safetensors.torch import load_file, save_file

    folder = model.save(tmp_path / "model")
    tensors, first = load_file(folder / "weights.safetensors"), "condition_encoder.members.0."
    kept = {name: value for name, value in tensors.items() if not name.startswith("condition_encoder.")}
    kept |= {name.replace("members.0.", ""): v for name, v in tensors.items() if name.startswith(first)}
    save_file(kept, folder / "weights.safetensors")
    loaded = DiffAug.load(folder, device="cpu")
    assert len(members_of(loaded._encoder)) == 3 and len(members_of(loaded._condition_encoder)) == 1
    np.testing.assert_array_equal(loaded.embed(x).semantic, model.embed(x).semantic)
    assert np.isfinite(loaded.augment(x[:3], 2)).all()


def test_a_file_of_another_number_of_encoders_is_refused(model: DiffAug, tmp_path: Path) -> None:
    folder = model.save(tmp_path / "model")
    file = folder / "config.json"
    text = file.read_text()
    assert text.count('"n_encoders": 3') == 2  # of the fit, and as asked
    file.write_text(text.replace('"n_encoders": 3', '"n_encoders": 2'))
    with pytest.raises(ValueError, match="Expected weights of the encoder that fit config.json"):
        DiffAug.load(folder, device="cpu")


def test_a_model_of_before_the_ensemble_has_one_encoder(x: np.ndarray, tmp_path: Path) -> None:
    alone = DiffAug(config(1), device="cpu").fit(x, progress=False)
    folder = alone.save(tmp_path / "model")
    document = json.loads((folder / "config.json").read_text())
    for section in ("config", "asked"):
        assert document[section]["training"].pop("n_encoders") == 1
    (folder / "config.json").write_text(json.dumps(document))
    loaded = DiffAug.load(folder, device="cpu")
    assert loaded.config.training.n_encoders == loaded.asked.training.n_encoders == 1
    np.testing.assert_array_equal(loaded.embed(x).semantic, alone.embed(x).semantic)


def test_a_killed_training_goes_on_with_the_encoder_it_was_at(
    model: DiffAug, x: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffaug.core.training import Trainer

    epoch, left = Trainer._a_epoch, [9]  # the three warm-ups, two of the first encoder with views, one of the second

    def one(self: Trainer, *args: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return epoch(self, *args)

    def fit() -> DiffAug:
        return DiffAug(config(3), device="cpu").fit(
            x, twin=True, checkpoint=tmp_path / "run.ckpt", checkpoint_minutes=0, progress=False
        )

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_a_epoch", one)
        with pytest.raises(KeyboardInterrupt):
            fit()
    again = fit()
    np.testing.assert_array_equal(again.embed(x).semantic, model.embed(x).semantic)
    assert again.twin is not None and model.twin is not None
    np.testing.assert_array_equal(again.twin.embed(x).semantic, model.twin.embed(x).semantic)
