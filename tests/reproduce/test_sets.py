"""Which sets stand in for the paper's, and how they are made ready."""

from __future__ import annotations

import re
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from diffaug import datasets
from diffaug._anndata import read_source
from diffaug.reproduce import _sets
from diffaug.reproduce._sets import chosen_sets, default_sets, paper_sets, prepare, stands_for

EMBEDDED = "pbmc68k_reduced_scanpy"


def test_the_papers_sets_and_what_stands_in_for_them() -> None:
    found = {s.title: (s.paper.value, s.stand_ins) for s in paper_sets()}
    assert found == {
        "GA1457": (92.7, ()),
        "SAM561": (89.3, ("har265",)),
        "MC1374": (71.8, ("mca_bladder",)),
        "HCL500": (64.7, ()),
        "WARPARIOP": (84.8, ("warp_pie10p", "warp_ar10p")),
        "PROT579": (91.2, ("mice_protein",)),
    }
    assert all(s.reason for s in paper_sets())
    assert default_sets() == ["har265", "mca_bladder", "warp_pie10p", "warp_ar10p", "mice_protein"]
    original = stands_for("warp_ar10p")
    assert original is not None and original.title == "WARPARIOP"
    assert stands_for("paul15") is None


def test_the_sets_that_flatter_the_defaults_are_those_of_the_notebook() -> None:
    """And of the search; entry 22 is of sets that were only measured."""
    docs = Path(__file__).parents[2] / "docs"
    notebook = (docs / "experiments.md").read_text(encoding="utf-8")
    searched = re.sub(r"^## 22\..*?(?=^## )", "", notebook, flags=re.MULTILINE | re.DOTALL)
    assert len(searched) < len(notebook)
    looked_at = {name for name in datasets.list_datasets("bio").index if re.search(rf"\b{name}\b", searched)}
    rows = pd.read_parquet(docs / "benchmarks" / "results" / "search.parquet")
    looked_at |= set(rows["set"].str.removesuffix(", 1e4"))  # as that panel was prepared before entry 24
    assert looked_at == set(_sets.TUNED_ON)


# --- choice ----------------------------------------------------------------------------------------------------------


def test_without_data_the_message_names_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DIFFAUG_DATA_DIR", raising=False)
    with pytest.raises(
        FileNotFoundError, match="variable DIFFAUG_DATA_DIR .* found it unset. .*--sets pbmc68k_reduced_scanpy"
    ):
        chosen_sets(None)
    with pytest.raises(FileNotFoundError, match="variable DIFFAUG_DATA_DIR .*mca_bladder"):
        chosen_sets(["mca_bladder"])
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"found none of them in '{tmp_path}'"):
        chosen_sets(None)
    with pytest.raises(FileNotFoundError, match="Did not find 'bio/mca_bladder.h5ad'"):
        chosen_sets([EMBEDDED, "mca_bladder"])


def test_default_sets_that_are_not_at_hand_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    table = datasets.list_datasets("bio")
    table["present"] = [name in ("har265", "mice_protein") for name in table.index]
    monkeypatch.setattr(datasets, "list_datasets", lambda domain: table)
    monkeypatch.setattr(datasets, "path", lambda name: Path(name))
    assert chosen_sets(None) == (["har265", "mice_protein"], ["mca_bladder", "warp_pie10p", "warp_ar10p"])


def test_a_set_is_asked_for_once() -> None:
    assert chosen_sets([EMBEDDED, EMBEDDED]) == ([EMBEDDED], [])


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("pbmc68k_reduced_scanpi", KeyError, "Did you mean 'pbmc68k_reduced_scanpy'"),
        ("cifar10_12k", ValueError, "domain 'bio', found 'cifar10_12k' of domain 'vision'"),
        ("ga1457", FileNotFoundError, "GA1457 .* is not available: .*no licence"),
        ("mc1374", FileNotFoundError, r"Nearest sets that can be loaded: \['mca_bladder'\]"),
    ],
)
def test_a_set_that_cannot_be_had(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        chosen_sets([name])


# --- preparation -----------------------------------------------------------------------------------------------------


def test_cells_are_drawn_alike_each_time() -> None:
    first, second = (prepare(EMBEDDED, n_top_genes=1000, max_obs=150) for _ in range(2))
    assert first.adata.shape == (150, 765)
    assert first.adata.obs_names.equals(second.adata.obs_names)
    assert (first.labels == first.adata.obs[first.label_key].astype(str)).all()
    assert prepare(EMBEDDED, n_top_genes=1000, max_obs=None).adata.n_obs == 700


def planted(monkeypatch: pytest.MonkeyPatch, adata: anndata.AnnData, name: str) -> None:
    """Put cells in the place of a set, whose manifest stays."""
    monkeypatch.setattr(datasets, "load", lambda *_, **__: adata.copy())
    assert datasets.manifest(name).label_key == "cell_type"


def cells(x: np.ndarray) -> anndata.AnnData:
    obs = pd.DataFrame(
        {"cell_type": np.arange(len(x)) % 3, "batch": np.arange(len(x)) % 5}, index=map(str, range(len(x)))
    )
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(x.shape[1])]))


def test_counts_are_normalised_and_cut_to_variable_genes(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).poisson(np.linspace(0.1, 4, 40), size=(60, 40)).astype(np.float32)
    x[7] = 0  # a cell that drawing left without counts
    adata = cells(x)
    adata.X = csr_matrix(x)
    planted(monkeypatch, adata, "mca_bladder")
    data = prepare("mca_bladder", n_top_genes=25, max_obs=None)
    assert data.adata.shape == (59, 25) and len(data.labels) == 59 and data.groups is None
    found = data.adata.X.toarray()
    totals = x.sum(axis=1)
    expected = np.log1p(np.median(np.delete(totals, 7)) * x / np.where(totals, totals, 1)[:, None])  # of a panel
    where = [int(name[1:]) for name in data.adata.var_names]
    assert found == pytest.approx(np.delete(expected, 7, axis=0)[:, where], rel=1e-5)


def test_grey_levels_are_no_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As counts they would be normalised to one brightness and logged (control)."""
    x = np.random.default_rng(0).integers(0, 256, size=(60, 12)).astype(np.uint8)
    planted(monkeypatch, cells(x), "warp_pie10p")
    data = prepare("warp_pie10p", n_top_genes=5, max_obs=None)
    assert data.adata.shape == (60, 12)
    assert read_source(data.adata).x == pytest.approx(x / 256)
    assert read_source(cells(x)).kind == "counts"


def test_measurements_stay_as_they_are_with_their_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32)
    planted(monkeypatch, cells(x), "har265")
    data = prepare("har265", n_top_genes=5, max_obs=None)
    assert (data.adata.X == x).all()
    assert data.groups is not None and sorted(set(data.groups)) == list("01234")


def test_too_few_cells_are_refused_before_any_training() -> None:
    with pytest.raises(ValueError, match=f"The set '{EMBEDDED}' is too small to be judged: .* Pass more cells."):
        prepare(EMBEDDED, n_top_genes=1000, max_obs=25)


@pytest.mark.parametrize("name", ["har265", "mca_bladder", "warp_pie10p", "warp_ar10p", "mice_protein"])
def test_the_real_stand_ins(name: str, data_dir: Path) -> None:
    data = prepare(name, n_top_genes=200, max_obs=300)
    assert data.adata.n_obs == min(300, datasets.manifest(name).shape[0])  # type: ignore[index]
    assert (data.groups is not None) == (name in ("har265", "mice_protein"))
    assert read_source(data.adata).kind in ("log", "scaled")
    assert _sets.stands_for(name) is not None
