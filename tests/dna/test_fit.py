"""Text in, text out: fit, embed, augment, generate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import diffaug
from diffaug import DiffAug, dna
from diffaug.backends.dna import DNABackend

SMALL: dict[str, Any] = {
    "training": {
        "warmup_epochs": 1,
        "generator_epochs": 1,
        "mixed_epochs": 1,
        "batch_size": 16,
        "view_rate": 0.5,
        "adapt_view_rate": False,
    },
    "diffusion": {"n_steps": 3},
    "domain": {"n_semantic": 8, "n_latent": 4, "filter_width": 4, "generator_widths": [4, 4, 4, 4], "n_neighbors": 3},
}


def sequences(n: int = 24, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        "".join(rng.choice(list("ACGTN"), size=rng.integers(20, 31), p=[0.3, 0.2, 0.2, 0.25, 0.05])) for _ in range(n)
    ]


@pytest.fixture(scope="module")
def model() -> DiffAug:
    return dna.fit(sequences(), config=SMALL, device="cpu", progress=False)


def test_fit_is_that_of_the_arrays(model: DiffAug) -> None:
    """Nothing happens to the sequences on their way but the encoding."""
    assert isinstance(model, diffaug.DiffAug)
    assert model.event_shape == (4, max(map(len, sequences())))
    same = DiffAug(SMALL, backend="dna", device="cpu").fit(dna.encode(sequences()), progress=False)
    np.testing.assert_array_equal(same.embed(dna.encode(sequences())).semantic, dna.embed(sequences(), model).semantic)
    lengths = [len(s) for s in sequences()]
    assert model.meta == {
        "lengths": [min(lengths), max(lengths)],
        "n_with_unknown": sum("N" in s for s in sequences()),
    }


def test_any_form_of_the_input(model: DiffAug, tmp_path: Path) -> None:
    text = sequences(5, seed=1)
    expected = dna.embed(text, model).semantic
    assert expected.shape == (5, 8)
    dna.write_sequences(tmp_path / "s.fa.gz", text, list("abcde"))
    forms = (
        np.array(text),
        pd.Series(text),
        [s.lower() for s in text],
        tmp_path / "s.fa.gz",
        dna.read_sequences(tmp_path / "s.fa.gz"),
    )
    for form in forms:
        np.testing.assert_array_equal(dna.embed(form, model).semantic, expected)


PAGE = Path(__file__).parents[2] / "docs" / "dna.md"


def test_the_first_lines_of_the_page_run() -> None:
    """As they stand, but with small networks and three epochs."""
    code = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    code = code.replace("max_epochs=40", "max_epochs=3, config=SMALL, progress=False").replace("(400, 128)", "(400, 8)")
    for call in ("n_views=2", "generate(model, 200"):
        code = code.replace(call, f"{call}, progress=False")
    found: dict[str, Any] = {"SMALL": SMALL}
    exec(code, found)
    assert found["embedding"].shape == (400, 8)
    assert [len(each) for each in found["views"]] == [2] * 100
    assert len(found["made"]) == found["report"].n_synthetic == 200
    assert isinstance(found["report"].gc.value, float)


def test_the_page_has_the_settings_of_the_presets() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    said = {row[0].removeprefix("| "): row[1:] for row in rows if len(row) == 3}
    for column, name in enumerate(("default", "paper")):
        config = DNABackend.preset(name)
        plan, d = config.training, config.diffusion
        assert "-".join(map(str, config.domain.generator_widths)) in said["generator"][column]
        assert {"x0": "predicts the clean", "epsilon": "the noise"}[d.prediction_type] in said["generator"][column]
        assert f"{d.n_steps} steps" in said["sampler"][column]
        assert {"info_nce": "InfoNCE", "soft": "soft loss"}[config.loss.name] in said["loss"][column]
        assert said["lambda"][column].startswith(f"{plan.view_rate:g}")
        assert plan.adapt_view_rate == ("lowered" in said["lambda"][column])
        assert said["batch, learning rate"][column].startswith(f"{plan.batch_size}, 1e-3")
        assert plan.encoder_lr == plan.generator_lr == 1e-3
    plan = DNABackend.preset("default").training
    steps = (
        f"{plan.warmup_steps:,}, {plan.generator_steps:,} and {plan.mixed_steps:,} steps and at most {plan.max_steps:,}"
    )
    assert said["epochs A, B, A"][0].startswith(
        f"{plan.encoder_passes}, {plan.generator_passes} and {plan.encoder_passes} "
    )
    assert steps in said["epochs A, B, A"][0]
    plan = DNABackend.preset("paper").training
    epochs = f"{plan.warmup_epochs}, {plan.generator_epochs}, {plan.mixed_epochs}"
    assert said["epochs A, B, A"][1].startswith(epochs)


def test_the_page_says_what_no_rows_are_of() -> None:
    (paragraph,) = (p for p in PAGE.read_text(encoding="utf-8").split("\n\n") if "75.6 %" in p)
    for said in ("49 %", "91.5 %", "an analysis of the published coordinates of which no rows were kept here"):
        assert said in " ".join(paragraph.split())


def test_settings(model: DiffAug) -> None:
    off = dna.fit(sequences(), config=SMALL, view_rate=0.0, n_cycles=1, max_epochs=3, device="cpu", progress=False)
    assert off.config.training.view_rate == 0
    assert [r.phase for r in off.history] == ["A", "B", "A"]
    assert model.config.training.view_rate == 0.5
    paper = DNABackend.preset("paper")
    assert diffaug.DiffAug("paper", backend="dna").config == paper


def test_twin() -> None:
    """Equal to the model up to the generated views: with none of them there is no difference to find."""
    model = dna.fit(sequences(), config=SMALL, twin=True, device="cpu", progress=False)
    assert model.twin is not None
    a, b = (dna.embed(sequences(), m).semantic for m in (model, model.twin))
    assert not np.array_equal(a, b)
    off = dna.fit(sequences(), config=SMALL, view_rate=0.0, device="cpu", progress=False)
    np.testing.assert_array_equal(dna.embed(sequences(), off).semantic, b)


def test_labels_are_read_for_one_setting_only() -> None:
    config = {**SMALL, "diffusion": {"n_steps": 3, "condition": "label"}}
    with pytest.raises(ValueError, match="Expected `labels` for condition='label'"):
        dna.fit(sequences(), config=config, progress=False)
    labels = np.arange(24) % 3
    model = dna.fit(sequences(), labels=labels, config=config, device="cpu", progress=False)
    views = dna.augment(sequences(3), model, labels=[0, 1, 2], progress=False)
    assert len(views) == 3
    with pytest.raises(ValueError, match="Expected labels among"):
        dna.augment(sequences(3), model, labels=[0, 1, 7], progress=False)
    for none in ("", None, np.nan):
        unlabelled = [none, *map(str, labels[1:])]
        with pytest.raises(
            ValueError, match="each of the 24 sequences, found 1 without one .* at place 0. Leave these"
        ):
            dna.fit(sequences(), labels=unlabelled, config=config, device="cpu", progress=False)
        with pytest.raises(ValueError, match="each of the 3 sequences, found 1 without one"):
            dna.augment(sequences(3), model, labels=["0", none, "1"], progress=False)
        dna.augment(sequences(3), model, kind="mutation", labels=["0", none, "1"], progress=False)  # not read
    # Control: without that setting labels change nothing.
    a, b = (dna.fit(sequences(), labels=y, config=SMALL, device="cpu", progress=False) for y in (None, labels))
    np.testing.assert_array_equal(dna.embed(sequences(), a).semantic, dna.embed(sequences(), b).semantic)


def test_augment(model: DiffAug) -> None:
    text = sequences(6, seed=2)
    for kind in ("diffaug", *DNABackend.view_kinds):
        views = dna.augment(text, model, n_views=2, kind=kind, random_state=3, progress=False)
        assert [len(each) for each in views] == [2] * 6
        assert views == dna.augment(text, model, n_views=2, kind=kind, random_state=3, progress=False)
        lengths = [[len(v) for v in each] for each in views]
        if kind == "diffaug":
            assert all(20 <= n <= 30 for each in lengths for n in each)
        else:
            assert lengths == [[len(s)] * 2 for s in text]
    views = dna.augment(text, model, kind="reverse_complement", progress=False)
    assert [v for (v,) in views] == [dna.reverse_complement(s) for s in text]


def test_generate(model: DiffAug) -> None:
    made = dna.generate(model, 7, random_state=1, progress=False)
    assert len(made.sequences) == len(made.source) == 7
    assert all(set(s) <= set("ACGT") and 20 <= len(s) <= 30 for s in made.sequences)
    assert made.sequences == dna.generate(model, 7, random_state=1, progress=False).sequences
    assert made.sequences != dna.generate(model, 7, random_state=2, progress=False).sequences
    assert dna.generate(model, source=[3, 3], progress=False).source.tolist() == [3, 3]
    with pytest.raises(ValueError, match="Expected exactly one of `n_obs` and `source`"):
        dna.generate(model, progress=False)


def test_save_and_load(model: DiffAug, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    loaded = DiffAug.load(tmp_path / "m", device="cpu")
    assert loaded.meta == model.meta
    assert dna.generate(loaded, 5, progress=False).sequences == dna.generate(model, 5, progress=False).sequences


def test_wrong_use(model: DiffAug) -> None:
    longest = model.event_shape[1]
    with pytest.raises(
        ValueError, match=rf"Expected sequences of at most {longest} bases, found {longest + 1} at place 1"
    ):
        dna.embed(["ACGT", "A" * (longest + 1)], model)
    with pytest.raises(ValueError, match=r"at most 25 bases \(`domain.max_length`\)"):
        config = {**SMALL, "domain": {**SMALL["domain"], "max_length": 25}}
        dna.fit(sequences(), config=config, device="cpu", progress=False)
    with pytest.raises(ValueError, match="found 31 at place 24. Crop them"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffaug.dna._fit.encode", None)  # said before the arrays are made
        config = {**SMALL, "domain": {**SMALL["domain"], "max_length": 30}}
        dna.fit([*sequences(), "A" * 31], config=config, device="cpu", progress=False)
    with pytest.raises(TypeError, match="Expected a list of sequences, found a single str"):
        dna.fit("ACGT")
    with pytest.raises(ValueError, match="Expected at least 3 events to train on, found 2"):
        dna.fit(["ACGT", "TTTT"], config=SMALL, device="cpu")
    with pytest.raises(KeyError, match="n_semantics.*Did you mean 'n_semantic'"):
        dna.fit(sequences(), config={"domain": {"n_semantics": 8}})
    cells = DiffAug({"training": {"n_cycles": 0, "warmup_epochs": 1, "mixed_epochs": 0}}, device="cpu")
    cells.fit(np.random.default_rng(0).random((10, 4), dtype=np.float32), progress=False)
    for use in (lambda: dna.embed(["ACGT"], cells), lambda: dna.generate(cells, 2)):
        with pytest.raises(ValueError, match="Expected a model of DNA, found one of cells"):
            use()
    with pytest.raises(RuntimeError, match="Expected a fitted model"):
        dna.embed(["ACGT"], DiffAug(backend="dna"))
