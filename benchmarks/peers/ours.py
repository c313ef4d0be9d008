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
    rows=(Row("loop_off", "DiffAug, loop off", "twin"), Row("diffaug", "DiffAug")),
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
    import diffaug

    begin = time.perf_counter()
    model = diffaug.tl.fit(adata, config=config, random_state=seed, max_epochs=max_epochs, twin=True, progress=False)
    total = time.perf_counter() - begin
    own, twin = (sum(r.seconds for r in m.history) for m in (model, model.twin))
    # Scaling and neighbours serve both, and each would have needed them alone.
    shared = max(0.0, total - own - twin)
    return {
        "twin": Made(model.twin.embed(adata.X).semantic, twin + shared),
        "model": Made(
            model.embed(adata.X).semantic,
            own + shared,
            {"views": model.augment(adata.X, n_views, random_state=seed)},
        ),
    }
