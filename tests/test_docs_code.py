"""Code that the documentation shows runs as it stands there, top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("page", ["extending.md"])
def test_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    assert blocks
    names: dict = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert names["embedding"].shape == (300, 80) and names["model"].twin is not None
    assert names["byol"].embed(names["x"]).semantic.shape == (300, 80)
    loaded = type(names["model"]).load(names["model"].save(tmp_path / "model"))
    assert (loaded.embed(names["x"]).semantic == names["embedding"]).all()
