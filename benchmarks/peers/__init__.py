"""Every method of the tables: one file a family, one function a method.

A method is ``embed(adata, seed, **settings)``. It sees prepared cells (``.X``: log-normalised variable genes, or the
measurements as they are; ``.layers["counts"]``: the counts of the same genes where there are counts) and no label, but for
ablations that say that they read them (``reads_labels``).
"""

from peers import contrastive, linear, maps, ours, single_cell, topoae
from peers._registry import ARMS, NOT_RUN, PEERS, Made, Peer, Row, in_order, variants

in_order(
    "raw", "pca50", "pca50_pareto", "pca50_centred", "kernel_pca", "umap", "pacmap", "hnne", "phate", "opentsne", "parametric_umap", "ivis", "topoae",
    "scvi", "concord", "random_encoder", "simclr", "byol", "moco", "simsiam", "dino", "dlme", "byol_plus", "simsiam_plus",
    "byol_ensemble", "moco_ensemble", "dlme_ensemble",
    "diffaug_one",
    "diffaug",
)  # fmt: skip

__all__ = ["ARMS", "NOT_RUN", "PEERS", "Made", "Peer", "Row", "variants"]
