"""The authors' archives, written here byte by byte as their descriptions say."""

from __future__ import annotations

import hashlib
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffaug import datasets, vision
from diffaug.datasets import _files, _load, _manifest
from diffaug.vision._archives import read_cifar, read_stl10, read_tinyimagenet

Build = dict[str, Callable]


def random_pixels(n: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", [10, 100])
def test_cifar(tmp_path: Path, build: Build, kind: int) -> None:
    images, labels = random_pixels(12, 32), np.array([9, 0, 3, 3, 1, 2, 8, 7, 6, 5, 4, 9]) * (kind // 10)
    found = read_cifar(build["tar_of"](tmp_path / "x.tar.gz", build["cifar_members"](kind, images, labels)))
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels)
    assert len(found.classes) == kind and found.classes[3] == ("cat" if kind == 10 else "fine3")
    assert found.split is not None and found.split.tolist() == ["train"] * 10 + ["test"] * 2
    assert found.images.flags.c_contiguous


def test_stl10(tmp_path: Path, build: Build) -> None:
    images, labels = random_pixels(7, 96), np.array([0, 9, 4, 3, 2])
    found = read_stl10(build["tar_of"](tmp_path / "x.tar.gz", build["stl10_members"](images, labels)))
    np.testing.assert_array_equal(found.images, images)
    assert found.labels is not None and found.labels.tolist() == [0, 9, 4, 3, 2, -1, -1]
    assert found.split is not None and found.split.tolist() == ["train"] * 3 + ["test"] * 2 + ["unlabeled"] * 2


def test_tinyimagenet(tmp_path: Path, build: Build) -> None:
    images = build["smooth"](8, 64, 1)
    found = read_tinyimagenet(build["tinyimagenet"](tmp_path / "x.zip", images))
    expected = images[[0, 1, 2, 3, 4, 5, 7, 6]].astype(int)  # the list of annotations has its own order
    expected[0] = expected[0, :, :, :1]  # the grey one
    assert np.abs(found.images.astype(int) - expected).max() <= 3  # JPEG
    assert found.labels is not None and found.labels.tolist() == [0, 0, 1, 1, 2, 2, 0, 2]
    assert found.classes == ("name of n01443537", "name of n01629819", "n02124075")
    assert found.split is not None and found.split.tolist() == ["train"] * 6 + ["test"] * 2


# --- damage ----------------------------------------------------------------------------------------------------------


def cifar10(build: Build) -> dict[str, bytes]:
    return build["cifar_members"](10, random_pixels(12, 32), np.zeros(12, int))


@pytest.mark.parametrize("reader", [read_cifar, read_stl10, read_tinyimagenet])
def test_foreign_and_cut_archives(tmp_path: Path, build: Build, reader: Callable) -> None:
    whole = build["tar_of"](tmp_path / "x.tar.gz", cifar10(build)).read_bytes()
    other = build["tar_of"](tmp_path / "y.tar.gz", {"readme.txt": b"hello"}).read_bytes()
    for raw in (b"", b"no archive", whole[:2000], whole[: len(whole) // 2], other):
        bad = tmp_path / "bad"
        bad.write_bytes(raw)
        with pytest.raises(ValueError, match="Expected a whole archive in '.*bad', found a damaged or foreign one"):
            reader(bad)


def test_records_of_a_wrong_length(tmp_path: Path, build: Build) -> None:
    members = cifar10(build)
    members["cifar-10-batches-bin/data_batch_3.bin"] = members["cifar-10-batches-bin/data_batch_3.bin"][:-1]
    with pytest.raises(
        ValueError, match="Expected records of 3073 bytes in 'data_batch_3.bin', found 6145 bytes in all"
    ):
        read_cifar(build["tar_of"](tmp_path / "x.tar.gz", members))
    stl = build["stl10_members"](random_pixels(7, 96), np.zeros(5, int))
    stl["stl10_binary/test_y.bin"] = b"\x01"
    with pytest.raises(ValueError, match="Expected 2 labels of 'test', found 1"):
        read_stl10(build["tar_of"](tmp_path / "y.tar.gz", stl))


def test_lists_without_columns(tmp_path: Path, build: Build) -> None:
    path = build["tinyimagenet"](tmp_path / "x.zip", build["smooth"](8, 64, 1))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in ("words.txt", "val/val_annotations.txt"):
        with zipfile.ZipFile(path, "w") as archive:
            for member, raw in members.items():
                archive.writestr(member, b"n01443537 bare\n" if member.endswith(name) else raw)
        with pytest.raises(
            ValueError, match=rf"separated by tabs in '{Path(name).name}' of '.*x.zip', found the line 'n01443537 bare'"
        ):
            read_tinyimagenet(path)


def test_members_that_cannot_be_unpacked(tmp_path: Path, build: Build) -> None:
    """Encrypted ones, as far as the flags of a file say."""
    path = build["tinyimagenet"](tmp_path / "x.zip", build["smooth"](8, 64, 1))
    raw = bytearray(path.read_bytes())
    place = raw.index(b"PK\x01\x02")
    raw[place + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="Expected a whole archive in .* found a damaged or foreign one .*encrypted"):
        read_tinyimagenet(path)


def test_labels_without_a_class(tmp_path: Path, build: Build) -> None:
    members = build["cifar_members"](10, random_pixels(12, 32), np.full(12, 10))
    with pytest.raises(ValueError, match="Expected labels below 10 in .*, found 10"):
        read_cifar(build["tar_of"](tmp_path / "x.tar.gz", members))


def png(width: int, height: int, *, broken: bool) -> bytes:
    """A PNG of one colour, its pixels under a wrong checksum or (as far as the head says) very many."""

    def chunk(kind: bytes, data: bytes, wrong: bool = False) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(65 * 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head, broken) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda raw: raw[: len(raw) // 2], OSError),
        (lambda raw: b"no image", OSError),
        (lambda raw: b"", OSError),
        (lambda raw: b"\xff\xd8\xff\xe0\x00\x01", (OSError, SyntaxError)),
        (lambda raw: png(64, 64, broken=False)[:-20] + bytes(20), (OSError, SyntaxError)),
        (lambda raw: png(64, 64, broken=True), (OSError, SyntaxError)),
        (lambda raw: png(30_000, 30_000, broken=False), Image.DecompressionBombError),
    ],
    ids=["cut", "text", "empty", "head", "tail", "checksum", "bomb"],
)
@pytest.mark.parametrize("member", ["train/n01629819/images/n01629819_1.JPEG", "val/images/val_0.JPEG"])
def test_a_damaged_image_in_a_whole_archive_is_named(
    tmp_path: Path, build: Build, member: str, damage: Callable, cause: type[Exception]
) -> None:
    path = build["tinyimagenet"](tmp_path / "x.zip", build["smooth"](8, 64, 1))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[f"tiny-imagenet-200/{member}"] = damage(members[f"tiny-imagenet-200/{member}"])
    with zipfile.ZipFile(path, "w") as archive:  # with checksums that fit
        for name, raw in members.items():
            archive.writestr(name, raw)
    with pytest.raises(
        ValueError, match=rf"Expected whole image files in '.*x.zip', found .*: '.*/{member}'"
    ) as caught:
        read_tinyimagenet(path)
    assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize("error", [SyntaxError("broken"), EOFError("end"), struct.error("short"), ValueError("odd")])
def test_whatever_the_decoder_says_of_an_image_is_one_error(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Which of them a format raises, and whether when it opens or when it loads, changes with Pillow's version."""

    def failing(self: Image.Image, mode: str) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "convert", failing)
    path = build["tinyimagenet"](tmp_path / "x.zip", build["smooth"](8, 64, 1))
    with pytest.raises(ValueError, match="found a damaged one: 'tiny-imagenet-200/train/n01443537/.*_0.JPEG'"):
        read_tinyimagenet(path)


# --- by name ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_sets(tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder with small archives, and manifests that know their sizes and checksums."""
    place = tmp_path / "data" / "vision"
    place.mkdir(parents=True)
    labels = np.arange(12) % 10
    known = dict(_manifest.all_manifests())
    files = {
        name: place / Path(str(known[name].file)).name for name in ("cifar10", "cifar100", "stl10", "tinyimagenet")
    }
    build["tar_of"](files["cifar10"], build["cifar_members"](10, random_pixels(12, 32), labels))
    build["tar_of"](files["cifar100"], build["cifar_members"](100, random_pixels(12, 32), labels))
    build["tar_of"](files["stl10"], build["stl10_members"](random_pixels(7, 96), labels[:5]))
    build["tinyimagenet"](files["tinyimagenet"], build["smooth"](8, 64, 1))
    for name, file in files.items():
        raw = file.read_bytes()
        known[name] = replace(known[name], bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    for module in (_manifest, _load):
        monkeypatch.setattr(module, "all_manifests", lambda: known)
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DIFFAUG_CACHE_DIR", str(tmp_path / "cache"))
    yield tmp_path


@pytest.mark.parametrize(
    ("name", "shape", "n_test"),
    [
        ("cifar10", (12, 32, 32, 3), 2),
        ("cifar100", (12, 32, 32, 3), 2),
        ("stl10", (7, 96, 96, 3), 2),
        ("tinyimagenet", (8, 64, 64, 3), 2),
    ],
)
def test_load(tiny_sets: Path, name: str, shape: tuple[int, ...], n_test: int) -> None:
    found = vision.load(name, progress=False)
    assert found.images.shape == shape and found.images.dtype == np.uint8
    assert found.images.shape[1:] == datasets.manifest(name).shape[1:]
    assert len(vision.load(name, split="test", progress=False)) == n_test


def test_a_changed_archive_is_not_read(tiny_sets: Path) -> None:
    file = tiny_sets / "data" / str(datasets.manifest("cifar10").file)
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ValueError, match="Expected the sha256 checksum .* of .* Replace it by the original file"):
        vision.load("cifar10", progress=False)


def test_a_missing_archive_is_downloaded_into_the_cache(tiny_sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tiny_sets / "data" / str(datasets.manifest("cifar10").file)
    raw = file.read_bytes()
    file.unlink()
    asked: list[str] = []

    def serve(m: Any, target: Any, *, progress: bool) -> None:
        asked.append(m.url)
        target.write(raw)

    monkeypatch.setattr(_files, "_copy_from", serve)
    for _ in range(2):
        assert len(vision.load("cifar10", progress=False)) == 12
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]  # once
    assert (tiny_sets / "cache" / "vision" / "cifar-10-binary.tar.gz").is_file()


def test_a_missing_extra_is_said_before_the_download(tiny_sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny_sets / "data" / str(datasets.manifest("tinyimagenet").file)).unlink()
    monkeypatch.setattr(_files, "_copy_from", lambda *_, **__: pytest.fail("downloaded"))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'pip install "diffaug\[vision\]"'):
        vision.load("tinyimagenet", progress=False)


def test_sets_of_other_domains_and_unknown_ones() -> None:
    with pytest.raises(
        ValueError, match=r"Expected a data set of domain 'vision', found 'paul15' of domain 'bio'.*'cifar10'"
    ):
        vision.load("paul15")
    with pytest.raises(KeyError, match="Did not find a data set 'cifar1000'. Did you mean"):
        vision.load("cifar1000")


def test_the_real_sample(data_dir: Path) -> None:
    found = vision.load("cifar10_12k", progress=False)
    assert found.images.shape == (12000, 32, 32, 3)
    assert found.classes[0] == "airplane"
    assert len(found.part("train")) == 10_000 and len(found.part("test")) == 2_000
    assert found.labels is not None and np.bincount(found.labels).tolist() == [1200] * 10
