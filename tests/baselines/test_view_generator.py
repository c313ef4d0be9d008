"""The class: what its generators train on, and what it refuses. The suite over all domains is in ``tests/backends``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_cells import CONFIG, TWO_CYCLES

from diffaug import DiffAug
from diffaug.baselines import ViewGenerator
from diffaug.core.learner import Learner

SMALL: dict[str, dict[str, Any]] = {"training": TWO_CYCLES, "diffusion": {"n_steps": 3}, "domain": CONFIG["domain"]}


def events(n: int = 90) -> np.ndarray:
    rng = np.random.default_rng(0)
    mean = rng.gamma(1.0, 1.0, size=12) + np.where(np.arange(n)[:, None] % 3 == np.arange(12) % 3, 4, 0)
    return np.log1p(rng.poisson(mean)).astype(np.float32)


def made(kind: str = "vae", config: Any = SMALL, **more: Any) -> ViewGenerator:
    return ViewGenerator(kind, config, device="cpu", **{"settings": {"width": 4}, **more})


def test_the_condition_is_diffaugs() -> None:
    """The encoder of the GAN's condition is that of DiffAug with one encoder at the start of its first B phase, to the bit."""
    x = events()
    config = {**SMALL, "training": {**SMALL["training"], "n_cycles": 1}}
    ours = DiffAug(config, device="cpu", random_state=3).fit(x, progress=False)
    found = made("gan", config, random_state=3).fit(x, progress=False)._maker.encoder.state_dict()  # type: ignore[attr-defined]
    for name, value in ours._condition_encoder.state_dict().items():
        assert torch.equal(found[name], value), name
    other = made("gan", config, random_state=4).fit(x, progress=False)._maker.encoder.state_dict()  # type: ignore[attr-defined]
    assert not torch.equal(other["body.0.weight"], found["body.0.weight"])


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_epochs_are_those_of_diffaugs_generator(kind: str) -> None:
    x = events()
    assert len(made(kind).fit(x, progress=False).history) == 2 * 2
    twin = DiffAug(SMALL, device="cpu").fit(x, max_epochs=7, progress=False)
    found = made(kind).fit(x, max_epochs=7, progress=False)
    assert len(found.history) == sum(r.phase == "B" for r in twin.history)


@pytest.mark.parametrize(("size", "batch", "n_steps"), [(None, 32, 2), (16, 16, 5)])
def test_batches_are_those_of_diffaugs_generator(size: int | None, batch: int, n_steps: int) -> None:
    """As many steps on as many events: of 90 in an epoch two batches of 32, or five of 16."""
    config = {**SMALL, "training": {**SMALL["training"], **({} if size is None else {"generator_batch_size": size})}}
    maker = made(config=config).fit(events(), progress=False)._maker
    assert maker is not None and maker.batch_size == batch
    learners = [network for network in maker.networks().values() if isinstance(network, Learner)]
    assert learners and {learner.n_steps for learner in learners} == {2 * 2 * n_steps}


def test_the_callers_random_numbers_are_left_alone() -> None:
    x = events()
    torch.manual_seed(1)
    one = made("gan").fit(x, progress=False).augment(x)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(one, made("gan").fit(x, progress=False).augment(x))
    assert torch.equal(state, torch.get_rng_state())


def test_single_genes_are_corrected_as_diffaugs_are() -> None:
    """Zeros as often as in the data, also from a VAE whose means are never zero."""
    x = events(800)
    views = made().fit(x, progress=False).augment(x)[:, 0]
    np.testing.assert_allclose((views == 0).mean(axis=0), (x == 0).mean(axis=0), atol=0.1)
    assert 0.5 < (x == 0).mean(axis=0).max()  # or there were nothing to correct


def test_new_events_and_settings() -> None:
    model = made(settings={"n_code": 3, "width": 4}).fit(events(), progress=False)
    assert model.settings.n_code == 3
    assert model.augment(events()[:5], 2).shape == (5, 2, 12)
    assert repr(model) == "ViewGenerator(vae, cells, (12,), cpu)"
    assert repr(made("gan")) == "ViewGenerator(gan, cells, not fitted)"


def test_errors() -> None:
    x = events()
    with pytest.raises(ValueError, match=r"Expected `kind` in \['vae', 'gan'\], found 'flow'"):
        made("flow")
    with pytest.raises(KeyError, match="Expected settings of .vae. among .*, found 'n_noise'"):
        made(settings={"n_noise": 3})
    with pytest.raises(RuntimeError, match="Expected a fitted generator, found one that was never fitted"):
        made().augment(x)
    for training in ({"n_cycles": 0}, {"generator_epochs": 0}):
        config = {**SMALL, "training": {**SMALL["training"], **training}}
        with pytest.raises(ValueError, match="Expected epochs of the generator, found n_cycles="):
            made(config=config).fit(x, progress=False)
    with pytest.raises(ValueError, match="Expected at least 3 events to train on, found 2"):
        made().fit(x[:2], progress=False)
    model = made().fit(x, progress=False)
    with pytest.raises(ValueError, match="fitted on events of shape"):
        model.augment(x[:, :3])
    with pytest.raises(ValueError, match="Expected `n_views` of at least 1, found 0"):
        model.augment(x, 0)
    config = {**SMALL, "training": {**SMALL["training"], "generator_lr": 1e30, "lr_schedule": "constant"}}
    with pytest.raises(RuntimeError, match="Expected a finite loss of the generator"):
        made(config=config).fit(x, progress=False)


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_progress_bar(capsys: pytest.CaptureFixture, kind: str) -> None:
    made(kind).fit(events(), progress=False)
    assert capsys.readouterr().err == ""
    made(kind).fit(events())
    assert kind in capsys.readouterr().err
