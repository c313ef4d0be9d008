"""Methods without a random part: the genes themselves, and their principal components."""

from __future__ import annotations

import numpy as np
from _common import components, pca_50, z_scored
from anndata import AnnData
from scipy import sparse

from peers._registry import register


@register("raw", "Raw genes", stochastic=False, note="Every gene of `.X`, not scaled; the linear probe scales.")
def raw(adata: AnnData, seed: int) -> np.ndarray:
    return adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)


@register("pca50", "PCA-50", stochastic=False, flat="first")
def pca(adata: AnnData, seed: int, *, n_components: int = 50) -> np.ndarray:
    return pca_50(adata, n_components)


def _weighted(name: str, shown: str, power: float, note: str) -> None:
    @register(name, shown, stochastic=False, flat="first", note=note)
    def embed(adata: AnnData, seed: int, *, n_components: int = 50) -> np.ndarray:
        x = np.asarray(raw(adata, seed), dtype=np.float64)
        spread = x.std(axis=0)
        return components((x - x.mean(axis=0)) / np.where(spread > 0, spread, 1) ** power, n_components)


_weighted(
    "pca50_pareto",
    "PCA-50, Pareto",
    0.5,
    "Genes divided by the root of their standard deviation, as DiffAug's encoder has them.",
)
_weighted("pca50_centred", "PCA-50, not scaled", 0.0, "Genes centred alone.")


@register("kernel_pca", "Kernel PCA", stochastic=False, flat="first", note="RBF kernel on z-scored genes.")
def kernel_pca(adata: AnnData, seed: int, *, n_components: int = 50) -> np.ndarray:
    from sklearn.decomposition import KernelPCA

    n_components = min(n_components, adata.n_obs - 1)
    # gamma is one over the number of genes; the mean squared distance of two z-scored cells is twice that number.
    model = KernelPCA(n_components, kernel="rbf", eigen_solver="randomized", random_state=0)
    return model.fit_transform(z_scored(adata))
