"""To what total the counts of each cell are scaled before the logarithm."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Counts per cell after normalisation, where all genes were measured.
TARGET_SUM = 1e4
#: Below so many features a data set is a panel: its features were chosen by hand, and none of them can be spared.
PANEL_BELOW = 100


def target_sum_of(counts: Any) -> float:
    """Total for cells of these counts: 1e4, and the median of their own totals where a panel was measured.

    The logarithm of one count more than none is that of the factor that the counts are multiplied by, and all further counts add
    little to it where the factor is large. A cell of a panel mostly has tens or hundreds of counts: scaled to 1e4 it is hardly
    more than a list of the genes that it has (entry 24 of ``docs/experiments.md``).

    Parameters
    ----------
    counts
        Raw counts of all measured genes, at least one in each cell; dense or sparse, shape ``(n_cells, n_genes)``.
    """
    if counts.shape[1] >= PANEL_BELOW:
        return TARGET_SUM
    return float(np.median(np.asarray(counts.sum(axis=1, dtype=np.float64))))
