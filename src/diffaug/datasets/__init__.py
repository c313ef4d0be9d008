"""Data sets by name: what is known of them, where their files are, and one that needs no file."""

from diffaug.datasets._embedded import pbmc68k_reduced
from diffaug.datasets._load import list_datasets, load, path
from diffaug.datasets._manifest import Manifest, manifest

__all__ = ["Manifest", "list_datasets", "load", "manifest", "path", "pbmc68k_reduced"]
