"""DiffAug and its twin with the loop off, of one fit."""

from __future__ import annotations

import time
from typing import Any

from anndata import AnnData

from peers._registry import Made, Row, register


def resolve_config(settings: dict[str, Any]) -> dict[str, Any]:
    """The whole configuration in place of ``None``, a preset's name or a few changes of the default preset."""
    from diffaug import DiffAug

    return {**settings, "config": DiffAug(settings["config"], device="cpu").config.to_dict()}


@register(
    "diffaug",
    "DiffAug",
    rows=(
        Row("loop_off", "DiffAug, loop off", "twin"),
        Row("diffaug", "DiffAug"),
    ),
    resolve=resolve_config,
    note="The twin has as many encoder epochs, with hand-made views only. Memory is that of both together.",
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
    model.fit(adata.X, max_epochs=max_epochs, twin=True, progress=False)
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
            {"views": model.augment(adata.X, n_views, random_state=seed)},
            {"view_rate": [r.view_rate for r in model.history if r.phase == "fill"][-1]},
        ),
    }
