"""The end of the time that a run was given."""

from __future__ import annotations


class OutOfTime(Exception):
    """The time is over. What was done is kept, and the same call goes on from there."""
