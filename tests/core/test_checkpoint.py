"""The file of a cut training: whole or not there, of this run or refused, and read without running anything of its."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffaug.core import checkpoint
from diffaug.core.checkpoint import CheckpointFile, checkpoint_file, digest_of
from diffaug.core.timebox import OutOfTime

RUN = {"backend": "cells", "data": "ab12", "random_state": 0, "twins": [0.0], "training.view_rate": 0.5}
MADE = {"torch": "2.0", "threads": 1}
STATE = {"w": torch.arange(5000.0), "nested": {"n": 3, "best": float("inf"), "none": None, "list": [1, 2.5, "a"]}}


def opened(path: Path, **run: Any) -> tuple[CheckpointFile, Any]:
    file = CheckpointFile(path)
    return file, file.open({**RUN, **run}, MADE)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    file, found = opened(tmp_path / "run.ckpt")
    assert found is None
    file.write(STATE)
    return tmp_path / "run.ckpt"


def test_what_is_written_is_read(written: Path) -> None:
    _, found = opened(written)
    assert torch.equal(found["w"], STATE["w"])
    assert found["nested"] == STATE["nested"]
    assert os.listdir(written.parent) == ["run.ckpt"]  # no scraps beside it
    umask = os.umask(0)
    os.umask(umask)
    assert written.stat().st_mode & 0o777 == 0o666 & ~umask


def test_place_is_made_and_a_link_stays(tmp_path: Path) -> None:
    file, _ = opened(tmp_path / "deep" / "er" / "run")
    file.write(STATE)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er" / "run")
    linked, found = opened(tmp_path / "link")
    linked.write({**found, "second": 2})
    assert (tmp_path / "link").is_symlink()
    assert opened(tmp_path / "deep" / "er" / "run")[1]["second"] == 2


@pytest.mark.parametrize(
    ("path", "minutes", "error", "message"),
    [
        (3, 1, TypeError, "Expected `checkpoint` to name a file, found 3"),
        ("", 1, TypeError, "Expected `checkpoint` to name a file, found ''"),
        (True, 1, TypeError, "Expected `checkpoint` to name a file, found True"),
        ("c", "soon", TypeError, "Expected `checkpoint_minutes` to be a number, found 'soon'"),
        ("c", True, TypeError, "Expected `checkpoint_minutes` to be a number, found True"),
        ("c", -1, ValueError, "Expected `checkpoint_minutes` of at least 0, found -1"),
        ("c", float("nan"), ValueError, "Expected `checkpoint_minutes` of at least 0, found nan"),
        (".", 1, IsADirectoryError, r"Expected `checkpoint` to name a file, found a folder: '\.'"),
    ],
)
def test_wrong_arguments(path: Any, minutes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CheckpointFile(path, minutes)


def test_no_place_to_write_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=r"Expected a place where '.*file/sub/run' can be written, found .*Choose another folder"
    ):
        opened(tmp_path / "file" / "sub" / "run")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="Expected a folder that can be written, found a read-only one"):
        opened(tmp_path / "run")


# --- another run's ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"random_state": 7}, r"another: random_state=0 and not 7\. Delete it or give another path\."),
        ({"backend": "dna"}, "backend='cells' and not 'dna'"),
        ({"twins": []}, r"twins=\[0\.0\] and not \[\]"),
        ({"training.patience": 3}, "training.patience=None and not 3"),
        ({"data": "cd34"}, r"another: other data \(events, batches or labels\)\. Delete"),
        (dict.fromkeys([*RUN, "more"], 9), r"random_state=0 and not 9 and 3 more\. Delete"),
    ],
)
def test_another_run_is_refused(written: Path, change: dict[str, Any], message: str) -> None:
    before = written.read_bytes()
    with pytest.raises(
        ValueError, match=r"Expected a checkpoint of this run in '.*run\.ckpt', found one of .*" + message
    ):
        opened(written, **change)
    assert written.read_bytes() == before


def test_another_version_of_the_format_is_refused(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = checkpoint.SCHEMA_VERSION
    monkeypatch.setattr(checkpoint, "SCHEMA_VERSION", now + 1)
    with pytest.raises(
        ValueError, match=rf"Expected a checkpoint of schema version {now + 1}, found {now} in .* that wrote it"
    ):
        opened(written)


def test_other_versions_are_warned_of(written: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(written)
    assert caplog.text == ""
    found = CheckpointFile(written).open(RUN, {**MADE, "torch": "2.1"})
    assert "written with torch=2.0, and the training goes on with 2.1" in caplog.text
    assert torch.equal(found["w"], STATE["w"])


# --- damaged and foreign files -----------------------------------------------------------------------------------------


class Evil:
    """Unpickling it would write a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("was_run"),)


def npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


FOREIGN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("cells"),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Evil())),
    "pickle in torch's format": lambda path: torch.save({"format": "diffaug-checkpoint", "state": Evil()}, path),
    "torch's old format": lambda path: torch.save({"a": 1}, path, _use_new_zipfile_serialization=False),
    "another state": lambda path: torch.save({"w": torch.ones(3)}, path),
    "a tensor": lambda path: torch.save(torch.ones(3), path),
    "arrays": npz,
    "empty zip": lambda path: zipfile.ZipFile(path, "w").close(),
    "first half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "last byte lacks": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_damaged_and_foreign_files_are_refused(written: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(written.parent)
    FOREIGN[kind](written)
    before = written.read_bytes()
    with pytest.raises(
        ValueError,
        match=r"Expected a checkpoint of diffaug in '.*', found a damaged or a foreign file \(.+\)\. Delete it or",
    ):
        opened(written)
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == ["run.ckpt"]  # nothing of the file's was run


def test_a_flipped_bit_is_noticed_or_harmless(written: Path) -> None:
    """Each bit of the state counts. Torch alone would read a damaged tensor without a word."""
    whole = written.read_bytes()
    expected = torch.load(written, weights_only=True)
    refused = 0
    places = np.random.default_rng(0).integers(0, len(whole), 150)
    for place in places:
        raw = bytearray(whole)
        raw[place] ^= 1 << int(place % 8)
        written.write_bytes(raw)
        try:
            found = opened(written)[1]
        except ValueError as error:
            assert "damaged or a foreign file" in str(error)
            refused += 1
        else:
            assert torch.equal(found["w"], expected["state"]["w"])
            assert found["nested"] == expected["state"]["nested"]
    assert refused > len(places) / 2


# --- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed"), KeyboardInterrupt()]
)
def test_a_writing_that_fails_leaves_the_file_of_before(
    written: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(document: Any, stream: Any) -> None:
        stream.write(b"half of it")
        raise error

    file, _ = opened(written)
    before = written.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                file.write(STATE)
        else:
            file.write(STATE)
            assert "could not be written, the training goes on" in caplog.text
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == ["run.ckpt"]
    file.write({**STATE, "again": 1})
    assert opened(written)[1]["again"] == 1


KILLED = """
import os, random, signal, sys, time
import torch
from diffaug.core.checkpoint import CheckpointFile

path, run = sys.argv[1], {"a": 1}
names, refused = set(), 0
for i in range(12):
    child = os.fork()
    if child == 0:
        file = CheckpointFile(path)
        found = file.open(run, {})
        n = 0 if found is None else found["n"]
        while True:
            n += 1
            file.write({"n": n, "w": torch.full((2_000_000,), float(n))})
    deadline = time.monotonic() + 20
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.Random(i).uniform(0.02, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    names |= {n for n in os.listdir(os.path.dirname(path)) if n.endswith(".part")}
    found = CheckpointFile(path).open(run, {})
    assert (found["w"] == found["n"]).all(), "half of one and half of another"
    assert os.listdir(os.path.dirname(path)) == ["run.ckpt"], "what the killed one left is still there"
print(found["n"], len(names))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_killed_while_it_writes_the_file_is_whole(tmp_path: Path) -> None:
    """Twelve kills at random moments of a process that does nothing but write."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "run.ckpt")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    n_written, n_cut = map(int, done.stdout.split())
    assert n_written >= 2
    assert n_cut >= 1  # some were really hit in the middle of a writing


def test_only_leftovers_of_its_own_are_removed(written: Path) -> None:
    others = [".run.ckpt.0123abcd.part.txt", ".other.ckpt.0123abcd.part", ".run.ckpt.zzzzzzzz.part", "run.ckpt.bak"]
    for name in [*others, ".run.ckpt.0123abcd.part"]:
        (written.parent / name).touch()
    opened(written)
    assert sorted(os.listdir(written.parent)) == sorted([*others, "run.ckpt"])


def test_leftovers_of_a_first_writing_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".run.ckpt.0123abcd.part").touch()
    assert opened(tmp_path / "run.ckpt")[1] is None
    assert os.listdir(tmp_path) == []


# --- when ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "epoch", "writing", "expected"),
    [
        (1.0, 25.0, 0.0, [3, 6, 9]),  # at the first end of an epoch after a minute
        (0.0, 25.0, 50.0, list(range(1, 11))),  # after every epoch, whatever it costs
        (1.0, 25.0, 5.0, [3, 7]),  # a writing of 5 s at most every 100 s
        (float("inf"), 25.0, 0.0, []),
    ],
)
def test_it_is_written_at_the_ends_of_epochs_when_it_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, epoch: float, writing: float, expected: list[int]
) -> None:
    now = [100.0]
    written = []
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])

    def save(document: Any, stream: Any) -> None:
        now[0] += writing
        written.append(document["state"])

    monkeypatch.setattr(torch, "save", save)
    file = CheckpointFile(tmp_path / "run", minutes)
    now[0] += 1e4  # what comes before the opening does not count
    file.open(RUN, MADE)
    for i in range(1, 11):
        now[0] += epoch
        file.after_epoch(lambda i=i: i)  # type: ignore[misc]
    assert written == expected


# --- interruptions ------------------------------------------------------------------------------------------------------


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    sum(range(1000))  # let Python see it


def test_ctrl_c_waits_for_the_end_of_the_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, _ = opened(tmp_path / "run")
    reached = []
    with pytest.raises(KeyboardInterrupt), file.interruptible():
        file.after_epoch(lambda: {"n": 1})
        interrupt()
        reached.append("the rest of the epoch")
        file.after_epoch(lambda: {"n": 2})
        reached.append("the next epoch")
    assert reached == ["the rest of the epoch"]
    assert opened(tmp_path / "run")[1] == {"n": 2}
    assert "the epoch is finished and kept first" in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_waits_for_nothing(tmp_path: Path) -> None:
    file, _ = opened(tmp_path / "run")
    reached = []
    with pytest.raises(KeyboardInterrupt), file.interruptible():
        interrupt()
        reached.append("after the first")
        interrupt()
        reached.append("after the second")
    assert reached == ["after the first"]
    assert not (tmp_path / "run").exists()


def test_ctrl_c_after_the_last_epoch_is_not_lost(tmp_path: Path) -> None:
    file, _ = opened(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), file.interruptible():
        interrupt()


def test_who_handles_ctrl_c_keeps_it(tmp_path: Path) -> None:
    """A handler of the caller's, and threads, which cannot have one."""
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with CheckpointFile(tmp_path / "run").interruptible():
            interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
    failed = []

    def elsewhere() -> None:
        try:
            with CheckpointFile(tmp_path / "run").interruptible():
                pass
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert failed == []


# --- fingerprints -------------------------------------------------------------------------------------------------------


def test_digest_is_that_of_names_types_shapes_and_bytes() -> None:
    tensors = {"b": torch.tensor(True), "a": torch.arange(6.0).reshape(2, 3).T, "none": torch.zeros(0, 3)}
    by_hand = hashlib.sha256()
    for name in ("a", "b", "none"):
        value = tensors[name]
        by_hand.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        by_hand.update(value.numpy().tobytes())
    assert digest_of(tensors) == by_hand.hexdigest()
    others = [
        {**tensors, "a": tensors["a"].reshape(6)},
        {**tensors, "a": tensors["a"].double()},
        {**tensors, "c": tensors["b"]},
        {**tensors, "b": torch.tensor(False)},
    ]
    assert len({digest_of(t) for t in [tensors, *others]}) == 5


def test_the_end_of_the_time_keeps_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    file = CheckpointFile(tmp_path / "run.ckpt", until=160.0)
    assert file.open(RUN, MADE) is None
    for clock[0] in (120.0, 159.0):
        file.after_epoch(lambda: STATE)
    assert not file.path.exists()
    clock[0] = 160.0
    with pytest.raises(OutOfTime, match="state of the training is kept in '.*run.ckpt'"):
        file.after_epoch(lambda: STATE)
    again = CheckpointFile(file.path)
    assert torch.equal(again.open(RUN, MADE)["w"], STATE["w"]) and again.earlier_seconds == 60.0
    clock[0] += 7
    again.write(STATE)
    third = CheckpointFile(file.path)
    third.open(RUN, MADE)
    assert third.earlier_seconds == 67.0
    beside = CheckpointFile(tmp_path / "a.ckpt", 3, until=5.0).beside(".b")
    assert (beside.path.name, beside.minutes, beside.until) == ("a.ckpt.b", 3, 5.0)


def test_a_file_that_was_made_before_is_taken_as_it_is(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "run.ckpt", 3)
    assert checkpoint_file(file, 7) is file and checkpoint_file(None) is None
    made = checkpoint_file(str(tmp_path / "run.ckpt"), 7)
    assert made is not None and (made.path, made.minutes) == (file.path, 7)
