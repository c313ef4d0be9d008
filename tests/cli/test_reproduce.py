"""``reproduce``, as a stranger would use it: on cells that need no file, with a few steps."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from diffaug.cli import main

Listing = Callable[[Path], dict[str, bytes]]
SET = "pbmc68k_reduced_scanpy"


A2 = {"diffusion": {"condition": "noise"}}
ARMS = ["A1", "A2", "A3", "A1-fixed", "A2-fixed", "A3-fixed", "loop_off"]


def small(seeds: int = 2, max_obs: int = 150) -> list[str]:
    sizes = ["--max-obs", str(max_obs), "--seeds", str(seeds)]
    return ["--sets", SET, *sizes, "--config", "tiny.toml", "-o", "out"]


TINY = """
[training]
n_encoders = 1
warmup_steps = 4
generator_steps = 4
mixed_steps = 8
encoder_passes = 0
generator_passes = 0
view_rate = 0.5

[domain]
generator_width = 32
encoder_hidden = [32]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with table4, and what was printed. Read it only."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "tiny.toml").write_text(TINY)
    out = io.StringIO()
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out):
            assert main(["reproduce", "table4", *small()]) == 0
    finally:
        os.chdir(before)
    return folder, out.getvalue()


@pytest.fixture
def work(made: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the folder, entered."""
    import shutil

    shutil.copytree(made[0], tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1].removeprefix("diffaug-cells: error: ")


# --- end to end ------------------------------------------------------------------------------------------------------


def test_a_table_from_training_to_print(made: tuple[Path, str]) -> None:
    folder, out = made
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["rows.csv", "settings.json", "table4.md"]
    lines = out.splitlines()
    assert lines[:3] == ["out/table4.md", "out/rows.csv", ""]
    table = pd.read_csv(folder / "out" / "rows.csv")
    assert len(table) == 14 and set(table["seed"]) == {0, 1} and (table["n_obs"] == 150).all()
    linear = table.groupby(table["arm"].str.removeprefix("table4: "))["linear"].mean()
    for key in ARMS:
        (line,) = [line for line in lines if re.match(rf"{key} .*\]  .*\d$", line)][:1]
        assert f"{100 * linear[key]:.1f} [" in line
        assert ("not at hand" in line) == (key in ("A1", "A2", "A3"))
    assert "A1 is the one run of all that reads labels" in " ".join(out.split())
    base = json.loads((folder / "out" / "settings.json").read_text())["settings"]
    # Not left to the number of features.
    assert base["domain.views"] == "mixup" and base["domain.linear_path"] is False
    assert linear.between(0.2, 0.95).all()  # better than nothing, and not perfect after a dozen steps


def test_the_page_is_the_same_as_markdown(made: tuple[Path, str]) -> None:
    page = (made[0] / "out" / "table4.md").read_text(encoding="utf-8")
    assert page.startswith("# Table 4: what the generator is conditioned on\n")
    assert page.count("\n| A3 |") == 3 and "## What differs from the paper" in page


def test_a_second_call_runs_nothing_and_says_the_same(
    work: Path, made: tuple[Path, str], listing: Listing, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(work)
    assert main(["reproduce", "table4", *small()]) == 0
    out, err = capsys.readouterr()
    assert out == made[1] and err == "table4: runs to go: 0, in 'out'\n"
    assert listing(work) == before


def test_a_figure_shares_the_runs_of_a_table(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "fig5", *small()]) == 0
    out, err = capsys.readouterr()
    assert err == "fig5: runs to go: 0, in 'out'\n"  # A3 of table4
    assert out.splitlines()[:3] == ["out/fig5.md", "out/fig5.png", "out/rows.csv"]
    assert (work / "out" / "fig5.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert re.search(r"^random pair +not at hand ", out, flags=re.MULTILINE)


def test_json(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "table4", *small(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [arm["key"] for arm in found["arms"]] == ARMS
    table = pd.read_csv("out/rows.csv")
    mean = 100 * table.loc[table["arm"] == "table4: A2", "linear"].mean()
    linear = found["arms"][1]["scores"]["linear"]
    assert linear["mean"]["mean"] == pytest.approx(mean) and linear["mean"]["n"] == 2
    assert linear["difference_over_sets"]["low"] is None  # of one set
    assert found["arms"][1]["changes"] == A2
    assert found["settings"]["max_obs"] == 150


def test_more_seeds_are_added(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = pd.read_csv("out/rows.csv")
    assert main(["reproduce", "fig5", *small(seeds=3)]) == 0
    assert "fig5: runs to go: 1" in capsys.readouterr().err
    after = pd.read_csv("out/rows.csv")
    pd.testing.assert_frame_equal(after.iloc[:14], before)
    assert after.iloc[14][["arm", "seed"]].tolist() == ["fig5: A3", 2]


def test_overwrite_starts_anew(work: Path) -> None:
    assert main(["reproduce", "fig5", *small(seeds=1, max_obs=120), "--overwrite"]) == 0
    assert pd.read_csv("out/rows.csv")["n_obs"].tolist() == [120]
    assert sorted(p.name for p in (work / "out").iterdir()) == ["fig5.md", "fig5.png", "rows.csv", "settings.json"]


# --- a stranger's errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel4"], r"Expected a table or figure among \['table2', .*, found 'tabel4'. Did you mean 'table4'\?"),
        (["Table 5"], r"Did you mean 'table5'\?"),
        ([], r"Expected a table or figure among \[.*\], found none. `reproduce --list` says what they are."),
        (["table4", "--sets", "pbmc68k"], r"Did not find a data set 'pbmc68k'. Did you mean"),
        (["table4", "--sets", SET, "--device", "gpu"], r"Expected `device` .* found 'gpu'"),
        (
            ["table4", "--sets", SET, "--max-obs", "20"],
            f"The set '{SET}' is too small to be judged: .* Pass more cells",
        ),
        (["table4", "--sets", SET, "--config", "none.toml"], "Expected a TOML file, found nothing at 'none.toml'"),
        (["table4", "--seeds", "0"], 'Invalid value "0" for --seeds. Must be >= 1'),
        (["table4", "-o", "tiny.toml", "--sets", SET], "Expected 'tiny.toml' to be a folder, found a file"),
        (["table4", "-o", ".", "--sets", SET], "a new or an empty one, found other things in '.'"),
        (["table4", "-o", ".", "--sets", SET, "--overwrite"], "found the current one"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_use(
    arguments: list[str], message: str, work: Path, listing: Listing, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(work)
    assert main(["reproduce", *arguments]) == 2
    assert re.search(message, said(capsys))
    assert listing(work) == before


def test_without_data_the_message_says_where_to_put_them(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DIFFAUG_DATA_DIR", raising=False)
    for sets in ([], ["--sets", "mca_bladder"]):
        assert main(["reproduce", "table4", "-o", "new", *sets]) == 2
        assert "DIFFAUG_DATA_DIR" in said(capsys)
    assert not (work / "new").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--max-obs", "140"], "max_obs = 150 and not 140"),
        (["--n-top-genes", "50"], "n_top_genes = 1000 and not 50"),
        (["--max-epochs", "9"], "max_epochs = None and not 9"),
        (["--preset", "paper"], "loss.name = info_nce and not soft"),
    ],
    ids=" ".join,
)
def test_rows_of_other_settings_are_an_error_and_stay(
    change: list[str], message: str, work: Path, listing: Listing, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(work)
    given = small()
    kept = [o for i, o in enumerate(given) if change[0] not in (o, given[i - 1])]
    assert main(["reproduce", "table4", *kept, *change]) == 2
    error = said(capsys)
    assert "found 14 rows with" in error and message in error
    assert error.endswith("Name another folder, or pass --overwrite to lose them.")
    assert listing(work) == before


def test_an_interrupt_keeps_the_rows(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffaug.reproduce import _measure

    real, calls = _measure.measure, []

    def interrupted(*given: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(_measure, "measure", interrupted)
    assert main(["reproduce", "table4", *small(seeds=3)]) == 130
    assert capsys.readouterr().err.endswith("diffaug-cells: interrupted\n")
    assert len(pd.read_csv("out/rows.csv")) == 15


# --- list ------------------------------------------------------------------------------------------------------------


def test_list(capsys: pytest.CaptureFixture[str], work: Path, listing: Listing) -> None:
    before = listing(work)
    assert main(["reproduce", "--list"]) == 0
    out = capsys.readouterr().out
    for name in ("table2", "table4", "table5", "fig5", "fig6", "fig7"):
        assert f"\n{name}  " in f"\n{out}"
    assert "    A2        random numbers\n" in out
    assert "GA1457 (paper: 92.7): nothing. The paper names it;" in out
    assert out.splitlines()[-1].startswith("Sets at hand, for --sets: ") and SET in out.splitlines()[-1]
    assert listing(work) == before


def test_list_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFAUG_DATA_DIR", raising=False)
    assert main(["reproduce", "--list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["artefacts"]["table4"]["arms"]["A2"]["changes"] == A2
    assert found["paper_sets"]["MC1374"]["stand_ins"] == {"mca_bladder": False}
    assert SET in found["sets"] and "mca_bladder" not in found["sets"]
