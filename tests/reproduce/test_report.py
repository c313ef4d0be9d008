"""What is printed: the paper's value, ours with the right interval, and what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from diffaug.backends.cells import paper_config
from diffaug.reproduce import _figures
from diffaug.reproduce._arms import ARTEFACTS
from diffaug.reproduce._measure import KINDS, QUANTILES
from diffaug.reproduce._report import Report, report
from diffaug.reproduce._rows import Settings
from diffaug.reproduce._statistics import interval

PNG = b"\x89PNG\r\n\x1a\n"
SETS = ("har265", "mca_bladder")


def rows_of(name: str, *, sets: tuple[str, ...] = SETS, n_seeds: int = 3, **constant: Any) -> pd.DataFrame:
    """Rows of a whole run with scores drawn at random."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        [(arm.key, s, seed) for arm in ARTEFACTS[name].arms for s in sets for seed in range(n_seeds)],
        columns=["arm", "set", "seed"],
    )
    for score in ("linear", "knn", "kmeans", "linear_2d", "knn_2d", "kept", "kept_real"):
        table[score] = rng.uniform(0.2, 0.9, len(table))
    table["linear_grouped"] = np.where(table["set"] == "har265", table["linear"] - 0.1, np.nan)
    table["rank"] = rng.uniform(5, 40, len(table))
    table["view_rate"] = np.where(table["set"] == "har265", 0.02, 0.9)
    table.loc[table["arm"].isin(["loop_off", "lambda=0", "weak_lambda=0"]), ["kept", "kept_real"]] = np.nan
    for kind in KINDS:
        drawn = np.sort(rng.uniform(-1, 1, (len(table), len(QUANTILES))), axis=1)
        table[[f"cosine_{kind}_q{q:02}" for q in QUANTILES]] = drawn
    return table.assign(seconds=12.0, n_left_out=0.0, versions="diffaug=0.1.0 torch=2.13", device="cpu").assign(
        **constant
    )


def reported(name: str, **given: Any) -> tuple[Report, pd.DataFrame]:
    table = rows_of(name, **given)
    return report(ARTEFACTS[name], table, Settings(paper_config()), absent=["mice_protein"]), table


@pytest.mark.parametrize("name", ARTEFACTS)
def test_numbers_are_those_of_the_rows(name: str) -> None:
    found, table = reported(name)
    grid = {key: part.pivot(index="set", columns="seed", values="linear") for key, part in table.groupby("arm")}
    for arm in found.numbers["arms"]:
        mine, other = grid[arm["key"]], ARTEFACTS[name].references[arm["key"]]
        reference = grid[other]
        linear = arm["scores"]["linear"]
        expected = interval(mine.mean(axis=0))
        assert linear["mean"] == pytest.approx(
            {"mean": 100 * expected.mean, "low": 100 * expected.low, "high": 100 * expected.high, "n": 3}
        )
        assert linear["by_set"]["mca_bladder"]["mean"] == pytest.approx(100 * mine.loc["mca_bladder"].mean())
        if arm["key"] == other:
            assert linear["difference_over_seeds"] is None and linear["difference_over_sets"] is None
        else:
            gap = mine - reference
            assert linear["difference_over_seeds"]["high"] == pytest.approx(100 * interval(gap.mean(axis=0)).high)
            assert linear["difference_over_sets"]["low"] == pytest.approx(100 * interval(gap.mean(axis=1)).low)
            assert linear["difference_over_sets"]["n"] == 2


@pytest.mark.parametrize("name", ARTEFACTS)
def test_the_text_has_every_arm_and_every_remark(name: str) -> None:
    found, _ = reported(name)
    text = found.text()
    squeezed = " ".join(text.split())
    for arm in ARTEFACTS[name].arms:
        assert f"{arm.key}: {arm.title}" in squeezed
    for notes in found.lists.values():
        assert all(" ".join(note.split()) in squeezed for note in notes)
    for note in ARTEFACTS[name].notes:
        assert note in found.lists["What differs from the paper"]
    assert max(len(line) for line in text.splitlines() if line.startswith("- ")) <= 110
    for title, value in (("GA1457", "92.7"), ("HCL500", "64.7")):
        assert f"{title} (paper: {value}): nothing stands in for it." in squeezed
    assert "SAM561 (paper: 89.3): in its place: har265." in squeezed
    assert "PROT579 (paper: 91.2): not run here; mice_protein may stand in." in squeezed
    assert "Not at hand in DIFFAUG_DATA_DIR and left out: mice_protein." in squeezed


@pytest.mark.parametrize("name", ARTEFACTS)
def test_markdown_has_the_same_cells(name: str) -> None:
    found, _ = reported(name)
    lines = found.markdown().splitlines()
    assert lines[0] == f"# {ARTEFACTS[name].title}"
    for grid in found.grids:
        for row in [grid.head, *grid.body]:
            assert "| " + " | ".join(row) + " |" in lines
            assert len(row) == len(grid.head)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_numbers_are_plain_data(name: str) -> None:
    numbers = reported(name)[0].numbers
    assert json.loads(json.dumps(numbers, allow_nan=False)) == json.loads(json.dumps(numbers))
    assert numbers["sets"] == list(SETS) and numbers["seeds"] == [0, 1, 2] and numbers["absent"] == ["mice_protein"]
    assert numbers["settings"]["loss.name"] == "soft"


def test_the_papers_values_stand_beside_ours() -> None:
    found, table = reported("table2")
    main, by_set, _ = found.grids
    rows = {row[0]: dict(zip(main.head, row, strict=True)) for row in main.body}
    assert rows["diffaug"]["paper"] == "82.4" and rows["dlme"]["paper"] == "78.5"
    assert rows["loop_off"]["paper"] == "-"  # not of the paper, and not what is not at hand
    assert rows["PaCMAP (not run here)"]["paper"] == "71.7" and rows["PaCMAP (not run here)"]["linear"] == "-"
    mean = table[table["arm"] == "diffaug"].groupby("seed")["linear"].mean()
    expected = interval(100 * mean)
    assert rows["diffaug"]["linear"] == f"{expected.mean:.1f} [{expected.low:.1f}, {expected.high:.1f}]"
    assert by_set.head == ["", "har265 (for SAM561)", "mca_bladder (for MC1374)"]
    assert by_set.body[0] == ["the paper's DiffAug", "89.3", "71.8"]


@pytest.mark.parametrize("name", ["table4", "table5", "fig6", "fig7"])
def test_what_is_not_at_hand_is_printed_as_such(name: str) -> None:
    found, _ = reported(name)
    main = found.grids[0]
    paper = {row[0]: row[main.head.index("paper")] for row in main.body}
    for arm in ARTEFACTS[name].arms:
        assert paper[arm.key] == ("-" if arm.paper is None else "not at hand")
    assert any("not at hand" in value for value in paper.values())


def test_a_difference_has_its_sign() -> None:
    table = rows_of("table4")
    table["linear"] = np.where(table["arm"] == "A2", 0.5, 0.6)
    main = report(ARTEFACTS["table4"], table, Settings(paper_config())).grids[0]
    rows = {row[0]: dict(zip(main.head, row, strict=True)) for row in main.body}
    gap = "linear - its reference, seeds"
    assert rows["A2"]["reference"] == "A3" and rows["A2-fixed"]["reference"] == "A3-fixed"
    assert rows["A2"][gap] == "-10.0 [-10.0, -10.0]"
    assert rows["A2-fixed"][gap] == rows["A1"][gap] == "+0.0 [+0.0, +0.0]"
    assert rows["A3"][gap] == rows["A3"]["reference"] == "-"


def test_lambda_in_force_is_shown_for_each_set() -> None:
    found, table = reported("table4")
    main, _, lambdas = found.grids
    rows = {row[0]: dict(zip(main.head, row, strict=True)) for row in main.body}
    assert rows["A3"]["lambda"] == "0.46 [0.46, 0.46]"
    assert lambdas.head == ["", *SETS] and ["A3", "0.02 [0.02, 0.02]", "0.90 [0.90, 0.90]"] in lambdas.body
    assert "Near 0 an arm is nearly the twin." in " ".join(found.text().split())
    without = report(ARTEFACTS["table4"], table.drop(columns="view_rate"), Settings(paper_config()))
    assert len(without.grids) == 2 and "lambda" not in without.grids[0].head


def test_one_seed_and_one_set_have_no_interval() -> None:
    found, _ = reported("table4", sets=("har265",), n_seeds=1)
    main = found.grids[0]
    assert not any("[" in cell for row in main.body for cell in row)
    assert "Mean over 1 set (har265) and 1 seed, in percent." in found.text()
    assert "One seed: there is no interval over seeds" in found.text()


def test_scores_of_some_sets_say_which() -> None:
    found, _ = reported("table2")
    assert "`linear by group' is over har265 only: no donor, subject or batch is on both sides." in " ".join(
        found.text().split()
    )
    assert "mca_bladder" not in found.numbers["arms"][0]["scores"]["linear_grouped"]["by_set"]


def test_remarks_on_the_rows() -> None:
    table = rows_of("table5")
    table["n_left_out"] = np.where(table["set"] == "mca_bladder", 8.0, 0.0)
    table.loc[0, "device"] = "cuda:0"
    found = report(ARTEFACTS["table5"], table, Settings(paper_config(), max_obs=300))
    text = " ".join(found.text().split())
    assert "mca_bladder: 8 cells of classes too small for the splits not scored" in text
    assert "The rows are of several device: cuda:0; cpu." in text
    assert "stand-ins of at most 300 cells" in text
    assert "tuned with labels of har265, mca_bladder" in text
    assert "A 330, B 330, A 340 epochs, 20 sampling steps" in text and "Made with diffaug 0.1.0, torch 2.13" in text
    clean = " ".join(reported("table5", sets=("pbmc68k_reduced_scanpy",))[0].text().split())
    assert "tuned with labels" not in clean and "several" not in clean and "too small" not in clean
    assert "--max-epochs" not in text
    capped = report(ARTEFACTS["table5"], table, Settings(paper_config(), max_epochs=7)).text()
    assert "Here `--max-epochs 7' caps the epochs" in " ".join(capped.split())


def test_cosines_by_kind() -> None:
    found, table = reported("fig5")
    grid = found.grids[0]
    assert [row[0] for row in grid.body] == ["diffaug", "mixup", "feature swap", "random pair"]
    expected = table.groupby("seed")["cosine_mixup_q50"].mean().mean()
    assert grid.body[1][grid.head.index("50 %")] == f"{expected:.2f}"
    assert found.numbers["cosines"]["mixup"]["q50"]["mean"] == pytest.approx(expected)
    assert grid.body[0][1] == "not at hand"


@pytest.mark.parametrize("name", ["fig5", "fig6", "fig7"])
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_a_figure_is_a_picture(name: str, n_seeds: int, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    raw = _figures.png(ARTEFACTS[name], rows_of(name, n_seeds=n_seeds))
    assert raw.startswith(PNG) and plt.get_fignums() == []


@pytest.mark.parametrize("sets", [SETS, SETS[:1]], ids=len)
def test_a_figure_draws_the_numbers(sets: tuple[str, ...]) -> None:
    import matplotlib.pyplot as plt

    table = rows_of("fig6", sets=sets)
    figure = _figures._curves(ARTEFACTS["fig6"], table)
    numbers = {
        arm["key"]: arm["scores"] for arm in report(ARTEFACTS["fig6"], table, Settings(paper_config())).numbers["arms"]
    }
    above, weak_above, below, weak_below = figure.axes
    for curve, panels in (("view_rate", (above, below)), ("view_rate_weak", (weak_above, weak_below))):
        arms = [arm for arm in ARTEFACTS["fig6"].arms if arm.curve == curve]
        gaps = [numbers[arm.key]["linear"]["difference_over_sets"] for arm in arms if arm.key != "lambda=0"]
        first = [0] * (curve == "view_rate")
        ranks = [numbers[arm.key]["rank"]["mean"]["mean"] for arm in arms]
        for panel, expected in zip(panels, ([*first, *(gap["mean"] for gap in gaps)], ranks), strict=True):
            (line,) = [line for line in panel.lines if line.get_label() == "mean over sets"]
            assert line.get_xdata().tolist() == [arm.x for arm in arms]
            assert line.get_ydata() == pytest.approx(expected)
            assert sum(line.get_alpha() == 0.7 for line in panel.lines) == len(sets)
    gaps = [numbers[arm.key]["linear"]["difference_over_sets"] for arm in ARTEFACTS["fig6"].arms[1:8]]
    (band,) = above.collections
    assert band.get_label() == ("95 % over sets" if len(sets) == 2 else "95 % over seeds")
    if len(sets) == 2:
        assert band.get_paths()[0].vertices[:, 1].min() == pytest.approx(min(gap["low"] for gap in gaps))
    plt.close(figure)
