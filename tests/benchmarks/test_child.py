"""Processes that answer, raise, die, hang, or lose their caller."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import child
from harness.child import ChildFailed, Worker

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def nothing_preloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The server of the processes would import torch and scanpy for seconds."""
    monkeypatch.setattr(child, "PRELOADED", ())
    yield


def test_a_worker_answers_in_one_process_that_is_not_ours(tmp_path: Path) -> None:
    with Worker(tmp_path / "deep" / "log") as worker:
        assert worker.call("child_work:add", 1, 2) == 3
        assert worker.call("child_work:pid") == worker.call("child_work:pid") != os.getpid()
        assert worker.alive
    assert not worker.alive
    assert (tmp_path / "deep" / "log").read_text() == "adding\n"


def test_processes_of_a_peer_start_as_they_would_without_us() -> None:
    with Worker() as worker:
        assert worker.call("child_work:start_method") == multiprocessing.get_all_start_methods()[0]


def test_an_error_is_told_and_the_worker_goes_on(tmp_path: Path) -> None:
    with Worker(tmp_path / "log") as worker:
        with pytest.raises(ChildFailed, match="^ValueError: no such thing$"):
            worker.call("child_work:fail", "no such thing")
        with pytest.raises(ChildFailed, match="ModuleNotFoundError: No module named 'nothing_here'"):
            worker.call("nothing_here:f")
        assert worker.call("child_work:add", 1, 1) == 2
    assert "Traceback" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (("child_work:kill_itself",), r"ended by SIGKILL \(out of memory\?\)"),
        (("child_work:leave", 7), "ended with exit code 7"),
    ],
)
def test_a_death_is_told(work: tuple, message: str) -> None:
    with Worker() as worker:
        with pytest.raises(ChildFailed, match=message):
            worker.call(*work)
        assert not worker.alive


def test_a_worker_that_takes_too_long_is_ended() -> None:
    begin = time.monotonic()
    with Worker() as worker:
        with pytest.raises(ChildFailed, match="stopped after 0.2 s"):
            worker.call("child_work:sleep", 60, timeout=0.2)
        assert not worker.alive
    assert time.monotonic() - begin < 30


def test_memory_is_of_what_is_there_since_the_reset() -> None:
    with Worker() as worker:
        before, high, after = worker.call("child_work:peaks", 200)
    assert 190 < high - before < 260
    if sys.platform == "linux":
        assert after < before + 50


def test_a_worker_does_not_outlive_a_killed_caller(tmp_path: Path) -> None:
    """SIGKILL leaves the caller no time to say anything."""
    started = tmp_path / "started"
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from harness import child; child.PRELOADED = ()\n"
        "if __name__ == '__main__':\n"
        "    child.Worker().call('child_work:sleep', 600, Path(sys.argv[1]))\n"
    )
    script = tmp_path / "caller.py"
    script.write_text(code)
    caller = subprocess.Popen(
        [sys.executable, str(script), str(started), str(HERE.parents[1] / "benchmarks"), str(HERE)]
    )
    try:
        _wait_for(lambda: started.exists() and started.read_text() != "")
        pid = int(started.read_text())
        assert _is_running(pid)
    finally:
        caller.send_signal(signal.SIGKILL)
        caller.wait()
    _wait_for(lambda: not _is_running(pid))


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _wait_for(condition: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
