"""Every baseline runs on every domain of the registry. A new domain gets this suite with its case in ``conftest.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffaug import DiffAug
from diffaug.backends import available_backends, get_backend
from diffaug.baselines import METHODS, Baseline

N = 60
pytestmark = pytest.mark.parametrize("backend", available_backends())


@pytest.mark.parametrize("method", METHODS)
def test_fit_and_embed(backend: str, case: Any, method: str) -> None:
    x = case.make(N, 0)
    model = Baseline(method, case.config, backend=backend, device="cpu").fit(x, progress=False)
    found, again = model.embed(x), model.embed(x[:5])
    assert found.semantic.dtype == found.latent.dtype == np.float32
    assert found.semantic.shape[0] == found.latent.shape[0] == N
    assert np.isfinite(found.semantic).all() and np.isfinite(found.latent).all()
    np.testing.assert_allclose(again.semantic, found.semantic[:5], atol=1e-4, rtol=1e-4)
    assert len(model.history) == model.config.training.encoder_epochs > 0
    untrained = {**case.config, "training": {**case.config["training"], "warmup_epochs": 0, "mixed_epochs": 0}}
    start = Baseline(method, untrained, backend=backend, device="cpu").fit(x, progress=False).embed(x)
    assert not np.allclose(start.semantic, found.semantic, atol=1e-3)


def test_generated_views_are_taken_as_augment_returns_them(backend: str, case: Any) -> None:
    x = case.make(N, 0)
    views = DiffAug(case.config, backend=backend, device="cpu").fit(x, progress=False).augment(x, 2)
    model = Baseline("simsiam", case.config, backend=backend, device="cpu")
    model.fit(x, generated=views, view_rate=0.5, progress=False)
    assert 0 < sum(r.n_generated for r in model.history) < sum(r.n_positives for r in model.history)


def test_all_kinds_of_views_at_once(backend: str, case: Any) -> None:
    x = case.make(N, 0)
    kinds = get_backend(backend).view_kinds
    model = Baseline("byol", case.config, views=kinds, augment_both=True, backend=backend, device="cpu")
    assert np.isfinite(model.fit(x, progress=False).embed(x).semantic).all()
