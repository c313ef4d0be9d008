"""Conventions that hold over the whole public API: signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import diffaug

API_PAGE = Path(__file__).parents[1] / "docs" / "api.md"
#: Positional parameters of the functions that take more or other than ``adata``; the rest is keyword-only everywhere.
POSITIONAL = {
    "tl.balance": ("adata", "model"),
    "tl.baseline": ("adata", "method"),
    "tl.embed": ("adata", "model"),
    "tl.augment": ("adata", "model"),
    "tl.view_similarity": ("adata", "model"),
    "tl.loop_gain": ("adata", "model"),
    "tl.generate": ("model", "n_obs"),  # it makes the AnnData
    "tl.report": ("synthetic",),  # and no real cells, which have two roles that must not be mixed up
    "pl.cosine_similarity": ("adata", "model"),
    "pl.history": ("adata_or_model",),
    "pl.provenance": ("synthetic",),
    "pl.violin": ("real", "synthetic"),  # two AnnData that must not be mixed up
}


def public(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """Functions that a face of the package exports, by their name in the API."""
    face = module.__name__.rpartition(".")[2]
    found = {f"{face}.{name}": getattr(module, name) for name in module.__all__}
    return {name: obj for name, obj in found.items() if inspect.isfunction(obj)}


FACES = {**public(diffaug.pp), **public(diffaug.tl), **public(diffaug.pl)}
FUNCTIONS = {
    **FACES,
    **public(diffaug.metrics),
    **public(diffaug.datasets),
    **public(diffaug.dna),
    **public(diffaug.vision),
}
METHODS = {
    f"{cls.__name__}.{name}": obj
    for cls in (diffaug.DiffAug, diffaug.baselines.Baseline)
    for name, obj in inspect.getmembers(cls, lambda obj: inspect.isfunction(obj) or inspect.ismethod(obj))
    if not name.startswith("_")
}


def sections(doc: str) -> dict[str, list[str]]:
    """Lines of each section of a numpydoc docstring, by title."""
    found: dict[str, list[str]] = {"": []}
    lines = inspect.cleandoc(doc).splitlines() or [""]
    title = ""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line and re.fullmatch("-{3,}", below) and len(line) == len(below):
            title = line
            found[title] = []
        elif not (re.fullmatch("-{3,}", line) and not found[title]):
            found[title].append(line)
    return found


def documented(section: list[str]) -> list[str]:
    """Parameter names of a section: those of unindented lines such as ``a, b`` or ``a : int``."""
    heads = [line.partition(":")[0] for line in section if line and not line.startswith(" ")]
    return [name.strip(" *") for head in heads for name in head.split(",")]


def signature_problems(function: Callable[..., Any], positional: tuple[str, ...] = ("adata",)) -> list[str]:
    """What a signature does against the conventions."""
    parameters = inspect.signature(function).parameters
    free = tuple(n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY)
    problems = [] if free == positional else [f"Expected the positional parameters {positional}, found {free}."]
    problems += [
        f"Expected named parameters only, found {p}."
        for p in parameters.values()
        if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    bare = [n for n, p in parameters.items() if p.annotation is p.empty]
    return problems + [f"Expected a type for `{n}`, found none." for n in bare]


def docstring_problems(function: Callable[..., Any]) -> list[str]:
    """What a docstring lacks, or says of parameters that do not exist."""
    found = sections(function.__doc__ or "")
    problems = [] if "".join(found[""]).strip() else ["Expected a summary, found none."]
    expected = [n for n in inspect.signature(function).parameters if n not in ("self", "cls")]
    named = documented(found.get("Parameters", []))
    if named != expected:
        problems.append(f"Expected the documented parameters {expected} in this order, found {named}.")
    if not "".join(found.get("Returns", [])).strip():
        problems.append("Expected a section Returns, found none.")
    return problems


def test_the_api_has_functions() -> None:
    """The parametrised tests below would pass on an empty API."""
    assert {"pp.recipe", "tl.fit", "tl.embed", "tl.augment", "tl.generate", "pl.embedding"} <= set(FACES)
    assert set(POSITIONAL) <= set(FACES)
    assert {"DiffAug.fit", "DiffAug.embed", "DiffAug.save", "DiffAug.load", "Baseline.fit"} <= set(METHODS)


@pytest.mark.parametrize("name", FACES)
def test_signature(name: str) -> None:
    assert signature_problems(FACES[name], POSITIONAL.get(name, ("adata",))) == []


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_docstring(name: str) -> None:
    assert docstring_problems({**FUNCTIONS, **METHODS}[name]) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_api_page_lists(name: str) -> None:
    assert re.search(rf"^\s+{re.escape(name)}$", API_PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("face", ["pp", "tl", "pl", "metrics", "datasets", "baselines", "dna", "vision"])
def test_exports_exist_once(face: str) -> None:
    exported = getattr(diffaug, face).__all__
    assert all(hasattr(getattr(diffaug, face), name) for name in exported)
    assert len(exported) == len(set(exported))


# --- negative controls: the checks above find what they look for ----------------------------------------------------


def _good(adata: object, *, layer: str | None = None, copy: bool = False) -> object | None:
    """Do something.

    Parameters
    ----------
    adata
        Cells.
    layer, copy
        Settings: two of them.

    Returns
    -------
    Nothing, or a copy.
    """


def _positional(adata: object, layer: str | None = None) -> None:
    """Do something.

    Parameters
    ----------
    adata
        Cells.

    Returns
    -------
    Nothing.
    """


def _catch_all(adata: object, **kwargs: object) -> None: ...


def _other_first(data: object) -> None:
    """Do something.

    Parameters
    ----------
    adata
        Cells.
    """


def _untyped(adata, *, layer=None) -> None: ...  # type: ignore[no-untyped-def]


def test_a_good_function_passes() -> None:
    assert signature_problems(_good) == [] and docstring_problems(_good) == []


@pytest.mark.parametrize(
    ("function", "check", "problem"),
    [
        (_positional, signature_problems, r"positional parameters \('adata',\), found \('adata', 'layer'\)"),
        (_other_first, signature_problems, r"positional parameters \('adata',\), found \('data',\)"),
        (_catch_all, signature_problems, r"named parameters only, found \*\*kwargs"),
        (_untyped, signature_problems, "a type for `layer`"),
        (_positional, docstring_problems, r"parameters \['adata', 'layer'\] in this order, found \['adata'\]"),
        (_other_first, docstring_problems, r"parameters \['data'\] in this order, found \['adata'\]"),
        (_other_first, docstring_problems, "section Returns"),
        (_catch_all, docstring_problems, "a summary"),
    ],
)
def test_a_bad_function_is_found(
    function: Callable[..., Any], check: Callable[[Callable[..., Any]], list[str]], problem: str
) -> None:
    assert any(re.search(problem, p) for p in check(function))
