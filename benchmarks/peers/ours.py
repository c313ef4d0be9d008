"""DiffAug and its twin with the loop off, of one fit; and the parts that ablations are made of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from diffaug.core.plan import rate_in_force
from diffaug.reproduce._arms import LAMBDAS
from peers._registry import Made, Row, register

if TYPE_CHECKING:
    pass


#: On top of the default preset: no ensemble.
ONE_ENCODER = {"training": {"n_encoders": 1}}


def resolve_config(settings: dict[str, Any]) -> dict[str, Any]:
    """The whole configuration in place of ``None``, a preset's name or a few changes of the default preset."""
    from diffaug import DiffAug

    return {**settings, "config": DiffAug(settings["config"], device="cpu").config.to_dict()}


def is_supervised(settings: dict[str, Any]) -> bool:
    """Whether the generator is conditioned on labels (ablation A1)."""
    return settings["config"]["diffusion"]["condition"] == "label"


@register(
    "diffaug_one",
    "DiffAug, one encoder",
    rows=(
        Row("loop_off_one", "DiffAug, one encoder, loop off", "twin"),
        Row("diffaug_one", "DiffAug, one encoder"),
    ),
    resolve=resolve_config,
    reads_labels=is_supervised,
    note="No ensemble: one encoder, on whose vectors the generator is conditioned. Its twin is SimCLR. Memory is that of both together.",
)
def one_encoder_and_twin(
    adata: AnnData,
    seed: int,
    *,
    config: dict[str, Any] | str | None = ONE_ENCODER,
    max_epochs: int | None = None,
    n_views: int = 2,
) -> dict[str, Made]:
    return diffaug_and_twin(adata, seed, config=config, max_epochs=max_epochs, n_views=n_views)


@register(
    "diffaug",
    "DiffAug",
    rows=(
        Row("loop_off", "DiffAug, loop off", "twin"),
        Row("diffaug", "DiffAug"),
    ),
    resolve=resolve_config,
    reads_labels=is_supervised,
    note="The twin has as many encoders of as many epochs, with hand-made views only. Memory is that of both together.",
)
def diffaug_and_twin(
    adata: AnnData,
    seed: int,
    *,
    config: dict[str, Any] | str | None = None,
    max_epochs: int | None = None,
    n_views: int = 2,
) -> dict[str, Made]:
    from diffaug import DiffAug

    # On the array and not through `tl.fit`, which takes pixels for counts and would normalise them for us alone.
    model = DiffAug(config, random_state=seed)
    begin = time.perf_counter()
    labels = _labels(adata)
    model.fit(adata.X, labels=labels, max_epochs=max_epochs, twin=True, progress=False)
    total = time.perf_counter() - begin
    own = sum(r.seconds for r in model.history)
    warmup = sum(r.seconds for r in model.history if r.cycle == 0)
    twin = sum(r.seconds for r in model.twin.history if r.cycle > 0)
    # Scaling, neighbours and warm-up serve both, and each would have needed them alone.
    rest = total - own - twin
    return {
        "twin": Made(model.twin.embed(adata.X).semantic, warmup + twin + rest),
        "model": Made(
            model.embed(adata.X).semantic,
            own + rest,
            {"views": model.augment(adata.X, n_views, labels=labels, random_state=seed)},
            {"view_rate": rate_in_force(model.history)},
        ),
    }


@register(
    "diffaug_alone",
    "DiffAug, without its twin",
    variants_only=True,
    resolve=resolve_config,
    reads_labels=is_supervised,
    note="A row of an ablation has no twin of its own: with equal losses that of DiffAug is its twin too.",
)
def diffaug_alone(
    adata: AnnData, seed: int, *, config: dict[str, Any] | str | None = None, max_epochs: int | None = None
) -> dict[str, Made]:
    from diffaug import DiffAug

    model = DiffAug(config, random_state=seed)
    model.fit(adata.X, labels=_labels(adata), max_epochs=max_epochs, progress=False)
    return {"model": Made(model.embed(adata.X).semantic, readings={"view_rate": rate_in_force(model.history)})}


@register(
    "diffaug_sweep",
    "DiffAug at many lambdas",
    variants_only=True,
    rows=tuple(Row(f"{rate:g}", f"lambda {rate:g}", f"{rate:g}") for rate in LAMBDAS),
    sweep="lambda",
    resolve=resolve_config,
    note="One generator for all lambdas, equal to fits of their own. The seconds of each are with the warm-up and the generator, "
    "which were trained once; memory is that of all together.",
)
def diffaug_sweep(
    adata: AnnData, seed: int, *, config: dict[str, Any] | str | None = None, max_epochs: int | None = None
) -> dict[str, Made]:
    """All lambdas of Fig. 6, whatever the ``view_rate`` of the settings."""
    from diffaug import DiffAug

    model = DiffAug(config, random_state=seed)
    *others, last = LAMBDAS
    model = DiffAug(model.config.updated("training", view_rate=last), random_state=seed)
    begin = time.perf_counter()
    model.fit(adata.X, max_epochs=max_epochs, sweep=others, progress=False)
    total = time.perf_counter() - begin
    found = {**model.sweep, last: model}
    mixed = {rate: sum(r.seconds for r in m.history if r.phase == "A" and r.cycle > 0) for rate, m in found.items()}
    without = sum(r.seconds for r in model.history if r.phase in ("B", "fill"))
    shared, trust = total - sum(mixed.values()), rate_in_force(model.history) / last
    return {
        f"{rate:g}": Made(
            m.embed(adata.X).semantic,
            shared + mixed[rate] - (0 if rate else without),
            readings={"view_rate": rate * trust},
        )
        for rate, m in found.items()
    }


def _labels(adata: AnnData) -> np.ndarray | None:
    """Labels where this run may see them (ablation A1)."""
    return adata.obs["label"].astype(str).to_numpy() if "label" in adata.obs else None
