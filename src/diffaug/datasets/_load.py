"""Find, check and load data sets by name."""

from __future__ import annotations

import logging
import typing
from pathlib import Path

import anndata
import pandas as pd
from anndata import AnnData

from diffaug.datasets._embedded import pbmc68k_reduced
from diffaug.datasets._files import DATA_VARIABLE, cache_folder, candidates, data_folder, download, verify
from diffaug.datasets._manifest import Domain, Manifest, all_manifests, manifest

logger = logging.getLogger(__name__)

# Functions that build the sets that come with an installed package.
EMBEDDED = {"pbmc68k_reduced_scanpy": pbmc68k_reduced}


def list_datasets(domain: Domain | None = None) -> pd.DataFrame:
    """Table of the data sets that have a manifest.

    Parameters
    ----------
    domain
        ``"bio"``, ``"dna"`` or ``"vision"``; all by default.

    Returns
    -------
    One row a set, by name: ``domain``, ``status``, ``present`` (it can be loaded now; files are looked for and not
    checked), ``n_obs``, ``n_features``, ``n_classes``, ``kind``, ``labels``, ``label_key``, ``batch_key``, ``licence``,
    ``title``. See :class:`diffaug.datasets.Manifest` for what they mean.

    Raises
    ------
    ValueError
        If there is no such domain.

    Examples
    --------
    >>> import diffaug
    >>> table = diffaug.datasets.list_datasets("bio")
    >>> int(table.loc["paul15", "n_obs"])
    2660
    """
    domains = typing.get_args(Domain)
    if domain is not None and domain not in domains:
        raise ValueError(f"Expected `domain` in {list(domains)} or None, found {domain!r}.")
    chosen = [m for m in all_manifests().values() if domain in (None, m.domain)]
    table = pd.DataFrame([_row(m) for m in chosen]).set_index("name")
    return table.astype({"n_obs": "Int64", "n_features": "Int64", "n_classes": "Int64"})


def _row(m: Manifest) -> dict[str, object]:
    n_obs, n_features = None, None
    if m.shape is not None:
        n_obs, n_features = m.shape[0], 1
        for size in m.shape[1:]:
            n_features *= size
    return {
        "name": m.name,
        "domain": m.domain,
        "status": m.status,
        "present": m.status == "embedded" or (m.status == "local" and any(p.is_file() for p in candidates(m))),
        "n_obs": n_obs,
        "n_features": n_features,
        "n_classes": m.n_classes,
        "kind": m.kind,
        "labels": m.labels,
        "label_key": m.label_key,
        "batch_key": m.batch_key,
        "licence": m.licence,
        "title": m.title,
    }


def path(name: str, *, progress: bool = True) -> Path:
    """File of a data set, its size and checksum verified.

    The file is looked for in the folder that the environment variable ``DIFFAUG_DATA_DIR`` names. Where the manifest has
    a ``url``, a missing file is downloaded into ``DIFFAUG_CACHE_DIR`` (the user's cache folder by default).

    Parameters
    ----------
    name
        One of the names of :func:`list_datasets`.
    progress
        Show a bar while downloading.

    Returns
    -------
    The file.

    Raises
    ------
    KeyError
        If there is no such set.
    FileNotFoundError
        If its file is not there and cannot be downloaded.
    ValueError
        If the file is not the one of the manifest, or the set has none.
    OSError
        If a download fails.
    """
    m = manifest(name)
    if m.status == "embedded":
        raise ValueError(f"Expected a data set with a file, found {name!r}, which has none. Use `load({name!r})`.")
    if m.status == "unavailable":
        hint = f" Nearest sets that can be loaded: {list(m.stand_ins)}." if m.stand_ins else ""
        raise FileNotFoundError(f"{m.title} ({name!r}) is not available: {m.reason}{hint}")
    for place in candidates(m):
        if place.is_file():
            verify(place, m)
            return place
    if m.url is not None:
        assert m.file is not None
        target = cache_folder() / m.file
        download(m, target, progress=progress)
        return target
    folder = data_folder()
    if folder is None:
        raise FileNotFoundError(
            f"Expected the environment variable {DATA_VARIABLE} to name the folder with {m.file!r}, found it unset. "
            f"There is no download of {name!r} (source: {m.source or 'not known'}). Sets that need no file: {list(EMBEDDED)}."
        )
    raise FileNotFoundError(
        f"Did not find {m.file!r} of data set {name!r} in {DATA_VARIABLE} ({str(folder)!r}), and there is no download of it. "
        f"Source: {m.source or 'not known'}."
    )


def load(name: str, *, progress: bool = True) -> AnnData:
    """Load a data set of domain ``"bio"``.

    Parameters
    ----------
    name
        One of the names of ``list_datasets("bio")``.
    progress
        Show a bar while downloading.

    Returns
    -------
    A new AnnData with values in ``.X`` (see ``kind`` of the manifest), labels in ``.obs[label_key]`` and, where there is
    one, the batch in ``.obs[batch_key]``.

    Raises
    ------
    ValueError
        If the set is of another domain, besides the errors of :func:`path`.

    Examples
    --------
    >>> import diffaug
    >>> diffaug.datasets.load("pbmc68k_reduced_scanpy").shape
    (700, 765)
    """
    m = manifest(name)
    if m.domain != "bio":
        raise ValueError(
            f"Expected a data set of domain 'bio', found {name!r} of domain {m.domain!r}: `load` reads AnnData only. "
            f"Use `diffaug.{m.domain}.load({name!r})`; `path({name!r})` gives the checked file."
        )
    if m.status == "embedded":
        return EMBEDDED[name]()
    return anndata.read_h5ad(path(name, progress=progress))
