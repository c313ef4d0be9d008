"""Counts of a panel beside made cells that are logarithms: both have to be on one scale, whoever made them."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pytest
import scanpy as sc

from diffaug.tl._report_sets import aligned, beside


def of_another_tool(counts: anndata.AnnData, total: float, n_genes: int) -> anndata.AnnData:
    """The training cells themselves, as a perfect generator would give them: scaled on all genes, then cut to some."""
    made = anndata.AnnData(counts.X.copy(), var=counts.var[[]])
    sc.pp.normalize_total(made, target_sum=total)
    sc.pp.log1p(made)
    made.uns.clear()
    return made[:, :n_genes].copy()


@pytest.mark.parametrize("n_genes", [60, 30])
@pytest.mark.parametrize("total", ["median", 1e4, 500.0])
def test_a_perfect_generators_cells_are_the_real_ones(counts: anndata.AnnData, total: Any, n_genes: int) -> None:
    """On all genes or on some; a total that is neither the median nor 10,000 has to be written down."""
    held_out = counts[75:].copy()
    held_out.X.data = held_out.X.data + 1  # else they would be training cells
    median = float(np.median(np.asarray(counts.X.sum(axis=1))))
    made = of_another_tool(counts, median if total == "median" else total, n_genes)
    if total == 500.0:
        made.uns["diffaug_recipe"] = {"target_sum": total}
    sets = aligned(made, {"train": counts, "held_out": held_out}, layer=None, groupby=None, donor_key=None)
    np.testing.assert_allclose(sets.x["train"].toarray(), made.X.toarray(), rtol=1e-6)
    np.testing.assert_allclose(beside(counts, made, layer=None).X.toarray()[:, :n_genes], made.X.toarray(), rtol=1e-6)


def test_the_cells_of_a_model_say_their_total(counts: anndata.AnnData, model: Any) -> None:
    import diffaug

    made = diffaug.tl.generate(model, 20)
    assert made.uns["diffaug_recipe"] == {"target_sum": model.meta["target_sum"]} == counts.uns["diffaug_recipe"]
    assert "diffaug_recipe" not in diffaug.tl.generate(model, 20, output="counts").uns


def test_a_cell_without_counts_on_the_made_genes_is_said(counts: anndata.AnnData) -> None:
    """It has counts on others: to filter cells by their counts, as is done elsewhere, would take out nothing."""
    made = anndata.AnnData(counts.X[:, :30].copy(), var=counts.var.iloc[:30][[]])
    counts.X = counts.X.toarray()
    counts.X[5, :30] = 0
    how = {"layer": None, "groupby": None, "donor_key": None}
    sets = {"train": counts[:75].copy(), "held_out": counts[75:].copy()}
    with pytest.raises(ValueError, match=r"counts on the 30 genes .* in every cell of `train`, found 1 empty there"):
        aligned(made, sets, **how)  # type: ignore[arg-type]
