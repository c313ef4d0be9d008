"""Rows in a folder: kept whole, found again bit by bit, and never lost without being asked."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffaug.core.config import Config
from diffaug.reproduce import _rows
from diffaug.reproduce._rows import Rows, Settings, read_rows, write_whole

Row = dict[str, Any]


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_row_comes_back_bit_by_bit(tmp_path: Path, tiny: Settings, row: Row) -> None:
    rows = Rows(tmp_path / "out", tiny)
    assert rows.find(run=row["run"], set="a", seed=0) is None
    rows.put(row | {"seconds": math.pi * 1e-7, "n_obs": 150})
    found = Rows(tmp_path / "out", tiny).find(run=row["run"], set="a", seed=0)
    assert found is not None
    assert found["linear"] == 0.1 + 0.2 and found["seconds"] == math.pi * 1e-7 and found["n_obs"] == 150
    assert json.loads(found["settings"]) == {"loss": {"name": "soft"}}
    assert rows.find(run=row["run"], set="a", seed=1) is None and rows.find(run="other", set="a", seed=0) is None


def test_a_run_id_of_digits_stays_text(tmp_path: Path, tiny: Settings, row: Row) -> None:
    rows = Rows(tmp_path, tiny)
    rows.put(row | {"run": "000123456789", "set": "007"})
    assert rows.find(run="000123456789", set="007", seed=0) is not None


def test_a_row_takes_the_place_of_its_own_key_only(tmp_path: Path, tiny: Settings, row: Row) -> None:
    rows = Rows(tmp_path, tiny)
    rows.put(row)
    rows.put(row | {"seed": 1})
    rows.put(row | {"linear": 0.9, "kept": 0.5})  # other scores than before
    table = rows.read()
    assert sorted(zip(table["seed"], table["linear"], strict=True)) == [(0, 0.9), (1, 0.1 + 0.2)]
    rows.put(row)  # and a column that nobody fills any more
    assert rows.read()["kept"].isna().all()


def test_a_row_that_another_wrote_meanwhile_is_kept(tmp_path: Path, tiny: Settings, row: Row) -> None:
    first, second = Rows(tmp_path, tiny), Rows(tmp_path, tiny)
    first.put(row)
    second.put(row | {"seed": 1})
    assert len(first.read()) == 2


@pytest.mark.parametrize("when", ["write", "replace"])
def test_a_process_that_dies_while_it_writes_loses_nothing(
    when: str, tmp_path: Path, tiny: Settings, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Rows(tmp_path, tiny)
    rows.put(row)
    before = content(tmp_path)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync" if when == "write" else "replace", die)
    with pytest.raises(KeyboardInterrupt):
        rows.put(row | {"seed": 1})
    assert content(tmp_path) == before


def test_what_a_killed_process_leaves_is_no_obstacle(tmp_path: Path, tiny: Settings, row: Row) -> None:
    """SIGKILL leaves the scratch file of a write."""
    rows = Rows(tmp_path, tiny)
    rows.put(row)
    (tmp_path / ".rows.csv.abc.part").write_text("set,se")
    assert len(Rows(tmp_path, tiny).read()) == 1
    Rows(tmp_path, tiny, overwrite=True).put(row | {"seed": 3})
    assert sorted(content(tmp_path)) == ["rows.csv", "settings.json"]
    assert read_rows(tmp_path / "rows.csv")["seed"].tolist() == [3]
    (tmp_path / ".mine.abc.part").write_text("a download of the user's")
    with pytest.raises(FileExistsError, match=r"'\.mine\.abc\.part'"):
        Rows(tmp_path, tiny, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_obs": 300}, "max_obs = 150 and not 300"),
        ({"n_top_genes": 500}, "n_top_genes = 1000 and not 500"),
        ({"max_epochs": 5}, "max_epochs = None and not 5"),
        ({"training": {"view_rate": 0.2}}, "training.view_rate = 0.5 and not 0.2"),
        ({"domain": {"encoder_hidden": (64, 32)}}, r"domain.encoder_hidden = \[32\] and not \[64, 32\]"),
        ({"training": {"warmup_epochs": 3}}, "training.warmup_epochs = None and not 3"),
        ({"training": {"batch_size": 8, "n_cycles": 2, "n_views": 3}, "max_obs": 9}, "and not 2, .* and 1 more"),
    ],
)
def test_rows_of_other_settings_are_an_error_and_stay(
    changes: dict[str, Any], said: str, tmp_path: Path, tiny: Settings, row: Row
) -> None:
    Rows(tmp_path, tiny).put(row)
    before = content(tmp_path)
    base: Config = tiny.base
    for section in ("training", "domain"):
        base = base.updated(section, **changes.pop(section, {}))
    other = dataclasses.replace(tiny, base=base, **changes)
    with pytest.raises(ValueError, match=f"found 1 row with .*{said}.*Name another folder, or pass --overwrite"):
        Rows(tmp_path, other)
    assert content(tmp_path) == before
    rows = Rows(tmp_path, other, overwrite=True)
    assert rows.read().empty and content(tmp_path) == before  # who says so loses them, but not before there are others
    rows.put(row)
    with pytest.raises(ValueError, match="asked for"):
        Rows(tmp_path, tiny)


def test_equal_settings_are_no_error(tmp_path: Path, tiny: Settings, row: Row) -> None:
    Rows(tmp_path, tiny).put(row)
    before = content(tmp_path)
    Rows(tmp_path, dataclasses.replace(tiny))
    assert content(tmp_path) == before


def _file(place: Path) -> None:
    place.write_text("mine")


def _foreign(place: Path) -> None:
    place.mkdir()
    (place / "thesis.tex").write_text("mine")


def _mixed(place: Path) -> None:
    _foreign(place)
    (place / "settings.json").write_text("{}")


@pytest.mark.parametrize(
    ("make", "overwrite", "error", "message"),
    [
        (_file, False, NotADirectoryError, "to be a folder, found a file"),
        (_file, True, FileExistsError, "to be a folder, found a file"),
        (_foreign, False, FileExistsError, "a new or an empty one, found other things"),
        (_foreign, True, FileExistsError, r"found other things in .*'thesis\.tex'"),
        (_mixed, True, FileExistsError, r"found other things in .*'thesis\.tex'"),
        (_mixed, False, ValueError, "Expected settings of `reproduce` in"),
    ],
)
def test_a_foreign_place_is_refused_and_left_alone(
    make: Callable[[Path], None],
    overwrite: bool,
    error: type[Exception],
    message: str,
    tmp_path: Path,
    tiny: Settings,
) -> None:
    place = tmp_path / "out"
    make(place)
    before = content(place) if place.is_dir() else place.read_bytes()
    with pytest.raises(error, match=message):
        Rows(place, tiny, overwrite=overwrite)
    assert before == (content(place) if place.is_dir() else place.read_bytes())


def test_an_empty_folder_will_do(tmp_path: Path, tiny: Settings) -> None:
    assert Rows(tmp_path, tiny).read().empty
    Rows(tmp_path / "absent", tiny)
    assert not (tmp_path / "absent").exists()  # before there is a row


def test_settings_of_another_version_are_refused(tmp_path: Path, tiny: Settings, row: Row) -> None:
    Rows(tmp_path, tiny).put(row)
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 2}))
    with pytest.raises(ValueError, match="Expected settings of this version of `reproduce`"):
        Rows(tmp_path, tiny)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("set,seed\na,0\n", "found no column 'run'"),
        ("", "found something else"),
        ("set,seed,run,arm,method,settings,measured,device,versions\n,0,x,a,d,s,p,c,v\n", "rows without a set"),
        (
            "set,seed,run,arm,method,settings,measured,device,versions\na,0\nb,1,2,3,4,5,6,7,8,9,10,11\n",
            "something else",
        ),
    ],
)
def test_damaged_rows_are_an_error_and_stay(text: str, message: str, tmp_path: Path, tiny: Settings, row: Row) -> None:
    rows = Rows(tmp_path, tiny)
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        rows.put(row)
    assert (tmp_path / "rows.csv").read_text() == text


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "rows.csv").empty


def test_files_have_the_permissions_of_the_users_files(tmp_path: Path) -> None:
    write_whole(tmp_path / "page.md", "text")
    (tmp_path / "plain").write_text("text")
    assert (tmp_path / "page.md").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "page.md").read_text() == "text"


def test_the_folder_knows_all_that_is_written_to_it() -> None:
    """Or --overwrite would refuse the command's own folder."""
    known = {_rows.SETTINGS, *_rows.FOLDER.others}
    assert {"rows.csv", "table2.md", "table4.md", "table5.md", "fig5.md", "fig5.png", "fig6.png", "fig7.png"} <= known
    assert "table2.png" not in known
