"""What is read of generated views, and how the page sets it beside the gains."""

from __future__ import annotations

from pathlib import Path

import bench_views
import numpy as np
import pandas as pd
import pytest
from bench_views import readings

N = 240


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], N // 3)
    x = rng.normal(size=(N, 30))
    for k, label in enumerate("abc"):
        x[labels == label, 5 * k : 5 * k + 5] += 4
    return x.astype(np.float32), labels


def test_readings_of_good_and_bad_views(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = cells
    rng = np.random.default_rng(1)
    fresh = np.stack([x[labels == label].mean(axis=0) for label in labels]) + rng.normal(size=x.shape)
    good = readings(x, fresh[:, None].astype(np.float32), labels, 0)
    assert good["kept"] > 0.95 and good["kept_real"] > 0.95
    assert abs(good["auc"] - good["floor"]) < 0.12
    strange = readings(x, rng.permutation(fresh)[:, None].astype(np.float32), labels, 0)  # of any class
    assert strange["kept"] < 0.5 and strange["kept_real"] == pytest.approx(good["kept_real"], abs=0.05)
    shifted = readings(x, fresh[:, None].astype(np.float32) + 2, labels, 0)
    assert shifted["auc"] > good["auc"] + 0.2


def test_the_page_is_that_of_the_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The committed rows give the committed page."""
    written: dict[str, str] = {}
    monkeypatch.setattr(bench_views, "write_page", lambda name, text: written.setdefault(name, text))
    monkeypatch.setattr("sys.argv", ["bench_views.py", "--render"])
    assert bench_views.main() == 0
    assert written["views"].strip() == (bench_views.ROOT / "docs" / "benchmarks" / "views.md").read_text().strip()


def test_without_rows_it_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("_common.RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["bench_views.py", "--render"])
    assert bench_views.main() == 2
    assert "Run bench_embeddings.py --methods diffaug first." in capsys.readouterr().err


def test_ranks_are_not_of_a_thing_with_itself() -> None:
    a = pd.Series([1.0, 2.0, 3.0, 5.0])
    assert bench_views._rank(a, a) == "–"
    assert bench_views._rank(a, -a).startswith("-1.00 (p = 0.00")
