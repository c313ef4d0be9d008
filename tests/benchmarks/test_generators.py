"""Generators against data whose parameters are known, the split against leaks, and the controls before the judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from generators import FAMILIES, TOOLS, Made, Split, base
from generators import copula as cop
from generators.gaussian import normal_like
from generators.judge import judged, logged
from generators.resampling import drawn_within, thinned, thinned_to
from generators.split import LEAST_COUNTS, LEAST_OF_TYPE, N_HELD_OUT_DONORS, split_adata
from scipy import optimize, stats

import diffaug

N_GENES = 40


def negative_binomial(u: np.ndarray, mean: np.ndarray, size: np.ndarray) -> np.ndarray:
    return stats.nbinom.ppf(u, size, size / (size + mean))


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """600 cells of three types and eight donors, with counts of cells that differ in depth."""
    rng = np.random.default_rng(0)
    types = np.repeat(["a", "b", "c"], [300, 200, 100])
    profiles = {t: rng.gamma(1.0, 4.0, N_GENES) for t in "abc"}
    depth = rng.lognormal(0, 0.3, len(types))
    mean = np.array([profiles[t] for t in types]) * depth[:, None]
    counts = rng.negative_binomial(3, 3 / (3 + mean)).astype(np.float32)
    obs = pd.DataFrame({"cell_type": types, "donor": rng.choice([f"d{i}" for i in range(8)], len(types))})
    return AnnData(sp.csr_matrix(counts), obs=obs.set_axis([f"cell-{i}" for i in range(len(types))]))


def without_donors(cells: AnnData) -> AnnData:
    return AnnData(cells.X.copy(), obs=cells.obs[["cell_type"]].copy(), var=cells.var.copy())


@pytest.fixture(scope="module")
def split(cells: AnnData) -> Split:
    return split_adata(without_donors(cells), 0, None, N_GENES)


# --- the copula -------------------------------------------------------------------------------------------------------


def test_size_is_found_again_and_a_poisson_has_none() -> None:
    rng = np.random.default_rng(1)
    counts = np.column_stack([rng.negative_binomial(2, 2 / 7, 20_000), rng.binomial(10, 0.4, 20_000)]).astype(float)
    size = cop.fitted_size(counts)
    assert size[0] == pytest.approx(2, rel=0.05)
    assert np.isinf(size[1])  # its variance is below its mean


def test_size_is_the_maximum_of_the_likelihood() -> None:
    counts = np.random.default_rng(2).negative_binomial(0.7, 0.2, 300).astype(float)
    mean = counts.mean()
    loss = lambda log_size: -stats.nbinom.logpmf(counts, np.exp(log_size), 1 / (1 + mean / np.exp(log_size))).sum()
    best = np.exp(optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9}).x)
    assert cop.fitted_size(counts[:, None])[0] == pytest.approx(best, rel=1e-4)


def test_copula_keeps_marginals_and_correlations() -> None:
    rng = np.random.default_rng(3)
    n, rho = 6000, 0.8
    mean, size = np.array([6.0, 3.0, 10.0]), np.array([2.0, 5.0, 1.0])
    latent = rng.multivariate_normal(np.zeros(3), [[1, rho, 0], [rho, 1, 0], [0, 0, 1]], n)
    counts = negative_binomial(stats.norm.cdf(latent), mean, size)
    drawn = cop.fit_copula(counts, rng).draw(n, rng)
    assert drawn.mean(axis=0) == pytest.approx(mean, rel=0.06)
    assert drawn.var(axis=0) == pytest.approx(mean + mean**2 / size, rel=0.15)
    assert (drawn == 0).mean(axis=0) == pytest.approx((1 + mean / size) ** -size, abs=0.02)
    real, made = (np.corrcoef(x, rowvar=False) for x in (counts, drawn))
    assert real[0, 1] > 0.6  # else the next line could pass without any copula
    assert made == pytest.approx(real, abs=0.06)


def test_copula_has_the_correlations_of_its_normal_scores() -> None:
    rng = np.random.default_rng(4)
    latent = rng.multivariate_normal([0, 0], [[1, -0.6], [-0.6, 1]], 6000)
    counts = negative_binomial(stats.norm.cdf(latent), np.array([8.0, 8.0]), np.array([4.0, 4.0]))
    scores = cop.fit_copula(counts, rng).scores
    assert np.corrcoef(scores, rowvar=False)[0, 1] == pytest.approx(-0.6, abs=0.05)
    assert stats.kstest(scores[:, 0], "norm").pvalue > 1e-3  # the transform of the right marginal is normal


def test_genes_of_many_zeros_are_drawn_on_their_own() -> None:
    rng = np.random.default_rng(5)
    latent = rng.standard_normal(8000)
    u = stats.norm.cdf(latent)[:, None]
    counts = negative_binomial(np.hstack([u, u]), np.array([0.1, 5.0]), np.array([1.0, 2.0]))
    model = cop.fit_copula(counts, rng)
    assert model.tied.tolist() == [False, True]
    assert np.corrcoef(counts, rowvar=False)[0, 1] > 0.4
    drawn = model.draw(8000, rng)
    assert abs(np.corrcoef(drawn, rowvar=False)[0, 1]) < 0.05
    assert drawn[:, 0].mean() == pytest.approx(counts[:, 0].mean(), rel=0.15)


def test_quantiles_undo_cumulated_and_a_gene_without_counts_stays_so() -> None:
    mean, size = np.array([4.0, 4.0, 0.0]), np.array([1.5, np.inf, np.inf])
    x = np.arange(9)[:, None] * np.array([1, 1, 0])
    u = cop.cumulated(x, mean, size)
    assert cop.quantiles(u - 1e-9, mean, size).tolist() == x.tolist()


# --- Gaussian and resampling ------------------------------------------------------------------------------------------


def test_normal_like_has_mean_and_covariance_of_the_rows() -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((50, 4)) @ rng.standard_normal((4, 4)) + 3
    drawn = normal_like(x, 40_000, rng)
    assert drawn.mean(axis=0) == pytest.approx(x.mean(axis=0), abs=0.06)
    assert np.cov(drawn, rowvar=False) == pytest.approx(np.cov(x, rowvar=False), abs=0.2)


def test_thinning_keeps_a_share_of_the_mean_and_never_adds() -> None:
    rng = np.random.default_rng(7)
    counts = rng.poisson(20, (2000, 5))
    found = thinned(counts, 0.75, rng)
    assert (found <= counts).all()
    assert found.mean(axis=0) == pytest.approx(0.75 * counts.mean(axis=0), rel=0.01)


def test_thinning_to_totals_is_exact_and_keeps_proportions() -> None:
    rng = np.random.default_rng(8)
    counts = np.tile([40, 20, 0, 10], (3000, 1))
    found = thinned_to(counts, np.full(3000, 35), rng)
    assert (found.sum(axis=1) == 35).all() and (found <= counts).all()
    assert found.mean(axis=0) == pytest.approx([20, 10, 0, 5], abs=0.15)


def test_cells_are_drawn_within_types() -> None:
    labels = np.repeat(["a", "b"], [500, 3])
    rows = drawn_within(labels, np.random.default_rng(9))
    assert (labels[rows] == labels).all()
    assert len(set(rows[:500])) == pytest.approx(500 * (1 - np.exp(-1)), abs=30)  # with replacement


# --- every family -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FAMILIES))
@pytest.mark.filterwarnings("default")  # scvi-tools and what it stands on warn of their own
def test_every_family_makes_counts_of_its_tools_and_repeats_them(name: str, split: Split) -> None:
    family = FAMILIES[name]
    for module in family.requires:
        pytest.importorskip(module)
    quick = {"max_epochs": 1} if "max_epochs" in family.settings else {}
    made, again, other = (family.make(split, seed, **quick) for seed in (0, 0, 1))
    assert set(made) == {t.name for t in family.tools}
    for tool, found in made.items():
        x = found.counts
        assert x.shape[1] == split.train.n_vars and x.shape[0] == len(found.labels)
        assert x.data.min() >= 0 and np.array_equal(x.data, np.rint(x.data)) and x.sum() > 0
        assert (x != again[tool].counts).nnz == 0
        if not TOOLS[tool][0].control:
            wanted = split.train.obs["cell_type"].value_counts()
            assert pd.Series(found.labels).value_counts().to_dict() == wanted.to_dict()
            assert (x != other[tool].counts).nnz > 0


def test_a_name_is_entered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "FAMILIES", dict(FAMILIES))
    with pytest.raises(ValueError, match=r"Expected new names, found \['other', 'copies'\] again"):
        base.register("other", TOOLS["copies"][0])(lambda split, seed: {})
    with pytest.raises(ValueError, match="Expected the names of all families"):
        base.in_order("real")


# --- the split --------------------------------------------------------------------------------------------------------


def parts_of(split: Split) -> dict[str, AnnData]:
    return {p: getattr(split, p) for p in ("train", "held_out", "projection", "fresh")}


def test_parts_share_no_cell_and_have_the_same_genes_and_types(cells: AnnData) -> None:
    split = split_adata(without_donors(cells), 3, None, 25)
    parts = parts_of(split)
    names = [name for part in parts.values() for name in part.obs_names]
    assert len(names) == len(set(names)) == cells.n_obs and split.by == "type"
    for part in parts.values():
        assert part.n_vars == 25 and part.var_names.equals(split.train.var_names)
        assert set(part.obs["cell_type"]) == {"a", "b", "c"}
    assert split.train.n_obs == pytest.approx(cells.n_obs / 2, abs=3)
    assert split.unseen.n_obs == cells.n_obs - split.train.n_obs
    assert set(split.unseen_but_fresh.obs_names) == set(split.unseen.obs_names) - set(split.fresh.obs_names)


def test_held_out_donors_are_in_no_other_part(cells: AnnData) -> None:
    split = split_adata(cells.copy(), 0, 300, N_GENES)
    assert split.by == "donor"
    held = set(split.held_out.obs["donor"])
    others = set.union(*(set(p.obs["donor"]) for n, p in parts_of(split).items() if n != "held_out"))
    assert len(held) == N_HELD_OUT_DONORS and not held & others
    assert split.train.n_obs == pytest.approx(150, abs=3) and split.held_out.n_obs == 100
    assert set(split.unseen.obs["donor"]) <= others
    assert held != set(split_adata(cells.copy(), 1, 300, N_GENES).held_out.obs["donor"])


def test_held_out_cells_choose_no_gene(cells: AnnData) -> None:
    """Counts of all cells but the training ones are made nonsense: the genes stay."""
    first = split_adata(without_donors(cells), 0, None, 10)
    other = without_donors(cells)
    x = other.X.toarray()
    outside = ~other.obs_names.isin(first.train.obs_names)
    x[outside] = np.random.default_rng(0).poisson(50, (int(outside.sum()), N_GENES)) * (np.arange(N_GENES) % 2)
    other.X = sp.csr_matrix(x)
    everything = diffaug.pp.recipe(other, n_top_genes=10, copy=True)
    assert set(other.var_names[everything.var["highly_variable"]]) != set(first.train.var_names)  # it would matter
    assert split_adata(other, 0, None, 10).train.var_names.equals(first.train.var_names)


def test_rare_types_and_empty_cells_are_left_out(cells: AnnData) -> None:
    other = without_donors(cells)
    other.obs.loc[other.obs_names[:3], "cell_type"] = "rare"
    x = other.X.toarray()
    x[10:20] = 0
    x[10:20, 0] = LEAST_COUNTS - 1
    other.X = sp.csr_matrix(x)
    split = split_adata(other, 0, None, N_GENES)
    for part in parts_of(split).values():
        assert "rare" not in set(part.obs["cell_type"])
        assert part.X.sum(axis=1).min() >= LEAST_COUNTS
    assert split.train.obs["cell_type"].value_counts().min() >= LEAST_OF_TYPE


# --- the judge --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def controls(split: Split) -> dict[str, dict[str, dict[str, float]]]:
    made = FAMILIES["real"].make(split, 0)
    return {
        name: judged(split, m, is_fresh=name == "fresh", seed=0, n_resamples=5, n_estimators=40)
        for name, m in made.items()
    }


def test_the_thief_is_as_good_as_real_cells_and_caught(controls: dict[str, dict[str, dict[str, float]]]) -> None:
    found = controls["copies"]["value"]
    assert found["mean_score"] == pytest.approx(1)
    assert found["closer"] == found["exact"] == found["near"] == found["membership"] == 1
    assert not found["passed"]
    for measure, floor in controls["copies"]["floor"].items():
        if measure not in ("exact", "near"):
            assert found[measure] == pytest.approx(floor), measure


def test_unseen_real_cells_are_no_copies(controls: dict[str, dict[str, dict[str, float]]]) -> None:
    found = controls["fresh"]["value"]
    assert found["exact"] == 0 and found["passed"]
    assert found["closer"] == pytest.approx(0.5, abs=0.15)
    assert found["mean_score"] > 0.8


def test_held_out_donors_do_not_hide_a_thief(cells: AnnData) -> None:
    """Memory is judged by unseen cells of the training donors; the share against the held-out ones stands beside it."""
    split = split_adata(cells.copy(), 0, None, N_GENES)
    assert split.by == "donor"
    options = {"seed": 0, "n_resamples": 5, "n_estimators": 40}
    fresh = judged(split, FAMILIES["real"].make(split, 0)["fresh"], is_fresh=True, **options)["value"]
    assert fresh["passed"] and fresh["closer"] == pytest.approx(0.5, abs=0.15)
    noisy = np.random.default_rng(0).binomial(split.train.X.toarray().astype(int), 0.8)
    labels = split.train.obs["cell_type"].astype(str).to_numpy()
    thief = judged(split, Made(sp.csr_matrix(noisy.astype(np.float32)), labels, 0, 0), is_fresh=False, **options)
    assert not thief["value"]["passed"] and thief["low"]["closer"] > 0.52 and thief["value"]["exact"] == 0
    made, train, held = (
        logged(AnnData(sp.csr_matrix(x, dtype=np.float32))).X for x in (noisy, split.train.X, split.held_out.X)
    )
    by_hand = diffaug.metrics.memorization_audit(made, train, held)
    assert thief["value"]["closer_other"] == pytest.approx(by_hand.closer_share, abs=0.05)


def test_shuffled_genes_are_told_and_empty_cells_are_counted(split: Split) -> None:
    rng = np.random.default_rng(0)
    x = rng.permuted(split.train.X.toarray(), axis=0)
    x[:15] = 0
    labels = split.train.obs["cell_type"].astype(str).to_numpy()
    found = judged(split, Made(sp.csr_matrix(x), labels, 0, 0), is_fresh=False, seed=0, n_resamples=5, n_estimators=40)
    value = found["value"]
    assert value["empty_share"] == pytest.approx(15 / len(x)) and value["n_synthetic"] == len(x) - 15
    assert value["auc_pcs"] > 0.8 and value["lfc_slope"] < 0.3 < found["floor"]["lfc_slope"]
    assert value["mean_score"] < 0.3


def test_rows_of_other_defaults_are_other_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only where they matter: a change of DiffAug's defaults must not ask for new runs of the others."""
    from generators import rare, run
    from generators.base import FAMILIES

    plan = run.Plan(("a",), ("diffaug", "copula"), 1, 100, 50, 2, 2, None, 1, tmp_path, tmp_path / "rows.parquet")
    before = {name: plan.hash(FAMILIES[name]) for name in plan.families} | {"rare": rare.rare_hash(plan, 10)}
    assert "generator_dropout" in str(plan.known(FAMILIES["diffaug"])["config"]["domain"])
    config = diffaug.Config(domain=diffaug.backends.cells.CellsConfig(generator_dropout=0.1))
    monkeypatch.setitem(diffaug.backends.cells.PRESETS, "default", lambda: config)
    after = {name: plan.hash(FAMILIES[name]) for name in plan.families} | {"rare": rare.rare_hash(plan, 10)}
    assert {name for name in before if before[name] != after[name]} == {"diffaug", "rare"}
