"""Methods that are told the batches of cells, and one that is not; each makes one embedding, or DiffAug's pair of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from _common import pca_50
from anndata import AnnData
from peers.ours import ONE_ENCODER
from peers.single_cell import concord_embedding, scvi_latent
from torch import Tensor

from diffaug import _model_fit
from diffaug.core.bank import filled_bank
from diffaug.core.plan import EpochRecord
from diffaug.core.training import Trainer

#: Column of the batches.
BATCH = "batch"


class Made(NamedTuple):
    """An embedding, and what it took."""

    x: np.ndarray
    seconds: float


def pca(cells: AnnData, seed: int) -> np.ndarray:
    return pca_50(cells)


def harmony(cells: AnnData, seed: int) -> np.ndarray:
    """Harmony's defaults on 50 principal components."""
    import harmonypy

    found = harmonypy.run_harmony(pca_50(cells), cells.obs[[BATCH]], BATCH, verbose=False, random_state=seed, ncores=1)
    corrected = np.asarray(found.Z_corr)
    return corrected if len(corrected) == cells.n_obs else corrected.T


def scvi(cells: AnnData, seed: int) -> np.ndarray:
    """scvi-tools' defaults with the batch key."""
    return scvi_latent(cells, seed, batch_key=BATCH)


def concord(cells: AnnData, seed: int) -> np.ndarray:
    """CONCORD's defaults with the domain key."""
    return concord_embedding(cells, seed, domain_key=BATCH)


def one_encoder(cells: AnnData, seed: int) -> dict[str, Made]:
    """As :func:`diffaug`, without an ensemble."""
    return diffaug(cells, seed, ONE_ENCODER)


def diffaug(cells: AnnData, seed: int, config: Mapping[str, Any] | None = None) -> dict[str, Made]:
    """The default preset, and its twin with the loop off; both are of one fit, whose shared parts count for each."""
    import diffaug as package

    begin = time.perf_counter()
    fitted = package.DiffAug(config, random_state=seed, device="cpu")
    fitted.fit(cells.X, batch=cells.obs[BATCH].astype(str).to_numpy(), twin=True, progress=False)
    total = time.perf_counter() - begin
    assert fitted.twin is not None
    own, twin = (sum(r.seconds for r in m.history if r.cycle > 0) for m in (fitted, fitted.twin))
    return {
        "model": Made(fitted.embed(cells.X).semantic, total - twin),
        "twin": Made(fitted.twin.embed(cells.X).semantic, total - own),
    }


class NearMixtures(Trainer):
    """The bank holds mixtures with the cells that generated views would be drawn for; a cell without one has hand-made views."""

    def _fill(self) -> EpochRecord:
        others, stream = self.other_batches(), self._random["bank"]
        assert others is not None  # the fit has told the batches

        def make(index: Tensor) -> Tensor:
            near = others.draw(index, stream)
            share = torch.rand(len(index), 1, generator=stream)
            mixed = torch.lerp(self.data[index], self.data[near], share)
            return torch.where((near != index)[:, None], mixed, self.hand_views(index, stream))

        n_views = self.config.training.n_views
        self.bank = filled_bank(self.n_obs, n_views, tuple(self.data.shape[1:]), self.device, make)
        self.trust = 1.0
        return EpochRecord("fill", 0, 0, n_generated=self.n_obs * n_views, view_rate=self._view_rate)


def mixtures(cells: AnnData, seed: int) -> np.ndarray:
    """What the loop's choice of cells does without a generator: the same warm-up and the same epochs after it."""
    import diffaug as package

    plan = package.DiffAug(device="cpu").config.training.resolve(cells.n_obs)
    epochs = {
        "warmup_epochs": plan.warmup_epochs,
        "generator_epochs": 1,
        "mixed_epochs": plan.mixed_epochs,
        **ONE_ENCODER["training"],
    }
    fitted = package.DiffAug({"training": epochs}, random_state=seed, device="cpu")
    with mock.patch.object(_model_fit, "Trainer", NearMixtures):
        fitted.fit(cells.X, batch=cells.obs[BATCH].astype(str).to_numpy(), progress=False)
    return fitted.embed(cells.X).semantic


class Method(NamedTuple):
    """How a method is shown, what makes it, and the lines it gives by the key of the result."""

    embed: Callable[..., Any]
    lines: dict[str, str]
    stochastic: bool = True


METHODS = {
    "pca": Method(pca, {"model": "PCA-50 (not told)"}, stochastic=False),
    "harmony": Method(harmony, {"model": "Harmony"}),
    "scvi": Method(scvi, {"model": "scVI"}),
    "concord": Method(concord, {"model": "CONCORD"}),
    "mixtures": Method(mixtures, {"model": "DiffAug, one encoder, mixtures for views"}),
    "diffaug_one": Method(one_encoder, {"twin": "DiffAug, one encoder, loop off", "model": "DiffAug, one encoder"}),
    "diffaug": Method(diffaug, {"twin": "DiffAug, loop off", "model": "DiffAug"}),
}


def made_by(name: str, cells: AnnData, seed: int) -> dict[str, Made]:
    """Embeddings of a method by the key of the result."""
    begin = time.perf_counter()
    found = METHODS[name].embed(cells, seed)
    if not isinstance(found, dict):
        found = {"model": Made(np.asarray(found, dtype=np.float32), time.perf_counter() - begin)}
    return {key: found[key] for key in METHODS[name].lines}
