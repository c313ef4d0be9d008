"""Tools: train, embed, make views, generate, judge."""

from diffaug.tl._balance import balance
from diffaug.tl._baseline import baseline
from diffaug.tl._fit import fit
from diffaug.tl._generate import generate
from diffaug.tl._report import SyntheticReport, report
from diffaug.tl._similarity import view_similarity
from diffaug.tl._twin import loop_gain
from diffaug.tl._use import augment, embed

__all__ = [
    "SyntheticReport",
    "augment",
    "balance",
    "baseline",
    "embed",
    "fit",
    "generate",
    "loop_gain",
    "report",
    "view_similarity",
]
