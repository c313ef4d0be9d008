"""One method on one set with one seed, measured; this runs in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from peers import PEERS, Made, Peer, variants

from harness.child import peak_memory_mb, reset_peak_memory
from harness.sets import read_prepared
from harness.store import Entry, now

#: Distributions whose versions are kept with every result; a peer's own are added.
_ALWAYS = ("diffaug", "torch", "numpy", "scikit-learn", "scanpy")
_DISTRIBUTIONS = {"umap": "umap-learn", "scvi": "scvi-tools"}


@dataclass(frozen=True)
class Request:
    """What to compute. Entries are by role of the method's results; ``needed`` is the one it builds on."""

    peer: str
    seed: int
    data: Path
    entries: dict[str, Entry]
    needed: Entry | None = None
    variants: Path | None = None


def peers_with(file: Path | None) -> dict[str, Peer]:
    """All methods, and those of a file of variants."""
    return PEERS if file is None else {**PEERS, **variants(file)}


def why_missing(names: list[str], file: Path | None) -> dict[str, str]:
    """Why methods cannot run here; an empty text for those that can."""
    peers = peers_with(file)
    return {name: peers[name].why_missing() for name in names}


def compute(request: Request) -> None:
    """Run the method and write its entries."""
    import torch

    peer = peers_with(request.variants)[request.peer]
    settings = peer.settings
    missing = peer.why_missing()  # imports what it needs, before the clock starts
    if missing:
        raise ImportError(missing)
    adata = read_prepared(request.data)
    if not peer.reads_labels(settings):
        del adata.obs["label"]  # no method can read what it will be judged by
    if request.needed is not None:
        with np.load(request.needed.arrays_file) as arrays:
            for name in set(arrays.files) - {"x"}:
                adata.obsm[name] = arrays[name]
    if peer.compiles:
        peer.embed(_few_random_cells(), 0, **settings)
    np.random.seed(request.seed)  # for packages that use the global state whatever they are told
    torch.manual_seed(request.seed)
    reset_peak_memory()
    base = peak_memory_mb()
    begin = time.perf_counter()
    found = peer.embed(adata, request.seed, **settings)
    seconds = time.perf_counter() - begin
    peak = peak_memory_mb()
    made = found if isinstance(found, dict) else {"model": Made(found)}
    if set(made) != set(request.entries):
        raise ValueError(f"Expected results {sorted(request.entries)} of {peer.name!r}, found {sorted(made)}.")
    for role, result in made.items():
        x = _checked(result.x, adata.n_obs)
        record = {
            "method": peer.name,
            "role": role,
            "seconds": seconds if result.seconds is None else result.seconds,
            "peak_mb": peak,
            "base_mb": base,
            "gpu_peak_mb": _gpu_peak_mb(),
            "readings": dict(result.readings),
            "settings": settings,
            "n_obs": adata.n_obs,
            "n_features": adata.n_vars,
            "n_dims": x.shape[1],
            "versions": _versions(peer),
            "date": now(),
        }
        request.entries[role].write(json.loads(json.dumps(record)), x=x, **result.kept)


def _few_random_cells() -> AnnData:
    rng = np.random.default_rng(0)
    return AnnData(rng.gamma(1.0, size=(100, 60)).astype(np.float32))


def _checked(x: Any, n_obs: int) -> np.ndarray:
    """A finite float32 matrix with a row for each cell, or an error that becomes a row."""
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[0] != n_obs or x.shape[1] < 1:
        raise ValueError(f"Expected an embedding of shape ({n_obs}, d), found shape {x.shape}.")
    x = x.astype(np.float32)
    n_bad = int((~np.isfinite(x)).sum())
    if n_bad:
        raise ValueError(f"Expected finite values in the embedding, found {n_bad} that are not.")
    return x


def _gpu_peak_mb() -> float:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return 0.0
    return torch.cuda.max_memory_allocated() / 2**20


def _versions(peer: Peer) -> dict[str, str]:
    found = {}
    for name in (*_ALWAYS, *(m.partition(".")[0] for m in peer.requires)):
        try:
            found[_DISTRIBUTIONS.get(name, name)] = version(_DISTRIBUTIONS.get(name, name))
        except PackageNotFoundError:
            continue
    return found
