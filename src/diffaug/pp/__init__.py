"""Preparation of raw counts."""

from diffaug.pp._recipe import recipe

__all__ = ["recipe"]
