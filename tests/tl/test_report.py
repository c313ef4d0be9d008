"""The report on synthetic cells: real ones pass, and every planted fraud is caught."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import diffaug
from diffaug.tl import SyntheticReport, report

_spec = importlib.util.spec_from_file_location("sim_cells", Path(__file__).parents[1] / "metrics" / "cells.py")
assert _spec is not None and _spec.loader is not None
sim = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sim)

QUICK = {"n_resamples": 20, "n_estimators": 40}


def adata(x: np.ndarray, types: np.ndarray | None, donors: list[str] | None = None) -> AnnData:
    obs = pd.DataFrame(index=[f"c{i}" for i in range(len(x))])
    if types is not None:
        obs["cell_type"] = pd.Categorical(types)
    if donors is not None:
        obs["donor"] = np.resize(donors, len(x))
    return AnnData(sparse.csr_matrix(x), obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(x.shape[1])]))


TRAIN, HELD, OTHER = sim.cells(400, 0), sim.cells(200, 1), sim.cells(200, 2)


def frauds() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    (t, kinds), (x, other) = TRAIN, OTHER
    return {
        "control": OTHER,
        "copies": (t[:200], kinds[:200]),
        "small noise": (sim.small_noise(t[:200]), kinds[:200]),
        "shuffled genes": (np.random.default_rng(0).permuted(x, axis=0), other),
        "one type missing": (x[other != "NK"], other[other != "NK"]),
        "label swap": (x, sim.swapped(other)),
        "attenuated": (sim.attenuated(x, other), other),
    }


@cache
def found(name: str) -> SyntheticReport:
    return report(adata(*frauds()[name]), train=adata(*TRAIN), held_out=adata(*HELD), groupby="cell_type", **QUICK)  # type: ignore[arg-type]


def poor(name: str) -> set[str]:
    table = found(name).table.xs("all", level="group")
    return set(table.index[table["verdict"] == "poor"])


# --- real cells pass, frauds do not ----------------------------------------------------------------------------------


def test_held_out_real_cells_pass() -> None:
    control = found("control")
    assert control.verdict in ("trustworthy", "use with care") and control.audit.passed
    assert poor("control") == set()
    assert control.mean_score > 0.85


def test_copies_of_training_cells_are_caught() -> None:
    """Only by the audit: copies are real cells, and every other measure says so."""
    audit = found("copies").audit
    assert found("copies").verdict == "not trustworthy" and poor("copies") == set()
    assert audit.exact_share == 1 and "exact copies" in audit.reasons[0]
    assert audit.closer_low > 0.52


def test_training_cells_plus_small_noise_are_caught() -> None:
    audit = found("small noise").audit
    assert found("small noise").verdict == "not trustworthy"
    assert audit.exact_share == 0 and audit.near_share > 0.9 and audit.near_floor < 0.02
    assert "near copies" in audit.reasons[0]


def test_shuffled_genes_are_caught() -> None:
    assert found("shuffled genes").verdict == "not trustworthy"
    assert {"correlation", "auc_pcs", "auc_genes", "mmd", "energy", "mixing", "transfer"} <= poor("shuffled genes")
    assert not {"gene_mean", "gene_variance", "zero_fraction"} & poor("shuffled genes")  # the marginals are kept


def test_a_missing_type_is_caught_and_named() -> None:
    fraud = found("one type missing")
    assert fraud.verdict == "not trustworthy" and fraud.judgement.missing_types == ("NK",)
    assert {"composition", "transfer"} <= poor("one type missing")


def test_a_label_swap_is_caught_by_labels_only() -> None:
    assert found("label swap").verdict == "not trustworthy"
    assert {"transfer", "lfc_slope", "marker_recall"} <= poor("label swap")
    assert not {"mmd", "auc_genes", "gene_mean", "zero_fraction"} & poor("label swap")  # the cells are real
    slope = found("label swap").table["value"].xs("lfc_slope", level="measure")
    assert slope["T"] > 0.8 > 0.5 > max(slope["B"], slope["NK"])


def test_attenuated_fold_changes_are_caught_with_their_size() -> None:
    assert "lfc_slope" in poor("attenuated") and found("attenuated").verdict == "not trustworthy"
    row = found("attenuated").table.loc[("lfc_slope", "all")]
    assert abs(row["value"] / row["floor"] - 0.7) < 0.05


# --- what it returns -------------------------------------------------------------------------------------------------


def test_table_and_json_say_the_same() -> None:
    table, data = found("control").table, json.loads(found("control").to_json())
    assert {"mmd", "lfc_slope", "transfer", "correlation"} <= set(table.index.get_level_values("measure"))
    assert set(table.index.get_level_values("group")) == {"all", "B", "NK", "T"}
    assert len(table) == len(data["scores"]) and table.index.is_unique
    first = data["scores"][0]
    assert first["value"] == table.loc[(first["measure"], "all"), "value"]
    assert data["verdict"] == found("control").verdict and data["audit"]["passed"]
    rows = table.dropna(subset=["low", "floor_low"])
    assert (rows["low"] <= rows["value"]).all() and (rows["value"] <= rows["high"]).all()
    assert len(rows) > 0.9 * len(table)


def test_the_score_is_its_formula() -> None:
    row = found("attenuated").table.loc[("lfc_slope", "all")]
    worst = max(abs(row[f"null_{n}"] - 1) for n in ("gaussian", "shuffle", "noise"))
    assert row["score"] == pytest.approx((worst - abs(row["value"] - 1)) / (worst - abs(row["floor"] - 1)))
    assert row["null_copies"] == row["floor"]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_is_whole_and_says_the_verdict(tmp_path: Path) -> None:
    text = found("one type missing").to_html(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == text
    page = Page(text)
    assert page.open == []  # every tag is closed
    assert [a.partition(",")[0] for a in page.addresses] == ["data:image/png;base64"]
    for words in ("Not trustworthy", "Types that are missing: NK", "Slope of log-fold changes", "Audit:"):
        assert words in page.words
    assert "nan" not in page.words.lower().replace("nanmean", "")


def test_equal_seeds_give_equal_reports_and_nothing_is_changed() -> None:
    sets = [adata(*s) for s in (OTHER, TRAIN, HELD)]
    before = [a.X.copy() for a in sets]
    small = {"max_obs": 60, **QUICK}
    once, again = (report(sets[0], train=sets[1], held_out=sets[2], **small).to_json() for _ in range(2))  # type: ignore[arg-type]
    assert once == again
    assert all((a.X != x).nnz == 0 for a, x in zip(sets, before, strict=True))


# --- any tool, any scale ---------------------------------------------------------------------------------------------


def test_counts_on_all_sides_and_types_that_only_real_cells_have() -> None:
    sets = [sim.counts(n, s) for n, s in ((100, 2), (160, 0), (100, 1))]
    synthetic = adata(sets[0][0], None)
    result = report(synthetic, train=adata(*sets[1]), held_out=adata(*sets[2]), groupby="cell_type", **QUICK)  # type: ignore[arg-type]
    assert result.facts["normalized_here"] == ["synthetic", "train", "held_out"]
    assert any("no types of their own" in note for note in result.judgement.notes)
    table = result.table.xs("all", level="group")
    assert "transfer" not in table.index and table.loc["library_size", "verdict"] == "good"
    assert table.loc["composition", "verdict"] != "poor"


def test_totals_of_counts_are_judged_before_they_are_made_equal() -> None:
    sets = [sim.counts(n, s) for n, s in ((100, 2), (160, 0), (100, 1))]
    thick = adata(3 * sets[0][0], None)
    result = report(thick, train=adata(*sets[1]), held_out=adata(*sets[2]), **QUICK)  # type: ignore[arg-type]
    assert result.table.loc[("library_size", "all"), "verdict"] == "poor"


def test_synthetic_counts_beside_real_logarithms() -> None:
    counts, kinds = sim.counts(100, 2)
    result = report(adata(counts, kinds), train=adata(*TRAIN), held_out=adata(*HELD), max_obs=100, **QUICK)  # type: ignore[arg-type]
    assert result.facts["normalized_here"] == ["synthetic"]
    assert result.table.loc[("gene_mean", "all"), "verdict"] == "good"


def test_donors() -> None:
    """Training and held-out donors differ, so closeness to training cells is shown and not judged."""
    train, held = adata(*TRAIN, ["a", "b", "c"]), adata(*HELD, ["d", "e", "f"])
    result = report(adata(*OTHER), train=train, held_out=held, donor_key="donor", max_obs=60, **QUICK)  # type: ignore[arg-type]
    assert result.audit.passed and 0 <= result.audit.donor_membership_auc <= 1
    assert "different donors" in result.audit.notes[0]


def test_one_set_of_real_cells_is_split_and_its_memory_judged_by_copies_only() -> None:
    real = adata(*TRAIN, ["a", "b", "c", "d"])
    result = report(adata(*OTHER), real=real, donor_key="donor", max_obs=60, **QUICK)  # type: ignore[arg-type]
    assert result.facts["n_obs"] == {"synthetic": 200, "train": 200, "held_out": 200}
    assert result.facts["split_here"] and np.isnan(result.audit.closer_share) and result.audit.passed
    assert result.audit.n_train == 400


def test_a_projection_of_its_own_leaves_all_training_cells_to_the_floor() -> None:
    extra = adata(*sim.cells(100, 5))
    sets = {"train": adata(*TRAIN), "held_out": adata(*HELD)}
    assert report(adata(*OTHER), **sets, projection=extra, max_obs=60, **QUICK).facts["n_floor"] == 400  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected `projection` and `held_out` to be apart, found"):
        report(adata(*OTHER), **sets, projection=sets["held_out"], **QUICK)  # type: ignore[arg-type]


def test_errors() -> None:
    made, train, held = adata(*OTHER), adata(*TRAIN), adata(*HELD)
    with pytest.raises(ValueError, match=r"Expected `train` and `held_out`, or `real` alone, found \['train'\]"):
        report(made, train=train)
    with pytest.raises(ValueError, match=r"`real` alone, found \['train', 'held_out', 'real'\]"):
        report(made, train=train, held_out=held, real=train)
    with pytest.raises(KeyError, match="Did you mean 'cell_type'"):
        report(made, train=train, held_out=held, groupby="celltype")
    foreign = adata(OTHER[0], np.repeat("NKs", 200))
    with pytest.raises(ValueError, match="found none, but e.g. 'NKs'.*Did you mean 'NK'"):
        report(foreign, train=train, held_out=held, groupby="cell_type")
    with pytest.raises(ValueError, match="found 100% of them among the training"):
        report(made, train=train, held_out=train[:100])
    with pytest.raises(ValueError, match="at least two donors"):
        report(made, real=adata(*TRAIN, ["a"]), donor_key="donor")


def test_it_is_in_the_package() -> None:
    assert diffaug.tl.report is report
