"""What a user can get wrong: one table. Each call fails with a message that helps, and changes nothing.

Every message says what was expected and what was found, in one line. ``core/test_config.py`` has more settings,
``test_model.py`` more damaged models, ``pp/test_recipe.py`` what the recipe refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import diffaug
from diffaug import DiffAug, TrainingConfig
from diffaug.backends.cells import CellsConfig

SMALL: dict[str, Any] = {
    "training": {
        "n_encoders": 1,
        "warmup_epochs": 1,
        "generator_epochs": 1,
        "mixed_epochs": 1,
        "batch_size": 50,
        "view_rate": 0.5,
    },
    "diffusion": {"n_steps": 2},
    "domain": {"encoder_hidden": [8], "n_semantic": 4, "n_latent": 3, "generator_width": 8, "generator_depth": 1},
}


@dataclass
class Scene:
    """A user's data, a fitted model and a folder."""

    adata: anndata.AnnData
    folder: Path
    models: dict[str, DiffAug] = field(default_factory=dict)

    @property
    def x(self) -> np.ndarray:
        """The values, dense."""
        return self.adata.X.toarray() if sp.issparse(self.adata.X) else np.array(self.adata.X)

    def model(self, kind: str = "log") -> DiffAug:
        return _model(kind)


_MODELS: dict[str, DiffAug] = {}


def settings(**sections: dict[str, Any]) -> dict[str, Any]:
    return {s: {**SMALL.get(s, {}), **sections.get(s, {})} for s in {*SMALL, *sections}}


def _model(kind: str) -> DiffAug:
    """Models on log-normalised, raw, scaled and other input; each fitted once."""
    if kind not in _MODELS:
        if kind == "unfitted":
            return DiffAug(SMALL)
        adata, config, how = make_logged(), SMALL, {}
        if kind == "counts":
            adata.X = adata.layers["counts"]
        elif kind == "scaled":
            x = adata.X.toarray()
            adata.X = (x - x.mean(axis=0)) / x.std(axis=0)
        elif kind == "part":  # selected genes of raw counts
            adata.X = adata.layers["counts"]
            adata.var["highly_variable"] = np.arange(30) < 12
        elif kind == "rep":
            adata.obsm["X_pca"] = adata.X.toarray()[:, :8]
            how = {"use_rep": "X_pca"}
        elif kind == "layer":
            adata.layers["logged"] = adata.X
            how = {"layer": "logged"}
        elif kind == "label":
            config, how = settings(diffusion={"condition": "label"}), {"label_key": "cell_type"}
        elif kind == "encoder":
            config = settings(training={"n_cycles": 0})
        if kind == "arrays":
            _MODELS[kind] = DiffAug(SMALL, device="cpu").fit(adata.X, progress=False)
        else:
            _MODELS[kind] = diffaug.tl.fit(adata, config=config, device="cpu", progress=False, **how)  # type: ignore
    return _MODELS[kind]


def make_logged() -> anndata.AnnData:
    rng = np.random.default_rng(0)
    mean = rng.gamma(2.0, 1.0, size=30) + 6 * (np.arange(60)[:, None] % 3 == np.arange(30) % 3)
    counts = sp.csr_matrix(rng.poisson(mean).astype(np.float32))
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical([f"type_{i % 3}" for i in range(60)]), "batch": ["one", "two"] * 30},
        index=[f"cell_{i}" for i in range(60)],
    )
    adata = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"gene_{i}" for i in range(30)]))
    diffaug.pp.recipe(adata)
    del adata.var["highly_variable"]
    return adata


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(make_logged(), tmp_path)


# --- how the table is written ----------------------------------------------------------------------------------------

Step = Callable[[Scene], Any]


def fit(**how: Any) -> Step:
    return lambda s: diffaug.tl.fit(s.adata, **{"config": SMALL, "device": "cpu", "progress": False, **how})


def fit_to(thing: Any) -> Step:
    return lambda s: diffaug.tl.fit(thing, config=SMALL, progress=False)


def fit_settings(**sections: dict[str, Any]) -> Step:
    return fit(config=settings(**sections))


def embed(which: str = "log", **how: Any) -> Step:
    return lambda s: diffaug.tl.embed(s.adata, s.model(which), **how)


def augment(which: str = "log", **how: Any) -> Step:
    return lambda s: diffaug.tl.augment(s.adata, s.model(which), **how)


def generate(*args: Any, which: str = "log", **how: Any) -> Step:
    return lambda s: diffaug.tl.generate(s.model(which), *args, **how)


def arrays(x: Any, **how: Any) -> Step:
    return lambda s: DiffAug(SMALL, device="cpu").fit(x(s) if callable(x) else x, progress=False, **how)


def values(change: Callable[[np.ndarray], Any]) -> Step:
    """Preparation: put ``change`` of the dense values into ``.X``."""

    def prepare(s: Scene) -> None:
        s.adata.X = change(s.x)

    return prepare


def one_value(value: float, *, sparse: bool = False) -> Step:
    def change(x: np.ndarray) -> Any:
        x[3, 4] = x[5, 6] = value
        return sp.csr_matrix(x) if sparse else x

    return values(change)


def counts(change: Callable[[np.ndarray], Any] = lambda x: x) -> Step:
    """Preparation: put ``change`` of the dense counts into ``.X``."""

    def prepare(s: Scene) -> None:
        s.adata.X = change(s.adata.layers["counts"].toarray())

    return prepare


def replaced(make: Callable[[anndata.AnnData], anndata.AnnData]) -> Step:
    """Preparation: another AnnData."""

    def prepare(s: Scene) -> None:
        s.adata = make(s.adata)

    return prepare


def written(name: str, value: Callable[[anndata.AnnData], Any]) -> Step:
    """Preparation: a new entry, named as ``obs/key``."""
    slot, key = name.split("/")

    def prepare(s: Scene) -> None:
        getattr(s.adata, slot)[key] = value(s.adata)

    return prepare


def cut_counts(s: Scene) -> None:
    s.adata = s.adata[:, :12].copy()
    s.adata.X = s.adata.layers["counts"]


def rows(change: Callable[[np.ndarray], None]) -> Callable[[np.ndarray], np.ndarray]:
    def changed(x: np.ndarray) -> np.ndarray:
        change(x)
        return x

    return changed


def with_gaps(a: anndata.AnnData) -> pd.Series:
    return a.obs["batch"].where(np.arange(a.n_obs) > 1)


def renamed(a: anndata.AnnData) -> anndata.AnnData:
    a.var_names = [f"ENSG{i}" for i in range(a.n_vars)]
    return a


def doubled(a: anndata.AnnData) -> anndata.AnnData:
    a.var_names = [*a.var_names[:-1], a.var_names[0]]
    return a


def without_types(a: anndata.AnnData) -> anndata.AnnData:
    a.obs = a.obs[["batch"]]
    return a


def without_values(a: anndata.AnnData) -> anndata.AnnData:
    a.X = None
    return a


def backed(s: Scene) -> None:
    s.adata.write_h5ad(s.folder / "a.h5ad")
    s.adata = anndata.read_h5ad(s.folder / "a.h5ad", backed="r")


def backed_part(s: Scene) -> None:
    backed(s)
    s.adata = s.adata[:10]


def backed_without_values(s: Scene) -> None:
    s.adata.X = None
    backed(s)


def backed_by_genes(s: Scene) -> None:
    s.adata.X = sp.csc_matrix(s.adata.X)
    backed(s)


def saved(s: Scene) -> None:
    s.model().save(s.folder / "model")


def foreign(s: Scene) -> None:
    (s.folder / "model").mkdir()
    for name in ("config.json", "weights.safetensors", "history.csv"):
        (s.folder / "model" / name).write_text('{"model_type": "bert"}')


def truncated(s: Scene) -> None:
    saved(s)
    file = s.folder / "model" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


def a_file(s: Scene) -> None:
    (s.folder / "model").write_text("mine")


def results(s: Scene) -> None:
    (s.folder / "model").mkdir()
    (s.folder / "model" / "thesis.tex").write_text("mine")


def save(*parts: str, **how: Any) -> Step:
    return lambda s: s.model().save(s.folder.joinpath(*parts), **how)


def load(**how: Any) -> Step:
    return lambda s: DiffAug.load(s.folder / "model", **how)


def nothing(s: Scene) -> None:
    pass


Row = tuple[str, Step, Step, type[Exception], str]

INPUT: list[Row] = [
    ("array_for_anndata", nothing, fit_to(np.ones((20, 5))), TypeError, "Expected `adata` to be an AnnData, found ndarray"),
    ("frame_for_anndata", nothing, fit_to(pd.DataFrame()), TypeError, "to be an AnnData, found DataFrame"),
    ("path_for_anndata", nothing, fit_to("data.h5ad"), TypeError, "to be an AnnData, found str"),
    ("none_for_anndata", nothing, fit_to(None), TypeError, "to be an AnnData, found NoneType"),
    ("no_cells", replaced(lambda a: a[:0].copy()), fit(), ValueError, "with cells and genes, found 0 cells x 30 genes"),
    ("no_genes", replaced(lambda a: a[:, :0].copy()), fit(), ValueError, "with cells and genes, found 60 cells x 0 genes"),
    ("one_cell", replaced(lambda a: a[:1].copy()), fit(), ValueError, "Expected at least 10 cells to train on, found 1"),
    ("nine_cells", replaced(lambda a: a[:9].copy()), fit(), ValueError, "Expected at least 10 cells to train on, found 9"),
    ("one_gene", replaced(lambda a: a[:, :1].copy()), fit(), ValueError, "Expected at least 2 features in `adata.X`, found 1"),
    ("nan", one_value(np.nan), fit(), ValueError, "finite values in `adata.X`, found 2 NaN or infinite in 2 cells"),
    ("nan_sparse", one_value(np.nan, sparse=True), fit(), ValueError, "found 2 NaN or infinite in 2 cells"),
    ("inf", one_value(np.inf), fit(), ValueError, "found 2 NaN or infinite in 2 cells. Filter or impute"),
    ("minus_inf_sparse", one_value(-np.inf, sparse=True), fit(), ValueError, "found 2 NaN or infinite in 2 cells"),
    ("too_large", values(lambda x: x.astype(np.float64) * 1e300), fit(), ValueError, "within the range of float32 in `adata.X`"),
    ("all_zero", values(np.zeros_like), fit(), ValueError, "values that differ between cells in `adata.X`, found every"),
    ("all_zero_sparse", values(lambda x: sp.csr_matrix(x.shape)), fit(), ValueError, "found every feature constant"),
    ("all_constant", values(lambda x: np.tile(x[:1], (60, 1))), fit(), ValueError, "found every feature constant"),
    ("empty_cells", counts(rows(lambda x: x.__setitem__([3, 8], 0))), fit(), ValueError,
     "Expected counts in every cell of `adata.X`, found 2 empty cells. Call `sc.pp.filter_cells"),
    ("negative_counts", counts(rows(lambda x: x.__setitem__((3, 4), -2))), fit(), ValueError,
     "Expected counts of at least 0 in `adata.X`, found whole numbers down to -2"),
    ("doubled_genes", replaced(doubled), fit(), ValueError, "Expected unique gene names, found 'gene_0' more than once"),
    ("no_values", replaced(without_values), fit(), ValueError, "Expected values in `adata.X`, found none. Name a `layer`"),
    ("backed", backed, fit(), ValueError, "Expected `adata` in memory, or `max_obs` with one that is backed by a file, found neither"),
    ("complex", values(lambda x: x.astype(np.complex64)), fit(), TypeError, "real numbers in `adata.X`, found dtype complex64"),
    ("text_in_obsm", written("obsm/T", lambda a: pd.DataFrame({"a": ["x"] * 60, "b": ["y"] * 60}, index=a.obs_names)),
     fit(use_rep="T"), TypeError, r"Expected real numbers in `adata.obsm\['T'\]`, found dtype object"),
    ("dates_in_obsm", written("obsm/T", lambda a: np.full((60, 3), "2026-01-01", dtype="datetime64[D]")),
     fit(use_rep="T"), TypeError, r"Expected real numbers in `adata.obsm\['T'\]`, found dtype datetime64"),
    ("three_dimensions", written("obsm/T", lambda a: np.zeros((60, 3, 2))), fit(use_rep="T"), ValueError,
     r"Expected two dimensions in `adata.obsm\['T'\]`, found shape \(60, 3, 2\)"),
    ("nan_in_obsm", written("obsm/T", lambda a: np.full((60, 3), np.nan)), fit(use_rep="T"), ValueError,
     r"finite values in `adata.obsm\['T'\]`, found 180 NaN or infinite in 60 cells"),
    ("nan_in_layer", written("layers/L", lambda a: np.full(a.shape, np.nan)), fit(layer="L"), ValueError,
     r"finite values in `adata.layers\['L'\]`"),
    ("one_dimension_of_obsm", written("obsm/T", lambda a: np.ones((60, 1))), fit(use_rep="T"), ValueError,
     "Expected at least 2 features in .*found 1"),
    ("no_dimension_of_obsm", written("obsm/T", lambda a: np.ones((60, 0))), fit(use_rep="T"), ValueError,
     "Expected at least 2 features in .*found 0"),
    ("missing_layer", nothing, fit(layer="raw"), KeyError, r"Did not find `adata.layers\['raw'\]`. Available layers: \['counts'\]"),
    ("missing_obsm", nothing, fit(use_rep="X_pca"), KeyError, r"Did not find `adata.obsm\['X_pca'\]`. Available: \[\]"),
    ("missing_batch", nothing, fit(batch_key="batches"), KeyError,
     r"Did not find `adata.obs\['batches'\]` \(batch_key\). Available: .*Did you mean 'batch'"),
    ("missing_label", nothing, fit(label_key="celltype"), KeyError, r"Did not find `adata.obs\['celltype'\]` \(label_key\)"),
    ("batch_with_gaps", written("obs/gaps", with_gaps), fit(batch_key="gaps"), ValueError,
     r"complete values in `adata.obs\['gaps'\]`, found 2 missing. Fill or filter them"),
    ("categorical_batch_with_gaps", written("obs/gaps", lambda a: with_gaps(a).astype("category")), fit(batch_key="gaps"),
     ValueError, r"complete values in `adata.obs\['gaps'\]`, found 2 missing"),
    ("label_with_gaps", written("obs/gaps", with_gaps), fit(label_key="gaps"), ValueError, "found 2 missing"),
    ("list_of_batches", nothing, fit(batch_key=["batch"]), TypeError, "Expected batch_key to be the name of a column"),
    ("list_of_layers", nothing, fit(layer=["counts"]), TypeError, "Expected `layer` to be a string or None, found"),
    ("number_for_rep", nothing, fit(use_rep=3), TypeError, "Expected `use_rep` to be a string or None, found 3"),
    ("layer_and_rep", nothing, fit(layer="counts", use_rep="X_pca"), ValueError,
     r"Expected `layer` or `use_rep`, found both \('counts' and 'X_pca'\). Choose one"),
    ("no_variable_gene", written("var/highly_variable", lambda a: False), fit(), ValueError,
     r"Expected some genes in `adata.var\['highly_variable'\]`, found none. Run `diffaug.pp.recipe`"),
    ("one_variable_gene", written("var/highly_variable", lambda a: np.arange(30) == 3), fit(), ValueError,
     "Expected at least 2 features in `adata.X`, found 1"),
    ("variable_genes_as_text", written("var/highly_variable", lambda a: "False"), fit(), ValueError,
     r"Expected booleans in `adata.var\['highly_variable'\]`, found object with e.g. 'False'"),
    ("variable_genes_with_gaps", written("var/highly_variable", lambda a: pd.array([True] * 29 + [None], dtype="boolean")),
     fit(), ValueError, r"Expected booleans in `adata.var\['highly_variable'\]`, found boolean with e.g. <NA>"),
    ("empty_key_added", nothing, fit(key_added=""), TypeError, "Expected `key_added` to be a non-empty string or None, found ''"),
    ("number_for_key_added", nothing, fit(key_added=3), TypeError, "a non-empty string or None, found 3"),
]  # fmt: skip

SETTINGS: list[Row] = [
    ("unknown_device", nothing, fit(device="gpu"), ValueError, "Expected `device` 'auto', 'cpu', 'cuda', .*found 'gpu'"),
    ("unknown_preset", nothing, fit(config="best"), ValueError, r"Expected a preset among \['default', 'paper'\], found 'best'"),
    ("number_for_config", nothing, fit(config=3), TypeError, "Expected `config` to be a preset's name, a Config, a dictionary"),
    ("unknown_section", nothing, fit(config={"train": {}}), KeyError, "Expected sections among .*found 'train'"),
    ("unknown_setting", nothing, fit_settings(training={"epochs": 3}), KeyError, r"Expected settings of \[training\] .*found 'epochs'"),
    ("nearly_known_setting", nothing, fit_settings(training={"batchsize": 3}), KeyError, "found 'batchsize'. Did you mean 'batch_size'"),
    ("section_of_text", nothing, fit(config={"training": "fast"}), TypeError, r"section \[training\] to be a table of settings, found 'fast'"),
    ("text_for_number", nothing, fit_settings(training={"batch_size": "64"}), TypeError, "Expected `training.batch_size` of type int, found '64'"),
    ("float_for_whole_number", nothing, fit_settings(training={"n_views": 2.5}), TypeError, "`training.n_views` of type int, found 2.5"),
    ("true_for_number", nothing, fit_settings(training={"n_cycles": True}), TypeError, "`training.n_cycles` of type int, found True"),
    ("none_for_number", nothing, fit_settings(training={"n_views": None}), TypeError, "`training.n_views` of type int, found None"),
    ("unknown_loss", nothing, fit_settings(loss={"name": "triplet"}), ValueError, r"Expected `name` in \['soft', 'info_nce'\], found 'triplet'"),
    ("zero_temperature", nothing, fit_settings(loss={"temperature": 0}), ValueError, "Expected `temperature` above 0, found 0"),
    ("large_beta", nothing, fit_settings(loss={"beta": 2.0}), ValueError, r"Expected `beta` in \[0, 1\], found 2.0"),
    ("zero_dof", nothing, fit_settings(loss={"dof_latent": 0.0}), ValueError, "Expected `dof_latent` above 0, found 0"),
    ("unknown_kernel", nothing, fit_settings(loss={"kernel": "rbf"}), ValueError, "Expected `kernel` in .*found 'rbf'"),
    ("one_timestep", nothing, fit_settings(diffusion={"n_timesteps": 1}), ValueError, "Expected `n_timesteps` of at least 2, found 1"),
    ("no_steps", nothing, fit_settings(diffusion={"n_steps": 0}), ValueError, "Expected `n_steps` in 1 .. 1000, found 0"),
    ("too_many_steps", nothing, fit_settings(diffusion={"n_steps": 1001}), ValueError, "Expected `n_steps` in 1 .. 1000, found 1001"),
    ("eta_unread", nothing, fit_settings(diffusion={"eta": 0.5}), ValueError,
     "Expected `eta` of 0 for `sampler` 'dpmpp_2m', which does not read it, found 0.5. Set `sampler` to 'ddim'"),
    ("large_eta", nothing, fit_settings(diffusion={"eta": 1.5}), ValueError, r"Expected `eta` in \[0, 1\], found 1.5"),
    ("no_memory", nothing, fit_settings(diffusion={"ema_decay": 1.0}), ValueError, r"Expected `ema_decay` in \[0, 1\), found 1.0"),
    ("guidance_alone", nothing, fit_settings(diffusion={"guidance_scale": 2.0}), ValueError, "Expected `condition_dropout` above 0 .*found 0"),
    ("unknown_condition", nothing, fit_settings(diffusion={"condition": "text"}), ValueError, "Expected `condition` in .*found 'text'"),
    ("label_condition_alone", nothing, fit_settings(diffusion={"condition": "label"}), ValueError, "Expected `label_key` for condition='label'"),
    ("unknown_sampler", nothing, fit_settings(diffusion={"sampler": "euler"}), ValueError, "Expected `sampler` in .*found 'euler'"),
    ("batch_of_one", nothing, fit_settings(training={"batch_size": 1}), ValueError, "Expected `batch_size` of at least 2, found 1"),
    ("no_learning_rate", nothing, fit_settings(training={"encoder_lr": 0}), ValueError, "Expected `encoder_lr` above 0, found 0"),
    ("infinite_learning_rate", nothing, fit_settings(training={"generator_lr": float("inf")}), ValueError, "Expected a finite `generator_lr`, found inf"),
    ("negative_weight_decay", nothing, fit_settings(training={"weight_decay": -1}), ValueError, "Expected `weight_decay` of at least 0, found -1"),
    ("no_view", nothing, fit_settings(training={"n_views": 0}), ValueError, "Expected `n_views` of at least 1, found 0"),
    ("all_dropped", nothing, fit_settings(training={"input_dropout": 1.0}), ValueError, r"Expected `input_dropout` in \[0, 1\) or None, found 1.0"),
    ("no_patience", nothing, fit_settings(training={"patience": 0}), ValueError, "Expected `patience` of at least 1 or None, found 0"),
    ("unknown_schedule", nothing, fit_settings(training={"schedule": "adversarial"}), ValueError, "Expected `schedule` in .*found 'adversarial'"),
    ("negative_epochs", nothing, fit_settings(training={"warmup_epochs": -1}), ValueError, "Expected `warmup_epochs` of at least 0 or None, found -1"),
    ("views_of_an_untrained_generator", nothing, fit_settings(training={"generator_epochs": 0}), ValueError,
     "Expected at least 1 `generator_epochs` for view_rate=0.5, found 0"),
    ("diverging", nothing, fit_settings(training={"generator_lr": 1e30, "generator_epochs": 9, "lr_schedule": "constant"}), RuntimeError,
     "Expected a finite loss of the generator, found .*Lower `generator_lr`"),
    ("unknown_generator", nothing, fit_settings(domain={"generator": "gan"}), ValueError, "Expected `generator` in .*found 'gan'"),
    ("unknown_views", nothing, fit_settings(domain={"views": "crop"}), ValueError, "Expected `views` in .*found 'crop'"),
    ("no_width", nothing, fit_settings(domain={"n_semantic": 0}), ValueError, "Expected `n_semantic` of at least 1, found 0"),
    ("layer_of_no_width", nothing, fit_settings(domain={"encoder_hidden": [8, 0]}), ValueError, "Expected `encoder_hidden` of positive widths"),
    ("width_of_text", nothing, fit_settings(domain={"encoder_hidden": ["8"]}), TypeError, "Expected `domain.encoder_hidden` of type int, found '8'"),
    ("text_for_widths", nothing, fit_settings(domain={"encoder_hidden": "500"}), TypeError, "`domain.encoder_hidden` of type tuple, found '500'"),
    ("no_swap", nothing, fit_settings(domain={"swap_rate": 0.0}), ValueError, r"Expected `swap_rate` in \(0, 1\], found 0.0"),
    ("clipped_to_nothing", nothing, fit_settings(domain={"max_value": 0}), ValueError, "Expected `max_value` above 0, found 0"),
    ("settings_of_text", nothing, lambda s: TrainingConfig(batch_size="64"), TypeError, "Expected `batch_size` of type int, found '64'"),
    ("domain_of_text", nothing, lambda s: CellsConfig(n_latent="64"), TypeError, "Expected `n_latent` of type int, found '64'"),
    ("view_rate_above_one", nothing, fit(view_rate=1.5), ValueError, r"Expected `view_rate` in \[0, 1\], found 1.5"),
    ("view_rate_negative", nothing, fit(view_rate=-0.1), ValueError, r"Expected `view_rate` in \[0, 1\], found -0.1"),
    ("view_rate_nan", nothing, fit(view_rate=float("nan")), ValueError, "Expected a finite `view_rate`, found nan"),
    ("view_rate_of_text", nothing, fit(view_rate="0.1"), TypeError, "Expected `view_rate` of type float, found '0.1'"),
    ("negative_cycles", nothing, fit(n_cycles=-1), ValueError, "Expected `n_cycles` of at least 0, found -1"),
    ("half_a_cycle", nothing, fit(n_cycles=0.5), TypeError, "Expected `n_cycles` of type int, found 0.5"),
    ("no_epochs", nothing, fit(max_epochs=0), ValueError, "Expected `max_epochs` of at least 1, found 0"),
    ("epochs_of_text", nothing, fit(max_epochs="10"), TypeError, "Expected `max_epochs` of type int, found '10'"),
    ("half_an_epoch", nothing, fit(max_epochs=1.5), TypeError, "Expected `max_epochs` of type int, found 1.5"),
    ("negative_seed", nothing, fit(random_state=-1), ValueError, "Expected `random_state` of at least 0, found -1"),
    ("no_seed", nothing, fit(random_state=None), TypeError, "Expected `random_state` to be a whole number, found None"),
    ("seed_of_text", nothing, fit(random_state="0"), TypeError, "Expected `random_state` to be a whole number, found '0'"),
]  # fmt: skip

USE: list[Row] = [
    ("path_for_model", nothing, lambda s: diffaug.tl.embed(s.adata, "model"), TypeError, "Expected `model` to be a DiffAug or a Baseline, found str. Fit one"),
    ("none_for_model", nothing, lambda s: diffaug.tl.generate(None, 3), TypeError, "Expected `model` to be a DiffAug, found NoneType"),
    ("dict_for_model", nothing, lambda s: diffaug.tl.augment(s.adata, {}), TypeError, "Expected `model` to be a DiffAug, found dict"),
    ("unfitted_embed", nothing, embed("unfitted"), RuntimeError, "Expected a fitted model, found one that was never fitted"),
    ("unfitted_generate", nothing, generate(3, which="unfitted"), RuntimeError, "Expected a fitted model, found one that was never"),
    ("model_of_arrays", nothing, embed("arrays"), ValueError, "Expected a model fitted by `tl.fit`, found one fitted on arrays"),
    ("array_to_embed", nothing, lambda s: diffaug.tl.embed(s.x, s.model()), TypeError, "Expected `adata` to be an AnnData, found ndarray"),
    ("no_cells_to_embed", replaced(lambda a: a[:0].copy()), embed(), ValueError, "with cells and genes, found 0 cells"),
    ("part_of_backed_to_embed", backed_part, embed(), ValueError,
     "Expected `adata` whole, found a part of one that is backed by a file. Call `adata.to_memory"),
    ("backed_without_values_to_embed", backed_without_values, embed(), ValueError, "Expected values in `adata.X`, found none"),
    ("backed_by_genes_to_embed", backed_by_genes, embed(), ValueError,
     r"Expected `adata.X` stored cell by cell \(dense or csr\), found it stored gene by gene \(csc\)"),
    ("backed_to_augment", backed, lambda s: diffaug.tl.augment(s.adata, s.model()), ValueError,
     "Expected `adata` in memory, found it backed by a file. Call `adata.to_memory"),
    ("nan_to_embed", one_value(np.nan), embed(), ValueError, "Expected finite values in `adata.X`, found 2 NaN"),
    ("too_large_to_embed", values(lambda x: x.astype(np.float64) * 1e300), embed(), ValueError, "within the range of float32"),
    ("layer_missing", nothing, embed("layer"), KeyError, r"Did not find `adata.layers\['logged'\]`. Available layers: \['counts'\]"),
    ("doubled_genes_to_embed", replaced(doubled), embed(), ValueError, "Expected unique gene names, found 'gene_0' more than once"),
    ("missing_genes", replaced(lambda a: a[:, 3:].copy()), embed(), ValueError,
     "This model was fitted on 30 genes, found 27; missing e.g. 'gene_0', 'gene_1', 'gene_2'. Pass missing='fill'"),
    ("other_gene_names", replaced(renamed), embed(missing="fill"), ValueError,
     r"fitted on genes such as \['gene_0', 'gene_1'\], found none of them in `adata` \(it has e.g. \['ENSG0'"),
    ("unknown_missing", nothing, embed(missing="zero"), ValueError, r"Expected `missing` in \['error', 'fill'\], found 'zero'"),
    ("counts_to_log_model", counts(), embed(), ValueError, "fitted on log-normalised values, found raw counts in `adata.X`"),
    ("scaled_to_log_model", values(lambda x: x - x.mean(axis=0)), embed(), ValueError, "log-normalised values, found scaled ones"),
    ("scaled_to_counts_model", values(lambda x: x - x.mean(axis=0)), embed("counts"), ValueError, "found scaled ones .*Use the values before"),
    ("counts_to_scaled_model", counts(), embed("scaled"), ValueError, "This model was fitted on scaled values, found raw counts"),
    ("log_to_scaled_model", nothing, embed("scaled"), ValueError, "This model was fitted on scaled values, found none below 0"),
    ("rates_to_log_model", values(lambda x: np.expm1(x) * 10), embed(), ValueError, "fitted on log-normalised values, found values up to"),
    ("cut_counts_to_counts_model", cut_counts, embed("part"), ValueError,
     "Expected about .* of the counts in `adata.X` on the model's genes, as in training, found 100%"),
    ("empty_cells_to_counts_model", counts(rows(lambda x: x.__setitem__(3, 0))), embed("counts"), ValueError, "found 1 empty cells"),
    ("rep_missing", nothing, embed("rep"), KeyError, r"Did not find `adata.obsm\['X_pca'\]`"),
    ("rep_of_other_width", written("obsm/X_pca", lambda a: np.ones((60, 5))), embed("rep"), ValueError,
     r"This model was fitted on 8 dimensions of `adata.obsm\['X_pca'\]`, found 5"),
    ("bad_key_added", nothing, embed(key_added=["a"]), TypeError, "Expected `key_added` to be a non-empty string or None"),
    ("no_views", nothing, augment(n_views=0), ValueError, "Expected `n_views` of at least 1, found 0"),
    ("half_a_view", nothing, augment(n_views=1.5), TypeError, "Expected `n_views` to be a whole number, found 1.5"),
    ("unknown_kind", nothing, augment(kind="crop"), ValueError, r"Expected `kind` in \['diffaug', 'mixup', 'feature_swap', 'mask', 'noise', 'thinning'\], found 'crop'"),
    ("no_strength", nothing, augment(strength=0), ValueError, r"Expected `strength` in \(0, 1\], found 0"),
    ("large_strength", nothing, augment(strength=2, kind="mixup"), ValueError, r"Expected `strength` in \(0, 1\], found 2"),
    ("strength_of_text", nothing, augment(strength="1"), TypeError, "Expected `strength` to be a number, found '1'"),
    ("bad_seed_to_augment", nothing, augment(random_state=-1), ValueError, "Expected `random_state` of at least 0, found -1"),
    ("mixup_of_one", replaced(lambda a: a[:1].copy()), augment(kind="mixup"), ValueError, "Expected at least 2 cells for mixup views, found 1"),
    ("views_without_generator", nothing, augment("encoder"), RuntimeError, "Expected a trained generator, found a model fitted with the encoder alone"),
    ("views_without_label", replaced(without_types), augment("label"), KeyError,
     r"Did not find `adata.obs\['cell_type'\]` \(the model's label_key\)"),
    ("views_of_unknown_label", written("obs/cell_type", lambda a: "new"), augment("label"), ValueError, "Expected labels among .*found 'new'"),
    ("nothing_to_generate", nothing, generate(), ValueError, "Expected one of `n_obs`, `like` and `groupby`, found none"),
    ("generate_zero", nothing, generate(0), ValueError, "Expected `n_obs` of at least 1, found 0"),
    ("generate_negative", nothing, generate(-5), ValueError, "Expected `n_obs` of at least 1, found -5"),
    ("generate_half", nothing, generate(2.5), TypeError, "Expected `n_obs` to be a whole number, found 2.5"),
    ("generate_text", nothing, generate("10"), TypeError, "Expected `n_obs` to be a whole number, found '10'"),
    ("generate_true", nothing, generate(True), TypeError, "Expected `n_obs` to be a whole number, found True"),
    ("generate_without_generator", nothing, generate(3, which="encoder"), RuntimeError, "Expected a trained generator"),
    ("bad_seed_to_generate", nothing, generate(3, random_state=0.5), TypeError, "Expected `random_state` to be a whole number, found 0.5"),
    ("numbers_without_group", nothing, generate(n={"type_0": 3}), ValueError, "Expected .*found none"),
    ("numbers_without_group_but_n_obs", nothing, generate(5, n=3), ValueError, "Expected `groupby` with `n`, found none"),
    ("group_and_number", nothing, generate(5, groupby="cell_type"), ValueError, r"Expected `n` \(cells by group\) with `groupby`, found `n_obs`"),
    ("unknown_groupby", nothing, generate(groupby="celltype"), KeyError, "Expected groupby among .*found 'celltype'. Did you mean 'cell_type'"),
    ("unknown_group", nothing, generate(groupby="cell_type", n={"type_9": 3}), KeyError, "Expected a group of 'cell_type' among .*found 'type_9'. Did you mean"),
    ("negative_number_of_group", nothing, generate(groupby="cell_type", n={"type_0": -1}), ValueError, r"Expected `n\['type_0'\]` of at least 0, found -1"),
    ("half_a_cell_of_group", nothing, generate(groupby="cell_type", n={"type_0": 1.5}), TypeError, r"Expected `n\['type_0'\]` to be a whole number, found 1.5"),
    ("no_cell_of_any_group", nothing, generate(groupby="cell_type", n={"type_0": 0}), ValueError, "Expected at least 1 cell in `n`, found"),
    ("zero_of_each_group", nothing, generate(groupby="cell_type", n=0), ValueError, "Expected `n` of at least 1, found 0"),
    ("list_of_numbers", nothing, generate(groupby="cell_type", n=[3, 3, 3]), TypeError, r"Expected `n` to be a whole number, found \[3, 3, 3\]"),
    ("like_and_group", nothing, lambda s: generate(like=s.adata, groupby="batch")(s), ValueError, "Expected `like` or `groupby`, found both"),
    ("like_an_array", nothing, lambda s: generate(like=s.x)(s), TypeError, "Expected `like` to be an AnnData, found ndarray"),
    ("like_nobody", nothing, lambda s: generate(like=s.adata[:0].copy())(s), ValueError, "Expected `like` with cells and genes, found 0 cells"),
    ("like_other_genes", nothing, lambda s: generate(like=s.adata[:, 3:].copy())(s), ValueError, "fitted on 30 genes, found 27"),
    ("like_many_negative", nothing, lambda s: generate(-1, like=s.adata)(s), ValueError, "Expected `n_obs` of at least 1, found -1"),
]  # fmt: skip

KEEPING: list[Row] = [
    ("no_model", nothing, load(), FileNotFoundError, "Expected a model folder with 'config.json', found none in"),
    ("file_for_model", a_file, load(), FileNotFoundError, "Expected a model folder with 'config.json', found none in"),
    ("foreign_folder", foreign, load(), ValueError, "Expected a diffaug model in .*found another kind of file"),
    ("truncated_weights", truncated, load(), ValueError, "Expected whole safetensors weights in .*found a damaged file"),
    ("number_for_folder", nothing, lambda s: DiffAug.load(3), TypeError, "Expected `path` to name a folder, found 3"),
    ("load_to_unknown_device", saved, load(device="tpu"), ValueError, "Expected `device` .*found 'tpu'"),
    ("existing_model", saved, save("model"), FileExistsError, "Expected a new folder, found .*Pass overwrite=True"),
    ("file_in_the_way", a_file, save("model", overwrite=True), FileExistsError, "Expected .*to be a folder, found a file"),
    ("other_things_in_the_way", results, save("model", overwrite=True), FileExistsError, "Expected a model's folder to overwrite, found other things in .*'thesis.tex'"),
    ("folder_in_a_file", a_file, save("model", "deep", "model"), OSError, "Expected a place where .*can be written, found"),
    ("save_to_number", nothing, lambda s: s.model().save(3), TypeError, "Expected `path` to name a folder, found 3"),
    ("save_unfitted", nothing, lambda s: s.model("unfitted").save(s.folder / "model"), RuntimeError, "Expected a fitted model, found one"),
]  # fmt: skip

ARRAYS: list[Row] = [
    ("list", nothing, arrays([[1.0, 2.0]] * 20), TypeError, "Expected a numpy array or a scipy csr or csc matrix of cells, found list"),
    ("frame", nothing, arrays(pd.DataFrame(np.ones((20, 3)))), TypeError, "csr or csc matrix of cells, found DataFrame"),
    ("tensor", nothing, arrays(torch.ones(20, 3)), TypeError, "csr or csc matrix of cells, found Tensor"),
    ("coo", nothing, arrays(lambda s: sp.coo_matrix(s.x)), TypeError, "csr or csc matrix of cells, found coo_matrix"),
    ("text", nothing, arrays(np.full((20, 3), "a")), TypeError, "Expected real numbers, found dtype <U1"),
    ("complex_array", nothing, arrays(np.ones((20, 3), complex)), TypeError, "Expected real numbers, found dtype complex128"),
    ("vector", nothing, arrays(np.ones(20)), ValueError, r"Expected cells of shape \(n_cells, n_features\), found shape \(20,\)"),
    ("cube", nothing, arrays(np.ones((20, 3, 3))), ValueError, r"Expected cells of shape .*found shape \(20, 3, 3\)"),
    ("no_features", nothing, arrays(np.ones((20, 0))), ValueError, r"Expected cells of shape .*found shape \(20, 0\)"),
    ("two_events", nothing, arrays(np.ones((2, 3))), ValueError, "Expected at least 3 events to train on, found 2"),
    ("nan_array", nothing, arrays(np.full((20, 3), np.nan)), ValueError, "Expected finite values, found 60 NaN or infinite"),
    ("inf_array", nothing, arrays(np.array([[1, np.inf, -np.inf]] * 20)), ValueError, "Expected finite values, found 40 NaN or infinite"),
    ("large_array", nothing, arrays(np.full((20, 3), 1e300)), ValueError, "Expected values within the range of float32, found larger"),
    ("nan_csr", nothing, arrays(sp.csr_matrix(np.array([[1, np.nan]] * 20))), ValueError, "Expected finite values, found 20 NaN"),
    ("short_batch", nothing, arrays(np.ones((20, 3)), batch=np.zeros(19)), ValueError, r"Expected `batch` of shape \(20,\), .*found \(19,\)"),
    ("square_labels", nothing, arrays(np.ones((20, 3)), labels=np.zeros((20, 2))), ValueError, r"Expected `labels` of shape \(20,\), .*found \(20, 2\)"),
    ("other_width", nothing, lambda s: s.model().embed(s.x[:, :9]), ValueError, r"fitted on events of shape \(30,\), found \(9,\)"),
    ("nan_to_the_encoder", nothing, lambda s: s.model().embed(np.full((2, 30), np.nan)), ValueError, "Expected finite values, found 60 NaN"),
    ("no_events", nothing, lambda s: s.model().augment(s.x[:0]), ValueError, "Expected at least 1 event, found 0"),
    ("list_of_events", nothing, lambda s: s.model().augment(s.x.tolist()), TypeError, "csr or csc matrix of cells, found list"),
    ("source_too_large", nothing, lambda s: s.model().generate(source=[60]), ValueError, "Expected `source` to be row numbers below 60, found"),
    ("source_negative", nothing, lambda s: s.model().generate(source=[-1]), ValueError, "Expected `source` to be row numbers below 60"),
    ("source_empty", nothing, lambda s: s.model().generate(source=np.array([], int)), ValueError, "Expected `source` to be row numbers below 60"),
    ("source_of_floats", nothing, lambda s: s.model().generate(source=[0.5]), TypeError, "Expected `source` to be a list of row numbers, found dtype float64"),
    ("source_mask", nothing, lambda s: s.model().generate(source=np.ones(60, bool)), TypeError, "Expected `source` to be a list of row numbers, found dtype bool"),
    ("source_and_number", nothing, lambda s: s.model().generate(3, source=[1]), ValueError, "Expected exactly one of `n_obs` and `source`, found both"),
    ("short_labels", nothing, lambda s: s.model("label").augment(s.x, labels=np.array(["type_0"])), ValueError, r"Expected `labels` of shape \(60,\)"),
    ("labels_missing", nothing, lambda s: DiffAug(settings(diffusion={"condition": "label"})).fit(s.x, labels=["a", np.nan] * 30),
     ValueError, "Expected `labels` with a name of each event, found 30 missing"),
    ("batches_missing", nothing, lambda s: DiffAug(SMALL).fit(s.x, batch=np.array(["a", None, "b"] * 20, dtype=object)),
     ValueError, "Expected `batch` with a name of each event, found 20 missing"),
    ("unknown_backend", nothing, lambda s: DiffAug(backend="sounds"), ValueError, "Expected a backend among .*found 'sounds'"),
]  # fmt: skip

TABLE = [*INPUT, *SETTINGS, *USE, *KEEPING, *ARRAYS]
FORM = re.compile(r"(Expected .*\bfound\b|Did not find |This (model|generator) .*\bfound\b)")


def test_the_table_is_sound() -> None:
    names = [name for name, *_ in TABLE]
    assert len(names) == len(set(names))
    assert len(names) >= 45


@pytest.mark.parametrize(("prepare", "call", "error", "message"), [pytest.param(*r[1:], id=r[0]) for r in TABLE])
def test_bad_input(
    scene: Scene, summarise: Callable, prepare: Step, call: Step, error: type[Exception], message: str
) -> None:
    prepare(scene)
    is_backed = scene.adata.isbacked
    before = None if is_backed else summarise(scene.adata)
    files = {f: f.read_bytes() for f in scene.folder.rglob("*") if f.is_file()}
    with pytest.raises(error) as raised:
        call(scene)
    assert type(raised.value) is error or error is OSError
    text = str(raised.value.args[0]) if not isinstance(raised.value, OSError) else str(raised.value)
    assert re.search(message, text), text
    assert FORM.match(text), text
    assert "\n" not in text
    assert {f: f.read_bytes() for f in scene.folder.rglob("*") if f.is_file()} == files
    if is_backed:
        scene.adata.file.close()
    else:
        assert summarise(scene.adata) == before


def test_the_scene_is_good(scene: Scene) -> None:
    """The control: without the mistakes of the table all of it works."""
    fit()(scene)
    for kind in ("log", "counts", "scaled", "rep", "layer", "label", "encoder"):
        assert scene.model(kind).n_obs == 60
    embed()(scene)
    assert augment()(scene).n_obs == 60
    assert generate(3)(scene).n_obs == 3
    assert generate(groupby="cell_type", n={"type_0": 2})(scene).n_obs == 2
    save("model")(scene)
    load(device="cpu")(scene)
    arrays(lambda s: s.x, batch=np.zeros(60), labels=np.zeros(60))(scene)


def test_failed_fit_writes_nothing_at_all(scene: Scene, summarise: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it fails in the last moment, after the training."""
    before = summarise(scene.adata)
    monkeypatch.setattr(DiffAug, "embed", lambda self, x: (_ for _ in ()).throw(MemoryError("on purpose")))
    with pytest.raises(MemoryError, match="on purpose"):
        fit()(scene)
    assert summarise(scene.adata) == before
