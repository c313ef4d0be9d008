"""Help, exit codes, the log, and what a user sees of an error."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from cyclopts import App

import diffaug
from diffaug import tl
from diffaug.cli import _dna, _look, _make, _options, _reproduce, _synthetic, _vision, main
from diffaug.cli._app import Common, app, command
from diffaug.cli._reproduce import Plan
from diffaug.core.devices import respected_threads

Listing = Callable[[Path], dict[str, bytes]]
HEAVY = ["torch", "scanpy", "anndata", "pandas", "matplotlib", "scipy", "sklearn", "numpy"]
COMMANDS = {
    name: getattr(module, name)
    for module, names in (
        (_make, ["fit", "embed", "augment"]),
        (_synthetic, ["generate"]),
        (_look, ["evaluate", "plot", "info", "demo"]),
        (_reproduce, ["reproduce"]),
    )
    for name in names
}
FIT = ["fit", "cells.h5ad", "-o", "new.h5ad", "--config", "tiny.toml"]


def child(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    call = "import sys; from diffaug.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", call, *arguments], capture_output=True, text=True, **options)  # type: ignore[call-overload]


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# --- help ------------------------------------------------------------------------------------------------------------


def test_the_entry_point_is_main() -> None:
    (script,) = entry_points(group="console_scripts", name="diffaug-cells")
    assert script.load() is main


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, diffaug.cli; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    # Control: the same check finds them where they are.
    done = subprocess.run([sys.executable, "-c", code.replace("diffaug.cli", "torch")], capture_output=True, text=True)
    assert "torch" in done.stdout.split()


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["--version"], []], ids=" ".join)
def test_help_answers_in_half_a_second(arguments: list[str]) -> None:
    """Of processor time, which other programs on the machine do not lengthen much."""
    used = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert child(*arguments).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(used) < 0.5


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == diffaug.__version__


@pytest.mark.parametrize("arguments", [["--help"], []], ids=["--help", "nothing"])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for name, function in COMMANDS.items():
        summary = inspect.getdoc(function).splitlines()[0]
        assert name in out and summary[:30] in out
    assert "130 interrupted" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_every_parameter_and_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    words = out.split()
    shared = [Common, Plan] if name == "reproduce" else [Common]
    for parameter in inspect.signature(COMMANDS[name]).parameters.values():
        if parameter.name in ("common", "plan"):
            continue
        flag = parameter.name.upper() if parameter.kind is parameter.POSITIONAL_ONLY else f"--{parameter.name}"
        assert flag.replace("_", "-") in words, flag
    for field in (field for options in shared for field in options.__dataclass_fields__):
        assert f"--{field.replace('_', '-')}" in words
    assert f"diffaug-cells {name}" in out.partition("Examples:")[2]
    assert "``" not in out and "Parameters\n" not in out  # markup was rendered


@pytest.mark.parametrize("program", [app, _dna.app, _vision.app], ids=lambda program: program.name[0])
def test_help_describes_every_parameter(program: App) -> None:
    """From the docstring or with its type; a name without a line of help would pass the test above."""
    verbs = [name for name in program if not name.startswith("-")]
    assert {"fit", "embed", "augment", "generate", "evaluate", "info", "reproduce"} <= set(verbs)
    for verb in verbs:
        options = [o for o in program[verb].assemble_argument_collection(parse_docstring=True) if not o.children]
        assert len(options) > 3
        assert [o.name for o in options if not o.parameter.help] == [], verb


def test_a_command_without_an_example_is_refused() -> None:
    def lazy() -> None:
        """Do something."""

    with pytest.raises(ValueError, match=r"section Examples in the docstring of lazy\(\), found none"):
        command(lazy)


# --- wrong use -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fti"], 'Unknown command "fti". Did you mean "fit"?'),
        (["fit"], 'Command "fit" parameter DATA requires an argument.'),
        (["fit", "a.h5ad", "--prset", "paper"], "Unknown option: --prset. Did you mean --preset?"),
        (["fit", "a.h5ad", "--preset", "big"], 'Invalid value "big" for --preset. Choose from: "default", "paper".'),
        (["fit", "a.h5ad", "--seed", "x"], 'Invalid value for --seed: unable to convert "x" into int.'),
        (["fit", "a.h5ad", "--seed", "-1"], 'Invalid value "-1" for --seed. Must be >= 0.'),
        (["fit", "a.h5ad", "--view-rate", "1.5"], 'Invalid value "1.5" for --view-rate. Must be <= 1.'),
        (["fit", "a.h5ad", "--max-epochs", "0"], 'Invalid value "0" for --max-epochs. Must be >= 1.'),
        (["fit", "a.h5ad", "--threads", "0"], 'Invalid value "0" for --threads. Must be >= 1.'),
        (["fit", "a.h5ad", "b.h5ad"], "Unused Tokens: ['b.h5ad']."),
        (["embed", "a.h5ad", "--model", "m"], 'Command "embed" parameter --output requires an argument.'),
        (["embed", "a.h5ad", "-o", "b.h5ad"], 'Command "embed" parameter --model requires an argument.'),
        (["generate", "m", "-o", "b.h5ad"], "Expected --n-obs, --like or --groupby, found none."),
        (
            ["generate", "m", "-o", "b.h5ad", "--like", "a", "--groupby", "g"],
            "Expected --like or --groupby, found both.",
        ),
        (["plot", "a.h5ad", "-o", "b.png", "--kind", "pie"], 'Invalid value "pie" for --kind. Choose from:'),
        (
            ["generate", "m", "-o", "b.h5ad", "--groupby", "a", "--n", "NK"],
            "Expected --n as NAME=NUMBER, or a single number",
        ),
        (["generate", "m", "-o", "b.h5ad", "--groupby", "a", "--n", "NK=many"], "found 'NK=many'."),
        (["generate", "m", "-o", "b.h5ad", "--groupby", "a", "--n", "NK=1", "--n", "NK=2"], "found 'NK' twice."),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_use_is_told_in_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("diffaug-cells: error: ") and message in err
    assert err.count("\n") == 1


# --- errors of a run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("Expected A,\n  found B."), 2, "Expected A, found B."),
        (TypeError("Expected A."), 2, "Expected A."),
        (KeyError("Did not find `adata.obs['x']`.\n"), 2, "Did not find `adata.obs['x']`."),  # and not its repr
        (FileNotFoundError("Expected a file."), 2, "Expected a file."),
        (RuntimeError("out of memory"), 1, "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "new.h5ad"), 1, "No space left on device: 'new.h5ad'"),
        (MemoryError(), 1, "MemoryError"),
        (ZeroDivisionError("division by zero"), 1, "division by zero"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Exception) else "",
)
def test_an_error_becomes_a_line_and_a_code(
    error: Exception,
    code: int,
    message: str,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tl, "fit", raising(error))
    assert main(FIT) == code
    assert capsys.readouterr().err == f"diffaug-cells: error: {message}\n"
    assert main([*FIT, "--debug"]) == code
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):") and "in fail" in err
    assert err.endswith(f"diffaug-cells: error: {message}\n")


def test_an_interrupt_leaves_nothing(
    work: Path, listing: Listing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diffaug.DiffAug, "save", raising(KeyboardInterrupt()))  # after the cells were written
    before = listing(work)
    assert main(FIT) == 130
    assert capsys.readouterr().err.endswith("diffaug-cells: interrupted\n")
    assert listing(work) == before


def test_ctrl_c_of_a_running_fit(work: Path, listing: Listing) -> None:
    """The real signal, in the real process."""
    before = listing(work)
    call = "import sys; from diffaug.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", call, "fit", "cells.h5ad", "-o", "new.h5ad", "--device", "cpu"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell has the signal ignored, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    assert "holds raw counts" in process.stderr.readline()  # it is past the imports, and trains for a minute
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == "" and err.endswith("diffaug-cells: interrupted\n") and "Traceback" not in err
    assert listing(work) == before


# --- log, threads, progress ------------------------------------------------------------------------------------------


def test_log_and_results_go_apart(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(FIT) == 0
    out, err = capsys.readouterr()
    assert out == "new.h5ad\nnew.model\n"
    assert "raw counts: training on a copy normalised to" in err and "wrote .obsm['X_diffaug']" in err
    assert "epoch" not in err  # no bar without a terminal
    assert main([*FIT, "--overwrite", "--quiet"]) == 0
    again, err = capsys.readouterr()
    assert again == out and "raw counts" not in err
    assert all(line.startswith("warning: ") for line in err.splitlines())  # of all that was logged, warnings remain


def test_warnings_survive_quiet(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import anndata

    adata = anndata.read_h5ad("cells.h5ad")
    adata.X = adata.X.toarray()
    adata.X[:, 3] = 0
    adata.write_h5ad("cells.h5ad")
    assert main([*FIT, "--quiet"]) == 0
    assert "warning: 1 of 24 features are the same in all cells and carry nothing\n" in capsys.readouterr().err


def test_the_log_is_given_back(work: Path) -> None:
    logger = logging.getLogger("diffaug")
    before = (logger.level, logger.propagate, list(logger.handlers))
    assert main(["info", "cells.h5ad"]) == 0
    assert main(["info", "absent.h5ad"]) == 2
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_progress_needs_a_terminal_and_no_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _options.wants_progress(Common())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert _options.wants_progress(Common())
    assert not _options.wants_progress(Common(quiet=True))


def test_threads(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    monkeypatch.setattr(_look, "show", lambda text: seen.append(os.environ.get("OMP_NUM_THREADS")))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    main(["info", "cells.h5ad"])
    main(["info", "cells.h5ad", "--threads", "3"])
    assert seen == ["1", "3"]
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = torch.get_num_threads()
    with respected_threads():
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


def test_in_a_process_of_its_own(work: Path) -> None:
    done = child("info", "cells.h5ad")
    assert done.returncode == 0 and "120 cells x 24 genes" in done.stdout and done.stderr == ""
    done = child("info", "absent.h5ad", env={**os.environ, "PYTHONWARNINGS": "error"})
    assert done.returncode == 2
    assert done.stderr == "diffaug-cells: error: Expected an .h5ad file, found nothing at 'absent.h5ad'.\n"


def test_threads_wait_without_spinning_unless_the_user_says_so() -> None:
    code = (
        "import os, sys; sys.argv = ['diffaug-cells', '--version']\n"
        "from diffaug.cli import main; main(); print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**environment, **given}
        )
        assert done.stdout.split() == [diffaug.__version__, expected]
