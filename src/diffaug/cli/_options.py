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

# Texts that several commands have word for word. An option with a text of its own has it in the command's docstring, and a
# plain type: a text here would go before it.
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[NotNegative, Parameter(help="Equal seeds give equal results on one machine's CPU.")]
ModelFolder = Annotated[Path, Parameter(help="Folder of a model that ``fit`` wrote.")]
Overwrite = Annotated[bool, Parameter(help="Replace an existing output.")]
Json = Annotated[bool, Parameter(help="Print JSON.")]
SettingsFile = Annotated[
    Path | None,
    Parameter(
        help="TOML file with settings on top of the preset: tables loss, diffusion, training, domain. Flags win over it. "
        "``info`` prints the settings of a model in this form."
    ),
]
MaxEpochs = Annotated[
    Positive | None, Parameter(help="Cap on the epochs of all phases together; longer plans shrink in proportion.")
]
NCycles = Annotated[
    NotNegative | None,
    Parameter(help="Times the generator is trained and its views shown to the encoder; 0 trains the encoder alone."),
]
ViewRate = Annotated[
    Share | None, Parameter(help="Probability (lambda) that a positive is a generated view after the warm-up.")
]
NEncoders = Annotated[
    Positive | None, Parameter(help="Encoders whose vectors are averaged to the embedding; 1 is faster, 5 are better.")
]
Checkpoint = Annotated[
    Path | None,
    Parameter(
        help="File that keeps the state of the training, written about every ten minutes. If the command is stopped or "
        "killed, the same command goes on from there, with the same result. Removed when the results are written."
    ),
]


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
