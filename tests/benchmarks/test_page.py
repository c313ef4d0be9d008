"""Tables against numbers known beforehand."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from harness import figures, summary
from harness.page import Page
from harness.run import INSTALL, Plan
from harness.sets import Slice
from harness.store import COLUMNS, settings_hash
from harness.summary import FLAT, NATIVE
from peers import PEERS
from peers._registry import Row


@pytest.fixture(autouse=True)
def one_set_that_chose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.page.TUNED_ON", ("paul15", "mca_bladder", "kang_pbmc"))


SETS = {"paul15": 0.5, "mca_bladder": 0.8, "coil20": 0.9, "kang_pbmc": 0.7}
METHODS = {"raw": -0.05, "pca50": -0.02, "scvi": 0.01, "loop_off": -0.01, "diffaug": 0.0}
LINEAR = NATIVE[0]
SETTINGS: dict[str, dict[str, Any]] = {"raw": {}, "pca50": {"n": 50}, "scvi": {"e": 1}, "diffaug": {"lambda": 0.1}}
OWNER = {"loop_off": "diffaug"}


def row(name: str, method: str, seed: int, protocol: str, metric: str, value: float, **more: Any) -> dict[str, Any]:
    defaults = {
        "set": name, "method": method, "seed": seed, "protocol": protocol, "metric": metric, "value": value, "error": "",
        "shown": method, "stochastic": method not in ("raw", "pca50"), "settings": "{}",
        "settings_hash": settings_hash(SETTINGS.get(OWNER.get(method, method), {})), "max_obs": 200, "n_top_genes": 50,
        "n_obs": 200, "n_obs_total": 2660, "n_features": 50, "n_classes": 16,
        "labels": "independent" if name == "coil20" else "circular", "kind": "other" if name == "coil20" else "counts",
        "grouped": False, "n_dims": 50, "versions": "{}", "machine": "x86_64 CPU", "threads": 1,
        "date": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    assert set(defaults) == set(COLUMNS)
    return {**defaults, **more}


@pytest.fixture
def table() -> pd.DataFrame:
    """Four sets of very different difficulty, on which the methods differ by the same small steps."""
    rows = []
    for name, base in SETS.items():
        for method, step in METHODS.items():
            if method == "scvi" and name == "coil20":
                continue
            for seed in range(1 if method in ("raw", "pca50") else 3):
                wobble = 0.001 * (seed - 1) * (method not in ("raw", "pca50"))  # the seed moves both sides of a pair
                for score in (*NATIVE, FLAT[0]):
                    rows.append(row(name, method, seed, score.protocol, score.metric, base + step + wobble))
                for metric, value in (
                    ("seconds", 10.0 + seed),
                    ("peak_mb", 500.0),
                    ("base_mb", 400.0),
                    ("gpu_peak_mb", 0.0),
                ):
                    rows.append(row(name, method, seed, "compute", metric, value))
                if method == "diffaug":
                    rows.append(row(name, method, seed, "compute", "view_rate", base - 0.3))
    rows.append(row("coil20", "raw", 0, "kmeans", "error", np.nan, error="ValueError: too few"))
    rows = [
        r
        for r in rows
        if not (r["set"] == "coil20" and r["method"] == "raw" and r["protocol"] == "kmeans" and not r["error"])
    ]
    rows.append(row("paul15", "diffaug", 0, *LINEAR[1:], 0.99, settings_hash="old", date="2025-01-01T00:00:00Z"))
    rows.append(row("paul15", "diffaug", 0, *LINEAR[1:], 0.11, max_obs=0))
    return pd.DataFrame(rows)


def page(table: pd.DataFrame, folder: Path, *, any_settings: bool = False, max_obs: int | None = 200) -> Page:
    plan = Plan(
        slices=tuple(Slice(name, max_obs, 50) for name in SETS),
        peers=("raw", "pca50", "scvi", "diffaug"),
        n_seeds=3,
        protocols=("crossval", "kmeans"),
        cache=folder / "cache",
        parquet=folder / "r.parquet",
        any_settings=any_settings,
    )
    return Page(table, plan, PEERS, SETTINGS, folder, "python benchmarks/bench_embeddings.py")


def test_whole_sets_have_a_page_of_their_own(table: pd.DataFrame, tmp_path: Path) -> None:
    file, other = page(table, tmp_path).write(), page(table, tmp_path, max_obs=None).write()
    assert (file.name, other.name) == ("embeddings.md", "embeddings_whole.md")
    whole = other.read_text()
    assert whole.startswith("# Embeddings beside peers, whole sets\n") and ", all cells, " in whole
    assert "| **DiffAug** | 1 | 0.110 [–] |" in whole and "0.110" not in file.read_text()


def cells(markdown: str, first: str) -> list[str]:
    """The line of a table that begins with a name."""
    lines = [line for line in markdown.splitlines() if line.startswith(f"| {first} ")]
    assert len(lines) == 1, markdown
    return [cell.strip() for cell in lines[0].strip("|").split("|")]


def test_one_value_stands_for_every_seed_of_a_method_without_a_random_part(table: pd.DataFrame, tmp_path: Path) -> None:
    rows = page(table, tmp_path).rows
    both = summary.pairs(rows, LINEAR, "diffaug", "pca50")
    assert len(both) == 12 and sorted(both["seed"].unique()) == [0, 1, 2]
    assert both.groupby("set")["b"].nunique().max() == 1
    assert len(summary.pairs(rows, LINEAR, "diffaug", "loop_off")) == 12
    assert len(summary.pairs(rows, LINEAR, "pca50", "raw")) == 4
    missing = rows[~((rows["method"] == "loop_off") & (rows["seed"] == 2))]
    assert len(summary.pairs(missing, LINEAR, "diffaug", "loop_off")) == 8  # a seed that is not there stands for none


def test_differences_find_what_the_means_hide(table: pd.DataFrame, tmp_path: Path) -> None:
    rows = page(table, tmp_path).rows
    found = summary.differences(rows, LINEAR, list(METHODS))
    assert {m: round(t.mean, 6) for m, (t, _) in found.items()} == {
        "raw": 0.05,
        "pca50": 0.02,
        "scvi": -0.01,
        "loop_off": 0.01,
    }
    assert found["loop_off"][0].low == pytest.approx(0.01) and found["loop_off"][1].low == pytest.approx(0.01)
    assert found["scvi"][0].n_groups == 3
    means = summary.means(rows, LINEAR, list(METHODS))
    assert means["diffaug"].mean == pytest.approx(np.mean(list(SETS.values())))
    assert means["diffaug"].low < means["raw"].high


def test_gain_of_a_set_is_over_its_seeds(table: pd.DataFrame, tmp_path: Path) -> None:
    rows = page(table, tmp_path).rows.copy()
    here = (rows["set"] == "paul15") & (rows["method"] == "diffaug") & (rows["metric"] == "linear")
    rows.loc[here, "value"] += [0.0, 0.03, 0.06]
    found = summary.gains(rows, LINEAR)["paul15"]
    assert (found.mean, found.n_groups) == (pytest.approx(0.04), 3)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.03 / np.sqrt(3), rel=1e-5)


def test_rows_of_other_settings_and_sizes_are_left_out(table: pd.DataFrame, tmp_path: Path) -> None:
    strict = page(table, tmp_path)
    value = strict.rows.query("set == 'paul15' and method == 'diffaug' and seed == 0 and metric == 'linear'")["value"]
    assert value.tolist() == [pytest.approx(0.499)]
    assert strict.n_other == 1
    assert "1 rows of these sets and methods have other settings" in strict.text()
    only_old = table[(table["method"] != "diffaug") | (table["settings_hash"] == "old")]
    assert "diffaug" not in page(only_old, tmp_path).methods
    assert "diffaug" in page(only_old, tmp_path, any_settings=True).methods


def test_the_page(table: pd.DataFrame, tmp_path: Path) -> None:
    file = page(table, tmp_path).write("Notes of a reader.")
    text = file.read_text(encoding="utf-8")
    native, flat, gain = (
        text.split(f"## {t}\n")[1].split("\n## ")[0] for t in ("Native dimension", "Two dimensions", "The loop's gain")
    )
    means, differences = native.split("minus |")[0], native.split("minus |")[1].split("On the other")[0]
    assert cells(means, "**DiffAug**")[1:3] == ["4", "0.725 [0.453, 0.997]"]
    assert cells(means, "scVI")[1] == "3" and "fewer than 4 sets cannot be compared" in means
    assert re.match(
        r"\+0.020 \[\+0.020, \+0.020\]; bootstrap \[\+0.0(19|20), \+0.02[01]\]", cells(differences, "PCA-50")[2]
    )
    assert "chosen with the labels of paul15, mca_bladder, kang_pbmc" in native
    assert cells(native.split("On the other 1 sets")[1], "PCA-50")[1:3] == ["1", "+0.020 [–]; bootstrap [–]"]
    assert cells(flat.split("minus |")[0], "Raw genes")[2].startswith("0.675")
    assert cells(gain, "coil20")[1:4] == ["3", "0.60", "+0.010 [+0.010, +0.010]"]
    assert cells(gain, "**mean over all sets**, t")[3] == "+0.010 [+0.010, +0.010]"
    assert "the 3 sets with lambda of at least 0.25" in gain  # paul15's is below
    assert "paul15 °‡" in gain and "coil20 °" not in gain
    each = text.split("## Each set")[1].split("## Time")[0]
    k_means = each.split("Accuracy of k-means")[1]
    assert cells(k_means, "Raw genes")[1:] == ["0.450", "0.750", "failed", "0.650"]
    assert cells(k_means, "scVI")[3] == "–"
    cost = text.split("## Time and memory")[1].split("## Sets")[0]
    assert cells(cost, "scVI")[1:] == ["11.0", "12.0", "500", "100", "9", "11.0 (3 sets)"]
    assert cells(cost, "PCA-50")[-2:] == ["3", "10.0 (4 sets)"]
    assert (
        cells(cost, "**DiffAug**")[3:5] == ["500 §", "100 §"] and "§ One process trains the model and its twin" in cost
    )
    assert "are of the 3 sets that these methods have in common (paul15, mca_bladder, kang_pbmc)" in cost
    assert "Raw genes failed on coil20, `kmeans` (seeds 0): `ValueError: too few`" in text
    assert "scVI needs counts, which these sets do not have: coil20." in text
    assert text.rstrip().endswith("Notes of a reader.")
    for name in re.findall(r"\]\((embeddings_\w+\.svg)\)", text):
        assert (tmp_path / name).stat().st_size > 1000
        assert (tmp_path / name).with_suffix(".png").exists()
    assert len(re.findall(r"\.svg\)", text)) == 3


def test_equal_rows_give_equal_files(table: pd.DataFrame, tmp_path: Path) -> None:
    for name in "ab":
        page(table, tmp_path / name).write()
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_a_page_of_the_first_rows_can_be_written(table: pd.DataFrame, tmp_path: Path) -> None:
    """A run that was just begun: one set, no twin, nothing in two dimensions."""
    begun = table[(table["set"] == "paul15") & (table["method"] == "pca50") & (table["protocol"] != "linear2d")]
    text = page(begun, tmp_path).text()
    assert "## The loop's gain" not in text and "## Two dimensions" not in text
    assert cells(text.split("## Native dimension")[1].split("##")[0], "PCA-50")[1:3] == ["1", "0.480 [–]"]
    assert "# Embeddings beside peers" in page(table.iloc[:0], tmp_path).text()


# --- what is missing --------------------------------------------------------------------------------------------------


def missing(found: Page) -> list[str]:
    return [line.removeprefix("- ") for line in found.missing_list().splitlines()]


def test_a_whole_table_misses_nothing_but_what_nobody_has(table: pd.DataFrame, tmp_path: Path) -> None:
    """Control: the fixture has every run and protocol that its plan asks for, or the row of a failure."""
    lines = missing(page(table, tmp_path))
    assert not [line for line in lines if line.startswith(("No rows", "Sets:", "Seeds:", "`"))]
    (left_out,) = [line for line in lines if line.startswith("Protocols that the command leaves out")]
    assert "`scib`" in left_out and "`kmeans`" not in left_out


def test_methods_sets_and_seeds_that_were_not_run_are_listed(table: pd.DataFrame, tmp_path: Path) -> None:
    here, method, seed = table["set"], table["method"], table["seed"]
    begun = table[
        (method != "scvi")
        & ~((method == "pca50") & (here == "coil20"))
        & ~(method.isin(["diffaug", "loop_off"]) & (here == "paul15") & (seed > 0))
        & ~(method.isin(["diffaug", "loop_off"]) & (here == "coil20") & (seed > 1))
    ]
    lines = missing(page(begun, tmp_path))
    assert "No rows yet: *scVI*." in lines
    assert "Sets: 3 of 4 of *PCA-50*; not coil20." in lines
    assert "Seeds: 1 to 3, by set, of 3 of *DiffAug, loop off*, *DiffAug*." in lines
    old = table.copy()
    old.loc[old["method"] == "scvi", "settings_hash"] = "old"
    assert "No rows yet: *scVI* (of other settings only)." in missing(page(old, tmp_path))
    failed = table.copy()
    scvi = failed["method"] == "scvi"
    failed = pd.concat([failed[~scvi], failed[scvi & (failed["metric"] == "seconds")].assign(error="OSError: x")])
    assert not [
        line for line in missing(page(failed, tmp_path)) if "No rows yet" in line
    ]  # they failed, and it is said
    assert [
        line for line in missing(page(failed, tmp_path)) if line.startswith("scVI failed on paul15 (seeds 0, 1, 2)")
    ]


def test_what_another_environment_made_is_not_missing(table: pd.DataFrame, tmp_path: Path) -> None:
    """Parametric UMAP, say, has an environment of its own; here its packages are absent, and its rows are there."""
    absent = row("", "scvi", 0, INSTALL, "error", np.nan, error="ModuleNotFoundError: No module named 'scvi'")
    said = "scVI is not in the tables: `ModuleNotFoundError: No module named 'scvi'`."
    both = pd.concat([table, pd.DataFrame([absent])])
    assert not [line for line in missing(page(both, tmp_path)) if line.startswith(said)]
    without = both[(both["method"] != "scvi") | (both["protocol"] == INSTALL)]
    assert [line for line in missing(page(without, tmp_path)) if line.startswith(said)]


def test_protocols_without_rows_are_listed(table: pd.DataFrame, tmp_path: Path) -> None:
    """kang_pbmc alone has a natural split, and stability needs a second seed."""
    names = ("crossval", "kmeans", "linear_grouped", "knn_grouped", "stability", "leiden")
    extra = [row("kang_pbmc", "raw", 0, p, "accuracy", 0.5) for p in ("linear_grouped", "knn_grouped")]
    extra += [row(s, m, 1, "leiden", "nmi", 0.5) for s in SETS for m in ("diffaug", "loop_off")]
    more = pd.concat([table, pd.DataFrame(extra)], ignore_index=True)
    found = page(more, tmp_path)
    found.plan = dataclasses.replace(found.plan, protocols=names)
    lines = missing(found)
    assert "`linear_grouped`, `knn_grouped`: none of *PCA-50*, *scVI*, *DiffAug, loop off*, *DiffAug*." in lines
    assert "`stability`: no rows of any method." in lines
    assert (
        "`leiden`: none of *Raw genes*, *PCA-50*, *scVI*; 8 of 12 runs of *DiffAug, loop off* lack it; 8 of 12 runs of *DiffAug* lack it."
        in lines
    )
    assert not [line for line in lines if line.startswith("`") and "crossval" in line]


@pytest.mark.parametrize(
    ("protocol", "metric", "title"),
    [
        ("linear_grouped", "accuracy", "Natural splits"),
        ("mixing", "batch_entropy", "Mixing of batches"),
        ("scib", "Total", "Mixing of batches"),
        ("structure", "effective_rank", "Structure"),
        ("stability", "neighbor_overlap", "Stability over seeds"),
    ],
)
def test_a_section_is_there_when_it_has_rows(
    protocol: str, metric: str, title: str, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Page, "write_figures", lambda self: dict.fromkeys(("methods", "methods_2d", "gain", "sweep"), "")
    )
    table = table[table["protocol"].isin(["compute", "leiden"])]  # nothing to bootstrap
    assert f"## {title}" not in page(table, tmp_path).text()
    more = pd.concat([table, pd.DataFrame([row("kang_pbmc", "scvi", 1, protocol, metric, 0.625)])], ignore_index=True)
    section = page(more, tmp_path).text().split(f"## {title}\n")[1].split("\n## ")[0]
    assert cells(section, "scVI")[1:] == ["1", "0.625 [–]"]


def test_lambdas_of_several_methods_stand_side_by_side(table: pd.DataFrame, tmp_path: Path) -> None:
    assert page(table, tmp_path).rates_table() == ""  # DiffAug's own stands in the table of its gain
    extra = [row("paul15", "scvi", seed, "compute", "view_rate", 0.01 * seed) for seed in range(3)]
    found = page(pd.concat([table, pd.DataFrame(extra)], ignore_index=True), tmp_path).rates_table()
    assert cells(found, "scVI")[1:] == ["0.01", "–", "–", "–"]
    assert cells(found, "**DiffAug**")[1:] == ["0.20", "0.50", "0.60", "0.40"]


# --- what it costs ----------------------------------------------------------------------------------------------------


def costed(method: str, name: str, seconds: dict[int, float], peak: float = 500.0) -> list[dict[str, Any]]:
    return [
        row(name, method, seed, "compute", metric, value)
        for seed, s in seconds.items()
        for metric, value in (("seconds", s), ("peak_mb", peak), ("base_mb", 400.0), ("gpu_peak_mb", 0.0))
    ]


def test_a_method_costs_what_it_is_built_on_too() -> None:
    rows = costed("diffaug", "a", {0: 100.0, 1: 110.0}, 900) + costed("byol_plus", "a", {0: 7.0, 1: 8.0, 2: 9.0}, 600)
    runs = summary.measured_costs(pd.DataFrame(rows), {"byol_plus": "diffaug"})
    found = summary.costs(runs, ["diffaug", "byol_plus"])
    assert found.loc["byol_plus", ["seconds", "slowest", "peak_mb", "added_mb", "n_runs"]].tolist() == [
        112.5, 118.0, 900.0, 500.0, 2,
    ]  # fmt: skip
    assert found.loc["diffaug", "seconds"] == 105
    alone = summary.costs(summary.measured_costs(pd.DataFrame(rows), {}), ["byol_plus"])
    assert alone.loc["byol_plus", ["seconds", "n_runs"]].tolist() == [8.0, 3]  # control


def test_medians_are_over_sets_and_shared_sets_are_those_of_all() -> None:
    rows = costed("x", "a", dict.fromkeys(range(5), 1.0)) + costed("x", "b", {0: 3.0}) + costed("x", "c", {0: 50.0})
    rows += costed("y", "b", {0: 2.0}) + costed("y", "c", {0: 4.0})
    runs = summary.measured_costs(pd.DataFrame(rows), {})
    assert summary.costs(runs, ["x"]).loc["x", ["seconds", "n_sets", "n_runs"]].tolist() == [3.0, 3, 7]
    shared = summary.common_sets(runs, ["x", "y"])
    assert shared == ["b", "c"] and summary.costs(runs, ["y", "x"], shared)["seconds"].tolist() == [3.0, 26.5]


@pytest.mark.parametrize("asked", [True, False], ids=["with its base", "without"])
def test_the_page_counts_the_base_whether_it_is_shown_or_not(asked: bool, table: pd.DataFrame, tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "diffaug_one": SETTINGS["diffaug"],
        "byol_plus": {"view_rate": 0.5, "built_on": SETTINGS["diffaug"]},
    }
    table = table.assign(method=table["method"].replace({"diffaug": "diffaug_one", "loop_off": "loop_off_one"}))
    own = settings_hash(settings["byol_plus"])
    extra = [r | {"settings_hash": own} for name in SETS for r in costed("byol_plus", name, {0: 5.0, 1: 5.0, 2: 5.0})]
    more = pd.concat([table, pd.DataFrame(extra)], ignore_index=True)
    plan = dataclasses.replace(page(table, tmp_path).plan, peers=("byol_plus", *["diffaug_one"] * asked))
    found = Page(more, plan, PEERS, settings, tmp_path, "command")
    assert ("diffaug_one" in found.methods) == asked
    cost = found.costs_table()
    assert cells(cost, "BYOL+")[1:3] == ["16.0", "17.0"]  # its 5 and DiffAug's 10 to 12
    assert "BYOL+: with the seconds of the model that makes the views" in cost and "§" in cost or not asked
    others = more[more["method"] != "diffaug_one"]
    if asked:
        assert (
            "BYOL+: no row of the model that makes the views"
            in Page(others, plan, PEERS, settings, tmp_path, "command").costs_table()
        )


def test_a_method_that_has_hardly_begun_does_not_narrow_the_comparison(table: pd.DataFrame, tmp_path: Path) -> None:
    begun = table[(table["method"] != "raw") | (table["set"] == "coil20")]
    cost = page(begun, tmp_path).costs_table()
    assert cells(cost, "Raw genes")[1:] == ["–"] * 5 + ["10.0 (1 set)"]
    assert "(paul15, mca_bladder, kang_pbmc)" in cost


# --- curves -----------------------------------------------------------------------------------------------------------


def test_a_sweep_is_drawn_from_its_first_point(tmp_path: Path) -> None:
    lambdas = {"0": 0.0, "0.5": 0.02, "1": -0.03}
    rows = [
        row(name, f"{at}", seed, score.protocol, score.metric, base + step + 0.01 * seed)
        for name, base in SETS.items()
        for at, step in lambdas.items()
        for seed in range(2 if name != "coil20" or at != "1" else 0)  # a set without its last point is left out
        for score in NATIVE
    ]
    swept = dataclasses.replace(
        PEERS["raw"], name="swept", shown="Swept", sweep="lambda", rows=tuple(Row(at, at, at) for at in lambdas)
    )
    plan = Plan(
        slices=tuple(Slice(name, 200, 50) for name in SETS),
        peers=("swept",),
        n_seeds=2,
        protocols=("crossval", "kmeans"),
        cache=tmp_path / "cache",
        parquet=tmp_path / "r.parquet",
    )
    made = Page(pd.DataFrame(rows), plan, {"swept": swept}, {"swept": {}}, tmp_path, "command")
    points = {float(at): at for at in lambdas}
    curve = summary.sweep(made.rows, LINEAR, points)
    assert list(curve.index) == [0.0, 0.5, 1.0] and list(curve.columns) == ["kang_pbmc", "mca_bladder", "paul15"]
    np.testing.assert_allclose(curve, np.array([[0.0, 0.02, -0.03]]).T.repeat(3, axis=1), atol=1e-12)
    section = made.text().split("## Curves\n")[1].split("\n## ")[0]
    assert "](embeddings_sweep.svg)" in section and (tmp_path / "embeddings_sweep.png").stat().st_size > 0
    figure = figures.sweep_figure({"linear": {"Swept": curve}}, "lambda")
    *sets, mean = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert len(sets) == 3
    np.testing.assert_allclose(np.asarray(mean.get_ydata()), [0.0, 0.02, -0.03], atol=1e-12)
    assert figure.axes[0].get_ylabel() == "accuracy minus that at lambda 0"
    figures.plt.close(figure)


def test_a_page_without_a_sweep_has_no_curves(table: pd.DataFrame, tmp_path: Path) -> None:
    assert "## Curves" not in page(table, tmp_path).text()
