"""benchmarks/hand_views.toml: fits that differ from A3 of ablations.toml in the hand-made views alone."""

from __future__ import annotations

from pathlib import Path

import bench_embeddings
import pytest
from peers import variants

from diffaug.backends.cells import CellsConfig, default_config
from diffaug.core.config import config_from_dict

FOLDER = Path(bench_embeddings.__file__).parent
FOUND, OTHERS = variants(FOLDER / "hand_views.toml"), variants(FOLDER / "ablations.toml")


@pytest.mark.parametrize("name", FOUND)
def test_only_the_views_differ(name: str) -> None:
    mine, base = (
        config_from_dict(p.settings["config"], CellsConfig, default_config()) for p in (FOUND[name], OTHERS["A3"])
    )
    assert mine == base.updated("domain", views=name.removeprefix("hand_"))
    assert mine != base


def test_each_has_its_twin_and_a_name_of_its_own() -> None:
    rows = [row.name for peer in FOUND.values() for row in peer.rows]
    assert sorted(rows) == sorted([*FOUND, *(f"{name}_loop_off" for name in FOUND)])
    assert not set(rows) & {row.name for peer in OTHERS.values() for row in peer.rows}
