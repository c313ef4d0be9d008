"""Arrays in, numbers out: embeddings judged by labels and by structure, synthetic rows judged against real ones."""

from diffaug.metrics._absent import AbsentType
from diffaug.metrics._score import MeanScore, Score
from diffaug.metrics.clustering import ClusterScores, kmeans_scores
from diffaug.metrics.distribution import energy_distance, mmd, sliced_wasserstein
from diffaug.metrics.expression import correlation_agreement
from diffaug.metrics.hits import row_hits
from diffaug.metrics.judging import Judgement, judge_synthetic
from diffaug.metrics.markers import MarkerAgreement, marker_agreement
from diffaug.metrics.memorization import MemorizationAudit, memorization_audit
from diffaug.metrics.mixing import mixing_score
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
from diffaug.metrics.transfer import transfer_accuracy

__all__ = [
    "AbsentType",
    "ClusterScores",
    "DiscriminatorResult",
    "GeneAgreement",
    "Judgement",
    "MarkerAgreement",
    "MeanInterval",
    "MeanScore",
    "MemorizationAudit",
    "ProbeResult",
    "Score",
    "class_kept_share",
    "correlation_agreement",
    "discriminator_auc",
    "effective_rank",
    "energy_distance",
    "gene_agreement",
    "judge_synthetic",
    "kmeans_scores",
    "knn_probe",
    "linear_probe",
    "marker_agreement",
    "mean_interval",
    "memorization_audit",
    "mixing_score",
    "mmd",
    "neighbor_batch_entropy",
    "neighbor_overlap",
    "paired_difference",
    "row_hits",
    "semantic_cosine",
    "sliced_wasserstein",
    "transfer_accuracy",
    "trustworthiness",
]
