"""Methods that are told the batches of cells, and one that is not; each makes one embedding, or DiffAug's pair of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from _common import pca_50
from anndata import AnnData

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
    import scvi as package

    package.settings.seed = seed
    scratch = AnnData(cells.layers["counts"].copy(), obs=cells.obs[[BATCH]].copy(), var=cells.var[[]].copy())
    package.model.SCVI.setup_anndata(scratch, batch_key=BATCH)
    model = package.model.SCVI(scratch)
    model.train(enable_progress_bar=False)
    return model.get_latent_representation()


def concord(cells: AnnData, seed: int) -> np.ndarray:
    """CONCORD's defaults with the domain key."""
    from concord import Concord

    scratch = AnnData(cells.X.copy(), obs=cells.obs[[BATCH]].copy(), var=cells.var[[]].copy())
    Concord(scratch, save_dir=None, seed=seed, domain_key=BATCH).fit_transform(output_key="x")
    return scratch.obsm["x"]


def diffaug(cells: AnnData, seed: int) -> dict[str, Made]:
    """The default preset, and its twin with the loop off; both are of one fit, whose shared parts count for each."""
    import diffaug as package

    begin = time.perf_counter()
    fitted = package.DiffAug(random_state=seed, device="cpu")
    fitted.fit(cells.X, batch=cells.obs[BATCH].astype(str).to_numpy(), twin=True, progress=False)
    total = time.perf_counter() - begin
    assert fitted.twin is not None
    own, twin = (sum(r.seconds for r in m.history if r.cycle > 0) for m in (fitted, fitted.twin))
    return {
        "model": Made(fitted.embed(cells.X).semantic, total - twin),
        "twin": Made(fitted.twin.embed(cells.X).semantic, total - own),
    }


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
    "diffaug": Method(diffaug, {"twin": "DiffAug, loop off", "model": "DiffAug"}),
}


def made_by(name: str, cells: AnnData, seed: int) -> dict[str, Made]:
    """Embeddings of a method by the key of the result."""
    begin = time.perf_counter()
    found = METHODS[name].embed(cells, seed)
    if not isinstance(found, dict):
        found = {"model": Made(np.asarray(found, dtype=np.float32), time.perf_counter() - begin)}
    return {key: found[key] for key in METHODS[name].lines}
