"""The sets of the paper, what may stand in for them here, and how a set is made ready: the same for every arm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from anndata import AnnData

from diffaug import datasets, metrics, pp
from diffaug._matrix import describe_matrix
from diffaug.dna._load import benchmark_place
from diffaug.reproduce._arms import Domain
from diffaug.reproduce._paper import TABLE1_BY_SET, TABLE2_BY_SET, TABLE3_BY_SET, PaperNumber
from diffaug.reproduce._split_sets import OTHER_DNA

_BY_SET: dict[Domain, dict[str, PaperNumber]] = {"bio": TABLE2_BY_SET, "dna": TABLE1_BY_SET, "vision": TABLE3_BY_SET}
#: Sets whose labels were looked at when defaults were chosen, all that docs/experiments.md names: numbers on them flatter
#: DiffAug by as much.
TUNED_ON = (
    "paul15", "mca_bladder", "pbmc_purified", "worm_l2_neurons", "kang_pbmc", "cytof_pbmc", "isolet", "har265",
    "zeisel_200genes", "osmfish_ssctx", "mice_protein", "worm_neuron_sdc", "baron_pancreas", "pbmc68k_reduced",
    "cellmix_5lines", "segerstolpe_pancreas", "tm_kidney_facs", "pollen", "coil20", "tox171", "warp_ar10p", "warp_pie10p",
)  # fmt: skip
#: For sets that can be had themselves, and so have none in their manifest.
_STAND_INS = {"cifar10": ("cifar10_12k",)}
#: What to do where no default set is at hand.
_WITHOUT: dict[Domain, str] = {
    "bio": "Set it, or name a set that needs no file: --sets pbmc68k_reduced_scanpy.",
    "dna": "Set it.",
    "vision": "Set it, or name a set to download: --sets cifar10 (170 MB).",
}


@dataclass(frozen=True)
class PaperSet:
    """A set of the paper.

    Attributes
    ----------
    name, title
        Of its manifest.
    paper
        DiffAug's linear SVM on it.
    reason
        Why it is not here itself.
    stand_ins
        Sets that can be had in its place.
    domain
        Its domain.
    """

    name: str
    title: str
    paper: PaperNumber
    reason: str
    stand_ins: tuple[str, ...]
    domain: Domain = "bio"


@dataclass(frozen=True, eq=False)
class Data:
    """A set made ready.

    Attributes
    ----------
    name
        Of its manifest.
    adata
        Log-normalised variable genes, or measurements as they are, in ``.X``.
    label_key
        Column of ``.obs`` with the labels.
    labels
        Its values, as text.
    groups
        Donor, subject or batch of each row, where the set has one.
    """

    name: str
    adata: AnnData
    label_key: str
    labels: np.ndarray
    groups: np.ndarray | None

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.adata.n_obs

    @property
    def n_features(self) -> int:
        """Number of genes or measurements."""
        return self.adata.n_vars


def paper_sets(domain: Domain = "bio") -> list[PaperSet]:
    """The sets of the paper's table of a domain, as their manifests describe them."""
    found = []
    for name, number in _BY_SET[domain].items():
        m = datasets.manifest(name)
        found.append(PaperSet(name, m.title, number, m.reason or "", m.stand_ins or _STAND_INS.get(name, ()), domain))
    return found


def stands_for(name: str) -> PaperSet | None:
    """The paper's set that a set is, or in whose place it is used."""
    return next((s for domain in _BY_SET for s in paper_sets(domain) if name in (s.name, *s.stand_ins)), None)


def default_sets(domain: Domain = "bio") -> list[str]:
    """Sets that are run where none is asked for, as far as they are at hand: the paper's, stand-ins, and others."""
    found = [name for s in paper_sets(domain) for name in ((s.name, *s.stand_ins) if domain != "bio" else s.stand_ins)]
    return [*found, *OTHER_DNA] if domain == "dna" else found


def at_hand(domain: Domain) -> dict[str, bool]:
    """Whether each set of a domain can be loaded now, without a download."""
    table = datasets.list_datasets(domain)
    found = {str(name): bool(present) for name, present in table["present"].items()}
    if domain == "dna":  # Genomic Benchmarks have no file with a checksum, and are read where they lie
        found = {name: present or benchmark_place(name) is not None for name, present in found.items()}
    return found


def chosen_sets(asked: Sequence[str] | None, domain: Domain = "bio") -> tuple[list[str], list[str]]:
    """Sets to run, and default ones that are not at hand. Sets that were asked for by name must be there, and whole.

    Those of images that have a download may be asked for without being there.

    Raises
    ------
    KeyError, ValueError, FileNotFoundError
        A set is unknown, of another domain, damaged or not at hand, or no default set is at hand.
    """
    present = at_hand(domain)
    names = default_sets(domain) if asked is None else list(dict.fromkeys(asked))
    absent = [] if asked is not None else [name for name in names if not present[name]]
    names = [name for name in names if name not in absent]
    if not names:
        where = os.environ.get("DIFFAUG_DATA_DIR", "")
        found = f"none of them in {where!r}" if where else "it unset"
        raise FileNotFoundError(
            f"Expected the environment variable DIFFAUG_DATA_DIR to name the folder with the sets {absent}, found {found}. "
            + _WITHOUT[domain]
        )
    for name in names:
        m = datasets.manifest(name)
        if m.domain != domain:
            raise ValueError(f"Expected sets of domain {domain!r}, found {name!r} of domain {m.domain!r}.")
        if m.status != "embedded" and not (m.status == "unavailable" and present[name]):
            datasets.path(name)
    return names, absent


def prepare(name: str, *, n_top_genes: int | None, max_obs: int | None) -> Data:
    """Load a set and make it ready.

    Raises
    ------
    ValueError
        Its cells are too few for the protocols.
    """
    m = datasets.manifest(name)
    adata = datasets.load(name, progress=False)
    if max_obs is not None and adata.n_obs > max_obs:
        rows = np.random.default_rng(0).choice(adata.n_obs, max_obs, replace=False)
        adata = adata[np.sort(rows)].copy()
    if m.kind == "counts":
        adata = adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()
        assert n_top_genes is not None  # only other domains have none
        pp.recipe(adata, n_top_genes=n_top_genes)
        adata = adata[:, adata.var["highly_variable"]].copy()
    elif describe_matrix(adata.X).kind == "counts":
        # Grey levels are whole numbers too. On another scale the door does not take them for counts, and the model,
        # which standardises every feature, sees the same.
        adata.X = adata.X.astype(np.float32) / 256
    assert m.label_key is not None  # every set that can be loaded has one, by the manifest's own check
    labels = adata.obs[m.label_key].astype(str).to_numpy()
    groups = None if m.batch_key is None else adata.obs[m.batch_key].astype(str).to_numpy()
    data = Data(name, adata, m.label_key, labels, groups)
    _rehearse(data)
    return data


def _rehearse(data: Data) -> None:
    """Split a column of zeros as the embeddings will be: what cannot be judged is refused before it is trained on."""
    try:
        metrics.knn_probe(np.zeros((len(data.labels), 1)), data.labels)
    except ValueError as error:
        raise ValueError(f"The set {data.name!r} is too small to be judged: {error} Pass more cells.") from error
