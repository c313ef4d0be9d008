"""``tl.generate``: counts, depth, combinations of columns, batches, strength, guidance, nearest training cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from diffaug import DiffAug
from diffaug.tl import fit, generate


def library_of(adata: anndata.AnnData) -> np.ndarray:
    return np.asarray(adata.layers["counts"].sum(axis=1)).ravel().astype(int)


def test_counts(logged: anndata.AnnData, model: DiffAug) -> None:
    """The model saw logarithms only; the counts behind them were read back from their lattice."""
    log, made = (generate(model, 200, output=output, random_state=5) for output in ("log", "counts"))
    assert made.X.dtype == np.int32 and sp.issparse(made.X) and made.X.min() == 0
    assert "log1p" not in made.uns and made.uns["diffaug_made"]["output"] == "counts"
    assert made.obs["condition_cell"].equals(log.obs["condition_cell"])
    expressed = log.X.toarray() > 0
    enough = expressed.sum(axis=1) <= made.obs["library_size"].to_numpy()  # a count for each gene that is expressed
    assert enough.mean() > 0.9
    np.testing.assert_array_equal((made.X.toarray() > 0)[enough], expressed[enough])
    own = dict(zip(logged.obs_names, library_of(logged), strict=True))
    expected = [own[cell] for cell in made.obs["condition_cell"]]
    assert made.obs["library_size"].tolist() == expected
    assert np.asarray(made.X.sum(axis=1)).ravel().tolist() == expected  # the model has all genes
    assert "library_size" not in log.obs


def test_fit_on_counts_keeps_the_same_sizes(counts: anndata.AnnData, logged: anndata.AnnData, small: dict) -> None:
    raw = anndata.AnnData(logged.layers["counts"].copy(), obs=logged.obs, var=logged.var)
    raw.var["highly_variable"] = np.arange(60) < 25
    model = fit(raw, config=small, device="cpu", progress=False)
    assert model.meta["totals"]["library"] == library_of(logged).tolist()
    on_features = np.asarray(raw.X[:, :25].sum(axis=1)).ravel()
    made = generate(model, groupby="cell_type", n=20, output="counts")
    at = raw.obs_names.get_indexer(made.obs["condition_cell"])
    np.testing.assert_array_equal(np.asarray(made.X.sum(axis=1)).ravel(), on_features[at])
    np.testing.assert_array_equal(made.obs["library_size"], library_of(logged)[at])
    half = generate(model, groupby="cell_type", n=20, output="counts", depth=40)
    share = on_features[at] / library_of(logged)[at]
    np.testing.assert_array_equal(np.asarray(half.X.sum(axis=1)).ravel(), np.rint(40 * share))
    assert (half.obs["library_size"] == 40).all()


def test_depth_of_given_cells(logged: anndata.AnnData, model: DiffAug) -> None:
    deep = logged[logged.obs["batch"] == "batch_0"].copy()
    wanted = library_of(deep)
    made = generate(model, deep.n_obs, output="counts", depth=deep)
    assert sorted(made.obs["library_size"]) == sorted(wanted)
    own = dict(zip(logged.obs_names, library_of(logged), strict=True))
    rank = np.argsort([own[c] for c in made.obs["condition_cell"]], kind="stable")
    assert np.all(np.diff(made.obs["library_size"].to_numpy()[rank]) >= 0)


def test_counts_like_given_cells(logged: anndata.AnnData, model: DiffAug) -> None:
    part = logged[[3, 99, 7]].copy()
    del part.obs, part.layers["counts"]
    made = generate(model, 7, like=part, output="counts")
    own = dict(zip(logged.obs_names, library_of(logged), strict=True))
    assert made.obs["library_size"].tolist() == [own[c] for c in made.obs["condition_cell"]]
    part.X = part.X.toarray() * 0.9
    with pytest.raises(ValueError, match="counts, or log1p of scaled counts, in `adata.X` of `like`"):
        generate(model, like=part, output="counts")


def test_no_counts_without_library_sizes(logged: anndata.AnnData, model: DiffAug, small: dict, tmp_path: Path) -> None:
    old = DiffAug.load(model.save(tmp_path / "old"), device="cpu")
    del old.meta["totals"]
    with pytest.raises(ValueError, match="keeps the library sizes of its cells, found one that an older diffaug"):
        generate(old, 3, output="counts")
    assert generate(old, 3).n_obs == 3
    logged.X = logged.X.toarray() * np.linspace(0.7, 1, 60, dtype="float32")
    smooth = fit(logged, config=small, device="cpu", progress=False)
    with pytest.raises(ValueError, match=r"a model of counts for output='counts'.*kind 'log'"):
        generate(smooth, 3, output="counts")


def test_counts_of_a_loaded_model(model: DiffAug, tmp_path: Path) -> None:
    loaded = DiffAug.load(model.save(tmp_path / "model"), device="cpu")
    here, there = (generate(m, 20, output="counts", depth=30, random_state=1) for m in (model, loaded))
    np.testing.assert_array_equal(here.X.toarray(), there.X.toarray())
    assert here.uns["diffaug_made"]["model_fingerprint"] == loaded.fingerprint == model.fingerprint
    other = DiffAug.load(tmp_path / "model", device="cpu")
    next(other._denoiser.parameters()).data.view(-1)[0] += 1e-6
    assert other.fingerprint != model.fingerprint


def test_combinations_of_columns(logged: anndata.AnnData, model: DiffAug) -> None:
    made = generate(model, groupby=["cell_type", "batch"], n={("type_1", "batch_0"): 4, ("type_2", "batch_1"): 60})
    found = made.obs.groupby(["cell_type", "batch"], observed=True).size().to_dict()
    assert found == {("type_1", "batch_0"): 4, ("type_2", "batch_1"): 60}
    expected = logged.obs.loc[made.obs["condition_cell"]]
    assert (expected["batch"].to_numpy() == made.obs["batch"].to_numpy()).all()
    assert generate(model, groupby=["cell_type", "batch"]).n_obs == 150
    with pytest.raises(KeyError, match=r"Did you mean \('type_1', 'batch_0'\)"):
        generate(model, groupby=["cell_type", "batch"], n={("type1", "batch_0"): 4})


def test_batches(model: DiffAug) -> None:
    assert (generate(model, 30, batch="batch_1", batch_key="batch").obs["batch"] == "batch_1").all()
    made = generate(model, groupby="cell_type", n=5, batch="batch_0", batch_key="batch")
    assert made.n_obs == 15 and (made.obs["batch"] == "batch_0").all()
    with pytest.raises(KeyError, match=r"a batch of 'batch' among .*found 'batch0'. Did you mean 'batch_0'"):
        generate(model, 3, batch="batch0", batch_key="batch")
    with pytest.raises(ValueError, match="Expected `batch_key` with `batch`"):
        generate(model, 3, batch="batch_0")


def test_the_models_own_batches(logged: anndata.AnnData, small: dict) -> None:
    model = fit(logged, config=small, batch_key="batch", device="cpu", progress=False)
    assert (generate(model, 9, batch="batch_1").obs["batch"] == "batch_1").all()


def test_strength_keeps_the_cell(logged: anndata.AnnData, model: DiffAug) -> None:
    """The less, the nearer the cell, under training conditions as under given ones."""
    cells = logged.X.toarray()
    for how in ({"n_obs": 150, "train": logged}, {"like": logged}):
        distance = []
        for strength in (0.05, 1.0):
            made: Any = generate(model, strength=strength, **how)  # type: ignore[arg-type]
            at = logged.obs_names.get_indexer(made.obs["condition_cell"])
            distance.append(np.linalg.norm(made.X.toarray() - cells[at], axis=1).mean())
        assert distance[0] < 0.8 * distance[1]
    with pytest.raises(ValueError, match="`like` or `train` with `strength` below 1"):
        generate(model, 3, strength=0.5)


def test_guidance(logged: anndata.AnnData, model: DiffAug, small: dict) -> None:
    with pytest.raises(ValueError, match="condition_dropout"):
        generate(model, 3, guidance=2.0)
    small["diffusion"]["condition_dropout"] = 0.2
    dropped = fit(logged, config=small, device="cpu", progress=False)
    plain, same, strong = (generate(dropped, 20, guidance=g) for g in (None, 1.0, 3.0))
    np.testing.assert_array_equal(plain.X.toarray(), same.X.toarray())
    assert not np.array_equal(plain.X.toarray(), strong.X.toarray())
    assert strong.uns["diffaug_made"]["guidance"] == 3 and dropped.config.diffusion.guidance_scale == 1


def test_nearest_training_cells(logged: anndata.AnnData, model: DiffAug) -> None:
    made = generate(model, 60, train=logged)
    assert made.obs["nearest_cell"].isin(logged.obs_names).all()
    assert made.obs["distance_percentile"].between(0, 100).all()
    assert (np.diff(made.uns["diffaug_made"]["real_distances"]) >= 0).all()
    # The values do not depend on it.
    np.testing.assert_array_equal(made.X.toarray(), generate(model, 60).X.toarray())


def test_copies_are_seen(logged: anndata.AnnData, model: DiffAug) -> None:
    """Copies have percentile 0 and name their original; real cells about uniform percentiles."""
    from diffaug.tl._provenance import nearest_training, training_cells

    known = training_cells(logged, model)
    copies = nearest_training(logged.X[40:80], known, model)
    assert copies.cell.tolist() == logged.obs_names[40:80].tolist()
    assert copies.distance.max() < 1e-3 * copies.real.mean() and copies.percentile.max() == 0
    part = training_cells(logged[:75].copy(), model)
    fresh = nearest_training(logged.X[75:], part, model)
    assert 30 < fresh.percentile.mean() < 70


def test_train_must_be_the_models(logged: anndata.AnnData, model: DiffAug) -> None:
    other = logged.copy()
    other.obs_names = [f"other_{i}" for i in range(150)]
    with pytest.raises(ValueError, match=r"cells that the model was trained on in `train`.*found none of them"):
        generate(model, 3, train=other)
    with pytest.raises(ValueError, match="every cell that conditions a synthetic one in `train`"):
        generate(model, 150, train=logged[:30].copy(), strength=0.5)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"n_obs": 3, "output": "raw"}, r"`output` in \['log', 'counts'\], found 'raw'"),
        ({"n_obs": 3, "depth": 100}, "output='counts' with `depth`"),
        ({"n_obs": 3, "output": "counts", "depth": 0}, "`depth` of at least 1 count"),
        ({"n_obs": 3, "batch_key": "batch"}, "Expected `batch` with `batch_key`"),
        ({"n_obs": 3, "strength": 0}, "`strength` in"),
        ({"n_obs": 9, "audit": True}, "`train` with audit=True"),
        ({"n_obs": 9, "held_out": anndata.AnnData(np.ones((3, 3)))}, "audit=True with `held_out`"),
        ({"n_obs": 9, "donor_key": "donor"}, "Expected `held_out` with `donor_key`='donor', found none"),
    ],
)
def test_wrong_arguments(model: DiffAug, how: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(model, **how)
