"""What commands print and draw."""

from __future__ import annotations

import json
from typing import Any

PICTURES = (".png", ".pdf", ".svg")


def show(*results: Any) -> None:
    """Print results, one a line, to standard output."""
    for result in results:
        print(result)


def as_json(found: object) -> str:
    """JSON with ``null`` for NaN, which JSON does not know."""
    return json.dumps(_plain(found), indent=1, ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value != value:
        return None
    return value


def use_files_for_pictures() -> None:
    """Draw without a screen, whatever the environment says."""
    import matplotlib

    matplotlib.use("Agg")
