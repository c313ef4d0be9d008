"""Sets as the methods see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from harness.sets import Slice, check_sets, chosen_sets, facts, is_counts, is_grouped, prepared_file, read_prepared


def test_a_slice_is_the_same_each_time_and_has_what_is_asked(tmp_path: Path) -> None:
    one = Slice("pbmc68k_reduced_scanpy", 120, 50)
    first, second = (read_prepared(prepared_file(one, tmp_path / name)) for name in "ab")
    assert first.shape == (120, 50)
    assert list(first.obs.columns) == ["label"] and first.obs["label"].nunique() > 5
    np.testing.assert_array_equal(first.X.toarray(), second.X.toarray())
    assert first.obs_names.tolist() == second.obs_names.tolist()
    other = read_prepared(prepared_file(Slice("pbmc68k_reduced_scanpy", None, 60), tmp_path / "a"))
    assert other.shape == (700, 60)
    assert len(list((tmp_path / "a" / "prepared").iterdir())) == 2
    assert facts(one)["labels"] == "circular" and not is_counts(one) and not is_grouped(one)


def test_counts_and_groups_come_along(data_dir: Path, tmp_path: Path) -> None:
    one = Slice("segerstolpe_pancreas", 150, 80)
    adata = read_prepared(prepared_file(one, tmp_path))
    counts, logged = adata.layers["counts"], adata.X
    assert adata.shape == counts.shape == (150, 80)
    assert (counts.data % 1 == 0).all() and not (logged.data % 1 == 0).all()
    assert ((counts > 0) != (logged > 0)).nnz == 0
    assert adata.obs["group"].nunique() == 3
    assert is_counts(one) and is_grouped(one)


def test_names_of_sets(data_dir: Path) -> None:
    largest = chosen_sets(["largest"])
    assert len(largest) == 12 and largest[:2] == ["cytof_pbmc", "kang_pbmc"]
    assert set(largest) < set(chosen_sets(["all"]))
    assert chosen_sets(["paul15", "pollen"]) == ["paul15", "pollen"]


def test_a_set_that_is_not_there_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFAUG_DATA_DIR", raising=False)
    check_sets(["pbmc68k_reduced_scanpy"])
    with pytest.raises(FileNotFoundError, match="DIFFAUG_DATA_DIR"):
        check_sets(["pbmc68k_reduced_scanpy", "paul15"])
    with pytest.raises(KeyError, match="Did you mean 'paul15'"):
        check_sets(["paul_15"])
