"""A generator that is told the batch of each cell: what it learns of it, how it is asked, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_cells import CONFIG, expression

from diffaug import DiffAug

N, SHIFTED = 120, slice(0, 6)
NAMES = np.array(["left", "right"])
#: Long enough to learn a batch.
LONG = {
    **CONFIG,
    "training": {
        **CONFIG["training"],
        "warmup_epochs": 20,
        "generator_epochs": 400,
        "mixed_epochs": 2,
        "generator_lr": 3e-3,
    },
}


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Cells of two batches; in the second one some features are higher by two."""
    x, codes = expression(N), np.arange(N) % 2
    x[codes == 1, SHIFTED] += 2
    return x, NAMES[codes]


def fitted(config: Any = CONFIG, **options: Any) -> DiffAug:
    x, batch = cells()
    return DiffAug(config, random_state=3, device="cpu").fit(x, **{"batch": batch, **options}, progress=False)


@pytest.fixture(scope="module")
def model() -> DiffAug:
    return fitted()


@pytest.fixture(scope="module")
def trained() -> DiffAug:
    return fitted(LONG)


def height(x: np.ndarray) -> float:
    return float(x[..., SHIFTED].mean())


def test_views_are_of_the_batch_that_is_asked_for(trained: DiffAug) -> None:
    """Whatever the cell's own batch was; and of none in particular they lie between."""
    x, batch = cells()
    real = {name: height(x[batch == name]) for name in NAMES}
    low, high, between = (height(trained.augment(x, 4, batch=name)) for name in (*NAMES, None))
    assert low == pytest.approx(real["left"], abs=0.7)
    assert high == pytest.approx(real["right"], abs=0.7)
    assert low < between < high
    each = trained.augment(x, batch=batch)[:, 0]
    assert height(each[batch == "left"]) < height(each[batch == "right"]) - 1


def test_new_cells_are_of_the_batch_of_their_source(trained: DiffAug) -> None:
    _, batch = cells()
    made = trained.generate(source=np.arange(N)).values
    assert height(made[batch == "left"]) < height(made[batch == "right"]) - 1


def test_it_is_kept(model: DiffAug, tmp_path: Path) -> None:
    x, _ = cells()
    assert model.batches == ["left", "right"]
    assert model.config.diffusion.condition_on_batch is True
    assert model.asked.diffusion.condition_on_batch is None
    loaded = DiffAug.load(model.save(tmp_path / "m"), device="cpu")
    assert loaded.batches == model.batches
    for batch in ("right", None):
        np.testing.assert_array_equal(loaded.augment(x, batch=batch), model.augment(x, batch=batch))
    np.testing.assert_array_equal(loaded.generate(9).values, model.generate(9).values)


@pytest.mark.parametrize("batch", [None, np.zeros(N, dtype=int)])
def test_one_batch_is_none(batch: Any) -> None:
    x, _ = cells()
    found = fitted(batch=batch)
    assert found.batches == []
    assert not found.config.diffusion.condition_on_batch
    with pytest.raises(
        ValueError, match="Expected no `batch` for a model whose generator is told of none, found 'left'"
    ):
        found.augment(x, batch="left")


def test_it_can_be_left_out() -> None:
    """Then views stay in the cell's own batch, as far as its condition says it."""
    without = fitted({**CONFIG, "diffusion": {**CONFIG.get("diffusion", {}), "condition_on_batch": False}})
    assert without.batches == []
    assert without.n_parameters["generator"] < fitted().n_parameters["generator"]


def test_a_later_fit_forgets_it() -> None:
    x, batch = cells()
    again = fitted()
    again.fit(x, progress=False)
    assert again.batches == []
    assert again.augment(x).shape == (N, 1, x.shape[1])
    again.fit(x, batch=batch, progress=False)
    assert again.batches == ["left", "right"]


def test_random_conditions_are_not_told() -> None:
    """Of ablation A2 nothing is to be known of the cell."""
    noise = {**CONFIG, "diffusion": {**CONFIG.get("diffusion", {}), "condition": "noise"}}
    assert fitted(noise).batches == []
    noise["diffusion"]["condition_on_batch"] = True
    with pytest.raises(ValueError, match="Expected `condition_on_batch` of False for `condition` 'noise'"):
        DiffAug(noise)


@pytest.mark.parametrize("batch", [None, np.zeros(N, dtype=int)])
def test_the_setting_needs_batches(batch: Any) -> None:
    told = {**CONFIG, "diffusion": {**CONFIG.get("diffusion", {}), "condition_on_batch": True}}
    with pytest.raises(ValueError, match="Expected two batches or more for condition_on_batch=True, found"):
        fitted(told, batch=batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 3}, "found '3'. Name one of these, or None for none in particular"),
        ({"batch": "middle"}, r"Expected batches among \['left', 'right'\], found 'middle'"),
        (
            {"batch": np.array(["left"] * (N - 1))},
            r"Expected `batch` of shape \(120,\), one of each event, found \(119,\)",
        ),
        ({"batch": np.array(["left"] * (N - 1) + ["up"])}, "found 'up'"),
        ({"batch": "left", "kind": "mixup"}, "Expected kind='diffaug' with `batch`, found 'mixup'"),
    ],
)
def test_wrong_batches(model: DiffAug, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.augment(cells()[0], **options)


def test_codes_are_names_too() -> None:
    x, batch = cells()
    found = fitted(batch=(batch == "right").astype(int))
    assert found.batches == ["0", "1"]
    np.testing.assert_array_equal(found.augment(x, batch=1), found.augment(x, batch=["1"] * N))
    some = [None, *["1"] * (N - 1)]
    np.testing.assert_array_equal(found.augment(x, batch=some)[0], found.augment(x)[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"n_cycles": 2}},
        {"training": {"schedule": "joint"}},
        {"diffusion": {"condition": "latent"}},
        {"diffusion": {"condition": "label"}},
        {"diffusion": {"condition_dropout": 0.2, "guidance_scale": 2.0}},
    ],
)
def test_with_other_settings(changes: dict[str, Any], tmp_path: Path) -> None:
    """Fit, save, load, augment and generate."""
    x, batch = cells()
    config = {s: {**CONFIG.get(s, {}), **changes.get(s, {})} for s in CONFIG}
    labels = (np.arange(N) % 3).astype(str)
    found = fitted(config, labels=labels)
    assert found.batches == ["left", "right"]
    loaded = DiffAug.load(found.save(tmp_path / "m"), device="cpu")
    asked = {"labels": labels} if changes.get("diffusion", {}).get("condition") == "label" else {}
    np.testing.assert_array_equal(loaded.augment(x, batch=batch, **asked), found.augment(x, batch=batch, **asked))
    np.testing.assert_array_equal(loaded.generate(7).values, found.generate(7).values)


def test_a_sweep_equals_fits_of_their_own() -> None:
    x, batch = cells()
    model = DiffAug(CONFIG, random_state=3, device="cpu").fit(x, batch=batch, sweep=[0.25], twin=True, progress=False)
    alone = fitted({**CONFIG, "training": {**CONFIG["training"], "view_rate": 0.25}})
    np.testing.assert_array_equal(model.sweep[0.25].embed(x).semantic, alone.embed(x).semantic)
    assert model.twin is not None
    assert model.twin.batches == model.batches


def test_a_damaged_folder(model: DiffAug, tmp_path: Path) -> None:
    """Batches of other events than the model's are refused."""
    folder = model.save(tmp_path / "m")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"right"', '"right", "third"'))
    with pytest.raises(ValueError, match="Expected weights of the denoiser that fit config.json|Expected batches"):
        DiffAug.load(folder, device="cpu")
