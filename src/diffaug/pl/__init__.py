"""Pictures: the embedding, real beside synthetic cells, views, and the course of a fit."""

from diffaug.pl._embedding import embedding
from diffaug.pl._history import history
from diffaug.pl._provenance import provenance
from diffaug.pl._similarity import cosine_similarity
from diffaug.pl._violin import violin

__all__ = ["cosine_similarity", "embedding", "history", "provenance", "violin"]
