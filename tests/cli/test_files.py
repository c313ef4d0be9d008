"""Inputs that cannot be read, targets that must not be written, and results that are whole or absent."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest

import diffaug
from diffaug.cli import main
from diffaug.cli._files import check_target_file, read_h5ad, read_toml
from diffaug.core.storage import written_file

Listing = Callable[[Path], dict[str, bytes]]
FIT = ["fit", "cells.h5ad", "--config", "tiny.toml", "--quiet"]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1].removeprefix("diffaug-cells: error: ")


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_reading_gives_what_was_written(work: Path) -> None:
    read, expected = read_h5ad(Path("cells.h5ad")), anndata.read_h5ad("cells.h5ad")
    assert (read.X != expected.X).nnz == 0 and read.obs.equals(expected.obs)


@pytest.mark.parametrize("command", ["fit", "embed", "augment", "evaluate", "plot", "info"])
def test_every_command_refuses_what_is_no_h5ad(
    command: str, work: Path, listing: Listing, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "embed": ["--model", "cells.diffaug.model", "-o", "out.h5ad"],
        "augment": ["--model", "cells.diffaug.model", "-o", "out.h5ad"],
        "evaluate": ["--train", "cells.h5ad", "--held-out", "held_out.h5ad", "-o", "out.html"],
        "plot": ["-o", "out.png"],
    }.get(command, [])
    Path("text.h5ad").write_text("cells, genes\n")
    Path("empty.h5ad").touch()
    whole = Path("cells.h5ad").read_bytes()
    Path("half.h5ad").write_bytes(whole[: len(whole) // 2])
    with h5py.File("foreign.h5ad", "w") as file:
        file["weights"] = np.zeros(3)
    Path("broken.h5ad").write_bytes(whole)
    with h5py.File("broken.h5ad", "r+") as file:
        del file["obs/cell_type/codes"]
    before = listing(work)
    for file, message in {
        "absent.h5ad": "Expected an .h5ad file, found nothing at 'absent.h5ad'.",
        "text.h5ad": "Expected an .h5ad file (HDF5), found another kind of file: 'text.h5ad'.",
        "empty.h5ad": "Expected an .h5ad file (HDF5), found another kind of file: 'empty.h5ad'.",
        "half.h5ad": "Expected a whole .h5ad file, found a truncated or damaged one: 'half.h5ad'",
        "foreign.h5ad": "Expected an AnnData in 'foreign.h5ad', found an HDF5 file with ['weights'].",
        "broken.h5ad": "Expected a readable AnnData in 'broken.h5ad', found a damaged or foreign one:",
    }.items():
        assert main([command, file, *options, "--quiet"]) == 2
        assert said(capsys).startswith(message)
    assert listing(work) == before


def test_a_folder_is_no_h5ad(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "."]) == 2
    assert said(capsys) == "Expected an .h5ad file, found a folder: '.'."


@pytest.mark.parametrize("command", ["embed", "augment", "generate"])
def test_what_is_no_model(command: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(folder: str) -> int:
        if command == "generate":
            return main(["generate", folder, "--n-obs", "3", "-o", "out.h5ad"])
        return main([command, "cells.h5ad", "--model", folder, "-o", "out.h5ad"])

    Path("empty").mkdir()
    (work / "cells.diffaug.model").rename("damaged")
    weights = Path("damaged/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    for folder, message in {
        "absent": "Expected the folder of a model that `fit` wrote, found nothing at 'absent'.",
        "cells.h5ad": "Expected the folder of a model that `fit` wrote, found a file at 'cells.h5ad'.",
        "empty": "Expected a model folder with 'config.json', found none in 'empty'.",
        "damaged": "Expected whole safetensors weights in 'damaged', found a damaged file",
    }.items():
        assert run(folder) == 2
        assert said(capsys).startswith(message)
    assert not Path("out.h5ad").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[training\n", "Expected TOML in 'bad.toml', found something else: "),
        (b"\xff\xfe", "Expected TOML in 'bad.toml', found something else: "),
        (b"[trainning]\n", "Expected sections among ['loss', 'diffusion', 'training', 'domain'], found 'trainning'."),
        (b"training = 3\n", "Expected section [training] to be a table of settings, found 3."),
        (b"[training]\nbatchsize = 3\n", "Did you mean 'batch_size'?"),
        (b"[training]\nbatch_size = 'x'\n", "Expected `training.batch_size` of type int, found 'x'."),
        (b"[training]\nbatch_size = 1\n", "Expected `batch_size` of at least 2, found 1."),
        (
            b"[domain]\ngenerator = 'gan'\n",
            "Expected `generator` in ['residual', 'listing2', 'bottleneck'], found 'gan'.",
        ),
    ],
)
def test_bad_settings(text: bytes, message: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.toml").write_bytes(text)
    assert main(["fit", "cells.h5ad", "-o", "new.h5ad", "--config", "bad.toml"]) == 2
    err = said(capsys)
    assert message in err and "\\'" not in err
    assert not Path("new.h5ad").exists() and not Path("new.model").exists()


def test_absent_settings() -> None:
    with pytest.raises(FileNotFoundError, match="Expected a TOML file, found nothing at 'absent.toml'"):
        read_toml(Path("absent.toml"))


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "cells.h5ad"], "Expected a new output, found the input itself: 'cells.h5ad'. Pass --overwrite to"),
        (["-o", "./cells.h5ad"], "Expected a new output, found the input itself: 'cells.h5ad'. Pass --overwrite to"),
        (["-o", "link.h5ad"], "Expected a new output, found the input itself: 'link.h5ad'."),
        (["-o", "made.h5ad"], "Expected a new output, found a file that exists: 'made.h5ad'. Pass --overwrite to"),
        ([], "Expected a new output, found a file that exists: 'cells.diffaug.h5ad'. Pass --overwrite to replace it."),
        (["-o", "new.csv"], "Expected an output that ends in .h5ad, found 'new.csv'."),
        (["-o", "folder.h5ad"], "Expected the name of a file to write, found a folder: 'folder.h5ad'."),
        (["-o", "tiny.toml/new.h5ad"], "Expected a folder to write 'new.h5ad' into, found a file: "),
        (
            ["-o", "new.h5ad", "--model", "cells.diffaug.model"],
            "Expected a new folder, found 'cells.diffaug.model'. Pass --overwrite to replace it.",
        ),
        (["-o", "new.h5ad", "--model", "tiny.toml"], "Expected 'tiny.toml' to be a folder, found a file."),
        (["-o", "new.h5ad", "--model", "tiny.toml/m"], "Expected a folder to write 'm' into, found a file: "),
        (
            ["-o", "new.h5ad", "--model", ".", "--overwrite"],
            "Expected a folder to replace, found the current one: '.'.",
        ),
        (
            ["-o", "new.h5ad", "--model", "stray", "--overwrite"],  # a model, and a file of the user's
            "Expected a model's folder to overwrite, found other things in 'stray', e.g. 'notes.txt'.",
        ),
        (
            ["-o", "new.h5ad", "--model", "headless", "--overwrite"],
            "Expected a model's folder to overwrite, found no 'config.json' in 'headless'.",
        ),
        (
            ["-o", "m/new.h5ad", "--model", "m"],
            "Expected a file and a folder beside each other, found 'm/new.h5ad' and",
        ),
        (["-o", "m.h5ad", "--model", "m.h5ad/m"], "Expected a file and a folder beside each other, found 'm.h5ad' and"),
        (["-o", "m.h5ad", "--model", "./m.h5ad"], "Expected a file and a folder beside each other, found 'm.h5ad' and"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_a_fit_refuses_targets_before_it_starts(
    options: list[str],
    message: str,
    work: Path,
    listing: Listing,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("folder.h5ad").mkdir()
    shutil.copytree("cells.diffaug.model", "stray")
    Path("stray/notes.txt").touch()
    shutil.copytree("cells.diffaug.model", "headless")
    Path("headless/config.json").unlink()
    Path("link.h5ad").symlink_to("cells.h5ad")
    before = listing(work)
    monkeypatch.setattr("diffaug.cli._make.read_h5ad", lambda path: pytest.fail("it started"))
    assert main([*FIT, *options]) == 2
    assert said(capsys).startswith(message)
    assert listing(work) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["embed", "cells.h5ad", "--model", "cells.diffaug.model", "-o"],
        ["augment", "cells.h5ad", "--model", "cells.diffaug.model", "-o"],
        ["generate", "cells.diffaug.model", "--n-obs", "3", "-o"],
    ],
    ids=lambda v: v[0],
)
def test_the_others_refuse_targets(
    arguments: list[str], work: Path, listing: Listing, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(work)
    assert main([*arguments, "cells.h5ad"]) == 2
    err = said(capsys)
    assert err.startswith("Expected a new output, found")
    assert ("the input itself" in err) == (arguments[0] != "generate")
    assert main([*arguments, "new.txt"]) == 2
    assert said(capsys) == "Expected an output that ends in .h5ad, found 'new.txt'."
    assert listing(work) == before


def test_read_only_folder(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The system's answer is faked, because root may write anywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != work / "results")
    Path("results").mkdir()
    assert main([*FIT, "-o", "results/deeper/new.h5ad"]) == 1
    assert said(capsys).startswith("Expected a folder that can be written, found a read-only one: ")
    check_target_file(work / "new.h5ad", suffixes=(".h5ad",), overwrite=False)  # control: its neighbour passes


def test_overwriting_the_input_when_asked(work: Path) -> None:
    before = anndata.read_h5ad("cells.h5ad")
    assert main([*FIT, "-o", "cells.h5ad", "--overwrite"]) == 0
    after = anndata.read_h5ad("cells.h5ad")
    assert "X_diffaug" in after.obsm and "X_diffaug" not in before.obsm
    assert (after.X != before.X).nnz == 0 and after.obs.equals(before.obs)


def test_the_model_one_stands_in_is_not_replaced(
    work: Path, listing: Listing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(work)
    monkeypatch.chdir("cells.diffaug.model")
    monkeypatch.setattr("diffaug.cli._make.read_h5ad", lambda path: pytest.fail("it started"))
    for name in (".", "../cells.diffaug.model"):
        assert main(["fit", "../cells.h5ad", "-o", "../new.h5ad", "--model", name, "--overwrite"]) == 2
        assert said(capsys).startswith("Expected a folder to replace, found the current one: ")
    assert listing(work) == before


# --- whole or not at all ---------------------------------------------------------------------------------------------


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "a.txt"
    with written_file(target) as fresh:
        fresh.write_text("new")
        assert not target.exists() and fresh.suffix == target.suffix
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["a.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask  # as any file of the user's


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_file_stays_as_it_was_when_the_block_fails(error: BaseException, tmp_path: Path, listing: Listing) -> None:
    (tmp_path / "a.txt").write_text("old")
    before = listing(tmp_path)
    with pytest.raises(type(error)), written_file(tmp_path / "a.txt") as fresh:
        fresh.write_text("half")
        raise error
    assert listing(tmp_path) == before


def test_a_full_disk_leaves_the_old_result(
    work: Path, listing: Listing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(self: anndata.AnnData, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    before = listing(work)
    monkeypatch.setattr(anndata.AnnData, "write_h5ad", fill)
    assert main([*FIT, "--overwrite"]) == 1
    assert said(capsys).startswith("No space left on device: ")
    assert listing(work) == before


@pytest.mark.parametrize("step", ["save", "replace"])
def test_no_cells_without_a_model(
    step: str, work: Path, listing: Listing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "new.model")

    before = listing(work)
    if step == "save":
        monkeypatch.setattr(diffaug.DiffAug, "save", fail)
    else:
        monkeypatch.setattr(os, "replace", fail)
    assert main([*FIT, "-o", "new.h5ad"]) == 1
    assert said(capsys) == "Permission denied: 'new.model'"
    after = {k: v for k, v in listing(work).items() if not k.startswith("new.model")}
    assert after == before
