"""The core knows no domain, not even by its words; and no part needs torchvision."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "diffaug"
#: Words that belong to one domain, in the singular. Left out are those that mean as much elsewhere: base, count, depth, read.
DOMAIN_WORDS = frozenset(
    """
    cell gene genome transcript transcriptome transcriptomic umi donor patient tissue panel expression expressed protein
    scrna anndata adata scanpy var_names
    image pixel photo photograph picture crop grey gray hue saturation jitter cifar
    dna rna mrna nucleotide codon motif promoter fasta kmer basepair sequence chromosome strand hyena
    """.split()
)
#: Two words that are one.
DOMAIN_PAIRS = frozenset({("base", "pair"), ("library", "size"), ("read", "count")})
#: Names that hold such a word and mean something else: abstract lists of ``collections.abc``.
ALLOWED_NAMES = frozenset({"Sequence", "SeedSequence"})


def words_of(text: str) -> list[str]:
    """Words of prose and of names (``n_cells``, ``CellsConfig``), lower case, in the singular."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)
    return [re.sub(r"(?<=[a-z]{2})s$", "", part.lower()) for part in parts]


def domain_words(source: str) -> Iterator[tuple[int, str]]:
    """Lines and words of a module that belong to a domain, in its names, comments, docstrings and texts."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string in ALLOWED_NAMES:
            continue
        if token.type not in (tokenize.NAME, tokenize.COMMENT, tokenize.STRING):
            continue
        for i, line in enumerate(token.string.split("\n")):
            text = re.sub("|".join(rf"\b{name}\b" for name in ALLOWED_NAMES), " ", line)
            words = words_of(text)
            found = [w for w in words if w in DOMAIN_WORDS]
            found += [" ".join(pair) for pair in zip(words, words[1:], strict=False) if pair in DOMAIN_PAIRS]
            yield from ((token.start[0] + i, word) for word in found)


def imports_of(source: str) -> set[str]:
    """Top-level packages that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
            "find_spec",
        ):
            found |= {str(a.value).partition(".")[0] for a in node.args if isinstance(a, ast.Constant)}
    return found


def test_the_core_has_words_of_no_domain() -> None:
    files = sorted((SOURCE / "core").rglob("*.py"))
    assert len(files) > 10
    found = [
        f"{file.name}:{line}: {word}" for file in files for line, word in domain_words(file.read_text(encoding="utf-8"))
    ]
    assert not found, "Expected words of no domain in core, found " + ", ".join(found) + ". Say `event' or `feature'."


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("n_cells = 3", ["cell"]),
        ("class CellsConfig: ...", ["cell"]),
        ('"""The mean\nof all genes."""', ["gene"]),
        ("x = 1  # a picture of it", ["picture"]),
        ("_SMALL_PANEL = 100", ["panel"]),
        ('f("Expected images")', ["image"]),
        ("#: of five base pairs", ["base pair"]),
        ("def one_hot_DNA(): ...", ["dna"]),
        ("sequences = []", ["sequence"]),
        ("from collections.abc import Sequence\nx: Sequence[int]\ny = np.random.SeedSequence(0)", []),
        ("# generates general events, an excellent base, per cent, as it reads", []),
    ],
)
def test_such_words_are_found(source: str, expected: list[str]) -> None:
    assert [word for _, word in domain_words(source)] == expected


def test_nothing_imports_torchvision() -> None:
    """Its wheels are built for one torch, so that it forces another torch on the user (docs/installation.md)."""
    found = {file: imports_of(file.read_text(encoding="utf-8")) for file in SOURCE.rglob("*.py")}
    assert any("kornia" in names for names in found.values())  # the walk does see late imports
    assert not [str(file) for file, names in found.items() if "torchvision" in names]


@pytest.mark.parametrize(
    "source",
    [
        "import torchvision",
        "import torchvision.transforms as T",
        "from torchvision.models import resnet18",
        "def late():\n    from torchvision import ops",
        "importlib.import_module('torchvision.ops')",
        "__import__('torchvision')",
    ],
)
def test_such_an_import_is_found(source: str) -> None:
    assert "torchvision" in imports_of(source)
    assert "torchvision" not in imports_of("# import torchvision\nx = 'torchvision'\nfrom . import torchvision")
