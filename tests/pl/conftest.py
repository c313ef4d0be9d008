"""A small fit that all plots are drawn from, and a clean pyplot."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest
from anndata import AnnData

import diffaug

TINY = {
    "training": {
        "n_encoders": 1,
        "warmup_steps": 6,
        "generator_steps": 6,
        "mixed_steps": 6,
        "encoder_passes": 0,
        "generator_passes": 0,
        "adapt_view_rate": False,  # what six steps draw is trusted with little
    },
    "domain": {"generator_width": 32},
}


@pytest.fixture(scope="session")
def fitted(pbmc: AnnData) -> tuple[AnnData, diffaug.DiffAug]:
    """Real cells after a fit of a few steps, and the model; shared, so copy the cells before writing to them."""
    adata = pbmc.copy()
    return adata, diffaug.tl.fit(adata, config=TINY, device="cpu", progress=False)


@pytest.fixture
def adata(fitted: tuple[AnnData, diffaug.DiffAug]) -> AnnData:
    """The fitted cells, fresh for every test."""
    return fitted[0].copy()


@pytest.fixture(scope="session")
def model(fitted: tuple[AnnData, diffaug.DiffAug]) -> diffaug.DiffAug:
    return fitted[1]


@pytest.fixture(autouse=True)
def no_figure_left() -> Iterator[None]:
    """Figures of one test are not seen by the next."""
    assert plt.get_fignums() == []
    yield
    plt.close("all")
