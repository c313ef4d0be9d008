"""Image files and archives in the formats of the data sets, with as few images as these allow."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
WNIDS = ["n01443537", "n01629819", "n02124075"]


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            archive.addfile(entry, io.BytesIO(raw))
    return path


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100, subsampling=0)
    return buffer.getvalue()


def smooth(n: int, side: int, seed: int, channels: int = 3) -> np.ndarray:
    """Images that JPEG hardly changes: a colour each, and a slope."""
    rng = np.random.default_rng(seed)
    x = rng.integers(20, 200, (n, 1, 1, channels)) + np.linspace(0, 50, side)[None, None, :, None]
    return np.broadcast_to(x, (n, side, side, channels)).astype(np.uint8)


def cifar_members(kind: int, images: np.ndarray, labels: np.ndarray) -> dict[str, bytes]:
    """Records byte by byte, from 12 images: ten (two a batch) or so for training, the last two for testing."""

    def record(i: int) -> bytes:
        head = [labels[i]] if kind == 10 else [labels[i] // 5, labels[i]]
        planes = [images[i, row, column, c] for c in range(3) for row in range(32) for column in range(32)]
        return bytes(int(v) for v in (*head, *planes))

    if kind == 10:
        batches = {f"data_batch_{k}.bin": [2 * k - 2, 2 * k - 1] for k in range(1, 6)}
        members = {f"cifar-10-batches-bin/{name}": b"".join(map(record, rows)) for name, rows in batches.items()}
        members["cifar-10-batches-bin/test_batch.bin"] = record(10) + record(11)
        members["cifar-10-batches-bin/batches.meta.txt"] = ("\n".join(CIFAR10) + "\n\n").encode()
        return members
    fine = "\n".join(f"fine{i}" for i in range(100)) + "\n"
    return {
        "cifar-100-binary/train.bin": b"".join(record(i) for i in range(10)),
        "cifar-100-binary/test.bin": record(10) + record(11),
        "cifar-100-binary/fine_label_names.txt": fine.encode(),
        "cifar-100-binary/coarse_label_names.txt": b"coarse\n",
    }


def stl10_members(images: np.ndarray, labels: np.ndarray) -> dict[str, bytes]:
    """Three training, two test and two unlabelled images, column by column as the authors' Matlab wrote them."""

    def raw(rows: range) -> bytes:
        return b"".join(images[i, :, :, c].T.tobytes() for i in rows for c in range(3))

    return {
        "stl10_binary/class_names.txt": ("\n".join(CIFAR10) + "\n").encode(),
        "stl10_binary/fold_indices.txt": b"0 1\n",
        "stl10_binary/train_X.bin": raw(range(3)),
        "stl10_binary/train_y.bin": bytes(int(v) + 1 for v in labels[:3]),
        "stl10_binary/test_X.bin": raw(range(3, 5)),
        "stl10_binary/test_y.bin": bytes(int(v) + 1 for v in labels[3:5]),
        "stl10_binary/unlabeled_X.bin": raw(range(5, 7)),
    }


def tinyimagenet(path: Path, images: np.ndarray) -> Path:
    """Two training images of each of three classes, one of them grey, and two validation images."""
    root = "tiny-imagenet-200"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/wnids.txt", "\n".join(WNIDS) + "\n")
        words = [f"{wnid}\tname of {wnid}" for wnid in WNIDS[:2]] + ["n99999999\tanother"]
        archive.writestr(f"{root}/words.txt", "\n".join(words) + "\n")
        for i in range(6):
            name = f"{root}/train/{WNIDS[i // 2]}/images/{WNIDS[i // 2]}_{i % 2}.JPEG"
            archive.writestr(name, jpeg(images[i] if i else images[i, :, :, 0]))
        archive.writestr(f"{root}/train/{WNIDS[0]}/{WNIDS[0]}_boxes.txt", "x 0 0 1 1")
        for i in range(2):
            archive.writestr(f"{root}/val/images/val_{i}.JPEG", jpeg(images[6 + i]))
        lines = [f"val_1.JPEG\t{WNIDS[0]}\t0\t0\t1\t1", f"val_0.JPEG\t{WNIDS[2]}\t0\t0\t1\t1"]
        archive.writestr(f"{root}/val/val_annotations.txt", "\n".join(lines) + "\n")
        archive.writestr(f"{root}/test/images/test_0.JPEG", jpeg(images[0]))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six colour images of 10 x 12 pixels in the folders of two classes."""
    for i, pixels in enumerate(smooth(6, 12, 0)[:, :10]):
        place = tmp_path / "photos" / ("cat" if i % 2 else "ant") / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def build() -> dict[str, Callable]:
    """The functions of this file, which is no module to import from."""
    return {
        "tar_of": tar_of,
        "smooth": smooth,
        "cifar_members": cifar_members,
        "stl10_members": stl10_members,
        "tinyimagenet": tinyimagenet,
        "jpeg": jpeg,
    }
