"""Fits that are cut and go on, as a user meets them. Every domain and every place to cut: ``backends/test_contract.py``."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cells
from small_cells import expression

import diffaug
from diffaug import DiffAug
from diffaug.core.training import Trainer

CONFIG = {**small_cells.CONFIG, "training": {**small_cells.CONFIG["training"], "generator_epochs": 2}}


def make(**changes: Any) -> DiffAug:
    config = {s: {**CONFIG.get(s, {}), **changes.get(s, {})} for s in {*CONFIG, *changes}}
    return DiffAug(config, random_state=3, device="cpu")


class Cut(BaseException):
    """The end of a process."""


def cut_after(n_epochs: int, monkeypatch: pytest.MonkeyPatch, model: DiffAug, **options: Any) -> None:
    """Fit until the state after so many epochs of the encoder is kept, and no further."""
    done = [0]
    epoch = Trainer._a_epoch

    def one(self: Trainer, with_generator: bool = False) -> Any:
        if done[0] == n_epochs:
            raise Cut
        done[0] += 1
        return epoch(self, with_generator)

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(Trainer, "_a_epoch", one)
        model.fit(expression(), progress=False, checkpoint_minutes=0, **options)


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("trained again")

    for name in ("_a_epoch", "_b_epoch", "_fill"):
        monkeypatch.setattr(Trainer, name, fail)


# --- the same result --------------------------------------------------------------------------------------------------

#: A fit in another process: it keeps its state after every epoch.
CHILD = """
import runpy, sys
tests = runpy.run_path(sys.argv[1])
tests["make"](training=tests["LONG"]).fit(tests["expression"](), checkpoint=sys.argv[2], checkpoint_minutes=0, progress=False)
"""
LONG = {"warmup_epochs": 60, "generator_epochs": 200, "mixed_epochs": 60}


def test_killed_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two real kills at whatever moment they come; the third process, this one, ends as one that did it all."""
    file = tmp_path / "run.ckpt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # pytest has put the tests' own modules there
    for _ in range(2):
        before = file.stat().st_mtime_ns if file.exists() else None
        child = subprocess.Popen([sys.executable, "-c", CHILD, __file__, str(file)], env=environment)
        deadline = time.monotonic() + 120
        n_seen = 0
        while n_seen < 5:  # some epochs in each life
            assert child.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
            now = file.stat().st_mtime_ns if file.exists() else None
            n_seen, before = n_seen + (now != before), now
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    with caplog.at_level(logging.INFO, logger="diffaug"):
        found = make(training=LONG).fit(expression(), checkpoint=file, progress=False)
    n_done = int(caplog.text.partition("': ")[2].partition(" epochs are done")[0])
    assert 8 <= n_done < 320
    whole = make(training=LONG).fit(expression(), progress=False)
    assert found.fingerprint == whole.fingerprint
    assert len(found.history) == len(whole.history) == 321
    assert [r.encoder_loss for r in found.history[-60:]] == [r.encoder_loss for r in whole.history[-60:]]
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]


@pytest.mark.parametrize("n_epochs", [3, 5, 7, 9])  # in the mixed phase, and in each of the three twins
def test_twins_and_sweeps_go_on(n_epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With conditions of noise (ablation A2), which must not be drawn twice."""
    options: dict[str, Any] = {"twin": True, "sweep": [1.0, 0.25]}
    changes = {"diffusion": {"condition": "noise"}}
    file = tmp_path / "run"
    cut_after(n_epochs, monkeypatch, make(**changes), checkpoint=file, **options)
    found = make(**changes).fit(expression(), checkpoint=file, progress=False, **options)
    whole = make(**changes).fit(expression(), progress=False, **options)
    assert found.twin is not None
    assert whole.twin is not None
    assert list(found.sweep) == [1.0, 0.25]
    mine, theirs = ([m, m.twin, *m.sweep.values()] for m in (found, whole))
    assert [m.fingerprint for m in mine] == [m.fingerprint for m in theirs]
    assert len({m.fingerprint for m in mine}) == 4
    assert [len(m.history) for m in mine] == [len(m.history) for m in theirs] == [7, 4, 4, 4]
    assert [m.config for m in mine] == [m.config for m in theirs]
    np.testing.assert_array_equal(found.generate(5).values, whole.generate(5).values)


def test_keeping_a_state_changes_nothing(tmp_path: Path) -> None:
    plain = make().fit(expression(), progress=False)
    kept = make().fit(expression(), checkpoint=tmp_path / "run", checkpoint_minutes=0, progress=False)
    assert kept.fingerprint == plain.fingerprint


def test_labels_and_batches_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"labels": np.arange(80) % 3, "batch": np.arange(80) % 2}
    changes = {"diffusion": {"condition": "label"}}
    cut_after(3, monkeypatch, make(**changes), checkpoint=tmp_path / "run", **options)
    found = make(**changes).fit(expression(), checkpoint=tmp_path / "run", progress=False, **options)
    assert found.fingerprint == make(**changes).fit(expression(), progress=False, **options).fingerprint
    for name in options:
        with pytest.raises(ValueError, match=r"of another: other data \(events, batches or labels\)"):
            make(**changes).fit(expression(), checkpoint=tmp_path / "run", **{**options, name: options[name][::-1]})


def test_seconds_of_both_lives_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    cut_after(3, monkeypatch, first, checkpoint=tmp_path / "run")
    second = make().fit(expression(), checkpoint=tmp_path / "run", progress=False)
    assert [r.epoch for r in second.history] == [1, 2, 3, 4, 4, 5, 6]
    assert all(r.seconds > 0 for r in second.history)
    again = make().fit(expression(), checkpoint=tmp_path / "run", progress=False)
    assert [r.seconds for r in again.history] == [r.seconds for r in second.history]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_end_is_kept_until_it_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after a fit may fail, and the same call then has the model at once."""
    file = tmp_path / "run"
    first = make().fit(expression(), twin=True, checkpoint=str(file), progress=False)
    with monkeypatch.context() as patch:
        no_training(patch)
        second = make().fit(expression(), twin=True, checkpoint=file, progress=False)
        with pytest.raises(AssertionError, match="trained again"):
            make().fit(expression(), twin=True, progress=False)
    assert second.twin is not None
    assert first.twin is not None
    assert (second.fingerprint, second.twin.fingerprint) == (first.fingerprint, first.twin.fingerprint)
    assert file.stat().st_size < 1e6
    second.save(tmp_path / "model")
    assert DiffAug.load(tmp_path / "model").fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"training": {"view_rate": 0.25}}, {}, r"training\.view_rate=0\.5 and not 0\.25"),
        ({"domain": {"n_semantic": 7}}, {}, r"domain\.n_semantic=6 and not 7"),
        ({"diffusion": {"condition_dropout": 0.5}}, {}, r"diffusion\.condition_dropout=0\.0 and not 0\.5"),
        ({}, {"max_epochs": 3}, r"training\.warmup_epochs=2 and not 1"),
        ({}, {"twin": True}, r"twins=\[\] and not \[0\.0\]"),
        ({}, {"x": expression(81)}, r"events=\[80, 15\] and not \[81, 15\], other data"),
        ({}, {"x": 2 * expression()}, r"another: other data"),  # the same once it is standardised
        (
            {},
            {"batch": np.arange(80) % 2},
            r"another: other data \(events, batches or labels\), domain.views='mask' and not 'mixup', diffusion.condition_on_batch=None and not True\. Delete it or",
        ),
    ],
)
def test_another_run_is_refused(
    change: dict[str, Any],
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "run"
    cut_after(1, monkeypatch, make(), checkpoint=file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"Expected a checkpoint of this run in '.*run', found one of .*" + message):
        make(**change).fit(**{"x": expression(), "checkpoint": file, "progress": False, **options})
    assert file.read_bytes() == before
    assert len(make().fit(expression(), checkpoint=file, progress=False).history) == 7


def test_refusal_leaves_the_old_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    model = make().fit(expression(), progress=False)
    before = model.fingerprint
    with pytest.raises(ValueError, match="Expected a checkpoint of diffaug in .* found a damaged or a foreign file"):
        model.fit(expression(), checkpoint=tmp_path / "notes.txt", progress=False)
    with pytest.raises(ValueError, match="Expected `checkpoint_minutes` of at least 0, found -1"):
        model.fit(expression(), checkpoint=tmp_path / "run", checkpoint_minutes=-1)
    with pytest.raises(IsADirectoryError, match="Expected `checkpoint` to name a file, found a folder"):
        model.fit(expression(), checkpoint=tmp_path)
    assert model.fingerprint == before
    assert sorted(os.listdir(tmp_path)) == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_bar_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cut_after(3, monkeypatch, make(), checkpoint=tmp_path / "run")
    make().fit(expression(), checkpoint=tmp_path / "run")
    shown = capfd.readouterr().err
    assert "6/6" in shown
    assert "0/6" not in shown


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the second epoch, with ten minutes between the writings."""
    steps = [0]
    step = Trainer.a_step

    def interrupted(self: Trainer, *args: Any) -> Any:
        steps[0] += 1
        if steps[0] == 3:  # two steps an epoch
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)

    file = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "a_step", interrupted)
        make().fit(expression(), checkpoint=file, progress=False)
    assert steps == [4]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "a_step", lambda self, *args: steps.append(1) or step(self, *args))
        found = make().fit(expression(), checkpoint=file, progress=False)
    assert len(steps) == 1 + 4  # the mixed phase alone
    assert found.fingerprint == make().fit(expression(), progress=False).fingerprint
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_without_a_file_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    step = Trainer.a_step

    def interrupted(self: Trainer, *args: Any) -> Any:
        steps.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)

    monkeypatch.setattr(Trainer, "a_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make().fit(expression(), progress=False)
    assert len(steps) == 1


# --- the faces --------------------------------------------------------------------------------------------------------


def test_every_face_hands_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import anndata

    seen: list[tuple[Any, Any]] = []

    class Seen(Exception):
        pass

    def spy(self: DiffAug, x: Any, **options: Any) -> DiffAug:
        seen.append((options["checkpoint"], options["checkpoint_minutes"]))
        raise Seen

    monkeypatch.setattr(DiffAug, "fit", spy)
    calls: list[Any] = [
        lambda **o: diffaug.tl.fit(anndata.AnnData(expression()), **o),
        lambda **o: diffaug.vision.fit(np.zeros((9, 8, 8)), **o),
        lambda **o: diffaug.dna.fit(["ACGTACGT"] * 9, **o),
    ]
    for call in calls:
        with pytest.raises(Seen):
            call(checkpoint=tmp_path / "run", checkpoint_minutes=3.5)
        with pytest.raises(Seen):
            call()
    assert seen == [(tmp_path / "run", 3.5), (None, 10.0)] * 3


def test_cells_go_on_to_the_same_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the AnnData door, where the data are prepared anew, and with what follows the training."""
    import anndata

    tables = [anndata.AnnData(expression()) for _ in range(3)]
    options: dict[str, Any] = {"config": CONFIG, "random_state": 3, "device": "cpu", "progress": False, "twin": True}
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no place left"):
        patch.setattr(
            "diffaug.tl._fit.write_embedding", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no place left"))
        )
        diffaug.tl.fit(tables[0], checkpoint=tmp_path / "run", **options)
    with monkeypatch.context() as patch:
        no_training(patch)
        diffaug.tl.fit(tables[1], checkpoint=tmp_path / "run", **options)
    diffaug.tl.fit(tables[2], **options)
    for key in ("X_diffaug", "X_diffaug_latent", "X_diffaug_twin"):
        np.testing.assert_array_equal(tables[1].obsm[key], tables[2].obsm[key])
