"""Folders and files written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from diffaug.core.storage import (
    FolderKind,
    check_target_folder,
    file_written_whole,
    leftovers,
    remove_leftovers,
    written_file,
    written_whole,
)


def write(target: Path, text: str, *, overwrite: bool = False) -> None:
    with written_whole(target, overwrite=overwrite) as folder:
        (folder / "a.txt").write_text(text)


def content(target: Path) -> dict[str, str]:
    return {f.name: f.read_text() for f in target.iterdir()}


def test_new_folder(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "model", "one")
    assert content(tmp_path / "deep" / "model") == {"a.txt": "one"}
    assert os.listdir(tmp_path / "deep") == ["model"]  # no scraps beside it


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o700), (0o022, 0o755), (0o002, 0o775)])
def test_the_umask_says_who_may_enter(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with written_whole(tmp_path / "out") as folder:
            (folder / "file").touch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode


def test_it_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with written_whole(target) as folder:
        (folder / "a.txt").write_text("one")
        assert folder.parent == target.parent  # same file system, so that the rename cannot be half a copy
        assert not target.exists()
    assert target.is_dir()


def test_existing_folder_is_kept_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "model"
    write(target, "one")
    with pytest.raises(
        FileExistsError, match=r"Expected a new folder, found .*model'. Pass overwrite=True to replace it"
    ):
        write(target, "two")
    assert content(target) == {"a.txt": "one"}
    write(target, "two", overwrite=True)
    assert content(target) == {"a.txt": "two"}
    assert os.listdir(tmp_path) == ["model"]


def test_overwriting_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    target = tmp_path / "model"
    write(target, "one")
    (target / "old.txt").write_text("old")
    write(target, "two", overwrite=True)
    assert content(target) == {"a.txt": "two"}


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_what_was_there(tmp_path: Path, exists: bool, error: type[BaseException]) -> None:
    target = tmp_path / "model"
    if exists:
        write(target, "one")
    with pytest.raises(error), written_whole(target, overwrite=True) as folder:
        (folder / "a.txt").write_text("half")
        raise error
    assert os.listdir(tmp_path) == (["model"] if exists else [])
    if exists:
        assert content(target) == {"a.txt": "one"}


def test_failure_in_the_last_rename_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model"
    write(target, "one")
    real = Path.rename

    def rename(self: Path, new: Path) -> Path:
        if (self / "a.txt").exists() and (self / "a.txt").read_text() == "two":
            raise OSError("disk on fire")
        return real(self, new)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="disk on fire"):
        write(target, "two", overwrite=True)
    assert content(target) == {"a.txt": "one"}
    assert os.listdir(tmp_path) == ["model"]


KIND = FolderKind("a box", "a.txt", ("b.txt",))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.txt"], None),
        (["a.txt", "b.txt"], None),
        ([], None),  # nothing is lost
        (["a.txt", "c.txt"], r"Expected a box to overwrite, found other things in .*box', e.g. 'c.txt'. Choose"),
        (["c.txt"], "Expected a box to overwrite, found other things"),
        (["b.txt"], r"Expected a box to overwrite, found no 'a.txt' in .*box'. Choose"),
    ],
    ids=lambda v: "+".join(v) if isinstance(v, list) else "",
)
def test_only_a_folder_of_the_kind_is_replaced(tmp_path: Path, files: list[str], message: str | None) -> None:
    """Who asks before the work and who writes after it get one answer."""
    target = tmp_path / "box"
    target.mkdir()
    for name in files:
        (target / name).write_text("old")
    if message is None:
        check_target_folder(target, KIND, overwrite=True)
        with written_whole(target, kind=KIND, overwrite=True) as folder:
            (folder / "a.txt").write_text("new")
        assert content(target) == {"a.txt": "new"}
        return
    with pytest.raises(FileExistsError, match=message):
        check_target_folder(target, KIND, overwrite=True)
    with pytest.raises(FileExistsError, match=message), written_whole(target, kind=KIND, overwrite=True):
        pytest.fail("it started")
    assert content(target) == dict.fromkeys(files, "old")


def test_a_mount_point_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be renamed; mounting takes a superuser, so the system's answer is faked."""
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    with pytest.raises(FileExistsError, match="found a mount point"):
        check_target_folder(tmp_path, overwrite=True)
    check_target_folder(tmp_path / "model", overwrite=True)


def test_the_current_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative names of other results would lead nowhere."""
    write(tmp_path / "model", "one")
    monkeypatch.chdir(tmp_path / "model")
    for target in (Path("."), tmp_path / "model"):
        with pytest.raises(FileExistsError, match="Expected a folder to replace, found the current one"):
            write(target, "two", overwrite=True)
    assert content(tmp_path / "model") == {"a.txt": "one"}


def test_the_message_says_how_the_user_overwrites(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="Pass --overwrite to replace it"):
        check_target_folder(tmp_path, how="--overwrite")


def test_a_link_stays_and_its_folder_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "far" / "model", "one")
    (tmp_path / "model").symlink_to("far/model")
    write(tmp_path / "model", "two", overwrite=True)
    assert (tmp_path / "model").is_symlink() and content(tmp_path / "far" / "model") == {"a.txt": "two"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_file_in_the_way(tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "model"
    target.write_text("mine")
    with pytest.raises(FileExistsError, match="Expected .*found"):
        write(target, "one", overwrite=overwrite)
    assert target.read_text() == "mine"


def test_parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        OSError, match=r"Expected a place where .*model' can be written, found .*. Choose another folder"
    ):
        write(tmp_path / "file" / "model", "one")


def test_read_only_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is simulated: to the superuser, who runs many a container, no folder is read-only."""

    def refuse(*args: object, **kwargs: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match=r"Expected a place where .*model' can be written, found Permission denied"):
        write(tmp_path / "model", "one")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("error", [None, OSError, KeyboardInterrupt])
def test_file_appears_only_when_it_is_whole(tmp_path: Path, error: type[BaseException] | None) -> None:
    """``core/test_checkpoint.py`` kills a process that does this."""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    try:
        with file_written_whole(target) as stream:
            stream.write(b"new")
            stream.flush()
            assert target.read_bytes() == b"old"
            if error is not None:
                raise error
    except (OSError, KeyboardInterrupt) as raised:
        assert type(raised) is error
    assert target.read_bytes() == (b"new" if error is None else b"old")
    assert os.listdir(tmp_path) == ["file"]


def test_a_writer_that_wants_a_name_gets_one_with_the_ending(tmp_path: Path) -> None:
    """A link stays, its file keeps the user's permissions, and folders are made."""
    (tmp_path / "link.fa.gz").symlink_to(tmp_path / "far" / "x.fa.gz")
    for content in (b"old", b"new"):
        with written_file(tmp_path / "link.fa.gz") as fresh:
            assert fresh.name.endswith(".fa.gz") and fresh.parent == tmp_path / "far" and not fresh.exists()
            fresh.write_bytes(content)
    assert (tmp_path / "link.fa.gz").is_symlink() and os.listdir(tmp_path / "far") == ["x.fa.gz"]
    assert (tmp_path / "far" / "x.fa.gz").read_bytes() == b"new"
    (tmp_path / "plain").touch()
    assert (tmp_path / "far" / "x.fa.gz").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_writer_that_writes_elsewhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(FileNotFoundError), written_file(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("write", [file_written_whole, written_file])
def test_leftovers_are_known_and_nothing_else_is(tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "rows.tar.gz"
    others = [".rows.tar.gz.xyz.part", ".rows.csv.01ab.part", ".rows.tar.gz.01ab.part.csv", "rows.tar.gz.01ab.part"]
    for name in others:
        (tmp_path / name).touch()
    with monkeypatch.context() as patch:  # what a kill leaves: nobody cleans up
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        with pytest.raises(KeyboardInterrupt), write(target) as fresh:
            if isinstance(fresh, Path):
                fresh.touch()
            raise KeyboardInterrupt
    assert len(leftovers(target)) == 1
    remove_leftovers(target)
    assert sorted(os.listdir(tmp_path)) == sorted(others)
