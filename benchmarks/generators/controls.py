"""Real cells in place of synthetic ones: what a perfect generator and a thief would score."""

from __future__ import annotations

import scipy.sparse as sp

from generators.base import TYPE, Made, Tool, register, types_of
from generators.split import Split


@register(
    "real",
    Tool(
        "fresh", "real cells", "Other real cells of the training donors, which nobody saw: a perfect generator.", True
    ),
    Tool("copies", "copies", "The training cells themselves: a perfect thief.", True),
)
def real(split: Split, seed: int) -> dict[str, Made]:
    fresh = split.fresh
    return {
        "fresh": Made(sp.csr_matrix(fresh.X), fresh.obs[TYPE].astype(str).to_numpy(), 0.0, 0.0),
        "copies": Made(sp.csr_matrix(split.train.X), types_of(split), 0.0, 0.0),
    }
