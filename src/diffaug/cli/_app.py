"""The application: its name, the options that every command has, and how docstrings become help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from cyclopts import App, Group, Parameter, validators

from diffaug import __version__

F = TypeVar("F", bound=Callable[..., None])
_EXAMPLES = "Examples\n--------\n"


def make_app(name: str, summary: str, try_it: str = "") -> App:
    """The application of a domain; ``try_it`` comes first in the last lines of its help."""
    return App(
        name=name,
        version=__version__,
        help_format="markdown",
        # No `--no-quiet` and `--empty-n`: they double the help and say nothing.
        default_parameter=Parameter(negative=()),
        help=f"{summary}\n\n"
        "Results go to the files that you name, never over an existing one unless `--overwrite` says so, and appear "
        "whole or not at all. Standard output has the paths written (or JSON), standard error the log.\n\n"
        "Exit codes: 0 fine, 1 failure, 2 wrong use or unusable input, 3 out of the time that was given "
        "(the same command goes on), 130 interrupted.",
        help_epilogue=f"{try_it}`{name} COMMAND --help` has the options and an example of each command.",
    )


app = make_app(
    "diffaug-cells",
    "Embed single cells without labels, and generate synthetic ones.",
    "Try it: `diffaug-cells demo` (no data needed).\n\n",
)


@Parameter(name="*", group=Group("Common options", sort_key=9))
@dataclass(frozen=True)
class Common:
    """Options of every command.

    Parameters
    ----------
    threads
        Threads that torch may use; by default it decides.
    quiet
        No log and no progress bar; warnings, errors and results remain.
    debug
        Show the traceback of an error.
    """

    threads: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None
    quiet: bool = False
    debug: bool = False


def registrar(app: App) -> Callable[[F], F]:
    """Decorator that registers a command; the Examples of its docstring, which cyclopts leaves out, end its help."""

    def command(function: F) -> F:
        body, _, examples = inspect.cleandoc(function.__doc__ or "").partition(_EXAMPLES)
        if not examples:
            raise ValueError(f"Expected a section Examples in the docstring of {function.__name__}(), found none.")
        app.command(function, help_epilogue=f"Examples:\n```\n{examples.rstrip()}\n```")
        return function

    return command


command = registrar(app)
