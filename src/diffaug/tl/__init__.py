"""Tools: train, embed, make views, generate."""

from diffaug.tl._balance import balance
from diffaug.tl._baseline import baseline
from diffaug.tl._fit import fit
from diffaug.tl._generate import generate
from diffaug.tl._similarity import view_similarity
from diffaug.tl._twin import loop_gain
from diffaug.tl._use import augment, embed

__all__ = ["augment", "balance", "baseline", "embed", "fit", "generate", "loop_gain", "view_similarity"]
