"""The command ``diffaug-cells``: fit, embed, augment, generate, evaluate, plot, info, demo.

Nothing here imports torch, scanpy or any other heavy package before a command runs, so that ``--help`` answers at once.
"""

from diffaug.cli._main import main

__all__ = ["main"]
