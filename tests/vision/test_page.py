"""What the page of images says runs as it stands there, line after line, on a few digits and for an epoch."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets

from diffaug import vision
from diffaug.cli._vision import main
from diffaug.core.config import TrainingConfig

PAGE = (Path(__file__).parents[2] / "docs" / "vision.md").read_text(encoding="utf-8")
PYTHON, SHELL = (re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) for language in ("python", "bash"))


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, entered; every fit is of an epoch a phase, digits are twenty of two kinds, data sets are small."""
    digits, resolve = sklearn.datasets.load_digits(n_class=2), TrainingConfig.resolve

    def an_epoch(self: TrainingConfig, *args: Any) -> TrainingConfig:
        return dataclasses.replace(resolve(self, *args), warmup_epochs=1, generator_epochs=1, mixed_epochs=1)

    def few_digits(*, return_X_y: bool = False) -> Any:
        found = sklearn.utils.Bunch(data=digits.data[:20], images=digits.images[:20], target=digits.target[:20])
        return (found.data, found.target) if return_X_y else found

    def few_images(name: str) -> vision.ImageSet:
        x = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
        return vision.ImageSet(x, np.arange(40) // 2 % 2, ("cat", "dog"), np.array(["train", "test"] * 20))

    monkeypatch.setattr(TrainingConfig, "resolve", an_epoch)
    monkeypatch.setattr(sklearn.datasets, "load_digits", few_digits)
    monkeypatch.setattr(vision, "load", few_images)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_lines_of_python(short: Path) -> None:
    found: dict[str, Any] = {}
    assert len(PYTHON) >= 6
    for block in PYTHON:
        exec(block, found)
    assert found["embedding"].shape == (20, 128)
    assert found["seen"].shape == (20, 8, 8, 3)  # no image of the test part
    assert found["stl_model"].config.loss.dof_latent == 5.0
    assert (short / "digits_model" / "config.json").is_file()


def test_the_lines_of_the_shell(short: Path) -> None:
    """All verbs but ``reproduce``, which has a page of its own."""
    (block,) = (text for text in SHELL if "diffaug-vision fit" in text)
    (program,) = re.findall(r'python -c "\n(.*?)"\n', block, re.DOTALL)
    exec(program, {})
    ((name, text),) = re.findall(r"cat > (\S+) <<END\n(.*?)\nEND\n", block, re.DOTALL)
    Path(name).write_text(text)
    commands = [shlex.split(line, comments=True) for line in block.splitlines() if line.startswith("diffaug-vision")]
    assert {command[1] for command in commands} == {"fit", "evaluate", "plot", "augment", "generate", "embed", "info"}
    for command in commands:
        assert main([*command[1:], "--quiet"]) == 0, command
    made = {path.name for path in short.iterdir()}
    assert made >= {"digits.diffaug.npz", "digits.diffaug.model", "views.png", "views.npz", "made.npz", "made.png"}
