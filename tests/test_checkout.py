"""Files of the checkout that no import sees: Makefile, the check on a fresh environment, extras."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_second_demo_replaces_the_first() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].endswith("diffaug-cells demo -o demo_output --overwrite")


@pytest.mark.parametrize(("given", "expected"), [(None, "shared"), ("", "shared"), ("/mine", "/mine")])
def test_the_check_keeps_the_callers_data(given: str | None, expected: str, tmp_path: Path) -> None:
    """In a copy, with a make that tells what it was given."""
    script, data, tools = tmp_path / "checkout" / ".ci" / "run", tmp_path / "shared" / "data", tmp_path / "bin"
    for folder in (script.parent, data, tools):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", script)
    (tools / "make").write_text('#!/bin/sh\necho "$DIFFAUG_DATA_DIR"\n')
    (tools / "make").chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "DIFFAUG_DATA_DIR"}
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    if given is not None:
        environment["DIFFAUG_DATA_DIR"] = given
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=True, env=environment)
    assert set(done.stdout.split()) == {str(data) if expected == "shared" else expected}


def test_every_extra_is_in_the_instructions() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / "installation.md").read_text(), flags=re.MULTILINE)
    assert rows == list(extras)
