"""What all plots share: how a figure is handed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from anndata import AnnData

import diffaug
from diffaug import pl


@pytest.mark.parametrize("name", pl.__all__)
@pytest.mark.parametrize("save", [True, False, 3])
def test_save_wants_a_name(name: str, save: Any, adata: AnnData, model: diffaug.DiffAug) -> None:
    """Scanpy's ``save=True`` is refused at once: no map is made and no figure is left."""
    arguments = {"violin": (adata, adata), "cosine_similarity": (adata, model)}.get(name, (adata,))
    fields = set(adata.obsm)
    with pytest.raises(TypeError, match=f"Expected `save` to be a file name, found {save}. Name the whole file"):
        getattr(pl, name)(*arguments, show=False, save=save)
    assert set(adata.obsm) == fields and plt.get_fignums() == []


def test_a_string_is_the_whole_name(adata: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scanpy would make "figures/history_x.pdf" of it."""
    monkeypatch.chdir(tmp_path)
    pl.history(adata, show=False, save="_x.pdf")
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["_x.pdf"]
