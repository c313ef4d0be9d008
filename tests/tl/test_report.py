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
from diffaug.tl._report_sets import split

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


def fraud_cells(name: str) -> np.ndarray:
    return frauds()[name][0]


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
    (absent,) = fraud.judgement.absent_types
    assert absent.found == 0 and absent.expected == pytest.approx(0.2 * len(fraud_cells("one type missing")), rel=0.25)
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
    assert row["score_low"] < row["score"] < row["score_high"]
    middle = sorted(abs(row[f"null_{n}"] - 1) for n in ("gaussian", "shuffle", "noise"))[1]
    assert row["score_median"] != row["score"] or middle == worst


def test_the_mean_score_takes_no_luck_and_has_its_interval() -> None:
    control, data = found("control"), found("control").to_dict()
    scores = control.table.xs("all", level="group")["score"].dropna()
    assert (scores > 1).any()  # else clipping is not seen
    assert control.mean_score == pytest.approx(scores.clip(upper=1).mean()) != scores.mean()
    low, high = data["mean_score_interval"]
    assert low < control.mean_score <= high <= 1 and data["mean_score_median_null"] <= control.mean_score + 0.1
    bad = found("shuffled genes").judgement.mean_score
    assert bad.high < low


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
    for words in ("Not trustworthy", "Types that are missing: NK (", "Slope of log-fold changes", "Audit:"):
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


def test_held_out_donors_do_not_judge_memory_and_their_number_is_said() -> None:
    """Training and held-out donors differ, so closeness to training cells is shown and not judged."""
    train, held = adata(*TRAIN, ["a", "b", "c"]), adata(*HELD, ["d", "e", "f"])
    result = report(adata(*OTHER), train=train, held_out=held, donor_key="donor", max_obs=60, **QUICK)  # type: ignore[arg-type]
    audit = result.audit
    assert audit.passed and 0 <= audit.donor_membership_low <= audit.donor_membership_auc <= audit.donor_membership_high
    assert "different donors" in audit.notes[0] and not audit.memory_judged
    assert result.facts["donors"] == {"train": 3, "held_out": 3, "shared": 0} and result.facts["resampled"] == "donors"
    words = Page(result.to_html()).words
    assert "of 3 whole held-out donors." in words and "Shown and not judged." in words
    two = adata(*HELD, ["d", "e"])
    words = Page(
        report(adata(*OTHER), train=train, held_out=two, donor_key="donor", max_obs=60, **QUICK).to_html()  # type: ignore[arg-type]
    ).words
    assert "fewer than 3 donors: cells were resampled" in words and "20 resamples of cells." in words
    assert "Whole donors could not be attacked" in words


def test_some_held_out_donors_were_trained_on() -> None:
    train, held = adata(*TRAIN, ["a", "b", "c"]), adata(*HELD, ["c", "d", "e"])
    result = report(adata(*OTHER), train=train, held_out=held, donor_key="donor", max_obs=60, **QUICK)  # type: ignore[arg-type]
    assert result.facts["donors"]["shared"] == 1
    assert any(
        "Donors on both sides: 1, of 3 trained on and 3 of the other cells" in n for n in result.to_dict()["notes"]
    )


def with_noise(x: np.ndarray) -> np.ndarray:
    """Training cells under noise that leaves hardly any a near copy."""
    noisy = x + 0.75 * x.std(axis=0) * np.random.default_rng(7).normal(size=x.shape)
    return np.maximum(noisy, 0).astype(np.float32)


def test_unseen_cells_of_the_training_donors_find_what_the_held_out_donors_cannot() -> None:
    train, held = adata(*TRAIN, ["a", "b"]), adata(*HELD, ["d", "e"])
    sets = {"train": train, "held_out": held, "donor_key": "donor", "max_obs": 200}
    thief = adata(with_noise(TRAIN[0]), None)
    blind = report(thief, **sets, **QUICK)  # type: ignore[arg-type]
    assert blind.audit.passed and not blind.audit.memory_judged  # control
    sets["unseen"] = adata(*sim.cells(300, 6), ["a", "b"])
    seeing = report(thief, **sets, **QUICK)  # type: ignore[arg-type]
    assert not seeing.audit.passed and seeing.audit.closer_low > 0.52 and seeing.verdict == "not trustworthy"
    assert "than to an unseen cell" in seeing.audit.reasons[0]
    honest = report(adata(OTHER[0], None), **sets, **QUICK)  # type: ignore[arg-type]
    assert honest.audit.passed and honest.audit.memory_judged and honest.facts["n_obs"]["unseen"] == 300
    assert "Closer to training than to unseen cells" in Page(honest.to_html()).words
    with pytest.raises(ValueError, match="Expected unseen cells that the model was not trained on, found 100%"):
        report(thief, **{**sets, "unseen": train[:100]})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`train` and `held_out` with `unseen`, found `real`"):
        report(thief, real=train, unseen=sets["unseen"])  # type: ignore[arg-type]


def test_one_set_of_real_cells_is_split_and_its_memory_judged_by_copies_only() -> None:
    donors = np.repeat(["a", "b", "c", "d"], [90, 130, 70, 110])
    real = adata(*TRAIN)
    real.obs["donor"] = donors
    result = report(adata(*OTHER), real=real, donor_key="donor", max_obs=60, **QUICK)  # type: ignore[arg-type]
    sizes = result.facts["n_obs"]
    assert sizes["train"] in (220, 160, 200, 240, 180) and sizes["train"] + sizes["held_out"] == 400
    assert result.facts["donors"] == {"train": 2, "held_out": 2, "shared": 0}
    assert result.facts["split_here"] and np.isnan(result.audit.closer_share) and result.audit.passed
    assert result.audit.n_train == 400


def test_no_donor_is_on_both_sides_of_a_split() -> None:
    donors = np.random.default_rng(0).choice(list("abcdefg"), size=400)
    real = adata(*TRAIN)
    real.obs["donor"] = donors
    for seed in range(5):
        train, held = split(real, groupby="cell_type", donor_key="donor", random_state=seed)
        assert set(train.obs["donor"]) | set(held.obs["donor"]) == set("abcdefg")
        assert not set(train.obs["donor"]) & set(held.obs["donor"])
    train, held = split(real, groupby="cell_type", donor_key=None, random_state=0)
    assert set(train.obs["donor"]) == set(held.obs["donor"])  # control: without the column donors are mixed
    assert (train.obs["cell_type"].value_counts() - held.obs["cell_type"].value_counts()).abs().max() <= 1


def test_a_rare_type_that_is_missing_is_named_with_what_was_to_be_expected() -> None:
    """Four in a hundred training cells and too few held-out ones to be judged alone."""
    train = adata(*TRAIN)
    train.obs["cell_type"] = np.where(np.arange(400) < 16, "plasma", np.asarray(TRAIN[1]).astype(str))
    result = report(adata(*OTHER), train=train, held_out=adata(*HELD), groupby="cell_type", max_obs=60, **QUICK)  # type: ignore[arg-type]
    assert result.judgement.missing_types == ("plasma",) and result.verdict == "not trustworthy"
    assert result.to_dict()["absent_types"][0]["expected"] == 8
    words = Page(result.to_html()).words
    assert (
        "Types that are missing: plasma (4.00% of the training cells, 8.0 synthetic ones expected, none found" in words
    )


def test_names_that_no_training_cell_has_are_told_with_the_nearest() -> None:
    kinds = np.where(np.arange(200) < 20, "NK cell", OTHER[1].astype("U7"))
    kinds[:5] = "Tt"
    result = report(
        adata(OTHER[0], kinds), train=adata(*TRAIN), held_out=adata(*HELD), groupby="cell_type", max_obs=60, **QUICK
    )  # type: ignore[arg-type]
    (note,) = result.facts["notes"]
    assert note.startswith(
        "10.0% of the synthetic cells have types that no training cell has: 'NK cell' (nearest known: 'NK')"
    )
    assert "'Tt' (nearest known: 'T')" in note
    assert note in Page(result.to_html()).words and note in result.to_dict()["notes"]
    assert found("control").facts["notes"] == []


def test_the_table_of_types_has_intervals_floors_and_nulls() -> None:
    text = found("control").to_html()
    table = text[text.index('<table id="types">') :]
    cells = table[table.index("<tr><td>B</td>") :].partition("</tr>")[0].split("<td>")[2:]
    scores = [s for s in found("control").judgement.scores if s.group == "B"]
    assert len(cells) == len(scores) > 5
    for cell in cells:
        assert cell.count("<small>") == 3 and " to " in cell and "real " in cell and cell.count(" / ") == 2


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
