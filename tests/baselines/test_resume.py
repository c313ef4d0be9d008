"""Trainings of others' methods and generators that are cut go on, with a result equal to the bit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffaug.baselines import METHODS, VIEW_GENERATORS, Baseline, ViewGenerator
from diffaug.core.checkpoint import CheckpointFile
from diffaug.core.timebox import OutOfTime

CONFIG: dict[str, Any] = {
    "training": {"n_encoders": 1, "warmup_epochs": 2, "generator_epochs": 3, "mixed_epochs": 1, "batch_size": 16},
    "domain": {"encoder_hidden": [8], "n_semantic": 6, "n_latent": 4},
}
X = np.random.default_rng(0).gamma(1.0, size=(48, 9)).astype(np.float32)
VIEWS = np.stack([X * 1.1, X + 0.1], axis=1)


def fit(method: str, file: Any = None, *, seed: int = 0, **options: Any) -> Baseline:
    model = Baseline(method, CONFIG, random_state=seed, device="cpu")
    return model.fit(X, **{"generated": VIEWS, "progress": False, "checkpoint": file, **options})


def no_time(path: Path) -> CheckpointFile:
    """A file whose time is over: one epoch, and no more."""
    return CheckpointFile(path, until=time.monotonic())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_goes_on_epoch_by_epoch(method: str, tmp_path: Path) -> None:
    whole, file = fit(method), tmp_path / "run.ckpt"
    assert len(whole.history) == 3
    for _ in range(3):
        with pytest.raises(OutOfTime, match="The time is over; the state of the training is kept in '.*run.ckpt'"):
            fit(method, no_time(file))
    parts = fit(method, no_time(file))  # all epochs are done: there is nothing that the time could end
    np.testing.assert_array_equal(parts.embed(X).semantic, whole.embed(X).semantic)
    np.testing.assert_array_equal(parts.embed(X).latent, whole.embed(X).latent)
    assert [r.encoder_loss for r in parts.history] == [r.encoder_loss for r in whole.history]
    assert [r.epoch for r in parts.history] == [1, 2, 3]
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("kind", VIEW_GENERATORS)
def test_a_generator_goes_on_epoch_by_epoch(kind: str, tmp_path: Path) -> None:
    def make() -> ViewGenerator:
        return ViewGenerator(kind, CONFIG, device="cpu")

    whole, file, n_cuts = make().fit(X, progress=False), tmp_path / "run.ckpt", 0
    assert len(whole.history) == 3
    for _ in range(9):
        try:
            parts = make().fit(X, checkpoint=no_time(file), progress=False)
            break
        except OutOfTime:
            n_cuts += 1
    assert n_cuts == 3 + 2 * (kind == "gan")  # the epochs of the GAN's encoder come first
    np.testing.assert_array_equal(parts.augment(X, 2), whole.augment(X, 2))
    assert [r.loss for r in parts.history] == [r.loss for r in whole.history]
    names = ["run.ckpt"] + ["run.ckpt.encoder"] * (kind == "gan")
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_the_end_is_kept_until_it_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.ckpt"
    first = fit("moco", file)
    assert file.is_file()
    monkeypatch.setattr("diffaug.baselines._training.PairTrainer._epoch", None)  # a training would fail
    again = fit("moco", file)
    np.testing.assert_array_equal(again.embed(X).semantic, first.embed(X).semantic)


def test_patience_is_not_forgotten(tmp_path: Path) -> None:
    """A training that patience had ended at the cut does not begin its next epoch."""
    changed = {**CONFIG, "training": {**CONFIG["training"], "mixed_epochs": 9, "patience": 1, "encoder_lr": 1e-12}}

    def run(file: Any = None) -> Baseline:
        return Baseline("simclr", changed, device="cpu").fit(X, checkpoint=file, progress=False)

    whole, file = run(), tmp_path / "run.ckpt"
    assert len(whole.history) < 11
    for _ in whole.history:
        with pytest.raises(OutOfTime):
            run(no_time(file))
    assert len(run(file).history) == len(whole.history)


def test_another_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.ckpt"
    with pytest.raises(OutOfTime):
        fit("moco", no_time(file))
    raw = file.read_bytes()
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"seed": 1}, "random_state=0 and not 1"),
        ({"generated": VIEWS + 1}, "other data"),
        ({"generated": None}, "other data"),
        ({"batch": np.arange(48) % 2}, "other data"),
        ({"view_rate": 0.25}, "training.view_rate=0.5 and not 0.25"),
        ({"method": "byol"}, "method='moco' and not 'byol'"),
    )
    for options, said in cases:
        given: dict[str, Any] = {"method": "moco", **options}
        with pytest.raises(ValueError, match=f"Expected a checkpoint of this run in .*, found .*{said}"):
            fit(given.pop("method"), file, **given)
    for views, said in (("mixup", "mixup"), (["mask", "noise"], "mask', 'noise")):
        with pytest.raises(ValueError, match=rf"views=\['mask'\] and not \['{said}'\]"):
            Baseline("moco", CONFIG, views=views, device="cpu").fit(X, generated=VIEWS, checkpoint=file, progress=False)
    with pytest.raises(ValueError, match="found one of another: "):
        ViewGenerator("vae", CONFIG, device="cpu").fit(X, checkpoint=file, progress=False)
    assert file.read_bytes() == raw
    document = torch.load(file, weights_only=True)
    del document["state"]["trainer"]["done"]
    torch.save(document, file)
    with pytest.raises(ValueError, match="Expected a state of this version of diffaug in .*, found another: 'done'"):
        fit("moco", file)


def test_views_by_default_are_those_of_their_name(tmp_path: Path) -> None:
    """Of nine features the backend makes masks: a run that asks for them goes on with one that left the choice to it."""
    file, whole = tmp_path / "run.ckpt", fit("simclr")
    assert whole.hand_made == ("mask",)
    with pytest.raises(OutOfTime):
        fit("simclr", no_time(file))
    named = Baseline("simclr", CONFIG, views="mask", device="cpu")
    named.fit(X, generated=VIEWS, checkpoint=file, progress=False)
    np.testing.assert_array_equal(named.embed(X).semantic, whole.embed(X).semantic)


def test_seconds_of_all_lives_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of the encoder that a GAN trains first, and each once."""
    clock = [0.0]
    monkeypatch.setattr("diffaug.core.checkpoint.time.monotonic", lambda: clock[0])
    inner = CheckpointFile.after_epoch

    def ten_seconds_later(self: CheckpointFile, state: Any) -> None:
        clock[0] += 10
        inner(self, state)

    monkeypatch.setattr(CheckpointFile, "after_epoch", ten_seconds_later)
    earlier = []
    for _ in range(6):
        file = CheckpointFile(tmp_path / "run.ckpt", until=clock[0])
        try:
            ViewGenerator("gan", CONFIG, device="cpu").fit(X, checkpoint=file, progress=False)
        except OutOfTime:
            pass
        earlier.append(file.earlier_seconds)
    assert earlier == [0, 0, 20, 30, 40, 50]
