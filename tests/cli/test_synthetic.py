"""generate and balance do what the Python calls do."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

import diffaug
from diffaug.cli import main
from diffaug.cli._synthetic import counts_of

SameCells = Callable[[anndata.AnnData, anndata.AnnData], bool]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1].removeprefix("diffaug-cells: error: ")


# --- generate --------------------------------------------------------------------------------------------------------


def test_generate_equals_the_python_call(work: Path, same_cells: SameCells) -> None:
    call = ["generate", "cells.diffaug.model", "--n-obs", "30", "-o", "new.h5ad", "--overwrite"]
    model = diffaug.DiffAug.load("cells.diffaug.model")
    made = []
    for seed in (4, 5):
        assert main([*call, "--seed", str(seed)]) == 0
        made.append(anndata.read_h5ad("new.h5ad"))
        assert same_cells(made[-1], diffaug.tl.generate(model, 30, random_state=seed))
    assert not same_cells(*made)


@pytest.mark.parametrize("n_obs", [None, 150])
def test_generate_like_equals_the_python_call(n_obs: int | None, work: Path, same_cells: SameCells) -> None:
    call = ["generate", "cells.diffaug.model", "--like", "held_out.h5ad", "-o", "new.h5ad", "--seed", "4"]
    assert main([*call, *([] if n_obs is None else ["--n-obs", str(n_obs)])]) == 0
    model, like = diffaug.DiffAug.load("cells.diffaug.model"), anndata.read_h5ad("held_out.h5ad")
    written = anndata.read_h5ad("new.h5ad")
    assert same_cells(written, diffaug.tl.generate(model, n_obs, like=like, random_state=4))
    assert written.n_obs == (n_obs or 120)
    assert set(written.obs["condition_cell"]) == set(like.obs_names)  # and not of the training cells


def test_like_is_read_before_the_model(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["generate", "cells.diffaug.model", "--like", "held_out.h5ad", "-o", "held_out.h5ad"]
    assert main(call) == 2
    assert said(capsys).startswith("Expected a new output, found the input itself")
    assert main(["generate", "absent", "--like", "none.h5ad", "-o", "new.h5ad"]) == 2
    assert said(capsys) == "Expected an .h5ad file, found nothing at 'none.h5ad'."


def test_generate_by_group(work: Path) -> None:
    call = ["generate", "cells.diffaug.model", "--groupby", "cell_type", "-o", "new.h5ad", "--overwrite"]
    for flags, expected in (
        (["--n", "NK=5", "--n", "B=1=7"], {"NK": 5, "B=1": 7}),  # a name may hold an equals sign
        (["--n", "4"], {"NK": 4, "B=1": 4}),
        ([], {"NK": 60, "B=1": 60}),
    ):
        assert main([*call, *flags]) == 0
        assert anndata.read_h5ad("new.h5ad").obs["cell_type"].value_counts().to_dict() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--groupby", "celltype"], "Did you mean 'cell_type'?"),
        (["--groupby", "cell_type", "--n", "NKT=3"], "Did you mean 'NK'?"),
        (["--groupby", "cell_type", "--n-obs", "3"], "Expected `n` (cells by group) with `groupby`, found `n_obs`."),
        (["--n", "NK=3"], "Expected --groupby with --n, found none."),
        (["--n-obs", "3", "--depth", "100"], "Expected --counts with --depth, found none."),
        (["--n-obs", "3", "--counts", "--depth", "0"], "Expected `depth` of at least 1 count"),
        (["--n-obs", "3", "--counts", "--depth", "none.h5ad"], "Expected an .h5ad file, found nothing at 'none.h5ad'"),
        (["--n-obs", "3", "--strength", "0.5"], "Expected `like` or `train` with `strength` below 1"),
        (["--n-obs", "3", "--guidance", "2"], "Expected `condition_dropout` above 0"),
        (["--n-obs", "3", "--batch", "3"], "Expected `batch_key` with `batch`, found none"),
        (["--groupby", "cell_type", "--groupby", "batch", "--n", "NK=3"], "Expected 2 names joined by commas in --n"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_errors_of_generate(options: list[str], message: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "cells.diffaug.model", "-o", "new.h5ad", *options]) == 2
    assert message in said(capsys)
    assert not Path("new.h5ad").exists()


def test_generate_counts(work: Path, same_cells: SameCells) -> None:
    call = [
        "generate",
        "cells.diffaug.model",
        "--groupby",
        "cell_type",
        "--groupby",
        "batch",
        "--n",
        "NK,1=3",
        "--counts",
    ]
    call += ["-o", "new.h5ad", "--overwrite"]
    model = diffaug.DiffAug.load("cells.diffaug.model")
    how: dict[str, Any] = {"groupby": ["cell_type", "batch"], "n": {("NK", "1"): 3}, "output": "counts"}
    held_out = anndata.read_h5ad("held_out.h5ad")
    for options, depth in (([], None), (["--depth", "50"], 50), (["--depth", "held_out.h5ad"], held_out)):
        assert main([*call, *options]) == 0
        written = anndata.read_h5ad("new.h5ad")
        assert written.X.dtype == np.int32
        assert same_cells(written, diffaug.tl.generate(model, depth=depth, **how))


def test_generate_with_the_training_cells(work: Path, same_cells: SameCells) -> None:
    call = ["generate", "cells.diffaug.model", "--n-obs", "9", "--train", "cells.h5ad", "--strength", "0.5"]
    assert main([*call, "--batch", "1", "--batch-key", "batch", "-o", "new.h5ad"]) == 0
    train, model = anndata.read_h5ad("cells.h5ad"), diffaug.DiffAug.load("cells.diffaug.model")
    expected = diffaug.tl.generate(model, 9, train=train, strength=0.5, batch="1", batch_key="batch")
    written = anndata.read_h5ad("new.h5ad")
    assert same_cells(written, expected)
    assert written.obs["nearest_cell"].astype(str).tolist() == expected.obs["nearest_cell"].tolist()


def test_a_failed_audit_writes_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cells that are nearly their conditioning cells; the same call without that writes its numbers."""
    few = ["generate", "cells.diffaug.model", "--train", "cells.h5ad", "--audit", "-o", "new.h5ad", "--n-obs"]
    call = [*few, "60"]
    assert main([*call, "--strength", "0.01"]) == 1
    assert "near copies of a training cell" in said(capsys) and not Path("new.h5ad").exists()
    assert main([*few, "9", "--counts"]) == 2
    assert "at least 10 synthetic cells with audit=True, found 9" in said(capsys) and not Path("new.h5ad").exists()
    assert main(call) == 0
    assert "only copies and near copies could be judged" in capsys.readouterr().err
    assert bool(anndata.read_h5ad("new.h5ad").uns["diffaug_made"]["audit"]["passed"])


def test_donors_reach_the_audit(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cells", "held_out"):
        cells = anndata.read_h5ad(f"{name}.h5ad")
        cells.obs["donor"] = name
        cells.write_h5ad(f"{name}.h5ad")
    call = ["generate", "cells.diffaug.model", "--n-obs", "60", "--train", "cells.h5ad", "--audit", "-o", "new.h5ad"]
    assert main([*call, "--held-out", "held_out.h5ad", "--donor-key", "donor"]) == 0
    notes = anndata.read_h5ad("new.h5ad").uns["diffaug_made"]["audit"]["notes"]
    assert any("are of different donors" in note for note in notes)
    assert main([*call, "--donor-key", "donor", "--overwrite"]) == 2
    assert "Expected `held_out` with `donor_key`='donor', found none" in said(capsys)


# --- balance ---------------------------------------------------------------------------------------------------------


def test_balance(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adata = anndata.read_h5ad("cells.h5ad")
    adata[np.flatnonzero((adata.obs["cell_type"] == "NK") | (np.arange(120) < 60))].copy().write_h5ad("uneven.h5ad")
    call = ["balance", "uneven.h5ad", "--groupby", "cell_type", "--config", "tiny.toml", "--n-repeats", "1"]
    assert main([*call, "--to", "B=1=50", "--force", "-o", "new.h5ad"]) == 0
    written = anndata.read_h5ad("new.h5ad")
    assert written.obs["cell_type"].value_counts().to_dict() == {"NK": 60, "B=1": 50}
    assert int(written.obs["synthetic"].sum()) == 20
    expected = diffaug.tl.balance(
        anndata.read_h5ad("uneven.h5ad"),
        groupby="cell_type",
        to={"B=1": 50},
        force=True,
        config=tomllib.loads(Path("tiny.toml").read_text()),
        n_repeats=1,
        progress=False,
    )
    np.testing.assert_array_equal(written.X.toarray(), expected.X.toarray())
    np.testing.assert_array_equal(written.layers["counts"].toarray(), expected.layers["counts"].toarray())
    assert main([*call, "--to", "B=1=50", "--split-key", "batch", "--n-folds", "1", "-o", "absent.h5ad"]) == 2
    cells = anndata.read_h5ad("uneven.h5ad")
    cells.obs["donor"] = [f"d{i % 3}" for i in range(cells.n_obs)]
    cells.write_h5ad("uneven.h5ad")
    assert main([*call, "--to", "B=1=50", "--split-key", "donor", "--n-folds", "2", "-o", "donors.h5ad"]) == 0
    record = anndata.read_h5ad("donors.h5ad").uns["diffaug_balance"]
    assert (record["judged_over"], record["n_folds"], len(record["donor"])) == ("donors", 2, 3)
    assert main([*call, "--to", "NKK=9", "-o", "absent.h5ad"]) == 2
    assert "Did you mean 'NK'" in said(capsys) and not Path("absent.h5ad").exists()


def test_a_model_without_a_generator(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "cells.h5ad", "-o", "new.h5ad", "--config", "tiny.toml", "--n-cycles", "0"]) == 0
    assert main(["generate", "new.model", "--n-obs", "3", "-o", "made.h5ad", "--overwrite"]) == 1
    assert said(capsys).startswith("Expected a trained generator, found a model fitted with the encoder alone")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(["NK=500"], {"NK": 500}), (["a=b=2", "c=0"], {"a=b": 2, "c": 0}), (["12"], 12), (["CD4 T=3"], {"CD4 T": 3})],
)
def test_counts(given: list[str], expected: dict[str, int] | int) -> None:
    assert counts_of(given) == expected


@pytest.mark.parametrize("given", [["=3"], ["NK="], ["NK=-1"], ["NK=1.5"], ["3", "4"], [""]])
def test_bad_counts(given: list[str]) -> None:
    with pytest.raises(ValueError, match="Expected --n as NAME=NUMBER, or a single number for each group, found"):
        counts_of(given)
