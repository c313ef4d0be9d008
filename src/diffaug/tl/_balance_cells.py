"""Real cells on the scale of a model, and look-alikes of some of them, with the counts of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from diffaug._anndata import Matrix, read_source, read_totals
from diffaug._keys import CONDITION_CELL, COUNTS_LAYER, LIBRARY_SIZE, SYNTHETIC
from diffaug._model import DiffAug
from diffaug._new_cells import read_like
from diffaug.tl._generate import OWN_COLUMNS, generate
from diffaug.tl._library_sizes import Totals, as_counts, as_log, log_scale

Array = NDArray[Any]


@dataclass(frozen=True)
class RealCells:
    """All real cells as a model reads them.

    Attributes
    ----------
    x, features
        Values and the names of the columns.
    kind
        Of the model's input.
    sparse
        Whether that was sparse.
    totals
        Counts of each cell on all genes and on the model's, if the model makes counts.
    """

    x: Matrix
    features: list[str]
    kind: str
    sparse: bool
    totals: Totals | None

    @classmethod
    def of_model(cls, adata: AnnData, model: DiffAug) -> RealCells:
        x, meta = read_like(adata, model), model.meta
        totals = None if meta.get("totals") is None else read_totals(adata, model, "adata")
        return cls(x, meta["features"], meta["kind"], meta["sparse"], totals)

    @classmethod
    def of_source(cls, adata: AnnData) -> RealCells:
        """As a model of all of them would."""
        source = read_source(adata)
        return cls(source.x, source.features, source.kind, source.sparse, source.totals)

    @property
    def dense(self) -> Array:
        return np.asarray(self.x.toarray() if sp.issparse(self.x) else self.x, dtype=np.float32)

    @cached_property
    def _scale(self) -> Array:
        assert self.totals is not None
        return log_scale(self.x, self.totals)

    def real(self, adata: AnnData) -> AnnData:
        out = AnnData(self._as_input(self.x), obs=adata.obs.copy(), var=pd.DataFrame(index=pd.Index(self.features)))
        out.obs[SYNTHETIC] = False
        if self.totals is not None:
            out.layers[COUNTS_LAYER] = self._as_input(as_counts(self.x, self.totals))
            if LIBRARY_SIZE not in out.obs:
                out.obs[LIBRARY_SIZE] = self.totals[0]
        return out

    def made(
        self, adata: AnnData, model: DiffAug, among: Array, n: int, seed: int, train: AnnData | None = None
    ) -> AnnData:
        """Look-alikes of some of them; where there are counts, these and the values that follow from them."""
        like, output = adata[among].copy(), "log" if self.totals is None else "counts"
        made = generate(model, n, like=like, output=output, train=train, random_state=seed, progress=False)  # type: ignore[arg-type]
        at = adata.obs_names.get_indexer(made.obs[CONDITION_CELL])
        # Groups as the real cells have them, booleans and numbers: mixed with the texts of `generate` no file could hold them.
        for column in made.obs.columns.intersection(adata.obs.columns).difference(OWN_COLUMNS):
            made.obs[column] = adata.obs[column].array[at]
        if self.totals is not None:
            made.layers[COUNTS_LAYER] = made.X
            made.X = self._as_input(as_log(made.X, made.obs[LIBRARY_SIZE].to_numpy(), self._scale[at]))
        return made

    def _as_input(self, x: Matrix) -> Matrix:
        return sp.csr_matrix(x) if self.sparse else x.toarray() if sp.issparse(x) else x
