"""``diffaug-vision``: each verb does what the Python call does, and says what is wrong with its input."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffaug
from diffaug import vision
from diffaug.cli import _vision
from diffaug.cli._vision import main
from diffaug.core.training import Trainer

Listing = Callable[[Path], dict[str, bytes]]
TINY = """
[training]
warmup_epochs = 1
generator_epochs = 1
mixed_epochs = 1
batch_size = 16
n_views = 1

[diffusion]
n_steps = 2
prediction_type = "v"

[domain]
encoder_width = 0.0625
generator_width = 4
"""
COMMANDS = ["fit", "embed", "augment", "generate", "evaluate", "plot", "info"]
FIT = ["fit", "photos.npz", "--config", "tiny.toml", "--quiet"]


def photos(n: int = 40) -> dict[str, np.ndarray]:
    """Dark and bright images, with labels and a split."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = np.round(rng.uniform(0, 120, (n, 8, 8, 3)) + 130 * labels[:, None, None, None]).astype(np.uint8)
    split = np.where(np.arange(n) < 24, "train", "test")
    return {"images": images, "labels": labels, "class_names": np.array(["dark", "bright"]), "split": split}


@pytest.fixture(scope="session")
def shared_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with images, settings, and a fit. Read it only."""
    folder = tmp_path_factory.mktemp("vision-cli")
    arrays = photos()
    np.savez(folder / "photos.npz", **arrays)
    for i, image in enumerate(arrays["images"][:6]):
        place = folder / "files" / ("bright" if i % 2 else "dark") / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    (folder / "tiny.toml").write_text(TINY)
    assert main(["fit", str(folder / "photos.npz"), "--config", str(folder / "tiny.toml"), "--quiet"]) == 0
    return folder


@pytest.fixture
def work(shared_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the folder, entered."""
    shutil.copytree(shared_photos, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def model(work: Path) -> diffaug.DiffAug:
    return diffaug.DiffAug.load("photos.diffaug.model", device="cpu")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1].removeprefix("diffaug-vision: error: ")


# --- the verbs -------------------------------------------------------------------------------------------------------


def test_fit_equals_the_python_call(work: Path, model: diffaug.DiffAug) -> None:
    x = photos()["images"]
    by_hand = vision.fit(x, config=model.config, device="cpu", progress=False)
    with np.load("photos.diffaug.npz") as found:
        assert set(found) == {"semantic", "latent", "labels", "class_names", "split"}
        np.testing.assert_array_equal(found["semantic"], by_hand.embed(x).semantic)
        np.testing.assert_array_equal(found["latent"], by_hand.embed(x).latent)
        np.testing.assert_array_equal(found["labels"], photos()["labels"])
    # Control: another seed gives another embedding.
    assert main([*FIT, "-o", "new.npz", "--seed", "1"]) == 0
    with np.load("new.npz") as found:
        assert not np.array_equal(found["semantic"], by_hand.embed(x).semantic)


def test_fit_on_a_part_embeds_all(work: Path) -> None:
    assert main([*FIT, "-o", "new.npz", "--split", "train"]) == 0
    assert diffaug.DiffAug.load("new.model").n_obs == 24
    with np.load("new.npz") as found:
        assert len(found["semantic"]) == 40


def test_every_flag_of_fit_reaches_the_call(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    real = vision.fit

    def spy(images: object, **options: object) -> diffaug.DiffAug:
        seen.update(options)
        return real(images, **{**options, "config": TINY_DICT, "twin": False})  # type: ignore[arg-type]

    TINY_DICT = {
        "training": {"warmup_epochs": 1, "mixed_epochs": 0, "n_cycles": 0},
        "domain": {"encoder_width": 0.0625},
    }
    monkeypatch.setattr(vision, "fit", spy)
    flags = "--max-epochs 7 --n-cycles 0 --view-rate 0.25 --twin --device cpu --seed 5 --preset paper --checkpoint run"
    assert main([*FIT, *flags.split(), "-o", "new.npz", "--model", "m"]) == 0
    config = seen.pop("config")
    assert seen == {
        "labels": None, "max_epochs": 7, "n_cycles": 0, "view_rate": 0.25, "twin": True, "device": "cpu",
        "random_state": 5, "checkpoint": Path("run"), "progress": False,
    }  # fmt: skip
    assert isinstance(config, diffaug.Config)
    assert config.loss.name == "soft" and config.domain.generator_width == 4
    assert Path("m/config.json").is_file()
    assert not Path("run").exists()  # the results are written
    assert main([*FIT, "-o", "again.npz", "--checkpoint", "photos.npz"]) == 2
    assert main(["fit", "files", "-o", "again.npz", "--checkpoint", "files/run"]) == 2  # among the images
    assert Path("photos.npz").is_file() and not Path("again.npz").exists()


def test_twin_is_written_and_judged_beside_the_model(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model is that of a fit without a twin; what is said of the two is of these images, and ends with how to judge."""
    command = [arg for arg in FIT if arg != "--quiet"]
    assert main([*command, "-o", "new.npz", "--twin"]) == 0
    *_, went, proof = capsys.readouterr().err.splitlines()
    x, y, parts = (photos()[name] for name in ("images", "labels", "split"))
    model = vision.fit(x, config=tomllib.loads(TINY), twin=True, device="cpu", progress=False)
    assert model.twin is not None
    halves = [m.split_half_overlap(x).mean() for m in (model, model.twin)]
    assert f": {halves[0]:.4f}, twin {halves[1]:.4f}, difference" in went and "interval over images" in went
    assert proof.startswith("split_half_overlap is no proof") and "`diffaug-vision evaluate` judges both" in proof
    with np.load("new.npz") as new, np.load("photos.diffaug.npz") as without:
        arrays = dict(new)
        assert set(new) == {*without, "semantic_twin"}
        np.testing.assert_array_equal(new["semantic"], without["semantic"])
        np.testing.assert_array_equal(new["semantic_twin"], model.twin.embed(x).semantic)
    assert not np.array_equal(arrays["semantic"], arrays["semantic_twin"])

    arrays["semantic_twin"] = np.random.default_rng(0).normal(size=arrays["semantic"].shape)  # a row of its own is seen
    np.savez("new.npz", **arrays)
    ours, twins = (vision.evaluate(arrays[name], y, split=parts) for name in ("semantic", "semantic_twin"))
    assert ours.linear > twins.linear
    assert main(["evaluate", "new.npz", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("twin") == pytest.approx(twins._asdict()) and found == pytest.approx(ours._asdict())
    assert main(["evaluate", "new.npz"]) == 0
    head, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == [*vision.Scores._fields]
    for row, name, scores in zip(rows, ("model", "twin"), (ours, twins), strict=True):
        assert row == [name, *(f"{v:.4f}" for v in scores[:5]), str(scores.n_train), str(scores.n_test)]


def test_twin_of_a_part(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All images are embedded by both; a log that is off is not written to, and the reading for it not made."""
    monkeypatch.setattr(diffaug.DiffAug, "split_half_overlap", lambda *_, **__: pytest.fail("read"))
    assert main([*FIT, "-o", "new.npz", "--split", "train", "--twin"]) == 0
    with np.load("new.npz") as found:
        assert found["semantic_twin"].shape == found["semantic"].shape == (40, 32)


def test_fit_with_a_twin_that_was_cut_goes_on(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the twin's training, after that of the model: the same command ends as one that was not cut."""
    plain = [*FIT, "-o", "cut.npz", "--checkpoint", "run"]
    command = [*plain, "--twin"]
    assert main([*FIT, "-o", "uncut.npz", "--twin"]) == 0
    run_twin = Trainer.run_twin

    def interrupted(self: Trainer, *args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return run_twin(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_twin", interrupted)
        assert main(command) == 130
    assert Path("run").is_file() and not Path("cut.npz").exists()
    assert main(plain) == 2
    assert "found one of another: twins=[0.0] and not []" in said(capsys)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "b_step", None)  # the model is trained
        assert main(command) == 0
    assert not Path("run").exists()
    with np.load("cut.npz") as cut, np.load("uncut.npz") as uncut:
        for name in ("semantic", "latent", "semantic_twin"):
            np.testing.assert_array_equal(cut[name], uncut[name])


def test_folder_of_files(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "files", "--config", "tiny.toml", "--quiet"]) == 0
    assert capsys.readouterr().out.split() == ["files.diffaug.npz", "files.diffaug.model"]
    with np.load("files.diffaug.npz") as found:
        assert found["names"].tolist()[0] == "bright/1.png"
        assert found["class_names"].tolist() == ["bright", "dark"] and found["labels"].tolist() == [0] * 3 + [1] * 3
    assert main(["fit", "files", "--config", "tiny.toml", "--quiet", "--size", "9", "-o", "big.npz"]) == 0
    assert diffaug.DiffAug.load("big.model").event_shape == (9, 9, 3)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("photos.npz", "photos.diffaug.npz"),
        ("a/photos.v2.NPY", "a/photos.v2.diffaug.npz"),
        ("a/photos.v2", "a/photos.v2.diffaug.npz"),
        ("a/photos/", "a/photos.diffaug.npz"),
    ],
)
def test_default_name_of_the_embedding(data: str, expected: str) -> None:
    assert _vision._beside(Path(data)) == Path(expected)


def test_default_name_beside_the_current_folder(work: Path) -> None:
    assert _vision._beside(Path(".")) == work.resolve().parent / "work.diffaug.npz"


def test_embed(work: Path, model: diffaug.DiffAug) -> None:
    np.save("new.npy", photos()["images"][:5])
    assert main(["embed", "new.npy", "--model", "photos.diffaug.model", "-o", "e.npz"]) == 0
    with np.load("e.npz") as found:
        assert set(found) == {"semantic", "latent"}
        np.testing.assert_allclose(
            found["semantic"], model.embed(photos()["images"][:5]).semantic, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("kind", ["diffaug", "standard", "crop", "mixup"])
def test_augment(work: Path, model: diffaug.DiffAug, kind: str) -> None:
    call = ["augment", "photos.npz", "--model", "photos.diffaug.model", "--n-views", "2", "--kind", kind, "--seed", "3"]
    assert main([*call, "-o", "v.npz"]) == 0
    found = vision.read_images("v.npz")  # a file of images like any other
    expected = model.augment(photos()["images"], 2, kind=kind, random_state=3)
    np.testing.assert_array_equal(found.images, expected.reshape(80, 8, 8, 3))
    assert found.images.dtype == np.uint8
    assert found.labels is not None and found.labels.tolist() == np.repeat(photos()["labels"], 2).tolist()
    with np.load("v.npz") as arrays:
        assert arrays["source"].tolist() == np.repeat(np.arange(40), 2).tolist()


def test_views_keep_what_is_known_of_their_images(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their part above all: on random tenths the views of one image would stand on both sides."""
    arrays = photos()
    np.savez("photos.npz", **arrays, names=np.array([f"photo {i}" for i in range(40)]))
    assert main(["augment", "photos.npz", "--model", "photos.diffaug.model", "--n-views", "3", "-o", "views.npz"]) == 0
    made = np.load("views.npz")
    for name in ("split", "labels"):
        assert made[name].tolist() == np.repeat(arrays[name], 3).tolist()
    assert made["names"].tolist() == [f"photo {i // 3}" for i in range(120)]
    assert main(["embed", "views.npz", "--model", "photos.diffaug.model", "-o", "embedded.npz"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "embedded.npz", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["n_train"], scores["n_test"]) == (72, 48)


def test_parts_that_cannot_be_judged_are_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = dict(np.load("photos.diffaug.npz"))
    np.savez("odd.npz", **{**arrays, "split": np.where(arrays["split"] == "test", "hold-out", "train")})
    assert main(["evaluate", "odd.npz"]) == 2
    assert "Expected rows of the parts 'train' and 'test' with labels, found ['hold-out', 'train']" in said(capsys)
    np.savez("one.npz", **{**arrays, "split": np.full(40, "test")})  # of one part: random tenths
    assert main(["evaluate", "one.npz"]) == 0


def test_strength_reaches_the_call(work: Path) -> None:
    call = ["augment", "photos.npz", "--model", "photos.diffaug.model", "--strength", "0.01", "-o", "v.npz"]
    assert main(call) == 0
    distance = np.abs(vision.read_images("v.npz").images.astype(float) - photos()["images"]).mean()
    assert distance < 25
    assert main([*call[:-4], "-o", "w.npz"]) == 0
    assert np.abs(vision.read_images("w.npz").images.astype(float) - photos()["images"]).mean() > 2 * distance


def test_generate(work: Path, model: diffaug.DiffAug) -> None:
    assert main(["generate", "photos.diffaug.model", "--n-obs", "7", "--seed", "2", "-o", "g.npz"]) == 0
    made = model.generate(7, random_state=2)
    with np.load("g.npz") as found:
        np.testing.assert_array_equal(found["images"], made.values)
        np.testing.assert_array_equal(found["source"], made.source)


def test_evaluate(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "photos.diffaug.npz", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with np.load("photos.diffaug.npz") as arrays:
        expected = vision.evaluate(arrays["semantic"], arrays["labels"], split=arrays["split"])
        without = vision.evaluate(arrays["semantic"], arrays["labels"])
        np.savez("part.npz", semantic=arrays["semantic"], labels=arrays["labels"], split=np.full(40, "train"))
        logistic = vision.evaluate(arrays["semantic"], arrays["labels"], split=arrays["split"], probe="logistic")
    assert found == pytest.approx(expected._asdict()) and found["n_train"] == 24
    assert main(["evaluate", "photos.diffaug.npz", "--probe", "logistic", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(logistic._asdict())
    assert main(["evaluate", "part.npz"]) == 0  # one part only: random tenths
    out = capsys.readouterr().out
    assert f"linear   {without.linear:.4f}" in out and "n_test   4" in out


def test_plot(work: Path) -> None:
    assert main(["plot", "photos.npz", "--n-images", "3", "-o", "grid.png"]) == 0
    call = [
        "plot",
        "photos.npz",
        "--model",
        "photos.diffaug.model",
        "--n-images",
        "3",
        "--kind",
        "mixup",
        "-o",
        "v.png",
    ]
    assert main(call) == 0
    with Image.open("grid.png") as grid, Image.open("v.png") as views:
        assert views.size[1] > 2 * grid.size[1]  # two rows of views below the originals


def test_info(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "photos.diffaug.model"]) == 0
    out = capsys.readouterr().out
    assert "40 images of 8 x 8 x 3, values 0 to 255" in out and "encoder_width = 0.0625" in out and "fill" in out
    assert main(["info", "photos.npz"]) == 0
    out = capsys.readouterr().out
    assert "labels: dark (20), bright (20)" in out and "split: test (16), train (24)" in out
    assert main(["info", "files", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [8, 8, 3]
    assert main(["info", "photos.diffaug.model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["domain"]["generator_width"] == 4
    assert main(["info"]) == 0
    assert "torch" in capsys.readouterr().out


def test_info_of_labels_of_every_kind(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = photos()
    names = np.array(["cat", "dog"])[x["labels"]]
    for labels, said_ in ((names, "cat (20), dog (20)"), (x["labels"].astype(float), "0 (20), 1 (20)")):
        np.savez("x.npz", images=x["images"], labels=labels, split=x["split"].astype(bytes))
        assert main(["info", "x.npz"]) == 0
        out = capsys.readouterr().out
        assert f"labels: {said_}" in out and "split: test (16), train (24)" in out


def test_folder_with_parts(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "test"):
        shutil.copytree("files", f"parts/{part}")
    assert main(["fit", "parts", "--config", "tiny.toml", "--quiet", "--split", "train"]) == 0
    assert diffaug.DiffAug.load("parts.diffaug.model", device="cpu").n_obs == 6
    with np.load("parts.diffaug.npz") as found:
        assert found["split"].tolist() == ["test"] * 6 + ["train"] * 6
        assert found["class_names"].tolist() == ["bright", "dark"] and len(found["semantic"]) == 12
    capsys.readouterr()
    assert main(["evaluate", "parts.diffaug.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_train"] == 6


def test_folder_of_many_sizes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (20, 9)).save("files/dark/wide.png")
    assert main(["info", "files"]) == 2
    assert "found 8 x 8 pixels in " in said(capsys)
    assert main(["info", "files", "--size", "16"]) == 0
    assert "7 images of 16 x 16 x 3" in capsys.readouterr().out


def test_images_that_could_not_be_embedded_are_said_before_the_training(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training part decides on the range; that of another part may be larger."""
    monkeypatch.setattr(vision, "fit", lambda *_, **__: pytest.fail("trained"))
    arrays = photos()
    x = arrays["images"] / 100  # 0 to 2.5, of no usual range
    np.savez(
        "wide.npz", images=np.where(arrays["split"] == "test", 3, 1)[:, None, None, None] * x, split=arrays["split"]
    )
    assert main(["fit", "wide.npz", "--config", "tiny.toml", "--quiet", "--split", "train", "-o", "w.npz"]) == 2
    assert said(capsys).startswith("Expected pixels from 0 to 2.5, the range of the training images, found 0 to 7.5")


def test_plot_of_a_generator_that_is_told_the_label(work: Path) -> None:
    Path("label.toml").write_text(TINY.replace("n_steps = 2", 'n_steps = 2\ncondition = "label"'))
    assert main(["fit", "photos.npz", "--config", "label.toml", "--quiet", "-o", "label.npz"]) == 0
    assert main(["plot", "photos.npz", "--model", "label.model", "--n-images", "2", "--quiet", "-o", "label.png"]) == 0


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("fit absent", "Expected a folder of images or an .npy or .npz file, found nothing at 'absent'."),
        ("fit tiny.toml -o x.npz", "Expected a folder of images or an .npy or .npz file, found 'tiny.toml'."),
        ("fit photos.npz -o x.png", "Expected an output that ends in .npz, found 'x.png'."),
        ("fit photos.npz", "Expected a new output, found a file that exists: 'photos.diffaug.npz'. Pass --overwrite"),
        ("fit photos.npz -o photos.npz", "Expected a new output, found the input itself: 'photos.npz'."),
        ("fit photos.npz -o x.npz --split val", "Expected a part among ['test', 'train'], found 'val'."),
        ("fit photos.npz -o x.npz --size 9", "Expected `size` with a folder of image files only"),
        ("fit photos.npz -o x.npz --twin --view-rate 0", "Expected n_cycles and view_rate above 0 for twin=True"),
        ("fit photos.npz -o x.npz --twin --n-cycles 0", "Expected n_cycles and view_rate above 0 for twin=True"),
        ("fit photos.npz -o x.npz --config bad.toml", "Expected settings of [domain] among"),
        ("embed photos.npz --model absent -o x.npz", "Expected the folder of a model that `fit` wrote, found nothing"),
        ("embed big.npy --model photos.diffaug.model -o x.npz", "This model was fitted on events of shape (8, 8, 3)"),
        ("embed half.npz --model photos.diffaug.model -o x.npz", "Expected a whole .npz file of plain numbers"),
        ("augment photos.npz --model photos.diffaug.model --strength 2 -o x.npz", "Expected `strength` in (0, 1]"),
        (
            "evaluate photos.npz",
            "Expected an array 'semantic' in 'photos.npz', found ['class_names', 'images', 'labels'",
        ),
        ("evaluate absent.npz", "Expected an .npz file that `fit` or `embed` wrote, found nothing at 'absent.npz'."),
        ("plot photos.npz --kind crop -o x.png", "Expected --kind with --model only, found no --model. Leave it out."),
        ("plot photos.npz -o x.npz", "Expected an output that ends in .png or .pdf or .svg, found 'x.npz'."),
    ],
)
def test_wrong_use(call: str, message: str, work: Path, listing: Listing, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.toml").write_text("[domain]\nwidth = 3\n")
    np.save("big.npy", np.zeros((4, 16, 16, 3), np.uint8))
    Path("half.npz").write_bytes(Path("photos.npz").read_bytes()[:3000])
    before = listing(work)
    assert main([*call.split(), "--quiet"]) == 2
    assert said(capsys).startswith(message)
    assert listing(work) == before


def test_models_of_another_domain_are_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"training": {"n_cycles": 0, "warmup_epochs": 1, "mixed_epochs": 0}, "domain": {"encoder_hidden": [8]}}
    x = np.random.default_rng(0).random((20, 6)).astype(np.float32)
    diffaug.DiffAug(config, device="cpu").fit(x, progress=False).save("cells")
    assert main(["generate", "cells", "--n-obs", "3", "-o", "x.npz"]) == 2
    assert said(capsys) == "Expected a model of images in 'cells', found one of 'cells'."


def test_missing_extra(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [m for m in sys.modules if m == "kornia" or m.startswith("kornia.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kornia", None)
    assert main([*FIT, "-o", "new.npz"]) != 0
    assert said(capsys).endswith('Do: pip install "diffaug[vision]"')
    assert not Path("new.npz").exists() and not Path("new.model").exists()


# --- help ------------------------------------------------------------------------------------------------------------


def test_importing_the_command_imports_nothing_heavy() -> None:
    heavy = ["torch", "scanpy", "anndata", "pandas", "matplotlib", "kornia", "PIL", "numpy"]
    code = f"import sys, diffaug.cli._vision; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_option_and_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"diffaug-vision {name}" in out.partition("Examples")[2]
    options = inspect.signature(getattr(_vision, name)).parameters.values()
    for option in (p.name for p in options if p.kind is p.KEYWORD_ONLY and p.name != "common"):
        assert f"--{option.replace('_', '-')}" in out
    assert "--quiet" in out


def test_the_commands_are_those(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS) and "Exit codes" in out and "demo" not in out
    assert main(["fits"]) == 2
    assert "diffaug-vision: error" in capsys.readouterr().err
