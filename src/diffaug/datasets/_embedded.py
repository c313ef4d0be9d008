"""Real cells without a file or a network: the example that comes with scanpy."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse

# Largest distance of a recovered count from a whole number; the file's float32 logarithms leave 0.082.
_TOLERANCE = 0.1


def pbmc68k_reduced() -> AnnData:
    """700 blood cells and 765 genes, with raw counts, from the installed scanpy.

    :func:`scanpy.datasets.pbmc68k_reduced` holds z-scores in ``.X``, logarithms in ``.raw`` and the results of an old
    analysis. This takes the logarithms, recovers the counts they were made of, and leaves the old PCA, UMAP, clusters
    and neighbours behind.

    Returns
    -------
    AnnData, 700 cells and 765 genes:

    `.X`
        log1p of counts per 10,000, csr, float32. The size factor was the cell's count over all genes, of which 765 are
        left, so that rows of ``expm1(X)`` sum to less than 10,000.
    `.layers["counts"]`
        Raw counts, csr, float32.
    `.obs`
        ``cell_type`` and, the same under scanpy's name, ``bulk_labels`` (10 classes, by correlation with the expression
        of sorted cells, so not independent of it); ``n_counts`` and ``n_genes`` over all genes, ``percent_mito``,
        ``S_score``, ``G2M_score``, ``phase``.
    `.uns["log1p"]`
        As scanpy writes it.

    Raises
    ------
    RuntimeError
        If the counts cannot be recovered from the installed scanpy's file.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> int(adata.layers["counts"].max())
    259
    """
    old = sc.datasets.pbmc68k_reduced()
    logs = sparse.csr_matrix(old.raw.X, dtype=np.float32, copy=True)
    logs.sort_indices()  # as most functions want them
    counts = logs.astype(np.float64)
    np.expm1(counts.data, out=counts.data)
    size = old.obs["n_counts"].to_numpy(dtype=np.float64)
    counts.data *= np.repeat(size / 1e4, np.diff(counts.indptr))
    whole = np.rint(counts.data)
    error = float(np.abs(counts.data - whole).max())
    if error > _TOLERANCE or whole.min() < 1:
        raise RuntimeError(
            f"Expected whole counts behind `scanpy.datasets.pbmc68k_reduced().raw`, found values {error:.2g} away from them. "
            f"The file of scanpy {version('scanpy')} differs from the one this was written for."
        )
    counts.data = whole
    kept = ["bulk_labels", "n_counts", "n_genes", "percent_mito", "S_score", "G2M_score", "phase"]
    obs = old.obs[kept].copy()
    obs.insert(0, "cell_type", obs["bulk_labels"])
    adata = AnnData(logs, obs=obs, var=old.raw.var[[]].copy(), layers={"counts": counts.astype(np.float32)})
    adata.uns["log1p"] = {"base": None}
    return adata
