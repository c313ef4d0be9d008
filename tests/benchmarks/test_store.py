"""Files that are whole or not there, and rows that survive the loss of the cache or of the Parquet file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import store
from harness.store import COLUMNS, Entry, Key, Rows, settings_hash

from diffaug.core.storage import written_file

KEY = Key("paul15", 200, 500, "pca50", "abc", 0, "linear")


def need_parquet() -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra `bench` brings")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.txt"
    with written_file(file) as fresh:
        fresh.write_text("old")
        assert not file.exists()
    with pytest.raises(RuntimeError, match="half-way"):
        with written_file(file) as fresh:
            fresh.write_text("new")
            raise RuntimeError("half-way")
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def test_equal_settings_have_equal_names() -> None:
    assert settings_hash({"a": 1, "b": {"c": (2, 3)}}) == settings_hash({"b": {"c": [2, 3]}, "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})


def test_an_entry_is_there_when_its_record_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry(tmp_path / "a" / "b", 3)
    x = np.arange(6.0).reshape(3, 2)
    with monkeypatch.context() as patch:
        patch.setattr(store.json, "dumps", lambda *a, **k: 1 / 0)  # killed between the two files
        with pytest.raises(ZeroDivisionError):
            entry.write({"seconds": 1.0}, x=x)
    assert entry.arrays_file.exists() and not entry.exists
    entry.write({"seconds": 1.0}, x=x, views=x[:, None])
    assert entry.exists and entry.record() == {"seconds": 1.0}
    np.testing.assert_array_equal(entry.array("x"), x)
    np.testing.assert_array_equal(entry.array("views"), x[:, None])
    entry.map_file.touch()
    entry.drop()
    assert not list(entry.folder.iterdir())


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "r.parquet", tmp_path / "rows")
    rows.put(KEY, {"accuracy": 0.5, "balanced_accuracy": 0.25}, n_obs=200, shown="PCA", stochastic=False)
    rows.put(KEY._replace(protocol="knn"), {}, "ValueError: too few")
    table = Rows(tmp_path / "r.parquet", tmp_path / "rows").table()
    assert {name: str(kind) for name, kind in table.dtypes.items()} == {
        name: "object" if kind == "str" else kind for name, kind in COLUMNS.items()
    }
    linear = table[table["protocol"] == "linear"].set_index("metric")
    assert linear["value"].to_dict() == {"accuracy": 0.5, "balanced_accuracy": 0.25}
    assert linear["n_obs"].tolist() == [200, 200] and not linear["stochastic"].any()
    failed = table[table["protocol"] == "knn"].iloc[0]
    assert failed["error"] == "ValueError: too few" and np.isnan(failed["value"])
    assert rows.error(KEY) == "" and rows.error(KEY._replace(protocol="knn")) == "ValueError: too few"


def test_other_settings_count_only_where_they_are_said_to(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "r.parquet", tmp_path / "rows")
    rows.put(KEY, {"accuracy": 0.5})
    other = KEY._replace(settings_hash="def")
    assert rows.has(KEY) and not rows.has(other)
    assert rows.has(other, any_settings=True) and not rows.has(other._replace(seed=1), any_settings=True)
    rows.put(other._replace(seed=1), {"accuracy": 0.5})
    assert rows.has(KEY._replace(seed=1), any_settings=True)
    rows.drop(lambda key, _: key.seed == 0)
    assert not rows.has(other, any_settings=True)


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "r.parquet", tmp_path / "rows")
    with pytest.raises(KeyError, match="found \\['genes'\\]"):
        rows.put(KEY, {"accuracy": 0.5}, genes=3)


def test_parquet_and_row_files_make_each_other_good(tmp_path: Path) -> None:
    need_parquet()
    parquet, folder = tmp_path / "results" / "r.parquet", tmp_path / "rows"
    rows = Rows(parquet, folder)
    rows.put(KEY, {"accuracy": 0.5})
    rows.put(KEY._replace(seed=1), {}, "failed")
    rows.write()
    before = pd.read_parquet(parquet)
    shutil.rmtree(folder)
    again = Rows(parquet, folder)
    assert again.has(KEY) and again.error(KEY._replace(seed=1)) == "failed"
    again.put(KEY._replace(seed=2), {"accuracy": 0.75})
    parquet.unlink()
    again.write()
    assert len(pd.read_parquet(parquet)) == 3
    pd.testing.assert_frame_equal(pd.read_parquet(parquet).query("seed < 2"), before)


def test_the_newer_row_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_parquet()
    parquet = tmp_path / "r.parquet"

    def put(folder: str, value: float, date: str) -> None:
        monkeypatch.setattr(store, "now", lambda: date)
        rows = Rows(parquet, tmp_path / folder)
        rows.put(KEY, {"accuracy": value})
        rows.write()

    put("a", 0.1, "2026-01-01T00:00:00Z")
    put("b", 0.2, "2026-01-02T00:00:00Z")
    assert pd.read_parquet(parquet)["value"].tolist() == [0.2]
    Rows(parquet, tmp_path / "a").write()  # the cache of another machine, older than the file
    assert pd.read_parquet(parquet)["value"].tolist() == [0.2]


def test_two_runs_on_one_cache_lose_nothing(tmp_path: Path) -> None:
    need_parquet()
    parquet, folder = tmp_path / "r.parquet", tmp_path / "rows"
    one, two = Rows(parquet, folder), Rows(parquet, folder)
    one.put(KEY, {"accuracy": 0.1})
    two.put(KEY._replace(seed=1), {"accuracy": 0.2})
    one.write()
    two.write()
    assert sorted(pd.read_parquet(parquet)["seed"]) == [0, 1]


def test_dropped_rows_are_gone_for_good(tmp_path: Path) -> None:
    need_parquet()
    rows = Rows(tmp_path / "r.parquet", tmp_path / "rows")
    rows.put(KEY, {"accuracy": 0.1})
    rows.put(KEY._replace(seed=1), {}, "failed")
    rows.write()
    assert rows.drop(lambda key, error: bool(error)) == 1
    rows.write()
    again = Rows(tmp_path / "r.parquet", tmp_path / "rows")
    assert again.has(KEY) and not again.has(KEY._replace(seed=1))
    again.drop(lambda key, error: True)
    again.write()
    assert not Rows(tmp_path / "r.parquet", tmp_path / "rows").has(KEY)
