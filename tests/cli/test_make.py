"""fit, embed and augment do what the Python calls do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

import diffaug
from diffaug.cli import main
from diffaug.core.training import Trainer

SameCells = Callable[[anndata.AnnData, anndata.AnnData], bool]
TINY = {
    "training": {
        "n_encoders": 2,
        "warmup_steps": 4,
        "generator_steps": 4,
        "mixed_steps": 4,
        "encoder_passes": 0,
        "generator_passes": 0,
    },
    "domain": {"generator_width": 32},
}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1].removeprefix("diffaug-cells: error: ")


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_equals_the_python_call_to_the_bit(work: Path, same_cells: SameCells) -> None:
    adata = anndata.read_h5ad("cells.h5ad")
    model = diffaug.tl.fit(adata, config=TINY, progress=False)
    written = anndata.read_h5ad("cells.diffaug.h5ad")
    assert same_cells(written, adata)
    loaded = diffaug.DiffAug.load("cells.diffaug.model")
    assert np.array_equal(loaded.generate(20).values, model.generate(20).values)
    assert loaded.config == model.config
    # Control: another seed gives another embedding.
    assert main(["fit", "cells.h5ad", "-o", "new.h5ad", "--config", "tiny.toml", "--seed", "1"]) == 0
    assert not np.array_equal(anndata.read_h5ad("new.h5ad").obsm["X_diffaug"], adata.obsm["X_diffaug"])


def test_every_flag_of_fit_reaches_the_call(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    real = diffaug.tl.fit

    def spy(adata: anndata.AnnData, **options: object) -> diffaug.DiffAug:
        seen.update(options)
        return real(adata, **{**options, "layer": None, "use_rep": None, "max_epochs": 3})  # type: ignore[arg-type]

    monkeypatch.setattr(diffaug.tl, "fit", spy)
    flags = "--layer counts --use-rep X_pca --batch-key batch --label-key cell_type --key-added mine --max-epochs 7 "
    flags += (
        "--n-cycles 2 --view-rate 0.25 --n-encoders 3 --twin --groupby cell_type --device cpu --seed 5 --config tiny.toml --preset paper "
        "--checkpoint run.ckpt -o new.h5ad --model m --max-obs 100 --sample-by batch"
    )
    assert main(["fit", "cells.h5ad", *flags.split()]) == 0
    config = seen.pop("config")
    assert seen == {
        "layer": "counts", "use_rep": "X_pca", "batch_key": "batch", "label_key": "cell_type", "key_added": "mine",
        "max_epochs": 7, "n_cycles": 2, "view_rate": 0.25, "n_encoders": 3, "twin": True, "groupby": "cell_type", "device": "cpu",
        "checkpoint": Path("run.ckpt"), "random_state": 5, "max_obs": 100, "sample_by": "batch", "progress": False,
    }  # fmt: skip
    # The paper's settings, with those of the file on top.
    assert isinstance(config, diffaug.Config)
    assert config.loss.name == "soft" and config.domain.generator == "listing2"
    assert config.training.warmup_steps == 4 and config.domain.generator_width == 32
    assert "mine" in anndata.read_h5ad("new.h5ad").obsm
    assert Path("m/config.json").is_file()


def test_flags_win_over_the_file(work: Path) -> None:
    Path("s.toml").write_text(
        Path("tiny.toml").read_text().replace("[training]", "[training]\nn_cycles = 2\nview_rate = 0.5")
    )
    for flags, expected in (([], (2, 0.5)), (["--n-cycles", "1"], (1, 0.5)), (["--view-rate", "0"], (2, 0.0))):
        assert main(["fit", "cells.h5ad", "-o", "new.h5ad", "--config", "s.toml", "--overwrite", *flags]) == 0
        training = json.loads(Path("new.model/config.json").read_text())["config"]["training"]
        assert (training["n_cycles"], training["view_rate"]) == expected


def test_twin_is_written_and_its_gain_is_said(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["-o", "new.h5ad", "--config", "tiny.toml", "--twin", "--groupby", "cell_type"]
    assert main(["fit", "cells.h5ad", *flags]) == 0
    written = anndata.read_h5ad("new.h5ad")
    assert written.obsm["X_diffaug_twin"].shape == written.obsm["X_diffaug"].shape
    assert list(written.uns["diffaug"]["loop_gain"]["measure"]) == ["split_half_overlap", "linear", "knn", "kmeans"]
    log = capsys.readouterr().err
    assert "generated views" in log
    assert main(["info", "new.h5ad", "--json"]) == 0
    gain = json.loads(capsys.readouterr().out)["results"]["diffaug"]["loop_gain"]
    assert set(gain["measures"]) == {"split_half_overlap", "linear", "knn", "kmeans"}
    assert gain["measures"]["knn"]["twin"] == written.uns["diffaug"]["loop_gain"]["twin"][2]
    assert gain["measures"]["kmeans"]["low"] is None  # it has no interval, and JSON no NaN
    assert main(["info", "new.h5ad"]) == 0
    text = capsys.readouterr().out
    assert len(gain["said"]) == 5 and all(line in text and line in log for line in gain["said"])
    assert gain["said"][-1].startswith("On these cells") and tomllib.loads(text[text.index("[loss]") :])


def test_fit_on_a_sample_embeds_the_whole_file(work: Path) -> None:
    """The matrix stays in its file, which may be the output too."""
    cells = anndata.read_h5ad("cells.h5ad")
    diffaug.tl.fit(cells, config=TINY, max_obs=100, sample_by="batch", twin=True, progress=False)
    shutil.copy("cells.h5ad", "own.h5ad")
    flags = ["--config", "tiny.toml", "--max-obs", "100", "--sample-by", "batch", "--twin"]
    assert main(["fit", "own.h5ad", "-o", "own.h5ad", "--overwrite", *flags]) == 0
    written = anndata.read_h5ad("own.h5ad")
    for key in ("X_diffaug", "X_diffaug_latent", "X_diffaug_twin"):
        np.testing.assert_allclose(written.obsm[key], cells.obsm[key], atol=1e-5)
    assert written.uns["diffaug"]["n_obs_trained"] == 100 and len(written.uns["diffaug"]["loop_gain"]["twin"]) == 1
    assert (written.X != cells.X).nnz == 0
    assert diffaug.DiffAug.load("own.model").n_obs == 100
    cells.X = csc_matrix(cells.X)
    cells.write_h5ad("by_genes.h5ad")  # is read as a whole
    assert main(["fit", "by_genes.h5ad", "-o", "new.h5ad", *flags[:4]]) == 0
    assert anndata.read_h5ad("new.h5ad").obsm["X_diffaug"].shape == written.obsm["X_diffaug"].shape


@pytest.mark.parametrize("command", [["fit", "--max-obs", "100"], ["embed", "--model", "cells.diffaug.model"]])
def test_a_full_disk_is_said_before_the_work(
    work: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diffaug.tl, "fit", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr(diffaug.tl, "embed", lambda *_, **__: pytest.fail("embedded"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 1000))  # type: ignore[attr-defined]
    assert main([command[0], "cells.h5ad", "-o", "new.h5ad", *command[1:]]) == 1
    assert "Expected room for" in said(capsys) and not Path("new.h5ad").exists()


def test_a_fit_that_was_cut_goes_on(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], same_cells: SameCells
) -> None:
    """Ctrl-C in the training, then results that cannot be written: the same command ends as one that was not cut."""
    command = ["fit", "cells.h5ad", "-o", "new.h5ad", "--config", "tiny.toml", "--checkpoint", "run.ckpt"]
    step = Trainer.b_step

    def interrupted(self: Trainer, *args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "b_step", interrupted)
        assert main(command) == 130
        assert Path("run.ckpt").is_file() and not Path("new.h5ad").exists()
        before = Path("run.ckpt").read_bytes()
        assert main([*command, "--seed", "1"]) == 2
        assert "found one of another: random_state=0 and not 1" in said(capsys)
        assert Path("run.ckpt").read_bytes() == before
    with monkeypatch.context() as patch:
        patch.setattr(diffaug.DiffAug, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert main(command) == 1
        assert Path("run.ckpt").is_file() and not Path("new.h5ad").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "a_step", None)  # there is nothing left to train
        assert main(command) == 0
    assert not Path("run.ckpt").exists()
    assert same_cells(anndata.read_h5ad("new.h5ad"), anndata.read_h5ad("cells.diffaug.h5ad"))
    weights = [(Path(m) / "weights.safetensors").read_bytes() for m in ("new.model", "cells.diffaug.model")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--checkpoint cells.h5ad",
            "Expected a file of its own for --checkpoint, found 'cells.h5ad', which is, or is in",
        ),
        ("--checkpoint new.h5ad", "the input or the result 'new.h5ad'. Choose another name."),
        ("--checkpoint m/run", "Expected a file and a folder beside each other, found 'm/run' and 'm'"),
        ("--checkpoint m", "Expected a file and a folder beside each other, found 'm' and 'm'"),
        ("--checkpoint cells.h5ad/run", "Expected a file of its own for --checkpoint"),
        (
            "--checkpoint held_out.h5ad",
            "Expected a checkpoint of diffaug in 'held_out.h5ad', found a damaged or a foreign",
        ),
        ("--checkpoint held_out.h5ad/run", "Expected a folder to write 'run' into, found a file"),
    ],
)
def test_checkpoints_in_the_way_are_refused(
    work: Path,
    flags: str,
    message: str,
    listing: Callable[[Path], dict[str, bytes]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = listing(work)
    command = ["fit", "cells.h5ad", "-o", "new.h5ad", "--model", "m", "--config", "tiny.toml", *flags.split()]
    assert main(command) == 2
    assert message in said(capsys)
    assert listing(work) == before


def test_max_epochs_caps_the_plan(work: Path) -> None:
    assert main(["fit", "cells.h5ad", "-o", "new.h5ad", "--config", "tiny.toml", "--max-epochs", "3"]) == 0
    history = anndata.read_h5ad("new.h5ad").uns["diffaug"]["history"]
    others = anndata.read_h5ad("cells.diffaug.h5ad").uns["diffaug"]["history"]

    def epochs_of_first(found: dict[str, np.ndarray]) -> int:
        return int(((found["member"] == 0) & (found["phase"] != "fill")).sum())

    assert epochs_of_first(history) <= 3 < epochs_of_first(others)  # without the cap


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "raw"], "Did not find `adata.layers['raw']`. Available layers: []."),
        (["--use-rep", "X_pca"], "Did not find `adata.obsm['X_pca']`. Available: []."),
        (["--layer", "raw", "--use-rep", "X_pca"], "Expected `layer` or `use_rep`, found both"),
        (["--batch-key", "batsh"], "Did you mean 'batch'?"),
        (["--groupby", "cell_type"], "Expected twin=True with groupby='cell_type', found twin=False"),
        (["--twin", "--view-rate", "0"], "this fit is its own loop-off twin"),
        (["--device", "tpu"], "Expected `device` 'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps', found 'tpu'."),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_errors_of_a_fit(options: list[str], message: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "cells.h5ad", "-o", "new.h5ad", *options]) == 2
    assert message in said(capsys)
    assert not Path("new.h5ad").exists() and not Path("new.model").exists()


# --- embed -----------------------------------------------------------------------------------------------------------


def test_embed_equals_the_python_call(work: Path, capsys: pytest.CaptureFixture[str], same_cells: SameCells) -> None:
    assert (
        main(["embed", "held_out.h5ad", "--model", "cells.diffaug.model", "-o", "new.h5ad", "--key-added", "mine"]) == 0
    )
    assert capsys.readouterr().out == "new.h5ad\n"
    adata = anndata.read_h5ad("held_out.h5ad")
    diffaug.tl.embed(adata, diffaug.DiffAug.load("cells.diffaug.model"), key_added="mine")
    assert same_cells(anndata.read_h5ad("new.h5ad"), adata)
    assert adata.obsm["mine"].shape == (120, 80)


def test_embedding_the_training_cells_again(work: Path) -> None:
    assert main(["embed", "cells.h5ad", "--model", "cells.diffaug.model", "-o", "new.h5ad"]) == 0
    again, first = (anndata.read_h5ad(f).obsm["X_diffaug"] for f in ("new.h5ad", "cells.diffaug.h5ad"))
    assert np.array_equal(again, first)


@pytest.mark.parametrize("store", ["csr", "csc", "dense"])
def test_embedding_leaves_the_matrix_as_it_lies_in_the_file(
    store: str, work: Path, same_cells: SameCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the input is replaced; an embedding of before is, and what belonged to it goes."""
    adata = anndata.read_h5ad("cells.diffaug.h5ad")
    adata.obsm["X_diffaug_twin"] = adata.obsm["X_diffaug"].copy()
    adata.uns["diffaug"]["loop_gain"] = {"measure": np.array(["split_half_overlap"])}
    adata.X = {"csr": csr_matrix, "csc": csc_matrix, "dense": np.asarray}[store](adata.to_df().to_numpy())
    adata.write_h5ad("file.h5ad", compression="gzip")
    monkeypatch.setattr("diffaug._new_cells._VALUES_AT_ONCE", 50 * adata.n_vars)
    call = ["embed", "file.h5ad", "--model", "cells.diffaug.model"]
    assert main([*call, "-o", "new.h5ad"]) == 0
    assert main([*call, "-o", "file.h5ad", "--overwrite"]) == 0
    diffaug.tl.embed(adata, diffaug.DiffAug.load("cells.diffaug.model"))
    assert "X_diffaug_twin" not in adata.obsm
    for path in ("new.h5ad", "file.h5ad"):
        found = anndata.read_h5ad(path)
        assert type(found.X) is type(adata.X)
        for key in ("X_diffaug", "X_diffaug_latent"):
            np.testing.assert_allclose(found.obsm.pop(key), adata.obsm[key], rtol=1e-4, atol=1e-5)
        assert same_cells(found, without_embedding(adata))
        with h5py.File(path) as file:
            assert (file["X"] if store == "dense" else file["X/data"]).compression == "gzip"


def test_embedding_leaves_what_it_does_not_know_as_it_lies_in_the_file(work: Path) -> None:
    """Compression, and a table that today's anndata reads and does not write."""
    shutil.copy("cells.h5ad", "file.h5ad")
    with h5py.File("file.h5ad", "r+") as file:
        file.create_dataset("obsm/X_kept", data=np.ones((120, 50), np.float32), compression="gzip")
        file["obsm/X_kept"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        before = file["obsm/X_kept"].id.get_storage_size()
    assert main(["embed", "file.h5ad", "--model", "cells.diffaug.model", "-o", "file.h5ad", "--overwrite"]) == 0
    with h5py.File("file.h5ad") as file:
        assert file["obsm/X_kept"].compression == "gzip" and file["obsm/X_kept"].id.get_storage_size() == before
    assert set(anndata.read_h5ad("file.h5ad").obsm) == {"X_kept", "X_diffaug", "X_diffaug_latent"}


@pytest.mark.filterwarnings("ignore:Element '/.*was written without encoding metadata", "ignore:'/obs'")
def test_a_file_of_before_keeps_the_names_of_its_groups(work: Path) -> None:
    """Until anndata 0.7 `obs` was one array, and the names of its categories lay in `uns`."""
    adata = anndata.read_h5ad("cells.h5ad")
    kinds = adata.obs["cell_type"].astype("category")
    rows = list(zip(map(str, adata.obs_names), kinds.cat.codes, strict=True))
    del adata.obs
    adata.write_h5ad("old.h5ad")
    with h5py.File("old.h5ad", "r+") as file:
        for name in list(file.attrs):
            del file.attrs[name]
        del file["obs"]
        file.create_dataset("obs", data=np.array(rows, dtype=[("index", h5py.string_dtype()), ("cell_type", "i1")]))
        file["uns"].create_dataset("cell_type_categories", data=list(kinds.cat.categories), dtype=h5py.string_dtype())
    before = anndata.read_h5ad("old.h5ad").obs["cell_type"].astype(str).tolist()
    assert before == kinds.astype(str).tolist()
    assert main(["embed", "old.h5ad", "--model", "cells.diffaug.model", "-o", "new.h5ad"]) == 0
    assert anndata.read_h5ad("new.h5ad").obs["cell_type"].astype(str).tolist() == before


def test_embedding_a_file_without_x(work: Path) -> None:
    adata = anndata.read_h5ad("cells.h5ad")
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(adata.n_obs, 5)).astype(np.float32)
    adata.write_h5ad("reps.h5ad")
    call = ["fit", "reps.h5ad", "--use-rep", "X_pca", "--config", "tiny.toml", "-o", "fitted.h5ad"]
    assert main(call) == 0
    adata.X = None
    adata.write_h5ad("bare.h5ad")
    assert main(["embed", "bare.h5ad", "--model", "fitted.model", "-o", "new.h5ad"]) == 0
    again, first = (anndata.read_h5ad(f).obsm["X_diffaug"] for f in ("new.h5ad", "fitted.h5ad"))
    assert np.array_equal(again, first)


def without_embedding(adata: anndata.AnnData) -> anndata.AnnData:
    bare = adata.copy()
    for key in ("X_diffaug", "X_diffaug_latent"):
        del bare.obsm[key]
    return bare


def test_embed_with_missing_genes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anndata.read_h5ad("held_out.h5ad")[:, 2:].copy().write_h5ad("few.h5ad")
    call = ["embed", "few.h5ad", "--model", "cells.diffaug.model", "-o", "new.h5ad"]
    assert main(call) == 2
    assert said(capsys).startswith("This model was fitted on 24 genes, found 22; missing e.g. 'gene0', 'gene1'.")
    assert not Path("new.h5ad").exists()
    assert main([*call, "--missing", "fill"]) == 0
    assert "warning: 2 of 24 genes are missing" in capsys.readouterr().err
    assert anndata.read_h5ad("new.h5ad").uns["diffaug"]["n_filled_genes"] == 2


# --- augment ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "strength"), [("diffaug", 0.5), ("mixup", 1.0), ("feature_swap", 1.0)])
def test_augment_equals_the_python_call(kind: Any, strength: float, work: Path, same_cells: SameCells) -> None:
    call = ["augment", "held_out.h5ad", "--model", "cells.diffaug.model", "-o", "new.h5ad", "--n-views", "2"]
    assert main([*call, "--kind", kind, "--strength", str(strength), "--seed", "3"]) == 0
    model = diffaug.DiffAug.load("cells.diffaug.model")
    adata = anndata.read_h5ad("held_out.h5ad")
    expected = diffaug.tl.augment(adata, model, n_views=2, kind=kind, strength=strength, random_state=3)
    written = anndata.read_h5ad("new.h5ad")
    assert same_cells(written, expected)
    assert written.obs["source_cell"].tolist() == np.repeat(adata.obs_names, 2).tolist()


def test_views_under_another_batch(work: Path, same_cells: SameCells) -> None:
    assert main(["fit", "cells.h5ad", "-o", "b.h5ad", "--config", "tiny.toml", "--batch-key", "batch"]) == 0
    model = diffaug.DiffAug.load("b.model")
    call = ["augment", "held_out.h5ad", "--model", "b.model", "-o", "new.h5ad"]
    assert main([*call, "--batch", model.batches[0]]) == 0
    expected = diffaug.tl.augment(anndata.read_h5ad("held_out.h5ad"), model, batch=model.batches[0])
    assert same_cells(anndata.read_h5ad("new.h5ad"), expected)
    assert main([*call, "--batch", "nowhere", "--overwrite"]) == 2


def test_a_hand_made_view_has_no_strength(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["augment", "held_out.h5ad", "--model", "cells.diffaug.model", "-o", "new.h5ad", "--kind", "mixup"]
    assert main([*call, "--strength", "0.5"]) == 2
    assert "Expected kind='diffaug' for `strength` below 1, found 'mixup'" in capsys.readouterr().err
    assert not Path("new.h5ad").exists()
