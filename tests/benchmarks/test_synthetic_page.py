"""The loop over tools, and the page against numbers known beforehand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from generators import FAMILIES, Made, Tool, page, rare, rare_page, run, summary
from generators.base import Family
from generators.run import DONE, Plan, Runner
from generators.split import split_adata

from diffaug.metrics import mean_interval

SETS = ("paul15", "baron_pancreas")
#: AUC of each tool; the second is the better.
AUCS = {"diffaug": 0.7, "thinned": 0.6, "pooled": 0.8, "fresh": 0.5, "copies": 0.5}
GOOD = {"mean_score": 0.95, "lfc_slope": 1.0, "zero_fraction": 0.01, "correlation": 0.95, "closer": 0.5}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(
        sets=SETS, families=("real", "diffaug", "resampling"), n_seeds=2, max_obs=200, n_top_genes=30, n_resamples=3,
        n_estimators=40, max_epochs=1, threads=1, cache=tmp_path / "cache", parquet=tmp_path / "synthetic.parquet",
    )  # fmt: skip


COLUMNS = {"shown": "x", "stochastic": True, "settings": "{}", "n_obs": 100, "n_obs_total": 200, "n_features": 30,
           "n_classes": 3, "kind": "counts", "grouped": False, "versions": '{"numpy": "2"}', "machine": "x CPU",
           "threads": 1}  # fmt: skip


def put(runner: Runner, name: str, tool: str, seed: int, values: dict[str, float], floors: dict[str, float]) -> None:
    family = next(f for f in FAMILIES.values() if tool in {t.name for t in f.tools})
    for protocol, numbers in (("value", values), ("floor", floors), (DONE, {"seconds": 1.0})):
        runner.rows.put(runner.key(name, tool, runner.plan.hash(family), seed, protocol), numbers, **COLUMNS)


def tiny_split() -> Any:
    rng = np.random.default_rng(0)
    adata = AnnData(sp.csr_matrix(rng.poisson(3.0, (120, 30)).astype(np.float32)))
    adata.obs["cell_type"] = np.array(["a", "b"])[np.arange(120) % 2]
    return split_adata(adata, 0, None, 20)


@pytest.fixture
def runner(plan: Plan) -> Runner:
    """Two sets, two seeds that differ by 0.02, tools that differ in AUC only; real cells miss two goals."""
    made = Runner(plan)
    more = dict.fromkeys(("passed", "exact", "near", "membership", "closer_other", "fit_seconds", "make_seconds"), 0.5)
    measures = {c.name for c in (*summary.RANKED, *summary.MORE)}
    floors = (
        dict.fromkeys(measures, 0.5) | GOOD | {"auc_pcs": 0.5, "transfer": 0.8, "correlation": 0.4, "lfc_slope": 0.9}
    )
    for name in SETS:
        for tool, auc in AUCS.items():
            for seed in range(2):
                values = dict.fromkeys(measures, 0.5) | more | GOOD | {"n_synthetic": 100.0, "empty_share": 0.0}
                values |= {"transfer": 0.79, "auc_pcs": auc + 0.02 * seed - 0.01}
                if tool == "diffaug" and name == "paul15":
                    values |= {"correlation": 0.3, "lfc_slope": 0.85}
                put(made, name, tool, seed, values, floors)
    return made


def rows_of(runner: Runner) -> pd.DataFrame:
    return summary.whole(summary.shown_rows(runner.rows.table(), runner.plan))


def test_ranks_are_by_loss_and_leave_controls_out(runner: Runner) -> None:
    found = summary.ranks(rows_of(runner), [summary.AUC])
    table = found.pivot_table(index="method", columns="set", values="rank")
    assert set(table.index) == {"diffaug", "thinned", "pooled"}
    assert table.loc[["thinned", "diffaug", "pooled"]].to_numpy().tolist() == [[1, 1], [2, 2], [3, 3]]
    ties = summary.ranks(rows_of(runner), [summary.ZEROS])
    assert set(ties["rank"]) == {2.0}
    mean = summary.mean_ranks(summary.ranks(rows_of(runner), [summary.AUC, summary.ZEROS]))
    assert mean.index.tolist() == ["thinned", "diffaug", "pooled"]
    assert mean["mean"].tolist() == [1.5, 2.0, 2.5]


def test_a_tool_that_lacks_a_set_is_not_ranked_there(runner: Runner) -> None:
    runner.rows.drop(lambda key, error: key.method == "pooled" and key.set == "paul15")
    found = summary.ranks(rows_of(runner), [summary.AUC])
    assert set(found["set"]) == {"baron_pancreas"}


def test_ranks_compare_equal_seeds(runner: Runner) -> None:
    """On the seed that both have, the tool is better than DiffAug by 0.005; than DiffAug's mean it is worse by as much."""
    for name in SETS:
        put(runner, name, "pooled", 1, {"auc_pcs": 0.705}, {"auc_pcs": 0.5})
    runner.rows.drop(lambda key, error: key.method == "pooled" and key.seed == 0)
    found = summary.ranks(rows_of(runner), [summary.AUC])
    table = found.pivot_table(index="method", columns="set", values="rank")
    assert table.loc[["thinned", "pooled", "diffaug"]].to_numpy().tolist() == [[1, 1], [2, 2], [3, 3]]


def test_goals_are_met_or_missed_by_the_right_amount(runner: Runner) -> None:
    found = {o.goal.column.name: o for o in summary.outcomes(rows_of(runner), "diffaug", "paul15")}
    assert {n for n, o in found.items() if not o.met} == {"auc_pcs", "correlation", "lfc_slope"}
    assert found["auc_pcs"].missed == pytest.approx(0.05) and found["auc_pcs"].floor_missed == 0
    assert found["correlation"].missed == pytest.approx(0.6)
    assert found["correlation"].floor_missed == pytest.approx(0.5)
    assert found["lfc_slope"].missed == pytest.approx(0.1)
    assert found["transfer"].met  # 0.01 under real cells, where 0.02 are allowed
    text = page.said("DiffAug", list(found.values()))
    assert text == (
        "DiffAug meets 4 of 7 goals; missed: AUC, components by 0.050, log-fold slope by 0.100 (real cells miss it by 0.050), "
        "gene-gene by 0.600 (real cells miss it by 0.500)."
    )


@pytest.mark.parametrize("value", [0.94, 1.06])
def test_a_slope_is_missed_on_both_sides(value: float) -> None:
    goal = next(g for g in summary.GOALS if g.column.name == "lfc_slope")
    assert goal.missed(value, 1.0) == pytest.approx(0.01)


def test_the_page_shows_the_means_and_their_intervals(runner: Runner, tmp_path: Path) -> None:
    file = page.write_page(runner, tmp_path, 10, "python bench_synthetic.py --x")
    text = file.read_text()
    assert (tmp_path / "synthetic-goals.svg").exists() and "synthetic-goals.svg" in text
    assert "`python bench_synthetic.py --x`" in text
    line = next(row for row in text.splitlines() if row.startswith("| thinned cells |") and "0.600 [0.600" in row)
    assert "0.010 [0.010, 0.010]" in line
    section = text.partition("### paul15")[2].partition("###")[0]
    ours = next(row for row in section.splitlines() if row.startswith("| **DiffAug**"))
    expected = mean_interval([0.69, 0.71])
    assert f"| 0.700 ± {expected.high - expected.mean:.3f} |" in ours
    assert "**0.010 ± 0.000**" in ours and "DiffAug meets 4 of 7 goals" in section
    assert "| real (floor) | 1.000 | 0.500 |" in section
    assert "## Rare types" not in text and "## Failures" not in text
    assert not re.search(r"\bnan\b", text)


def test_rows_of_other_settings_are_not_shown(runner: Runner, tmp_path: Path) -> None:
    import dataclasses

    other = Runner(dataclasses.replace(runner.plan, n_estimators=41))
    text = page.write_page(other, tmp_path, 10, "x").read_text()
    assert "no rows" in text and "paul15" not in text


def test_agreement_is_a_share_of_that_of_real_cells(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "TUNED_ON", ("paul15",))
    found = summary.over_seeds(rows_of(runner), f"correlation{summary.SHARE}", "diffaug", "paul15")
    assert found is not None and found.mean == pytest.approx(0.3 / 0.4)
    text = page.page(runner, 10, "x")[0]
    assert "Defaults of DiffAug were chosen with a look at paul15" in text and "baron_pancreas took no part." in text


# --- rare types -------------------------------------------------------------------------------------------------------


def test_gains_of_rare_types_are_paired_by_donor(plan: Plan) -> None:
    runner = Runner(plan)
    gains = {"d1": 0.1, "d2": 0.3, "d3": 0.2}
    for donor, gain in gains.items():
        key = rare.rare_key(plan, 10, donor, "few", 0)
        base = {"d1": 0.1, "d2": 0.5, "d3": 0.3}[donor]
        for arm, recall in (("none", base), ("oversampling", base + 0.05), ("SMOTE", base), ("DiffAug", base + gain)):
            runner.rows.put(key(arm), {"recall": recall, "balanced_accuracy": 0.5}, **COLUMNS)
        runner.rows.put(key(DONE), {"seconds": 1.0}, **COLUMNS)
    table = runner.rows.table()
    rows = rare_page.rare_rows(table, plan, 10)
    found = rare_page.gain(rows, "few", "recall", "none")
    expected = mean_interval(list(gains.values()))
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, expected.low, expected.high))
    text = rare_page.rare_section(table, plan, 10)
    assert f"+0.200 [{expected.low:+.3f}, {expected.high:+.3f}]" in text
    assert "few: not shown (+0.150 against oversampling)" in text  # the interval of three donors reaches 0
    assert rare_page.rare_section(table, plan, 20) == ""  # other settings
    assert "Left out" not in text


def test_donors_that_fail_are_told_with_the_reason(plan: Plan) -> None:
    """Too few cells is one reason; another must not pass for it."""
    runner = Runner(plan)
    for donor in ("d1", "d2"):
        key = rare.rare_key(plan, 10, donor, "few", 0)
        for arm in rare_page.ARMS:
            runner.rows.put(key(arm), {"recall": 0.5, "balanced_accuracy": 0.5}, **COLUMNS)
        runner.rows.put(key(DONE), {"seconds": 1.0}, **COLUMNS)
    for donor, kind in (("d3", "few"), ("d1", "fewer"), ("d2", "fewer")):
        key = rare.rare_key(plan, 10, donor, kind, 0)
        error = "ValueError: a shape\nthat is wrong" if kind == "fewer" else "ValueError: Expected at least 5"
        runner.rows.put(key(DONE), {}, error, **COLUMNS)
    text = rare_page.rare_section(runner.rows.table(), plan, 10)
    assert "- Left out, 2 of a donor and a type: ValueError: a shape\n- Left out, 1 of" in text


def test_a_tool_that_its_family_forgets_is_a_failure(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family("half", lambda split, seed: {}, (Tool("thinned", "thinned", ""),))
    runner = Runner(plan)
    runner.one("paul15", tiny_split(), family, 0)
    assert runner.rows.table()["error"].tolist() == ["KeyError: the family made no cells of 'thinned'"]


def test_a_mean_over_fewer_sets_says_so(runner: Runner) -> None:
    runner.rows.drop(lambda key, error: key.method == "pooled" and key.set == "paul15")
    text = page.page(runner, 10, "x")[0]
    assert "| thinned pairs (1 of 2 sets) |" in text and "thinned cells (" not in text


def test_a_fold_keeps_few_rare_cells_and_all_of_the_donor(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    kinds = rng.choice(["x", "y", "z", "rare"], 900, p=[0.4, 0.3, 0.2, 0.1])
    obs = pd.DataFrame({"cell_type": kinds, "batch": rng.choice(["d1", "d2", "d3"], 900)})
    full = AnnData(
        sp.csr_matrix(rng.poisson(2.0, (900, 50)).astype(np.float32)), obs=obs.set_axis(map(str, range(900)))
    )
    cells, goal = rare.fold(full, "d2", ["rare"], 5, plan, 0)
    train = cells[cells.obs["batch"] != "d2"].obs
    assert set(cells.obs_names[cells.obs["batch"] == "d2"]) == set(full.obs_names[full.obs["batch"] == "d2"])
    assert (train["cell_type"] == "rare").sum() == 5 and len(train) == plan.max_obs + 5
    assert goal == train["cell_type"].value_counts().drop("rare").median()
    assert cells.n_vars == plan.n_top_genes


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_the_loop_resumes_and_keeps_failures(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that fails is a row; what is done is not done again, until it is asked for."""
    rng = np.random.default_rng(0)
    profiles = rng.gamma(1.0, 6.0, (2, 30))
    kinds = np.repeat([0, 1], 150)
    adata = AnnData(sp.csr_matrix(rng.poisson(profiles[kinds]).astype(np.float32)))
    adata.obs["cell_type"] = np.array(["a", "b"])[kinds]
    calls: list[str] = []

    def works(split: Any, seed: int) -> dict[str, Made]:
        calls.append("works")
        return {"copies": Made(split.train.X, split.train.obs["cell_type"].to_numpy(str), 0.0, 0.0)}

    def fails(split: Any, seed: int) -> dict[str, Made]:
        calls.append("fails")
        raise RuntimeError("no luck")

    families = {
        "good": Family("good", works, (Tool("copies", "copies", "", True),)),
        "bad": Family("bad", fails, (Tool("thinned", "thinned", ""),)),
        "absent": Family("absent", fails, (Tool("pooled", "pooled", ""),), requires=("no_such_module",)),
    }
    monkeypatch.setattr(run, "FAMILIES", families)
    monkeypatch.setattr(run, "split_cells", lambda name, seed, n, g: split_adata(adata.copy(), seed, n, g))
    import dataclasses

    one = dataclasses.replace(plan, sets=("paul15",), families=tuple(families), n_seeds=1)
    first = Runner(one)
    first.run()
    assert calls == ["works", "fails"]
    table = first.rows.table()
    assert set(table["method"]) == {"copies", "thinned"}
    assert table.loc[table["method"] == "thinned", "error"].tolist() == ["RuntimeError: no luck"]
    value = table[(table["method"] == "copies") & (table["protocol"] == "value") & (table["metric"] == "exact")]
    assert value["value"].tolist() == [1.0]
    assert one.parquet.exists()

    Runner(one).run()
    assert calls == ["works", "fails"]
    Runner(one).run(retry=True)
    assert calls == ["works", "fails", "fails"]
    assert summary.tools_in(table, controls=True) == ["thinned", "copies"]
