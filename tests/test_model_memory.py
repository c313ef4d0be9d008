"""Fits, and models in use, that find no memory: the CPU's real error, in the place where a device would have its own."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_cells import CONFIG, expression

import diffaug
from diffaug import DiffAug, dna
from diffaug.backends.cells import CellsBackend
from diffaug.baselines import Baseline, ViewGenerator
from diffaug.baselines._training import PairTrainer
from diffaug.cli import main
from diffaug.core.bank import ViewBank
from diffaug.core.memory import OutOfMemory
from diffaug.core.training import Trainer

OUT = r" to fit into the memory of this computer, found it out of memory when asked for another 4,000\.0 TB\. "


def too_large(*_: Any, **__: Any) -> Any:
    return torch.empty(10**15)


def make() -> DiffAug:
    return DiffAug(CONFIG, random_state=3, device="cpu")


# --- fits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (CellsBackend, "prepare"),
        (CellsBackend, "to_model"),
        (CellsBackend, "hand_views"),
        (Trainer, "a_step"),
        (Trainer, "b_step"),
        (ViewBank, "__init__"),
        (Trainer, "run_twin"),
    ],
)
def test_a_fit_says_what_it_holds_and_what_to_lower(owner: type, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, step, too_large)
    wanted = (
        "^Expected the training on 80 cells of 15 values"
        + OUT
        + r"It holds 4\.8 kB of cells, 9\.6 kB of generated views "
        r"\(n_views=2\) and the work of a step \(batch_size=32, generator_batch_size=32\)\. Lower n_views or batch_size or "
        r"generator_batch_size, or take fewer cells, fewer values \(genes, pixels, bases\) of each, or smaller networks\. "
    )
    with pytest.raises(OutOfMemory, match=wanted) as caught:
        make().fit(expression(), twin=True, progress=False)
    assert "DefaultCPUAllocator" in str(caught.value.__cause__)


def test_it_names_no_views_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "a_step", too_large)
    config = {**CONFIG, "training": {**CONFIG["training"], "view_rate": 0.0, "generator_batch_size": 8}}
    with pytest.raises(
        OutOfMemory, match=r"4\.8 kB of cells and the work of a step \(batch_size=32, generator_batch_size=8\)"
    ):
        DiffAug(config, device="cpu").fit(expression(), progress=False)


def test_other_errors_of_a_fit_pass_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    monkeypatch.setattr(Trainer, "a_step", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(RuntimeError) as caught:
        make().fit(expression(), progress=False)
    assert caught.value is error


def test_a_smaller_fit_has_the_room_of_the_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where somebody keeps the error, as a notebook does."""
    held: list[weakref.ref[Any]] = []

    def fail(self: Trainer, *_: Any) -> None:
        held.extend(map(weakref.ref, [self.data, self.encoder, self._denoiser.optimizer]))
        too_large()

    monkeypatch.setattr(Trainer, "_fill", fail)
    with pytest.raises(OutOfMemory) as kept:
        make().fit(expression(), progress=False)
    assert len(held) == 3
    assert [ref() for ref in held] == [None] * 3
    assert kept.value.__cause__ is not None


@pytest.mark.parametrize("step", ["_fill", "load_state"])
def test_a_kept_training_goes_on_once_there_is_memory(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the training, and in going on from the file, which is not to blame and must not be called damaged."""
    file = tmp_path / "run.ckpt"

    def fit() -> DiffAug:
        return make().fit(expression(), checkpoint=file, checkpoint_minutes=0, progress=False)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_fill", too_large)
        with pytest.raises(OutOfMemory, match=r"The same call goes on from '.*run\.ckpt' where there is more memory"):
            fit()
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, step, too_large)
        with pytest.raises(OutOfMemory, match=r"The same call goes on from '.*run\.ckpt'"):
            fit()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", too_large)
        with pytest.raises(OutOfMemory, match=r"The same call goes on from '.*run\.ckpt'"):
            fit()
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_b_epoch", None)  # what was trained is not trained again
        found = fit()
    assert found.fingerprint == make().fit(expression(), progress=False).fingerprint


def test_baselines_say_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, file = expression(), tmp_path / "run"
    views = np.stack([x, x, x], axis=1)

    def fit(**options: Any) -> Baseline:
        return Baseline("simclr", CONFIG, device="cpu").fit(x, generated=views, progress=False, **options)

    whole = fit(checkpoint=file, checkpoint_minutes=0)
    with monkeypatch.context() as patch:
        patch.setattr(PairTrainer, "_epoch", too_large)
        wanted = r"4\.8 kB of cells, 14\.4 kB of generated views \(n_views=3\) and the work of a step \(batch_size=32\)\. Lower"
        with pytest.raises(OutOfMemory, match=wanted):
            fit()
        patch.setattr(PairTrainer, "load_state", too_large)
        with pytest.raises(OutOfMemory, match=r"The same call goes on from '.*run'"):
            fit(checkpoint=file)
    with monkeypatch.context() as patch:
        patch.setattr(PairTrainer, "_epoch", None)
        np.testing.assert_array_equal(fit(checkpoint=file).embed(x).latent, whole.embed(x).latent)


@pytest.mark.parametrize(("kind", "step"), [("vae", "evidence_lower_bound"), ("gan", "critic_loss")])
def test_view_generators_say_it_too(kind: str, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = expression()
    maker = ViewGenerator(kind, CONFIG, device="cpu").fit(x, progress=False)
    module = "diffaug.baselines._view_generator"
    monkeypatch.setattr(f"{module}._drawn", too_large)
    with pytest.raises(
        OutOfMemory, match=r"^Expected views \(n_views=2\) of cells" + OUT + "Up to 4,096 are worked on"
    ):
        maker.augment(x, 2)
    monkeypatch.setattr(f"{module}.{step}", too_large)
    with pytest.raises(
        OutOfMemory, match=r"4\.8 kB of cells and the work of a step \(generator_batch_size=32\)\. Lower"
    ):
        ViewGenerator(kind, CONFIG, device="cpu").fit(x, progress=False)


# --- models in use ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> DiffAug:
    return make().fit(expression(), progress=False)


@pytest.mark.parametrize(
    ("use", "broken", "message"),
    [
        (
            lambda m, x: m.embed(x),
            "diffaug.backends._events.encode",
            "the embedding of cells" + OUT + "Up to 4,096 are",
        ),
        (
            lambda m, x: m.augment(x, 3),
            "diffaug._model.draw",
            r"views \(n_views=3\) of 80 cells"
            + OUT
            + "Up to 2,048 are worked on at once, and the results of all are kept",
        ),
        (
            lambda m, x: m.augment(x, 3, kind="mask"),
            "diffaug.backends.cells.mask_features",
            r"views \(n_views=3\) of 80 cells" + OUT + "Up to 240 are worked on at once",
        ),
        (
            lambda m, x: m.generate(7),
            "diffaug._model.draw",
            "7 synthetic cells" + OUT + r"Up to 2,048 are .* Ask for fewer at a time\.",
        ),
        (
            lambda m, x: m.split_half_overlap(x, k=3, max_obs=50),
            "diffaug._model.split_half_overlap",
            "the two embeddings of 50 cells" + OUT + "Lower `max_obs`",
        ),
    ],
    ids=["embed", "augment", "hand-made", "generate", "overlap"],
)
def test_a_model_in_use_says_what_to_lower(
    use: Callable[[DiffAug, np.ndarray], Any],
    broken: str,
    message: str,
    model: DiffAug,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = model.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(broken, too_large)
        with pytest.raises(OutOfMemory, match="^Expected " + message):
            use(model, expression())
    use(model, expression())
    assert model.fingerprint == before


def test_a_model_that_finds_no_place(model: DiffAug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.save(tmp_path / "model")
    monkeypatch.setattr(torch.nn.Module, "to", too_large)
    with pytest.raises(OutOfMemory, match=r"^Expected the model in '.*model'" + OUT + "End other programs"):
        DiffAug.load(tmp_path / "model", device="cpu")


@pytest.mark.parametrize(
    ("use", "broken", "message"),
    [
        (
            lambda: dna.random_embedding(["ACGT" * 4] * 3, device="cpu"),
            "diffaug.dna._peers.run_encoder",
            "the embedding of sequences" + OUT,
        ),
        (
            lambda: dna.peer_score(
                dna.SequenceTable(
                    ["ACGT", "TTTT"] * 4,
                    list("abcdefgh"),
                    labels=np.array(["a", "b"] * 4),
                    split=np.array(["train"] * 6 + ["test"] * 2),
                ),
                "cnn",
                device="cpu",
            ),
            "torch.optim.Adam",
            "the benchmark's network for sequences of 64 bases" + OUT + "Crop the sequences",
        ),
    ],
    ids=["untrained", "cnn"],
)
def test_networks_beside_the_model_for_dna(
    use: Callable[[], Any], broken: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broken, too_large)
    with pytest.raises(OutOfMemory, match="^Expected " + message):
        use()


# --- the faces -------------------------------------------------------------------------------------------------------


def test_cells_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    import anndata

    adata = anndata.AnnData(expression())
    monkeypatch.setattr(Trainer, "a_step", too_large)
    with pytest.raises(OutOfMemory, match="the training on 80 cells"):
        diffaug.tl.fit(adata, config=CONFIG, device="cpu", progress=False)
    assert not adata.obsm and not adata.uns


def test_the_command_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import anndata

    monkeypatch.chdir(tmp_path)
    anndata.AnnData(expression()).write_h5ad("cells.h5ad")
    Path("tiny.toml").write_text("[training]\nwarmup_epochs = 1\ngenerator_epochs = 1\nmixed_epochs = 2\n")
    monkeypatch.setattr(Trainer, "_fill", too_large)
    command = ["fit", "cells.h5ad", "-o", "new.h5ad", "--config", "tiny.toml", "--device", "cpu", "--quiet"]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert err.startswith(
        "diffaug-cells: error: Expected the training on 80 cells of 15 values to fit into the memory of"
    )
    assert err.count("\n") == 1 and "Lower n_views" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.h5ad", "tiny.toml"]
