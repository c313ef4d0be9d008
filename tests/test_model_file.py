"""A model's folder: what is in it, that what is read is what was written, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_cells import CONFIG, expression

import diffaug
from diffaug import DiffAug, LossConfig

FILES = {"config.json", "weights.safetensors", "history.csv"}


@pytest.fixture(scope="module")
def model() -> DiffAug:
    fitted = DiffAug(CONFIG, random_state=3, device="cpu")
    fitted.meta["note"] = ["kept", {"with": 1}]
    return fitted.fit(expression(80), progress=False)


@pytest.fixture
def saved(model: DiffAug, tmp_path: Path) -> Path:
    return model.save(tmp_path / "model")


# --- save and load ---------------------------------------------------------------------------------------------------


def test_folder_holds_json_and_safetensors_only(saved: Path) -> None:
    assert {f.name for f in saved.iterdir()} == FILES
    document = json.loads((saved / "config.json").read_text(), parse_constant=pytest.fail)  # strict JSON: no NaN
    assert document["format"] == "diffaug"
    assert document["schema_version"] == 2
    assert document["versions"]["diffaug"] == diffaug.__version__
    assert document["meta"]["note"] == ["kept", {"with": 1}]
    weights = (saved / "weights.safetensors").read_bytes()
    header = weights[8 : 8 + struct.unpack("<Q", weights[:8])[0]]
    assert {k.split(".")[0] for k in json.loads(header)} >= {"encoder", "condition_encoder", "denoiser", "backend"}


def test_loading_runs_no_pickle(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model from somebody else must not be able to run code."""
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, lambda *args, **kwargs: pytest.fail("something was unpickled"))
    DiffAug.load(saved, device="cpu")


def test_loaded_model_is_the_same(model: DiffAug, saved: Path) -> None:
    loaded = DiffAug.load(saved, device="cpu")
    x = expression(20, seed=5)
    np.testing.assert_array_equal(loaded.embed(x).semantic, model.embed(x).semantic)
    np.testing.assert_array_equal(loaded.embed(x).latent, model.embed(x).latent)
    assert loaded.config == model.config
    assert loaded.meta == model.meta
    assert loaded.random_state == 3
    assert loaded.n_obs == 80
    assert str(loaded.device) == "cpu"
    assert list(map(repr, loaded.history)) == list(map(repr, model.history))  # repr: NaN is not equal to itself
    for record in loaded.history:
        assert isinstance(record.epoch, int)
        assert isinstance(record.seconds, float)


def test_a_loaded_model_fits_other_data_by_what_was_asked(saved: Path) -> None:
    """Epochs that a fit took from its own data are not those of another."""
    steps = {"warmup_steps": 40, "generator_steps": 20, "mixed_steps": 20, "encoder_passes": 0, "generator_passes": 0}
    asked = DiffAug({**CONFIG, "training": steps}, device="cpu")
    few = asked.fit(expression(40), max_epochs=2, progress=False).save(saved.with_name("few"))
    loaded = DiffAug.load(few, device="cpu")
    assert loaded.asked == asked.asked and loaded.asked.training.warmup_epochs is None
    assert loaded.config == asked.config and loaded.config.training.warmup_epochs is not None
    again, fresh = (
        model.fit(expression(600), progress=False) for model in (loaded, DiffAug(asked.asked, device="cpu"))
    )
    assert again.config == fresh.config != asked.config
    assert again.fingerprint == fresh.fingerprint


def test_a_model_of_before_may_have_an_eta_that_nothing_read(saved: Path) -> None:
    document = json.loads((saved / "config.json").read_text())
    document["config"]["diffusion"]["eta"] = 0.5
    (saved / "config.json").write_text(json.dumps(document))
    assert DiffAug.load(saved, device="cpu").config.diffusion.eta == 0


def test_a_model_of_before_was_asked_for_what_it_has(saved: Path) -> None:
    document = json.loads((saved / "config.json").read_text())
    del document["asked"]
    (saved / "config.json").write_text(json.dumps(document))
    loaded = DiffAug.load(saved, device="cpu")
    assert loaded.asked == loaded.config


def test_what_grows_with_the_events_stands_on_one_line(model: DiffAug, tmp_path: Path) -> None:
    """The settings stay readable."""
    big = DiffAug(CONFIG, device="cpu")
    big.meta["cells"] = list(range(5000))
    big.fit(expression(40), max_epochs=1, progress=False)
    text = (big.save(tmp_path / "big") / "config.json").read_text()
    assert json.loads(text)["meta"]["cells"] == big.meta["cells"]
    assert '"view_rate"' in text and text.count("\n") < 200


def test_load_in_another_process(model: DiffAug, saved: Path, tmp_path: Path) -> None:
    """Equal to the bit there, too."""
    x = expression(30, seed=2)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "from diffaug import DiffAug\n"
        "folder, out = sys.argv[1:]\n"
        "model, x = DiffAug.load(folder, device='cpu'), np.load(out + '/x.npy')\n"
        "e = model.embed(x)\n"
        "views = {k: model.augment(x, 2, kind=k) for k in ('diffaug', 'mixup', 'feature_swap')}\n"
        "np.savez(out + '/there.npz', semantic=e.semantic, latent=e.latent, made=model.generate(9).values, **views)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(saved), str(tmp_path)], check=True)
    there = np.load(tmp_path / "there.npz")
    here = {**model.embed(x)._asdict(), "made": model.generate(9).values}
    here |= {kind: model.augment(x, 2, kind=kind) for kind in ("diffaug", "mixup", "feature_swap")}
    for name, value in here.items():
        np.testing.assert_array_equal(there[name], value, err_msg=name)


def test_equal_fits_write_equal_weights(model: DiffAug, saved: Path, tmp_path: Path) -> None:
    again = DiffAug(CONFIG, random_state=3, device="cpu").fit(expression(80), progress=False).save(tmp_path / "again")
    assert (again / "weights.safetensors").read_bytes() == (saved / "weights.safetensors").read_bytes()


def test_loaded_model_can_be_fitted(saved: Path) -> None:
    loaded = DiffAug.load(saved, device="cpu").fit(expression(40), progress=False)
    assert loaded.n_obs == 40


def test_unfitted_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Expected a fitted model, found one that was never fitted"):
        DiffAug(CONFIG).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_encoder_alone_is_saved(tmp_path: Path) -> None:
    config = {**CONFIG, "training": {"n_cycles": 0, "warmup_epochs": 1, "mixed_epochs": 0}}
    model = DiffAug(config, device="cpu").fit(expression(40), progress=False)
    loaded = DiffAug.load(model.save(tmp_path / "model"), device="cpu")
    np.testing.assert_array_equal(loaded.embed(expression(5)).semantic, model.embed(expression(5)).semantic)
    with pytest.raises(RuntimeError, match="Expected a trained generator"):
        loaded.generate(3)


# --- overwriting -----------------------------------------------------------------------------------------------------


def test_overwrite(model: DiffAug, saved: Path) -> None:
    before = (saved / "config.json").read_bytes()
    with pytest.raises(FileExistsError, match=r"Expected a new folder, found .*Pass overwrite=True to replace it"):
        model.save(saved)
    assert (saved / "config.json").read_bytes() == before
    (saved / "weights.safetensors").unlink()  # also a damaged one is replaced
    assert model.save(str(saved), overwrite=True) == saved
    assert {f.name for f in saved.iterdir()} == FILES
    DiffAug.load(saved, device="cpu")


def test_overwrite_spares_what_is_not_a_model(model: DiffAug, saved: Path, tmp_path: Path) -> None:
    """``overwrite`` in the wrong place must not empty a folder of results."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.tex").write_text("all of it")
    (saved / "notes.txt").write_text("mine")
    for folder, name in ((tmp_path / "results", "thesis.tex"), (saved, "notes.txt")):
        with pytest.raises(FileExistsError, match=rf"Expected a model's folder to overwrite, found .*'{name}'"):
            model.save(folder, overwrite=True)
        assert (folder / name).exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    model.save(empty, overwrite=True)
    DiffAug.load(empty, device="cpu")


@pytest.mark.parametrize("part", ["weights", "settings", "history"])
def test_failure_in_the_middle_leaves_the_old_model(
    model: DiffAug, saved: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    before = {f.name: f.read_bytes() for f in saved.iterdir()}

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")

    target = {"weights": "safetensors.torch.save_file", "settings": "json.dumps", "history": "csv.writer"}[part]
    monkeypatch.setattr(target, fail)
    with pytest.raises(OSError, match="disk full"):
        model.save(saved, overwrite=True)
    monkeypatch.undo()
    assert {f.name: f.read_bytes() for f in saved.iterdir()} == before
    assert [f.name for f in saved.parent.iterdir()] == ["model"]
    DiffAug.load(saved, device="cpu")


@pytest.mark.parametrize("path", [None, 3, "", b"model"])
def test_path_must_be_a_path(model: DiffAug, path: Any) -> None:
    for use in (model.save, DiffAug.load):
        with pytest.raises(TypeError, match="Expected `path` to name a folder, found"):
            use(path)


# --- refusing --------------------------------------------------------------------------------------------------------


def edit_json(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        document = json.loads((folder / "config.json").read_text())
        change(document)
        (folder / "config.json").write_text(json.dumps(document))

    return damage


def set_json(*keys: str, to: Any) -> Callable[[Path], None]:
    def change(document: dict) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return edit_json(change)


def edit_weights(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "weights.safetensors")
        change(tensors)
        save_file(tensors, folder / "weights.safetensors")

    return damage


def cut(name: str, share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return damage


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DAMAGE: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no_config": (remove("config.json"), FileNotFoundError, "Expected a model folder with 'config.json', found none"),
    "no_weights": (remove("weights.safetensors"), FileNotFoundError, "with 'weights.safetensors', found none"),
    "no_history": (remove("history.csv"), FileNotFoundError, "with 'history.csv', found none"),
    "no_folder": (shutil.rmtree, FileNotFoundError, "Expected a model folder with 'config.json', found none"),
    "newer": (set_json("schema_version", to=3), ValueError, "schema version 2, found 3 .*or a newer one"),
    "no_version": (set_json("schema_version", to=None), ValueError, "schema version 2, found None"),
    "foreign_json": (write("config.json", b'{"model_type": "bert"}'), ValueError, "Expected a diffaug model in"),
    "json_list": (write("config.json", b"[1, 2]"), ValueError, "Expected a diffaug model in .*found another kind"),
    "no_json": (write("config.json", b"hello"), ValueError, "Expected JSON in .*found something else"),
    "binary_json": (write("config.json", b"\x80\x04\xff\xfe"), ValueError, "Expected JSON in .*found something else"),
    "cut_json": (cut("config.json", 0.5), ValueError, "Expected JSON in .*found something else"),
    "cut_weights": (cut("weights.safetensors", 0.5), ValueError, "Expected whole safetensors weights .*damaged file"),
    "cut_header": (cut("weights.safetensors", 0.001), ValueError, "Expected whole safetensors weights .*damaged file"),
    "empty_weights": (write("weights.safetensors", b""), ValueError, "Expected whole safetensors weights"),
    "pickled_weights": (
        write("weights.safetensors", pickle.dumps({"a": 1}) * 9),
        ValueError,
        "Expected whole safetensors weights",
    ),
    "unknown_backend": (set_json("backend", to="sounds"), ValueError, "Expected a backend among .*found 'sounds'"),
    "backend_number": (set_json("backend", to=3), ValueError, "Expected 'backend' to be a str in .*found 3"),
    "config_list": (set_json("config", to=[1]), ValueError, r"Expected 'config' to be a dict in .*found \[1\]"),
    "unknown_setting": (
        set_json("config", "training", "epochs", to=3),
        ValueError,
        "Expected settings that fit this version of diffaug in .*found others: .*'epochs'",
    ),
    "wrong_setting": (
        set_json("config", "training", "view_rate", to=3.0),
        ValueError,
        r"Expected settings that fit this version .*Expected `view_rate` in \[0, 1\], found 3.0",
    ),
    "wrong_kind_of_setting": (
        set_json("config", "domain", "n_semantic", to="many"),
        ValueError,
        "Expected settings that fit this version .*of type int, found 'many'",
    ),
    "settings_list": (
        set_json("config", "diffusion", to=[]),
        ValueError,
        "Expected settings that fit this version of diffaug in",
    ),
    "other_width": (
        set_json("config", "domain", "n_semantic", to=7),
        ValueError,
        "Expected weights of the encoder that fit config.json",
    ),
    "other_shape": (set_json("event_shape", to=[16]), ValueError, "Expected weights of the .* that fit config.json"),
    "shape_of_text": (set_json("event_shape", to="15"), ValueError, "Expected 'event_shape' to be a list"),
    "negative_shape": (set_json("event_shape", to=[-15]), ValueError, "Expected positive sizes in"),
    "shape_of_floats": (set_json("event_shape", to=[15.0]), ValueError, "Expected positive sizes in"),
    "other_n_obs": (set_json("n_obs", to=81), ValueError, "Expected conditions of 81 training events .*found others"),
    "n_obs_text": (set_json("n_obs", to="80"), ValueError, "Expected 'n_obs' to be a int"),
    "bad_seed": (set_json("random_state", to=-1), ValueError, "Expected positive sizes in"),
    "generator_text": (set_json("has_generator", to="no"), ValueError, "Expected 'has_generator' to be a bool"),
    "no_meta": (edit_json(lambda d: d.pop("meta")), ValueError, "Expected .* found no 'meta'"),
    "no_conditions": (edit_weights(lambda t: t.pop("conditions")), ValueError, "Expected conditions of 80 training"),
    "lost_tensor": (
        edit_weights(lambda t: t.pop("denoiser.out.weight")),
        ValueError,
        "Expected weights of the denoiser that fit config.json in .*Missing key",
    ),
    "cut_history": (
        lambda f: (f / "history.csv").write_text(
            (f / "history.csv").read_text().rstrip().rpartition("\n")[0] + "\nA,1"
        ),
        ValueError,
        "Expected numbers in every column of .*damaged line",
    ),
    "foreign_history": (write("history.csv", b"a,b\n1,2\n"), ValueError, r"Expected the columns .*found \['a', 'b'\]"),
    "text_in_history": (
        lambda f: (f / "history.csv").write_text((f / "history.csv").read_text().replace("A,0,1", "A,0,one")),
        ValueError,
        "Expected numbers in every column of .*damaged line",
    ),
}


def test_history_of_before_the_factors_of_trust_is_read(saved: Path) -> None:
    now = DiffAug.load(saved).history
    lines = (saved / "history.csv").read_text().splitlines()
    assert lines[0].endswith(",news,faith,realism,member")
    for lost in (["member"], ["realism", "member"], ["news", "faith", "realism", "member"]):
        (saved / "history.csv").write_text("\n".join(line.rsplit(",", len(lost))[0] for line in lines))
        before = DiffAug.load(saved).history
        unknown = {**dict.fromkeys(lost, math.nan), "member": 0}
        assert repr(before) == repr([dataclasses.replace(r, **unknown) for r in now])


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_model_is_refused(saved: Path, kind: str) -> None:
    damage, error, message = DAMAGE[kind]
    damage(saved)
    with pytest.raises(error, match=message):
        DiffAug.load(saved, device="cpu")


def test_undamaged_model_is_not_refused(saved: Path) -> None:
    """The control: the tools of the damage alone do none."""
    for harmless in (edit_json(lambda d: None), edit_weights(lambda t: None), cut("history.csv", 1.0)):
        harmless(saved)
        DiffAug.load(saved, device="cpu")


@pytest.mark.parametrize("path", ["file", "missing/model", "data"])
def test_what_is_no_model_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights.safetensors").write_text("x")
    with pytest.raises(FileNotFoundError, match="Expected a model folder with 'config.json', found none in"):
        DiffAug.load(tmp_path / path)


def test_load_on_an_absent_device(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="Expected a CUDA device for device='cuda', found none on this machine"):
        DiffAug.load(saved, device="cuda")


def test_loss_is_part_of_what_is_kept(tmp_path: Path) -> None:
    config = {**CONFIG, "loss": {"name": "soft", "dof_latent": 0.5}}
    model = DiffAug(config, device="cpu").fit(expression(40), progress=False)
    loaded = DiffAug.load(model.save(tmp_path / "model"), device="cpu")
    assert isinstance(loaded.config.loss, LossConfig)
    assert loaded.config.loss.dof_latent == 0.5
