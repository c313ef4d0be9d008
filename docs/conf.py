"""Sphinx settings. `make docs` builds with warnings as errors and needs no network."""

from __future__ import annotations

import shutil
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.ext.napoleon import NumpyDocstring

HERE = Path(__file__).parent

project = "diffaug"
author = "diffaug developers"
copyright = "2026, diffaug developers"
version = release = installed_version("diffaug")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

html_theme = "sphinx_book_theme"
html_title = "diffaug"
html_show_sphinx = False

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks are kept executed

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"  # types stand in the signatures only
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_ivar = True  # else the attributes of a dataclass are described twice


def _prose_returns(self: NumpyDocstring, section: str) -> list[str]:
    """Read a Returns section as prose: the type is the signature's, the text says the shape and what is written."""
    return self._format_block(":returns: ", self._dedent(self._consume_to_next_section()))


NumpyDocstring._parse_returns_section = _prose_returns

# Sphinx reads below its own folder only, so the notebooks are copied there.
notebooks = HERE / "generated" / "notebooks"
shutil.rmtree(notebooks, ignore_errors=True)
notebooks.mkdir(parents=True)
for notebook in (HERE.parent / "notebooks").glob("*.ipynb"):
    shutil.copy(notebook, notebooks)
