"""The paper's tables and figures again, on the sets that can be had: what ``diffaug-cells reproduce`` runs.

An ablation is an :class:`~diffaug.reproduce._arms.Arm`: settings on top of a base, never a code path of its own. Runs
are kept row by row (:mod:`~diffaug.reproduce._rows`), so that a stopped one goes on where it was.
"""
