"""Arrays in, numbers out: embeddings judged by labels and by structure, synthetic rows judged against real ones."""

from diffaug.metrics.clustering import ClusterScores, kmeans_scores
from diffaug.metrics.hits import row_hits
from diffaug.metrics.paired import MeanInterval, mean_interval, paired_difference
from diffaug.metrics.probes import ProbeResult, knn_probe, linear_probe
from diffaug.metrics.structure import effective_rank, neighbor_batch_entropy, neighbor_overlap, trustworthiness
from diffaug.metrics.synthetic import (
    DiscriminatorResult,
    GeneAgreement,
    class_kept_share,
    discriminator_auc,
    gene_agreement,
    semantic_cosine,
)

__all__ = [
    "ClusterScores",
    "DiscriminatorResult",
    "GeneAgreement",
    "MeanInterval",
    "ProbeResult",
    "class_kept_share",
    "discriminator_auc",
    "effective_rank",
    "gene_agreement",
    "kmeans_scores",
    "knn_probe",
    "linear_probe",
    "mean_interval",
    "neighbor_batch_entropy",
    "neighbor_overlap",
    "paired_difference",
    "row_hits",
    "semantic_cosine",
    "trustworthiness",
]
