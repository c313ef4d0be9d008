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

#: What the text says without a number that could be put beside ours.
FIG6_TEXT = "The paper's text: lambda of 0.1 to 0.15 is best; at 1 the encoder collapses (`toxicity')."
FIG7_TEXT = (
    "The paper's Table 11 chose nu = 1 on MC1374, GA1457 and SAM561 and nu = 0.1 on HCL500; beta lies in [0, 1]."
)
