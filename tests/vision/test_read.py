"""Images of the user's own."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffaug import vision
from diffaug.vision import ImageSet, read_images

Build = dict[str, Callable]


# --- arrays ----------------------------------------------------------------------------------------------------------


def test_npy(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((5, 9, 8))
    np.save(tmp_path / "x.npy", x)
    found = read_images(tmp_path / "x.npy")
    np.testing.assert_array_equal(found.images, x)
    assert len(found) == 5
    assert found.labels is None and found.classes == () and found.split is None


def test_npz(tmp_path: Path) -> None:
    arrays = {
        "images": np.zeros((4, 8, 8, 3), np.uint8),
        "labels": np.array([0, 1, 1, 0]),
        "split": np.array(["train", "test", "train", "train"]),
        "class_names": np.array(["cat", "dog"]),
        "other": np.zeros(3),
    }
    np.savez(tmp_path / "x.npz", **arrays)
    found = read_images(str(tmp_path / "x.npz"))
    assert found.classes == ("cat", "dog")
    train = found.part("train")
    assert len(train) == 3 and train.labels is not None and train.labels.tolist() == [0, 1, 0]
    assert train.classes == found.classes
    with pytest.raises(KeyError, match=r"Expected a part among \['test', 'train'\], found 'val'"):
        found.part("val")
    with pytest.raises(KeyError, match=r"Expected a part among \[\], found 'train'"):
        ImageSet(arrays["images"]).part("train")


def test_parts_of_an_image_set_fit_each_other() -> None:
    for field in ("labels", "split", "names"):
        for short in (np.zeros(3), [0, 1, 2]):
            with pytest.raises(
                ValueError, match=rf"Expected `{field}` of shape \(4,\), one for each image, found \(3,\)"
            ):
                ImageSet(np.zeros((4, 8, 8)), **{field: short})


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[[0.0]]], TypeError, "Expected a numpy array of images, found list"),
        (np.array(3.0), ValueError, r"Expected images of shape \(n, height, width\) or .*, found shape \(\)"),
        (np.zeros((4, 64)), ValueError, r"found shape \(4, 64\)"),
        (np.full((4, 8, 8), "a"), TypeError, "Expected pixels that are real numbers, found dtype <U1"),
        (np.zeros((4, 8, 8), complex), TypeError, "found dtype complex128"),
    ],
)
def test_an_image_set_holds_images(x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ImageSet(x)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([0, 1, 1, -1], [0, 1, 1, -1]),
        ([0.0, 1.0, 1.0, -1.0], [0, 1, 1, -1]),
        ([False, True, True, False], [0, 1, 1, 0]),
        (np.array([b"cat", b"dog", b"dog", b"cat"]), ["cat", "dog", "dog", "cat"]),
        (np.array(["cat", "dog", "dog", "cat"], object), ["cat", "dog", "dog", "cat"]),
    ],
    ids=["list", "whole floats", "bool", "bytes", "objects"],
)
def test_labels_become_whole_numbers_or_names(given: Any, kept: list) -> None:
    found = ImageSet(np.zeros((4, 8, 8)), given).labels
    assert found is not None and found.dtype.kind in "iU" and found.tolist() == kept


@pytest.mark.parametrize(
    ("labels", "classes", "error", "message"),
    [
        (
            [0.0, 0.5, 1.0, 1.0],
            (),
            TypeError,
            r"Expected `labels` that are whole numbers or names, found dtype float64",
        ),
        ([0.0, 1.0, np.nan, 1.0], (), TypeError, "An image without a class has the label -1"),
        (np.array(["a", None, "b", "b"], object), (), TypeError, r"found dtype object, e.g. \['a', None, 'b'\]"),
        ([0, 1, 2, 3], ("a", "b"), ValueError, "Expected `labels` below 2, .* found 3"),
        ([0, 1, -2, 0], ("a", "b"), ValueError, "or -1 for none, found -2"),
        (["a", "b", "b", "a"], ("a", "b"), ValueError, "found names, e.g. 'a'. Leave the names of classes out"),
    ],
)
def test_labels_that_fit_no_class(labels: Any, classes: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ImageSet(np.zeros((4, 8, 8)), labels, classes)


@pytest.mark.parametrize(("split", "part"), [(np.array([0, 1, 0, 0]), "0"), (np.array([b"a", b"b", b"a", b"a"]), "a")])
def test_parts_of_any_name(tmp_path: Path, split: np.ndarray, part: str) -> None:
    np.savez(tmp_path / "x.npz", images=np.arange(256).reshape(4, 8, 8), split=split)
    found = read_images(tmp_path / "x.npz").part(part)
    assert found.images[:, 0, 0].tolist() == [0, 128, 192]


@pytest.mark.parametrize(
    ("name", "raw", "error", "message"),
    [
        ("x.npy", b"", ValueError, r"Expected a whole .npy file of plain numbers in .* found a damaged"),
        ("x.npy", b"no array at all", ValueError, "found a damaged or foreign one"),
        ("x.npz", b"PK\x03\x04 no archive", ValueError, "Expected a whole .npz file of plain numbers"),
        ("x.csv", b"1,2", ValueError, "Expected a folder of images or an .npy or .npz file, found"),
        ("x.npz", None, FileNotFoundError, "found nothing at"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, raw: bytes | None, error: type[Exception], message: str) -> None:
    if raw is not None:
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(error, match=message):
        read_images(tmp_path / name)


def test_files_that_are_cut_short_or_mislabelled(tmp_path: Path) -> None:
    x = np.zeros((4, 8, 8))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", images=x)
    for name in ("x.npy", "x.npz"):
        raw = (tmp_path / name).read_bytes()
        (tmp_path / f"short-{name}").write_bytes(raw[: len(raw) // 2])
        with pytest.raises(ValueError, match="found a damaged or foreign one"):
            read_images(tmp_path / f"short-{name}")
    (tmp_path / "x.npz").rename(tmp_path / "y.npy")
    with pytest.raises(ValueError, match="Expected a single array in .* found several. Give it the ending .npz"):
        read_images(tmp_path / "y.npy")
    (tmp_path / "x.npy").rename(tmp_path / "z.npz")
    with pytest.raises(ValueError, match="Expected an .npz file in .* found a single array. Give it the ending .npy"):
        read_images(tmp_path / "z.npz")


def test_no_pickle_is_ever_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    for name, save in (("x.npy", np.save), ("x.npz", lambda f, v: np.savez(f, images=v))):
        save(tmp_path / name, np.array([Trap()], dtype=object))
        with pytest.raises(ValueError, match="of plain numbers"):
            read_images(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_npz_without_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", pictures=np.zeros(3))
    with pytest.raises(ValueError, match=r"Expected an array 'images' in .*, found \['pictures'\]"):
        read_images(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="Expected `size` with a folder of image files only"):
        read_images(tmp_path / "x.npz", size=8)
    np.savez(tmp_path / "y.npz", images=np.zeros((3, 8, 8)), class_names="cat")
    with pytest.raises(ValueError, match=r"Expected `class_names` of shape \(n_classes,\) in .*y.npz', found \(\)"):
        read_images(tmp_path / "y.npz")


# --- folders ---------------------------------------------------------------------------------------------------------


def test_folders_in_the_folder_are_classes(folder: Path, build: Build) -> None:
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / "cat" / "._0.png").write_text("what some systems leave behind")
    found = read_images(folder)
    assert found.classes == ("ant", "cat")
    assert found.names is not None and found.labels is not None
    assert found.names.tolist() == ["ant/0.png", "ant/2.png", "ant/4.png", "cat/1.png", "cat/3.png", "cat/5.png"]
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.images.dtype == np.uint8
    np.testing.assert_array_equal(found.images, build["smooth"](6, 12, 0)[:, :10][[0, 2, 4, 1, 3, 5]])


def test_flat_folder_has_no_classes(folder: Path) -> None:
    found = read_images(folder / "cat")
    assert len(found) == 3 and found.labels is None and found.classes == ()


def test_train_and_test_around_the_classes_are_parts(folder: Path, tmp_path: Path) -> None:
    """And not the classes: judged as these, an embedding would be asked for the part that an image is of."""
    for part in ("Train", "test"):
        shutil.copytree(folder, tmp_path / "set" / part)
    found = read_images(tmp_path / "set")
    assert found.classes == ("ant", "cat")
    assert found.labels is not None and found.labels.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert found.split is not None and found.split.tolist() == ["train"] * 6 + ["test"] * 6
    assert found.names is not None and found.names[0] == "Train/ant/0.png"
    for part in ("Train", "test"):  # without classes
        for image in (tmp_path / "set" / part).rglob("*.png"):
            image.rename(tmp_path / "set" / part / image.name)
    flat = read_images(tmp_path / "set")
    assert flat.labels is None and flat.classes == ()
    assert flat.split is not None and flat.split.tolist() == found.split.tolist()
    (tmp_path / "set" / "other").mkdir()
    shutil.copy(folder / "ant" / "0.png", tmp_path / "set" / "other")
    assert read_images(tmp_path / "set").classes == (
        "Train",
        "other",
        "test",
    )  # a folder of another name: all are classes
    shutil.rmtree(tmp_path / "set" / "test")
    shutil.rmtree(tmp_path / "set" / "other")
    assert read_images(tmp_path / "set").classes == ("Train",)  # one folder divides nothing


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (("TRAIN", "Validation"), ("train", "test")),
        (("train", "val"), ("train", "test")),
        (("train", "valid", "test"), ("train", "val", "test")),
        (("train",), ("train",)),
    ],
)
def test_validation_images_are_the_test_part_where_there_is_none(
    folder: Path, tmp_path: Path, given: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    """And one folder of such a name with classes in it is a part."""
    for part in given:
        shutil.copytree(folder, tmp_path / "set" / part)
    found = read_images(tmp_path / "set")
    assert found.classes == ("ant", "cat") and found.names is not None and found.split is not None
    by_folder = {name.split("/")[0]: part for name, part in zip(found.names, found.split, strict=True)}
    assert by_folder == dict(zip(given, parts, strict=True))


def test_a_palette_of_greys_is_grey(tmp_path: Path) -> None:
    """As GIF files have; one of colours is not, and makes all others three channels."""
    grey = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    for i in range(3):
        Image.fromarray(grey).convert("P").save(tmp_path / f"{i}.gif")
    found = read_images(tmp_path)
    assert found.images.shape == (3, 8, 8)
    np.testing.assert_array_equal(found.images[0], grey)
    Image.fromarray(np.stack([grey, grey, 255 - grey], axis=2)).convert("P").save(tmp_path / "3.gif")
    assert read_images(tmp_path).images.shape == (4, 8, 8, 3)


def test_of_nested_folders_the_outermost_is_the_class(folder: Path) -> None:
    (folder / "cat" / "small").mkdir()
    (folder / "cat" / "1.png").rename(folder / "cat" / "small" / "1.png")
    found = read_images(folder)
    assert found.classes == ("ant", "cat") and found.labels is not None and found.labels.tolist() == [0] * 3 + [1] * 3


def test_what_is_left_out_is_said(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / ".thumbs").mkdir()
    shutil.copy(folder / "cat" / "1.png", folder / ".thumbs" / "1.png")  # a hidden folder is no class
    with caplog.at_level(logging.INFO, logger="diffaug"):
        assert read_images(folder).classes == ("ant", "cat")
    assert caplog.text == ""
    for name in ("a.heic", "b.ppm"):
        (folder / "cat" / name).touch()
    with caplog.at_level(logging.INFO, logger="diffaug"):
        assert len(read_images(folder)) == 6
    assert "left out 2 files that are no images by their ending, e.g. " in caplog.text and "a.heic" in caplog.text
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "a.heic").touch()
    with pytest.raises(FileNotFoundError, match="found none among 1 files, e.g. 'a.heic'"):
        read_images(tmp_path / "phone")


def test_of_an_animation_the_first_picture_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((10, 12), value, np.uint8)) for value in (0, 255)]
    for name in ("a.gif", "b.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert (read_images(tmp_path).images == 0).all()


def test_grey_only_where_all_are(tmp_path: Path) -> None:
    grey = np.arange(120, dtype=np.uint8).reshape(10, 12)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(grey > 50).save(tmp_path / "b.png")
    found = read_images(tmp_path)
    assert found.images.shape == (2, 10, 12)
    np.testing.assert_array_equal(found.images, [grey, 255 * (grey > 50)])
    colour = np.stack([grey, grey, 255 - grey], axis=2)
    Image.fromarray(colour).save(tmp_path / "c.png")
    mixed = read_images(tmp_path).images
    assert mixed.shape == (3, 10, 12, 3)
    np.testing.assert_array_equal(mixed[0], np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(mixed[2], colour)


@pytest.mark.parametrize("mode", ["LA", "P", "RGBA", "CMYK"])
def test_every_mode_of_eight_bits(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.full((10, 12, 3), (250, 30, 30), np.uint8)).convert(mode)
    image.save(tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}")
    found = read_images(tmp_path).images
    if mode == "LA":
        assert found.shape == (1, 10, 12)
    else:
        assert found.shape == (1, 10, 12, 3)
        assert np.abs(found[0, 0, 0].astype(int) - (250, 30, 30)).max() < 30


def test_rotated_photos_are_turned(tmp_path: Path) -> None:
    """As the camera's note says."""
    x = np.zeros((10, 12), np.uint8)
    x[:, :6] = 200
    image = Image.fromarray(x)
    exif = image.getexif()
    exif[0x0112] = 6  # turn clockwise
    image.save(tmp_path / "a.png", exif=exif)
    found = read_images(tmp_path).images[0]
    assert found.shape == (12, 10)
    assert (found[:6] == 200).all() and (found[6:] == 0).all()


def test_size_brings_mixed_images_together(folder: Path) -> None:
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30] = 255  # the middle that is kept
    Image.fromarray(wide).save(folder / "cat" / "wide.png")
    with pytest.raises(
        ValueError,
        match=r"Expected images of one size, found 12 x 10 pixels in '.*0.png' and 40 x 20 in '.*wide.png'.*`size`",
    ):
        read_images(folder)
    found = read_images(folder, size=8)
    assert found.images.shape == (7, 8, 8, 3)
    assert (found.images[-1] > 200).all()
    for size in (0, -3):
        with pytest.raises(ValueError, match="Expected `size` of at least 1, found"):
            read_images(folder, size=size)
    for size in (True, 2.5):
        with pytest.raises(TypeError, match="Expected `size` to be a whole number, found"):
            read_images(folder, size=size)  # type: ignore[arg-type]


def test_folders_without_images_or_with_both_layouts(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "sub").mkdir(parents=True)
    (empty / "sub" / "x.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"Expected image files \(.png, .*\) in .*, found none"):
        read_images(empty)
    (folder / "cat" / "1.png").rename(folder / "top.png")
    with pytest.raises(ValueError, match="or in one folder for each class, found both, e.g. 'top.png' and 'ant/0.png'"):
        read_images(folder)


@pytest.mark.parametrize("how", ["cut", "text", "empty"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif"])
def test_damaged_images_are_named(folder: Path, build: Build, how: str, suffix: str) -> None:
    bad = folder / "cat" / f"zz.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (10, 12, 3), np.uint8)).save(bad)
    raw = bad.read_bytes()
    bad.write_bytes({"cut": raw[: len(raw) // 2], "text": b"no image", "empty": b""}[how])
    with pytest.raises(ValueError, match=rf"Expected a whole image file, found a damaged one: '.*zz.{suffix}'"):
        read_images(folder)


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 12), 4000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"Expected images of 8 bits a channel, found mode 'I;16' .* as an .npy file"):
        read_images(tmp_path)


def test_missing_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'Expected Pillow for reading image files.* pip install "diffaug\[vision\]"'):
        read_images(folder)


# --- fit -------------------------------------------------------------------------------------------------------------

TINY = {
    "training": {
        "warmup_epochs": 1,
        "generator_epochs": 1,
        "mixed_epochs": 1,
        "batch_size": 8,
        "n_views": 1,
        "view_rate": 0.9,
    },
    "diffusion": {"n_steps": 2},
    "domain": {"encoder_width": 0.0625, "generator_width": 4},
}


def test_fit_is_the_model_on_the_images(folder: Path, tmp_path: Path) -> None:
    import diffaug

    found = read_images(folder)
    model = vision.fit(found, config=TINY, random_state=3, device="cpu", progress=False)
    by_hand = diffaug.DiffAug(TINY, backend="vision", random_state=3, device="cpu").fit(found.images, progress=False)
    assert isinstance(model, diffaug.DiffAug)
    np.testing.assert_array_equal(model.embed(found.images).semantic, by_hand.embed(found.images).semantic)
    other = vision.fit(found.images, config=TINY, random_state=4, device="cpu", progress=False)
    assert not np.array_equal(model.embed(found.images).semantic, other.embed(found.images).semantic)
    model.save(tmp_path / "m")
    loaded = diffaug.DiffAug.load(tmp_path / "m", device="cpu")
    np.testing.assert_array_equal(loaded.generate(3).values, model.generate(3).values)


def test_arguments_of_fit_reach_the_settings(folder: Path) -> None:
    found = read_images(folder)
    model = vision.fit(found, config=TINY, n_cycles=2, view_rate=0.25, max_epochs=4, device="cpu", progress=False)
    assert model.config.training.n_cycles == 2 and model.config.training.view_rate == 0.25
    assert {r.cycle for r in model.history} == {0, 1, 2}
    assert model.twin is None
    both = vision.fit(found, config=TINY, twin=True, device="cpu", progress=False)
    assert both.twin is not None
    assert both.twin.history[-1].n_generated == 0 < both.history[-1].n_generated


def test_labels_are_read_only_as_a_condition(folder: Path) -> None:
    found = read_images(folder)
    silent = vision.fit(found.images, config=TINY, device="cpu", progress=False)
    np.testing.assert_array_equal(
        silent.embed(found.images).semantic,
        vision.fit(found, labels=found.labels, config=TINY, device="cpu", progress=False).embed(found.images).semantic,
    )
    by_label = {**TINY, "diffusion": {"n_steps": 2, "condition": "label"}}
    with pytest.raises(ValueError, match="Expected labels for condition='label'"):
        vision.fit(found, config=by_label, device="cpu", progress=False)
    model = vision.fit(found, labels=found.labels, config=by_label, device="cpu", progress=False)
    assert model.meta["condition_labels"] == ["0", "1"]


def test_importing_the_face_imports_nothing_heavy() -> None:
    import subprocess

    heavy = ["torch", "scanpy", "anndata", "matplotlib", "kornia", "PIL", "sklearn"]
    code = f"import sys, diffaug.vision; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
