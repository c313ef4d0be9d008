"""The paper's own numbers, each with where it comes from. What is not at hand is ``None``, and is printed as such."""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "Zang et al. 2024, ICML, PMLR 235:58174-58196"
_TABLE2 = f"{PAPER}, Table 2: linear SVM, accuracy in %"


@dataclass(frozen=True)
class PaperNumber:
    """A number of the paper, in percent.

    Attributes
    ----------
    value
        ``None`` where it is not at hand.
    source
        Where it stands, or would stand.
    """

    value: float | None
    source: str


def not_at_hand(where: str) -> PaperNumber:
    """A number that the paper has and this package does not."""
    return PaperNumber(None, f"{PAPER}, {where}: not at hand when this was written")


#: DiffAug's linear SVM by set; the keys are names of manifests, which say what may stand in for the set.
TABLE2_BY_SET = {
    "ga1457": PaperNumber(92.7, _TABLE2),
    "sam561": PaperNumber(89.3, _TABLE2),
    "mc1374": PaperNumber(71.8, _TABLE2),
    "hcl500": PaperNumber(64.7, _TABLE2),
    "warpariop": PaperNumber(84.8, _TABLE2),
    "prot579": PaperNumber(91.2, _TABLE2),
}

#: Means over the six sets.
TABLE2_MEAN = {
    "DiffAug": PaperNumber(82.4, _TABLE2),
    "SimCLR + mixup": PaperNumber(73.3, _TABLE2),
    "BYOL + mixup": PaperNumber(70.2, _TABLE2),
    "MoCo + mixup": PaperNumber(77.7, _TABLE2),
    "DLME + mixup": PaperNumber(78.5, _TABLE2),
    "PaCMAP": PaperNumber(71.7, _TABLE2),
    "hNNE": PaperNumber(73.4, _TABLE2),
    "TopoAE": PaperNumber(70.9, _TABLE2),
}

_TABLE1 = f"{PAPER}, Table 1: linear SVM, accuracy in %"
#: DiffAug's linear SVM on Genomic Benchmarks, by the name of the manifest; and its mean over the eight sets.
TABLE1_BY_SET = {
    "dummy_mouse_enhancers_ensembl": PaperNumber(86.0, _TABLE1),
    "demo_coding_vs_intergenomic_seqs": PaperNumber(94.9, _TABLE1),
    "demo_human_or_worm": PaperNumber(96.8, _TABLE1),
    "human_enhancers_cohn": PaperNumber(74.0, _TABLE1),
    "human_enhancers_ensembl": PaperNumber(94.9, _TABLE1),
    "human_ensembl_regulatory": PaperNumber(91.8, _TABLE1),
    "human_nontata_promoters": PaperNumber(94.5, _TABLE1),
    "human_ocr_ensembl": PaperNumber(79.9, _TABLE1),
}
TABLE1_MEAN = PaperNumber(89.1, _TABLE1)

_TABLE3 = f"{PAPER}, Table 3: linear probe, accuracy in %"
#: DiffAug on images, linear and k-means.
TABLE3_BY_SET = {
    "cifar10": PaperNumber(93.4, _TABLE3),
    "cifar100": PaperNumber(69.9, _TABLE3),
    "stl10": PaperNumber(92.5, _TABLE3),
    "tinyimagenet": PaperNumber(49.7, _TABLE3),
}
TABLE3_KMEANS = {
    "cifar10": PaperNumber(86.2, f"{PAPER}: k-means, accuracy in %"),
    "cifar100": PaperNumber(48.6, f"{PAPER}: k-means, accuracy in %"),
    "stl10": PaperNumber(89.4, f"{PAPER}: k-means, accuracy in %"),
    "tinyimagenet": PaperNumber(19.8, f"{PAPER}: k-means, accuracy in %"),
}

#: What the text says without a number that could be put beside ours.
FIG6_TEXT = "The paper's text: lambda of 0.1 to 0.15 is best; at 1 the encoder collapses (`toxicity')."
FIG7_TEXT = (
    "The paper's Table 11 chose nu = 1 on MC1374, GA1457 and SAM561 and nu = 0.1 on HCL500; beta lies in [0, 1]."
)
