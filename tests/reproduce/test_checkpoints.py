"""Rows of DNA and images that are cut in the middle of a training: nothing lost, nothing left over."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffaug.backends import get_backend
from diffaug.core.config import Config, config_from_dict
from diffaug.core.timebox import OutOfTime
from diffaug.reproduce import _run, _split_measure, _write
from diffaug.reproduce._arms import Arm, Artefact
from diffaug.reproduce._checkpoints import Checkpoints, Deadline, checkpoints_in
from diffaug.reproduce._rows import Rows, Settings
from diffaug.reproduce._split_sets import SplitData

RUN = "0123456789ab"


def tiny() -> Config:
    backend = get_backend("vision")
    sections = {
        "training": {"warmup_epochs": 1, "generator_epochs": 1, "mixed_epochs": 1, "batch_size": 16},
        "diffusion": {"n_steps": 2},
        "domain": {"encoder_width": 0.0625, "n_semantic": 6, "n_latent": 5, "generator_width": 4},
    }
    return config_from_dict(sections, backend.Settings, backend.preset("default"))


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> SplitData:
    """A small set made here, which the loader gives too."""
    from diffaug import vision

    rng, labels = np.random.default_rng(0), np.arange(48) % 3
    x = rng.integers(0, 100, size=(48, 8, 8, 3)) + 100 * (np.arange(3) == labels[:, None])[:, None, None]
    split = np.where(np.arange(48) < 32, "train", "test")
    made = SplitData("images", x.astype(np.uint8), labels, split)
    monkeypatch.setattr(vision, "load", lambda name, **_: vision.ImageSet(made.x, labels, ("a", "b", "c"), split))
    return made


def of_arms(*methods: str) -> Artefact:
    arms = tuple(Arm(m, m, method=m) for m in methods)
    return Artefact("table3", "A table", arms, methods[0], ("probes",), ("n",), domain="vision")


@pytest.mark.parametrize(
    ("method", "n_epochs", "files"),
    [
        ("diffaug", 4, ["diffaug.ckpt"]),  # A, B, the filling of the bank, A
        ("simsiam", 2, ["learner.ckpt"]),
        ("simclr + gan", 1 + 1 + 2, ["gan.ckpt", "gan.ckpt.encoder", "learner.ckpt"]),
        ("byol + diffaug", 4 + 2, ["diffaug.ckpt", "learner.ckpt"]),
    ],
)
def test_a_row_in_pieces_of_one_epoch_is_the_row_in_one(
    images: SplitData, tmp_path: Path, method: str, n_epochs: int, files: list[str]
) -> None:
    common: dict[str, Any] = {"domain": "vision", "seed": 1, "device": "cpu", "max_epochs": None}
    whole, rate = _split_measure.features(method, tiny(), images, **common)
    n_cuts = 0
    while True:
        kept = Checkpoints(tmp_path, run=RUN, of_set="images", seed=1, until=time.monotonic())
        try:
            found, rate_found = _split_measure.features(method, tiny(), images, kept=kept, **common)
            break
        except OutOfTime:
            n_cuts += 1
    assert n_cuts == n_epochs and rate_found == rate
    np.testing.assert_array_equal(found, whole)
    assert kept.earlier_seconds > 0
    assert sorted(path.name for path in checkpoints_in(tmp_path)) == [f"{RUN}-images-1.{name}" for name in files]
    assert len(list(tmp_path.iterdir())) == len(files)
    other = tmp_path / f"{RUN}-images-11.learner.ckpt"
    other.touch()
    kept.remove()
    assert list(tmp_path.iterdir()) == [other]  # another seed's is no concern of this row


def test_a_table_in_pieces(images: SplitData, tmp_path: Path) -> None:
    """Each command makes one epoch or one row at least, says what is left, and the end is that of a run in one go."""
    settings, table = Settings(tiny(), n_top_genes=None), of_arms("diffaug", "simclr", "raw")
    whole = _run.run(table, Rows(tmp_path / "whole", settings), settings, sets=["x"], seeds=1, device="cpu")
    said, folder = [], tmp_path / "parts"
    while True:
        deadline = Deadline(1e-9)
        try:
            parts = _run.run(
                table, Rows(folder, settings), settings, sets=["x"], seeds=1, device="cpu", deadline=deadline
            )
            break
        except OutOfTime as stop:
            said.append(str(stop))
    assert (
        "1e-09 minutes are over, at x, diffaug, seed 0. New rows: 0, runs to go: 3. All that was done is kept in"
        in said[0]
    )
    assert "without --overwrite" in said[0] and "at x, simclr, seed 0. New rows: 1, runs to go: 2." in said[4]
    assert len(said) == 4 + 1 + 2 + 1  # four epochs; the row; two epochs; the row; and then pixels, which train nothing
    times = ["seconds"]
    assert parts.drop(columns=times).equals(whole.drop(columns=times))
    assert not checkpoints_in(folder) and sorted(p.name for p in folder.iterdir()) == ["rows.csv", "settings.json"]


def test_what_a_command_killed_after_its_row_left_behind_is_deleted(
    images: SplitData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, table = Settings(tiny(), n_top_genes=None), of_arms("simclr", "raw")

    def run(table: Artefact) -> str:
        made = _run.run(table, Rows(tmp_path, settings), settings, sets=["images"], seeds=1, device="cpu")
        return str(made["run"].iloc[0])

    def killed(kept: Checkpoints) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            run(table)
    (left,) = checkpoints_in(tmp_path)
    assert len(Rows(tmp_path, settings).read()) == 1  # killed between the row and the end of its checkpoint
    other = tmp_path / f"{RUN}-images-0.learner.ckpt"
    other.touch()
    assert left.name == f"{run(table)}-images-0.learner.ckpt"
    assert checkpoints_in(tmp_path) == [other]  # that of a run which is not done stays


def test_the_seconds_of_a_row_are_those_of_all_commands(
    images: SplitData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common: dict[str, Any] = {"domain": "vision", "seed": 0, "device": "cpu", "max_epochs": None}
    monkeypatch.setattr(Checkpoints, "earlier_seconds", 1000.0)
    kept = Checkpoints(tmp_path, run=RUN, of_set="images", seed=0)
    found = _split_measure.measure("simclr", tiny(), images, kept=kept, **common)["seconds"]
    assert isinstance(found, float) and 1000 < found < 1500


def test_rows_name_the_card(images: SplitData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run, "device_name", lambda device: f"card of {device}")
    settings = Settings(tiny(), n_top_genes=None)
    rows = _run.run(of_arms("raw"), Rows(tmp_path, settings), settings, sets=["x"], seeds=1, device="cpu")
    assert rows["device"].tolist() == ["card of cpu"]


def test_a_folder_with_a_checkpoint_alone_is_gone_on_with_or_lost(images: SplitData, tmp_path: Path) -> None:
    settings = Settings(tiny(), n_top_genes=None)
    with pytest.raises(OutOfTime):
        _run.run(
            of_arms("diffaug"), Rows(tmp_path, settings), settings, sets=["x"], seeds=1, device="cpu",
            deadline=Deadline(1e-9),
        )  # fmt: skip
    (kept,) = checkpoints_in(tmp_path)
    assert Rows(tmp_path, settings).read().empty  # not refused
    scrap = tmp_path / f".{kept.name}.0a1b2c3d.part"
    scrap.touch()
    rows = Rows(tmp_path, settings, overwrite=True)
    assert kept.exists()  # lost when there is something to keep, and not before
    rows.begin()
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
    (tmp_path / "mine.ckpt").touch()
    with pytest.raises(FileExistsError, match=r"found other things in .*'mine\.ckpt'"):
        Rows(tmp_path, settings, overwrite=True)


@pytest.mark.parametrize("minutes", [0, -1, float("nan")])
def test_no_time_is_refused(minutes: float) -> None:
    with pytest.raises(ValueError, match=f"Expected `max_minutes` above 0, found {minutes}"):
        Deadline(minutes)


def test_the_page_takes_no_others_place(tmp_path: Path) -> None:
    table, page = of_arms("raw"), tmp_path / "page.md"
    _write._check_page(page, table)
    page.write_text("# A table\n\nmore\n")
    _write._check_page(page, table)
    page.write_text("# A tablecloth\n")
    with pytest.raises(FileExistsError, match="a new file or an earlier report of table3 to replace, found another in"):
        _write._check_page(page, table)
    with pytest.raises(IsADirectoryError, match="Expected a file for the report, found a folder"):
        _write._check_page(tmp_path, table)
