"""The loop-off twin of ``fit --twin`` where embeddings are arrays in a file: its array, and what is said of the two."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffaug._model import DiffAug, Embedding

logger = logging.getLogger(__name__)

#: Array of the twin's semantic vectors, beside ``semantic``.
TWIN = "semantic_twin"


def arrays_of(model: DiffAug, embed: Callable[[DiffAug], Embedding]) -> dict[str, Any]:
    """Arrays of an embedding, by a function of the model: ``semantic``, ``latent``, and with a twin ``semantic_twin``."""
    arrays = embed(model)._asdict()
    if model.twin is not None:
        arrays[TWIN] = embed(model.twin).semantic
    return arrays


def say_gain(model: DiffAug, events: Any, how_to_judge: str) -> None:
    """Say in the log what the generated views did, by the reading without labels.

    Parameters
    ----------
    model
        A model with its twin.
    events
        What it was trained on, as its own ``embed`` takes them.
    how_to_judge
        A sentence on how labels can judge the two.
    """
    if not logger.isEnabledFor(logging.INFO):  # it is kept nowhere else, and embeds the events many times
        return
    from diffaug._gain_said import log_gain
    from diffaug._twin import compare_with_twin

    log_gain(compare_with_twin(model, events, None), model.backend.events, how_to_judge)
