"""Imports point down, and the parts below the AnnData door know arrays only (contracts in pyproject.toml)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS, ARRAYS_ONLY = "Imports point down", "The parts below the AnnData door know arrays only"
METRICS, SIBLINGS = "Metrics know no model", "A backend knows no sibling"
PREPARATION = "Preparation knows no model, and loads no torch"


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a checkout, on its own source and not on the installed package."""
    call = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", call], cwd=root, env=environment, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy of what the contracts are about, to plant imports in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_imports_keep_the_contracts() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    for contract in (LAYERS, ARRAYS_ONLY, PREPARATION, METRICS, SIBLINGS):
        assert f"{contract} KEPT" in result.stdout


@pytest.mark.parametrize(
    ("file", "statement", "broken"),
    [
        ("core/similarity.py", "import scanpy", ARRAYS_ONLY),
        ("core/losses.py", "from diffaug import _model", LAYERS),
        ("_model.py", "import pandas as pd", ARRAYS_ONLY),
        ("_model_file.py", "from diffaug._model import DiffAug", LAYERS),
        ("_model.py", "from diffaug.tl import fit", LAYERS),
        ("_model.py", "def late():\n    import anndata", ARRAYS_ONLY),
        ("metrics/__init__.py", "from diffaug.backends import get_backend", METRICS),
        ("metrics/__init__.py", "from diffaug import _model", LAYERS),
        ("baselines/_simclr.py", "from diffaug import _model", LAYERS),
        ("baselines/_simclr.py", "import anndata", ARRAYS_ONLY),
        ("backends/cells.py", "from diffaug import baselines", LAYERS),
        ("backends/planted.py", "from diffaug.backends.cells import CellsBackend", SIBLINGS),
        ("pp/_recipe.py", "from diffaug._anndata import check_adata", PREPARATION),
        ("planted.py", "", LAYERS),  # a new part has to be placed in a layer
    ],
)
def test_a_planted_import_is_caught(checkout: Path, file: str, statement: str, broken: str) -> None:
    path = checkout / "src" / "diffaug" / file
    path.write_text((path.read_text(encoding="utf-8") if path.exists() else "") + f"\n{statement}\n", encoding="utf-8")
    result = lint_imports(checkout)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{broken} BROKEN" in result.stdout
