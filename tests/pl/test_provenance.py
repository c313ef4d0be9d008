"""``pl.provenance``: suspicious cells are the ones that lie nearer than training cells do."""

from __future__ import annotations

from pathlib import Path

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from diffaug.pl import provenance


@pytest.fixture
def made() -> anndata.AnnData:
    """200 cells as far as training cells are, and ten copies."""
    rng = np.random.default_rng(0)
    distance = np.concatenate([rng.normal(10, 1, 200), np.zeros(10)])
    obs = pd.DataFrame({"nearest_distance": distance}, index=[f"c{i}" for i in range(210)])
    adata = anndata.AnnData(np.ones((210, 2), dtype="float32"), obs=obs)
    adata.uns["diffaug_made"] = {"real_distances": np.sort(rng.normal(10, 1, 1000))}
    return adata


def test_copies_are_marked(made: anndata.AnnData, tmp_path: Path) -> None:
    ax = provenance(made, show=False, save=tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 0
    real = made.uns["diffaug_made"]["real_distances"]
    expected = int((made.obs["nearest_distance"] < np.percentile(real, 1)).sum())
    labels = ax.get_legend_handles_labels()[1]
    assert f"suspicious: {expected} cells, {100 * expected / 210:.1f} % (1 % expected)" in labels
    (marks,) = (line for line in ax.lines if line.get_marker() == "|")
    assert marks.get_xdata().tolist()[:10] == [0.0] * 10
    assert len(ax.patches) == 2
    plt.close("all")


def test_real_cells_beside_synthetic_ones_are_left_out(made: anndata.AnnData) -> None:
    """As ``tl.balance`` returns them."""
    both = anndata.concat([anndata.AnnData(np.ones((50, 2), "float32"), obs=pd.DataFrame(index=map(str, range(50)))), made],
                          join="outer")  # fmt: skip
    both.uns["diffaug_balance"] = made.uns["diffaug_made"]
    of_both, of_made = (provenance(a, show=False).get_legend_handles_labels()[1] for a in (both, made))
    assert of_both == of_made
    plt.close("all")


def test_wrong_input(made: anndata.AnnData) -> None:
    with pytest.raises(ValueError, match="`suspicious` between 0 and 100"):
        provenance(made, suspicious=0)
    real = made[:3].copy()
    real.obs["nearest_distance"] = np.nan
    with pytest.raises(ValueError, match="synthetic cells in `synthetic`, found real ones only"):
        provenance(real)
    del made.uns["diffaug_made"]
    with pytest.raises(ValueError, match="Call `tl.generate` with `train`"):
        provenance(made)
