"""Options that commands of every domain share, and what is made of their values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from diffaug.cli._app import Common
from diffaug.cli._files import read_toml

if TYPE_CHECKING:
    from diffaug._model import DiffAug
    from diffaug.core.config import Config

Output = Annotated[Path, Parameter(alias="-o")]
Positive = Annotated[int, Parameter(validator=validators.Number(gte=1))]
NotNegative = Annotated[int, Parameter(validator=validators.Number(gte=0))]
Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]


def settings_of(preset: str, file: Path | None, domain: str = "cells") -> Config:
    """A preset of a domain, with the settings of a TOML file on top."""
    values = {} if file is None else read_toml(file)

    from diffaug.backends import get_backend
    from diffaug.core.config import config_from_dict

    backend = get_backend(domain)
    return config_from_dict(values, backend.Settings, backend.preset(preset))


def load(folder: Path, device: str) -> DiffAug:
    """A fitted model, or a clear error for a path that cannot be one."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise FileNotFoundError(f"Expected the folder of a model that `fit` wrote, found {found} at {str(folder)!r}.")
    from diffaug import DiffAug

    return DiffAug.load(folder, device=device)


def wants_progress(common: Common) -> bool:
    """Progress bars are for people who look at a terminal."""
    return sys.stderr.isatty() and not common.quiet
