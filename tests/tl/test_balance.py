"""``tl.balance``: it fills rare groups, and only where held-out cells of each show that this helps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import diffaug
from diffaug import DiffAug
from diffaug._totals import target_sum_of
from diffaug.tl import balance, fit, generate
from diffaug.tl._balance_judge import ARMS


@pytest.fixture
def uneven(logged: anndata.AnnData) -> anndata.AnnData:
    """50, 50 and 24 cells of three types."""
    types = logged.obs["cell_type"].to_numpy()
    keep = np.sort(np.concatenate([np.flatnonzero(types != "type_2"), np.flatnonzero(types == "type_2")[:24]]))
    return logged[keep].copy()


def call(adata: anndata.AnnData, small: dict, **how: Any) -> anndata.AnnData:
    return balance(adata, groupby="cell_type", config=small, device="cpu", n_repeats=1, progress=False, **how)


def test_forced(uneven: anndata.AnnData, small: dict) -> None:
    out = call(uneven, small, force=True)
    assert out.obs["cell_type"].value_counts().to_dict() == {"type_0": 50, "type_1": 50, "type_2": 50}
    assert out.obs["synthetic"].tolist() == [False] * 124 + [True] * 26
    np.testing.assert_array_equal(out.X[:124].toarray(), uneven.X.toarray())
    assert out.obs_names[:124].equals(uneven.obs_names) and out.obs_names.is_unique
    cells = out.obs["condition_cell"][124:]
    assert (uneven.obs.loc[cells, "cell_type"] == "type_2").all() and cells.nunique() == 24
    record = out.uns["diffaug_balance"]
    assert record["verdict"] in ("forced", "helps") and record["judged_over"] == "cells"
    assert record["arm"].tolist() == list(ARMS) and record["n_held_out"] == 30
    assert record["groups"]["added"].to_dict() == {"type_2": 26}
    assert record["low"] <= record["gain"] <= record["high"]
    assert record["judged_fingerprint"].tolist() == [record["model_fingerprint"]]


def test_groups_of_all_kinds_can_be_written(uneven: anndata.AnnData, small: dict, tmp_path: Path) -> None:
    """Booleans, numbers and categories that only some cells have: synthetic cells get them as the real ones have them."""
    uneven.obs["doublet"] = np.arange(124) % 5 == 0
    uneven.obs["cluster"] = np.arange(124) % 3
    uneven.obs["plate"] = np.where(uneven.obs["cell_type"] == "type_2", np.arange(124) % 2, np.arange(124))
    uneven.obs["note"] = pd.Categorical([None, "a", "b", None] * 31)
    out = call(uneven, small, force=True)
    out.write_h5ad(tmp_path / "out.h5ad")
    read = anndata.read_h5ad(tmp_path / "out.h5ad").obs
    source = uneven.obs.loc[read["condition_cell"].iloc[124:].astype(str)]
    assert read["doublet"].dtype == bool and read["cluster"].dtype.kind == "i"
    for column in ("doublet", "cluster", "note", "plate"):  # plates are groups among the filled cells alone
        pd.testing.assert_series_equal(
            read[column].iloc[124:].reset_index(drop=True), source[column].reset_index(drop=True), check_dtype=False
        )


def test_declined_with_the_number(uneven: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture) -> None:
    """Three types with strong markers need no help, and a generator of three epochs gives none."""
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        out = call(uneven, small)
    assert out.n_obs == 124 and not out.obs["synthetic"].any()
    record = out.uns["diffaug_balance"]
    found = record["groups"].loc["type_2"]
    assert record["verdict"] == found["verdict"] == "declined" and found["low"] <= 0 and found["added"] == 0
    assert f"judged over cells: type_2: balanced accuracy {found['accuracy_DiffAug']:.3f}" in caplog.text
    assert f"gain {found['gain']:+.3f}" in caplog.text and "help is not shown" in caplog.text


def test_counts_and_where_cells_came_from(uneven: anndata.AnnData, small: dict, tmp_path: Path) -> None:
    """The model saw logarithms of counts: real and synthetic cells have both, on one scale, and synthetic ones their origin."""
    out = call(uneven, small, force=True)
    counts, made = out.layers["counts"], np.flatnonzero(out.obs["synthetic"])
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(counts[:124].toarray(), uneven.layers["counts"].toarray())
    again = anndata.AnnData(counts.astype(np.float32))
    sc.pp.normalize_total(again, target_sum=float(np.expm1(uneven.X[0].toarray().astype(float)).sum()))
    sc.pp.log1p(again)
    np.testing.assert_allclose(out.X.toarray(), again.X.toarray(), atol=1e-4)
    size = dict(zip(uneven.obs_names, np.asarray(uneven.layers["counts"].sum(axis=1)).ravel(), strict=True))
    assert out.obs["library_size"].iloc[made].tolist() == [size[c] for c in out.obs["condition_cell"].iloc[made]]
    assert out.obs["library_size"].iloc[:124].tolist() == list(size.values())
    assert (
        out.obs["nearest_cell"].iloc[made].isin(uneven.obs_names).all() and out.obs["nearest_cell"].isna().sum() == 124
    )
    assert out.obs["distance_percentile"].iloc[made].between(0, 100).all() and "log1p" in out.uns
    ax = diffaug.pl.provenance(out, show=False)
    assert f"median {np.median(out.obs['nearest_distance'].iloc[made]):.3g}" in ax.get_legend_handles_labels()[1][1]
    plt.close(ax.figure)
    out.write_h5ad(tmp_path / "out.h5ad")
    back = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert back.uns["diffaug_balance"]["groups"].loc["type_2", "added"] == 26
    assert back.obs["condition_cell"].iloc[made].astype(str).tolist() == out.obs["condition_cell"].iloc[made].tolist()


def test_raw_counts_of_selected_genes(uneven: anndata.AnnData, small: dict) -> None:
    raw = anndata.AnnData(uneven.layers["counts"].copy(), obs=uneven.obs, var=uneven.var)
    raw.var["highly_variable"] = np.arange(60) < 25
    raw.obs["library_size"] = 1.5  # the user's own
    out = call(raw, small, force=True)
    np.testing.assert_array_equal(out.layers["counts"][:124].toarray(), raw.X[:, :25].toarray())
    made = out[out.obs["synthetic"]]
    # 60 genes are a panel; the model was fitted on a part of the cells, whose median its own and the real ones are scaled to.
    total = float(np.expm1(out.X[:124].toarray())[3].sum() / raw.X[3, :25].sum() * raw.X[3].sum())
    assert total == pytest.approx(target_sum_of(raw.X), rel=0.05)
    scaled = np.log1p(made.layers["counts"].toarray() * (total / made.obs["library_size"].to_numpy())[:, None])
    np.testing.assert_allclose(made.X.toarray(), scaled, rtol=1e-4)
    assert (out.obs["library_size"].iloc[:124] == 1.5).all()


def test_no_counts_where_the_model_makes_none(uneven: anndata.AnnData, small: dict) -> None:
    x = uneven.X.toarray()
    uneven.X = (x - x.mean(axis=0)) / x.std(axis=0)
    out = call(uneven, small, force=True)
    assert not out.layers and "library_size" not in out.obs and "log1p" not in out.uns
    assert isinstance(out.X, np.ndarray) and out.obs["nearest_cell"].notna().sum() == 26


def test_a_given_model_is_judged_on_what_it_has_not_seen(uneven: anndata.AnnData, small: dict) -> None:
    seen = np.random.default_rng(0).permutation(124) > 40
    model = fit(uneven[seen].copy(), config=small, device="cpu", progress=False)
    out = balance(uneven, model, groupby="cell_type", to={"type_2": 30}, force=True, n_repeats=1, progress=False)
    assert out.uns["diffaug_balance"]["n_held_out"] == (~seen).sum()
    assert out.uns["diffaug_balance"]["model_fingerprint"] == model.fingerprint
    assert int(out.obs["synthetic"].sum()) == 6
    with pytest.raises(ValueError, match=r"at least 5 held-out cells of the groups to fill .*found 0"):
        balance(uneven[seen].copy(), model, groupby="cell_type", progress=False)


# --- donors ---------------------------------------------------------------------------------------------------------


def test_donors_are_held_out_whole_and_once(
    uneven: anndata.AnnData, small: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    uneven.obs["donor"] = [f"d{i % 5}" for i in range(124)]
    fitted: list[set[str]] = []

    def spy(adata: anndata.AnnData, **how: Any) -> DiffAug:
        fitted.append(set(adata.obs["donor"]))
        return fit(adata, **how)

    monkeypatch.setattr("diffaug.tl._balance.fit", spy)
    record = call(uneven, small, split_key="donor").uns["diffaug_balance"]
    every = {f"d{i}" for i in range(5)}
    assert [len(donors) for donors in fitted] == [4] * 5 and set.union(*(every - donors for donors in fitted)) == every
    assert record["n_held_out"] == 124 and record["n_folds"] == 5 and record["judged_over"] == "donors"
    assert record["donor"].tolist() == sorted(every) and record["gain"] == pytest.approx(record["donor_gain"].mean())
    assert record["groups"].loc["type_2", ["n_held_out", "n_donors"]].tolist() == [24, 5]
    assert record["verdict"] == "declined" and record["model_fingerprint"] == ""
    fitted.clear()
    forced = call(uneven, small, split_key="donor", n_folds=2, force=True)
    assert sorted(len(donors) for donors in fitted) == [2, 3, 5]  # and one of all cells, which generates
    assert int(forced.obs["synthetic"].sum()) == 26
    assert forced.uns["diffaug_balance"]["model_fingerprint"] not in forced.uns["diffaug_balance"]["judged_fingerprint"]
    model = fit(uneven[:100].copy(), config=small, device="cpu", progress=False)
    with pytest.raises(ValueError, match="Expected donors held out of the model's training whole, found 'd0'"):
        balance(uneven, model, groupby="cell_type", split_key="donor", progress=False)


#: A donor's own look of a rare group: how far it lies along which genes.
LOOKS = {"d0": (0, 1), "d1": (2, 3), "d2": (4, 5), "d3": (6, 7)}
COMMON = (8, 9)


def looking(n: int, genes: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    x = rng.normal(size=(n, 12))
    x[:, genes] += 6
    return x


@pytest.fixture
def donors_apart() -> Any:
    """Cells of four donors, 30 of ``many`` and 8 of ``rare``; where ``own`` says so, a donor's rare cells look like no others'."""

    def build(own: tuple[str, ...], donors: tuple[str, ...] = tuple(LOOKS)) -> anndata.AnnData:
        rng = np.random.default_rng(0)
        parts, obs = [], []
        for donor in donors:
            parts += [rng.normal(size=(30, 12)), looking(8, LOOKS[donor] if donor in own else COMMON, rng)]
            obs += [(donor, "many")] * 30 + [(donor, "rare")] * 8
        adata = anndata.AnnData(np.concatenate(parts).astype("float32"))
        adata.obs["donor"], adata.obs["cell_type"] = (np.array(c) for c in zip(*obs, strict=True))
        adata.obs_names = [f"cell_{i}" for i in range(adata.n_obs)]
        return adata

    return build


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that knows every donor's look of ``rare``; of other groups it repeats what it is given."""

    def generated(model: DiffAug, n: int, *, like: anndata.AnnData, random_state: int, **how: Any) -> anndata.AnnData:
        made = generate(model, n, like=like, random_state=random_state, **how)
        rng = np.random.default_rng(random_state)
        if like.obs["cell_type"].iloc[0] == "rare":
            looks = [*LOOKS.values(), COMMON]
            made.X = np.concatenate([looking(1, looks[i % 5], rng) for i in range(n)]).astype("float32")
        else:
            made.X = np.asarray(like.X)[np.arange(n) % like.n_obs]
        return made

    monkeypatch.setattr("diffaug.tl._balance_cells.generate", generated)


def test_a_gain_on_one_donor_is_declined(donors_apart: Any, oracle: None, small: dict) -> None:
    """Control: the same gain on every donor is shown. With this seed d0 comes first, and alone it would show the help."""
    seed = next(s for s in range(99) if np.random.default_rng(s).permutation(list(LOOKS))[0] == "d0")
    alone = call(donors_apart(("d0",)), small, split_key="donor", random_state=seed)
    record = alone.uns["diffaug_balance"]
    gains = dict(zip(record["donor"], record["donor_gain"], strict=True))
    assert gains["d0"] > 0.3 and max(abs(gains[d]) for d in ("d1", "d2", "d3")) < 0.1
    assert record["verdict"] == "declined" and record["low"] < 0 < record["gain"]
    assert record["groups"].loc["rare", "low"] < 0 and not alone.obs["synthetic"].any()
    every = call(donors_apart(tuple(LOOKS)), small, split_key="donor", random_state=seed)
    record = every.uns["diffaug_balance"]
    assert record["verdict"] == "helps" and min(record["donor_gain"]) > 0.3 and record["low"] > 0
    assert record["groups"].loc["rare", "low"] > 0 and int(every.obs["synthetic"].sum()) == 88


@pytest.mark.parametrize("given", [False, True])
def test_two_donors_are_not_judged(
    donors_apart: Any, oracle: None, small: dict, caplog: pytest.LogCaptureFixture, given: bool
) -> None:
    """The gain is there on both, and its number is said; two donors do not tell how the next one would fare."""
    adata = donors_apart(tuple(LOOKS), ("d0", "d1", "d2", "d3") if given else ("d0", "d1"))
    model = None
    if given:
        seen = adata[np.isin(adata.obs["donor"], ["d2", "d3"])].copy()
        model = fit(seen, config=small, device="cpu", progress=False)
    how: dict[str, Any] = {"model": model, "split_key": "donor"}
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        out = call(adata, small, **how)
    record = out.uns["diffaug_balance"]
    assert record["gain"] > 0.3 and np.isnan(record["low"]) and not out.obs["synthetic"].any()
    assert (record["verdict"], record["judged_over"]) == ("declined", "nothing")
    assert record["groups"].loc["rare", "verdict"] == "not judged"
    assert record["why"] == "2 held-out donors, fewer than 3: not judged over donors" and record["why"] in caplog.text
    assert call(adata, small, force=True, **how).uns["diffaug_balance"]["groups"].loc["rare", "verdict"] == "forced"
    with pytest.raises(ValueError, match="at least 2 donors in `split_key`"):
        call(adata[adata.obs["donor"] == "d0"].copy(), small, split_key="donor")


# --- groups ---------------------------------------------------------------------------------------------------------


def test_no_group_is_filled_on_the_evidence_of_another(
    donors_apart: Any, oracle: None, small: dict, caplog: pytest.LogCaptureFixture
) -> None:
    """``rare`` is helped much, ``plain`` not at all, ``few`` has too few donors: all groups together gain."""
    adata = donors_apart(tuple(LOOKS))
    rng = np.random.default_rng(1)
    more = anndata.AnnData(np.concatenate([looking(24, (10, 11), rng), looking(12, (8, 11), rng)]).astype("float32"))
    more.obs["donor"] = [f"d{i % 4}" for i in range(24)] + [f"d{i % 2}" for i in range(12)]
    more.obs["cell_type"] = ["plain"] * 24 + ["few"] * 12
    more.obs_names = [f"more_{i}" for i in range(36)]
    adata = anndata.concat([adata, more])
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        out = call(adata, small, split_key="donor", to={"rare": 60, "plain": 60, "few": 60})
    record = out.uns["diffaug_balance"]
    table = record["groups"]
    assert record["verdict"] == "helps" and record["low"] > 0
    assert table["verdict"].to_dict() == {"rare": "helps", "plain": "declined", "few": "not judged"}
    made = out.obs.loc[out.obs["synthetic"], "cell_type"].value_counts()
    assert made[made > 0].to_dict() == {"rare": 60 - int((adata.obs["cell_type"] == "rare").sum())}
    assert table["added"].to_dict() == {"rare": made["rare"], "plain": 0, "few": 0}
    assert table.loc["rare", "low"] > 0 >= table.loc["plain", "low"] and np.isnan(table.loc["few", "low"])
    assert table.loc["rare", "recall_DiffAug"] > table.loc["rare", "recall_none"] + 0.3
    assert "few: " in caplog.text and "on the evidence of other groups" in caplog.text


def test_a_group_of_one_donor_is_not_judged(donors_apart: Any, small: dict) -> None:
    """Without that donor there is one group alone to learn from, and nothing to fill."""
    adata = donors_apart(())
    adata = adata[(adata.obs["cell_type"] == "many") | (adata.obs["donor"] == "d2")].copy()
    out = call(adata, small, split_key="donor")
    found = out.uns["diffaug_balance"]["groups"].loc["rare"]
    assert (found["verdict"], found["n_held_out"]) == ("not judged", 0) and np.isnan(found["gain"])
    assert found["why"] == "no held-out cell of a part that could be filled" and not out.obs["synthetic"].any()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"to": {"type2": 9}}, KeyError, "Did you mean 'type_2'"),
        ({"to": "most"}, ValueError, r"`to` in \['max', 'median'\]"),
        ({"to": 10}, ValueError, "Nothing to fill"),
        ({"split_key": "donr"}, KeyError, "split_key"),
        ({"split_key": "batch", "n_folds": 1}, ValueError, "n_folds"),
    ],
)
def test_wrong_arguments(uneven: anndata.AnnData, small: dict, how: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call(uneven, small, **how)
