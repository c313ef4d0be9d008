"""Generators of cells that `bench_synthetic.py` compares, one file a family; a new one is one registered function."""

from __future__ import annotations

from generators import controls, copula, diffaug_, gaussian, resampling, scvi_
from generators.base import FAMILIES, NOT_RUN, TOOLS, Family, Made, Tool, in_order
from generators.split import Split, split_cells

__all__ = ["FAMILIES", "NOT_RUN", "TOOLS", "Family", "Made", "Split", "Tool", "split_cells"]

in_order("real", "diffaug", "scvi", "copula", "gaussian", "resampling")
