"""Every AnnData key that diffaug reads or writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """Where a fit's results live.

    ``key_added=None`` gives the default names, made of the ``method``; ``key_added="k"`` puts everything under names that
    start with ``k``.
    """

    key_added: str | None = None
    method: str = "diffaug"

    def __post_init__(self) -> None:
        if self.key_added is not None and (not isinstance(self.key_added, str) or not self.key_added):
            raise TypeError(f"Expected `key_added` to be a non-empty string or None, found {self.key_added!r}.")

    @property
    def semantic(self) -> str:
        """``.obsm``: semantic vectors, the embedding."""
        return self.key_added or f"X_{self.method}"

    @property
    def latent(self) -> str:
        """``.obsm``: latent vectors."""
        return f"{self.semantic}_latent"

    @property
    def twin(self) -> str:
        """``.obsm``: semantic vectors of the loop-off twin."""
        return f"{self.semantic}_twin"

    @property
    def uns(self) -> str:
        """``.uns``: settings, history, versions."""
        return self.key_added or self.method

    def map(self, method: str) -> str:
        """``.obsm``: two-dimensional map of the embedding, by ``"umap"`` or ``"tsne"``."""
        return f"{self.semantic}_{method}"


COUNTS_LAYER = "counts"
HIGHLY_VARIABLE = "highly_variable"
LOG1P = "log1p"
CONDITION_CELL = "condition_cell"
SOURCE_CELL = "source_cell"
SYNTHETIC = "synthetic"
LIBRARY_SIZE = "library_size"
NEAREST_CELL = "nearest_cell"
NEAREST_DISTANCE = "nearest_distance"
DISTANCE_PERCENTILE = "distance_percentile"
#: In the ``.uns`` of a fit with its twin: what the generated views did.
LOOP_GAIN = "loop_gain"
#: ``.uns`` of prepared cells: the total that their counts were scaled to.
RECIPE = "diffaug_recipe"
#: ``.uns`` of made cells: by which model, how and from what.
MADE = "diffaug_made"
#: ``.uns`` of real and synthetic cells together: whether the synthetic ones help.
BALANCE = "diffaug_balance"
