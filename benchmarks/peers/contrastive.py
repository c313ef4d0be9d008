"""Contrastive methods of others on DiffAug's encoder and trainer, and that encoder as it starts."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData

from peers._registry import register

#: Settings of the generator and the loop, which these methods do not have; their change must not ask for new runs.
_LOOP = {
    "diffusion": None,
    "training": (
        "view_rate",
        "n_encoders",
        "n_views",
        "generator_epochs",
        "generator_steps",
        "generator_passes",
        "generator_batch_size",
        "generator_lr",
    ),
    "domain": ("generator", "generator_width", "generator_depth", "generator_dropout", "n_depth_strata"),
}


def resolve_encoder(settings: dict[str, Any]) -> dict[str, Any]:
    """The whole configuration of the encoder's training in place of a preset's name or a few changes."""
    from peers.ours import resolve_config

    config = resolve_config(settings)["config"]
    for section, names in _LOOP.items():
        if names is None:
            config.pop(section, None)
        else:
            config[section] = {k: v for k, v in config[section].items() if k not in names}
    return {**settings, "config": config}


@register("random_encoder", "Random encoder", resolve=resolve_encoder, note="DiffAug's encoder, not trained.")
def random_encoder(adata: AnnData, seed: int, *, config: dict[str, Any] | None = None) -> np.ndarray:
    from diffaug import DiffAug
    from diffaug.backends import get_backend
    from diffaug.core.devices import seeded_init
    from diffaug.core.inference import encode

    backend = get_backend("cells")(DiffAug(config, device="cpu").config.domain, (adata.n_vars,))
    backend.prepare(adata.X)
    with seeded_init(seed):
        encoder = backend.make_encoder().eval()
    return encode(encoder, backend.to_model(adata.X)).semantic.numpy()


def _baseline(adata: AnnData, seed: int, method: str, config: Any, **fit: Any) -> np.ndarray:
    from diffaug.baselines import Baseline

    model = Baseline(method, config, random_state=seed)  # on panels masks, as DiffAug has them
    return model.fit(adata.X, progress=False, **fit).embed(adata.X).semantic


def _with_mixup(name: str, shown: str, method: str) -> None:
    @register(
        name,
        f"{shown} + mixup",
        requires=("diffaug.baselines",),
        resolve=resolve_encoder,
        note="DiffAug's encoder and hand-made views, which are masks on panels of fewer than 100 features.",
    )
    def embed(
        adata: AnnData, seed: int, *, config: dict[str, Any] | None = None, max_epochs: int | None = None
    ) -> np.ndarray:
        return _baseline(adata, seed, method, config, max_epochs=max_epochs)


def _ensemble(name: str, shown: str, method: str) -> None:
    @register(
        f"{name}_ensemble",
        f"{shown} + mixup, five encoders",
        requires=("diffaug.baselines",),
        resolve=resolve_encoder,
        note="Five fits, turned onto each other and averaged as DiffAug's encoders are. That of SimCLR is DiffAug's twin.",
    )
    def embed(
        adata: AnnData,
        seed: int,
        *,
        config: dict[str, Any] | None = None,
        max_epochs: int | None = None,
        n_encoders: int = 5,
    ) -> np.ndarray:
        import torch

        from diffaug.core.ensemble import procrustes, turned_mean

        seeds = range(n_encoders * seed, n_encoders * (seed + 1))
        found = [torch.as_tensor(_baseline(adata, s, method, config, max_epochs=max_epochs)) for s in seeds]
        return turned_mean(found, *procrustes(found)).numpy()


def _with_generated(name: str, shown: str, method: str) -> None:
    @register(
        name,
        f"{shown}+",
        requires=("diffaug.baselines",),
        resolve=resolve_encoder,
        needs="diffaug_one",
        note="Views of DiffAug's generator beside the hand-made ones; its time is with DiffAug's own.",
    )
    def embed(
        adata: AnnData,
        seed: int,
        *,
        config: dict[str, Any] | None = None,
        max_epochs: int | None = None,
        view_rate: float = 0.5,
    ) -> np.ndarray:
        views = adata.obsm["views"]
        return _baseline(adata, seed, method, config, max_epochs=max_epochs, generated=views, view_rate=view_rate)


_with_mixup("simclr", "SimCLR", "simclr")
_with_mixup("byol", "BYOL", "byol")
_with_mixup("moco", "MoCo v2", "moco")
_with_mixup("simsiam", "SimSiam", "simsiam")
_with_mixup("dino", "DINO", "dino")
_with_mixup("dlme", "DLME", "dlme")
_ensemble("byol", "BYOL", "byol")
_ensemble("moco", "MoCo v2", "moco")
_ensemble("dlme", "DLME", "dlme")
_with_generated("byol_plus", "BYOL", "byol")
_with_generated("simsiam_plus", "SimSiam", "simsiam")
