"""evaluate, plot, info, demo."""

from __future__ import annotations

import base64
import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import anndata
import numpy as np
import pytest

import diffaug
from diffaug import metrics
from diffaug._totals import target_sum_of
from diffaug.backends import cells as backend
from diffaug.cli import main
from diffaug.pl import _violin

PNG = b"\x89PNG\r\n\x1a\n"
EVALUATE = ["evaluate", "made.h5ad", "--train", "cells.h5ad", "--held-out", "held_out.h5ad", "-o", "report.html"]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1].removeprefix("diffaug-cells: error: ")


def logged(path: str) -> anndata.AnnData:
    """Cells as the model saw them: the counts of the file after the recipe's normalisation."""
    import scanpy as sc

    adata = anndata.read_h5ad(path)
    sc.pp.normalize_total(adata, target_sum=target_sum_of(anndata.read_h5ad(Path(path).with_name("cells.h5ad")).X))
    sc.pp.log1p(adata)
    return adata


class Page(HTMLParser):
    """Rows of the table, picture, text, and every address on a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.words = ""
        self.cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True
        elif tag == "small":  # explanations and intervals
            self.cell = False

    def handle_endtag(self, tag: str) -> None:
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.cell:
            self.rows[-1][-1] += data


# --- evaluate --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, dict]:
    """The page and the numbers of one evaluation; the file's name would break a page that does not escape."""
    import contextlib
    import io
    import shutil

    folder = tmp_path_factory.mktemp("evaluate")
    shutil.copy(shared / "made.h5ad", folder / "a<b>.h5ad")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(
            ["evaluate", str(folder / "a<b>.h5ad"), "--train", str(shared / "cells.h5ad"), "--json"]
            + ["--held-out", str(shared / "held_out.h5ad"), "-o", str(folder / "report.html")]
        )
    assert code == 0
    assert sorted(p.name for p in folder.iterdir()) == ["a<b>.h5ad", "report.html"]
    return Page((folder / "report.html").read_text(encoding="utf-8")), json.loads(out.getvalue())


def test_the_numbers_are_those_of_the_report(report: tuple[Page, dict], shared: Path) -> None:
    numbers = report[1]
    made, train, held = (anndata.read_h5ad(shared / f"{name}.h5ad") for name in ("made", "cells", "held_out"))
    expected = json.loads(diffaug.tl.report(made, train=train, held_out=held).to_json())
    assert numbers["facts"].pop("files").keys() == {"synthetic", "train", "held_out"}
    assert numbers == expected
    assert numbers["facts"]["normalized_here"] == ["train", "held_out"]
    assert numbers["facts"]["n_projection"] == numbers["facts"]["n_floor"] == 60


def test_the_numbers_are_those_of_the_metrics(report: tuple[Page, dict], shared: Path) -> None:
    """The audit takes all cells, so it can be had from the arrays alone."""
    held, train = logged(str(shared / "held_out.h5ad")), logged(str(shared / "cells.h5ad"))
    scores = {s["measure"]: s for s in report[1]["scores"]}
    audit = metrics.memorization_audit(anndata.read_h5ad(shared / "made.h5ad").X, train.X, held.X)
    assert report[1]["audit"]["near_share"] == audit.near_share
    assert report[1]["audit"]["closer_share"] == pytest.approx(audit.closer_share, abs=0.02)
    assert (
        0.4 < scores["auc_pcs"]["floor"] < 0.65 and scores["auc_pcs"]["nulls"]["shuffle"] > scores["auc_pcs"]["floor"]
    )


def test_the_page_shows_the_numbers_and_what_they_mean(report: tuple[Page, dict]) -> None:
    page, numbers = report
    assert page.rows[0] == ["Measure", "Verdict", "Synthetic", "Real", "Ideal", "Score", "Poor generators"]
    lines = {row[0]: row for row in page.rows[1:] if len(row) == 7}
    assert len(lines) == len(numbers["scores"])
    for score in numbers["scores"]:
        known = numbers["facts"]["measures"][score["measure"]]
        row = lines[known["title"]]
        assert row[1].split(maxsplit=1)[1] == score["verdict"]
        for cell, value in ((row[2], score["value"]), (row[3], score["floor"])):
            assert cell == f"{round(value, 3) + 0.0:.3f}".replace("-", "\u2212")
        assert len(known["meaning"].split()) > 5 and known["meaning"].endswith(".") and known["meaning"] in page.words
    words = " ".join(page.words.split())
    assert "were fitted on 60 real cells that took no other part" in words
    assert "Raw counts were normalised and logged here: train, held_out." in words
    assert numbers["verdict"].capitalize() in words


def test_the_page_needs_no_other_file(report: tuple[Page, dict]) -> None:
    page = report[0]
    (address,) = page.addresses
    kind, _, data = address.partition(",")
    assert kind == "data:image/png;base64"
    picture = base64.b64decode(data, validate=True)
    assert picture.startswith(PNG) and len(picture) > 5000
    assert "a<b>.h5ad" in page.words  # escaped: a browser shows it and does not read a tag


def test_real_cells_reach_the_floor_and_noise_does_not(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report can tell good synthetic cells from bad ones: other real cells, and genes shuffled over the cells."""
    good = logged("other.h5ad")
    good.write_h5ad("good.h5ad")
    bad = good.copy()
    rng = np.random.default_rng(0)
    bad.X = np.column_stack([rng.permutation(column) for column in bad.X.toarray().T]) * 1.5
    bad.write_h5ad("bad.h5ad")
    found = {}
    for name in ("good", "bad"):
        assert main(["evaluate", f"{name}.h5ad", *EVALUATE[2:-1], f"{name}.html", "--json", "--quiet"]) == 0
        found[name] = json.loads(capsys.readouterr().out)
    scores = {name: {s["measure"]: s for s in numbers["scores"]} for name, numbers in found.items()}
    assert scores["good"]["auc_pcs"]["value"] < 0.65 and scores["bad"]["auc_pcs"]["value"] > 0.8
    assert scores["good"]["gene_mean"]["value"] < 0.15 and scores["bad"]["gene_mean"]["value"] > 0.4
    assert found["bad"]["verdict"] == "not trustworthy" and found["good"]["verdict"] != "not trustworthy"


def test_genes_are_aligned_by_name(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVALUATE, "--json"]) == 0
    straight = json.loads(capsys.readouterr().out)
    for name in ("cells", "held_out"):
        adata = anndata.read_h5ad(f"{name}.h5ad")
        adata[:, adata.var_names[::-1]].copy().write_h5ad(f"{name}.h5ad")
    assert main([*EVALUATE, "--json", "--overwrite"]) == 0
    turned = json.loads(capsys.readouterr().out)
    for one, other in zip(straight["scores"], turned["scores"], strict=True):
        assert one["measure"] == other["measure"]
        assert other["value"] == pytest.approx(one["value"], abs=0.02)  # sums in another order
    assert turned["audit"]["closer_share"] == straight["audit"]["closer_share"]


def test_without_json_the_page_is_named(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EVALUATE) == 0
    assert capsys.readouterr().out == "report.html\n"


def test_real_cells_in_one_file_and_others_to_project_on_and_to_judge_memory_by(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["evaluate", "made.h5ad", "-o", "report.html", "--json", "--overwrite", "--max-obs", "30"]
    made, cells = (anndata.read_h5ad(f"{n}.h5ad") for n in ("made", "cells"))
    assert main([*call, "--real", "cells.h5ad", "--groupby", "cell_type"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["facts"].pop("files") == {"synthetic": "made.h5ad", "train": "cells.h5ad", "held_out": "cells.h5ad"}
    assert numbers == json.loads(diffaug.tl.report(made, real=cells, groupby="cell_type", max_obs=30).to_json())
    both = ["--train", "cells.h5ad", "--held-out", "held_out.h5ad"]
    assert main([*call, *both, "--projection", "other.h5ad", "--unseen", "other.h5ad"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["facts"].pop("files").keys() == {"synthetic", "train", "held_out", "unseen", "projection"}
    assert numbers["facts"]["n_floor"] == numbers["facts"]["n_projection"] == numbers["audit"]["n_unseen"] == 120


def test_errors_of_evaluate(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import scanpy as sc

    held = anndata.read_h5ad("held_out.h5ad")
    held[:, 1:].copy().write_h5ad("few_genes.h5ad")
    held[:10].copy().write_h5ad("few_cells.h5ad")
    scaled = logged("held_out.h5ad")
    scaled.X = scaled.X.toarray()
    sc.pp.scale(scaled)
    scaled.write_h5ad("scaled.h5ad")
    rates = anndata.read_h5ad("held_out.h5ad")
    sc.pp.normalize_total(rates, target_sum=1e4)  # and no logarithm
    rates.write_h5ad("rates.h5ad")
    assert main(EVALUATE[:-1] + ["report.pdf"]) == 2
    assert said(capsys) == "Expected an output that ends in .html or .htm, found 'report.pdf'."
    for given, found in (
        (["--train", "cells.h5ad"], "--train"),
        ([], "none of them"),
        (["--real", "cells.h5ad", "--held-out", "held_out.h5ad"], "--held-out, --real"),
    ):
        assert main(["evaluate", "made.h5ad", "-o", "report.html", *given]) == 2
        assert said(capsys) == f"Expected --train and --held-out, or --real alone, found {found}."
    for option, value, message in (
        ("--unseen", "cells.h5ad", "Expected unseen cells that the model was not trained on, found 100% of them"),
        (
            "--held-out",
            "few_genes.h5ad",
            "Expected all 24 genes of the synthetic cells in `held_out`, found 23; missing",
        ),
        ("--held-out", "few_cells.h5ad", "Expected at least 20 cells in `held_out`, found 10."),
        ("--train", "few_cells.h5ad", "Expected at least 40 cells in `train`, found 10."),
        (
            "--held-out",
            "scaled.h5ad",
            "Expected `held_out` on the scale of the synthetic cells (log), found scaled values.",
        ),
        ("--held-out", "cells.h5ad", "Expected held-out cells that the model was not trained on, found 100% of them"),
        ("--held-out", "rates.h5ad", "Expected `held_out` on the scale of the synthetic cells (up to "),
        ("--layer", "counts", "Did not find `train.layers['counts']`. Available layers: []."),
        ("--held-out", "absent.h5ad", "Expected an .h5ad file, found nothing at 'absent.h5ad'."),
    ):
        call = list(EVALUATE)
        if option in call:
            call[call.index(option) + 1] = value
        else:
            call += [option, value]
        assert main(call) == 2
        assert said(capsys).startswith(message)
    assert not Path("report.html").exists()


def test_rates_are_never_compared_with_logarithms() -> None:
    """On either side, and however small; two sets of one scale may lie on both sides of its border."""
    from diffaug._matrix import describe_matrix
    from diffaug.tl._report_sets import on_scale_of

    def upto(highest: float) -> np.ndarray:
        return np.linspace(0, highest, 12).reshape(4, 3) + np.float64(1e-9)

    for real, synthetic in ((900.0, 8.0), (8.0, 900.0), (30.0, 6.0)):
        with pytest.raises(ValueError, match="one of them is not logged. Pass the layer"):
            on_scale_of(describe_matrix(upto(synthetic)), upto(real), "train", None, 1e4)
    for real, synthetic in ((26.0, 24.0), (900.0, 30.0), (8.0, 3.0)):
        x = upto(real)
        assert on_scale_of(describe_matrix(upto(synthetic)), x, "train", None, 1e4) is x


# --- plot ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_history(suffix: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "cells.diffaug.h5ad", "--kind", "history", "-o", f"history.{suffix}"]) == 0
    assert capsys.readouterr().out == f"history.{suffix}\n"
    magic = {"png": PNG, "pdf": b"%PDF", "svg": b"<?xml"}[suffix]
    assert Path(f"history.{suffix}").read_bytes().startswith(magic)


def test_embedding(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two of the dimensions for a map; the demo draws a real UMAP, which takes its time to compile."""
    import matplotlib.pyplot as plt

    monkeypatch.setattr("diffaug.pl._embedding._umap", lambda x, random_state: x[:, :2])

    before = Path("cells.diffaug.h5ad").read_bytes()
    call = ["plot", "cells.diffaug.h5ad", "-o", "map.png", "--overwrite"]
    sizes = []
    for colors in (["--color", "cell_type"], ["--color", "cell_type", "--color", "gene3"]):
        assert main([*call, *colors]) == 0
        sizes.append(plt.imread("map.png").shape)
    assert sizes[1][1] > 1.5 * sizes[0][1]  # a panel for each colour
    assert Path("cells.diffaug.h5ad").read_bytes() == before
    assert plt.get_fignums() == []


def test_method_and_seed_of_the_map(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    for name in ("umap", "tsne"):

        def two(x: np.ndarray, random_state: int, name: str = name) -> np.ndarray:
            seen.append((name, random_state))
            return x[:, :2]

        monkeypatch.setattr(f"diffaug.pl._embedding._{name}", two)
    for options in ([], ["--method", "tsne"], ["--seed", "3"], ["--method", "tsne", "--seed", "4"]):
        assert main(["plot", "cells.diffaug.h5ad", "-o", "map.png", "--overwrite", *options]) == 0
    assert seen == [("umap", 0), ("tsne", 0), ("umap", 3), ("tsne", 4)]


def test_violin(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Raw counts are drawn as the model saw them."""
    drawn: list[np.ndarray] = []
    real = _violin._default_genes

    def spy(sides: list, n_genes: int) -> list[str]:
        drawn.append(sides[0].x.toarray())
        return real(sides, n_genes)

    monkeypatch.setattr(_violin, "_default_genes", spy)
    held = anndata.read_h5ad("held_out.h5ad")
    held.layers["rates"] = held.X * 1000.5
    held.layers["log"] = logged("held_out.h5ad").X
    held.write_h5ad("layers.h5ad")
    call = ["plot", "layers.h5ad", "--kind", "violin", "--synthetic", "made.h5ad", "-o", "violin.png", "--overwrite"]
    for options in ([], ["--layer", "log"]):
        assert main([*call, *options]) == 0
        assert Path("violin.png").read_bytes().startswith(PNG)
        np.testing.assert_allclose(drawn[-1], held.layers["log"].toarray(), rtol=1e-5)
    assert main([*call, "--layer", "rates"]) == 2
    assert said(capsys).startswith("Expected `real` on the scale of the synthetic cells (up to ")
    assert len(drawn) == 2


def test_cosine(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list = []
    real = diffaug.pl._similarity.view_similarity
    monkeypatch.setattr(
        "diffaug.pl._similarity.view_similarity", lambda *a, **k: pairs.append(real(*a, **k)) or pairs[-1]
    )
    call = ["plot", "held_out.h5ad", "--kind", "cosine", "--model", "cells.diffaug.model", "--overwrite"]
    assert main([*call, "-o", "cosine.png", "--seed", "3"]) == 0
    assert Path("cosine.png").read_bytes().startswith(PNG)
    adata, model = anndata.read_h5ad("held_out.h5ad"), diffaug.DiffAug.load("cells.diffaug.model")
    assert pairs[0].equals(real(adata, model, random_state=3))
    assert not pairs[0].equals(real(adata, model, random_state=0))


def test_provenance(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    drawn: list[anndata.AnnData] = []
    real = diffaug.pl.provenance
    monkeypatch.setattr(diffaug.pl, "provenance", lambda cells, **o: drawn.append(cells) or real(cells, **o))
    made = ["generate", "cells.diffaug.model", "--n-obs", "30", "--train", "cells.h5ad", "-o", "near.h5ad"]
    assert main(made) == 0
    assert main(["plot", "near.h5ad", "--kind", "provenance", "-o", "near.png"]) == 0
    assert Path("near.png").read_bytes().startswith(PNG)
    assert drawn[0].n_obs == 30
    capsys.readouterr()
    assert main(["plot", "made.h5ad", "--kind", "provenance", "-o", "none.png"]) == 2
    assert "train" in said(capsys)
    assert not Path("none.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cells.h5ad"], "Did not find `adata.obsm['X_diffaug']`."),
        (["cells.diffaug.h5ad", "--color", "celltype"], "Did you mean 'cell_type'?"),
        (["cells.diffaug.h5ad", "--key-added", "mine"], "Did not find `adata.obsm['mine']`."),
        (
            ["cells.diffaug.h5ad", "--kind", "history", "--color", "batch"],
            "Expected --color with --kind embedding only",
        ),
        (["cells.h5ad", "--kind", "history"], "adata.uns['diffaug']"),
        (["cells.h5ad", "--kind", "violin"], "Expected --synthetic with --kind violin, found none."),
        (["cells.h5ad", "--kind", "cosine"], "Expected --model with --kind cosine, found none."),
        (["cells.h5ad", "--synthetic", "made.h5ad"], "Expected --synthetic with --kind violin only, found it with"),
        (["cells.h5ad", "--kind", "violin", "--model", "m"], "Expected --model with --kind cosine only, found it with"),
        (["cells.h5ad", "--kind", "cosine", "--layer", "x"], "Expected --layer with --kind violin only, found it with"),
        (
            ["cells.h5ad", "--kind", "history", "--method", "umap"],
            "Expected --method with --kind embedding only, found it with --kind history.",
        ),
        (
            ["cells.h5ad", "--kind", "cosine", "--key-added", "mine"],
            "Expected --key-added with --kind embedding or history only, found it with --kind cosine.",
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_errors_of_plot(arguments: list[str], message: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", *arguments, "-o", "map.png"]) == 2
    assert message in said(capsys)
    assert not Path("map.png").exists()


def test_picture_names(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "cells.diffaug.h5ad", "-o", "map.doc"]) == 2
    assert said(capsys) == "Expected an output that ends in .png or .pdf or .svg, found 'map.doc'."


# --- info ------------------------------------------------------------------------------------------------------------


def test_info_of_a_model(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "cells.diffaug.model", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    model = diffaug.DiffAug.load("cells.diffaug.model")
    assert (found["kind"], found["n_obs"], found["n_vars"]) == ("model", 120, 24)
    assert found["genes"] == [f"gene{i}" for i in range(5)]
    assert found["n_parameters"] == model.n_parameters
    assert found["settings"] == json.loads(json.dumps(model.config.to_dict()))
    assert found["asked"] == json.loads(json.dumps(model.asked.to_dict()))
    assert found["settings"]["training"]["warmup_epochs"] == 4 and "warmup_epochs" not in found["asked"]["training"]
    assert found["groups"] == {"cell_type": 2, "batch": 2}
    assert found["input"]["kind"] == "counts" and found["input"]["sparse"] is True
    assert [(p["phase"], p["cycle"], p["epochs"]) for p in found["phases"]] == [
        ("A", 0, 4),
        ("A", 0, 4),
        ("B", 1, 4),
        ("fill", 1, 0),
        ("A", 1, 4),
        ("fill", 1, 0),
        ("A", 1, 4),
    ]
    assert [p["member"] for p in found["phases"]] == [0, 1, 0, 0, 0, 1, 1]
    seconds = sum(p["seconds"] for p in found["phases"])
    assert seconds == pytest.approx(sum(r.seconds for r in model.history), abs=0.01)
    assert found["phases"][0]["generator_loss"] is None  # not trained then; JSON has no NaN
    assert found["phases"][3]["n_generated"] == 120 * model.config.training.n_views
    assert 0 < found["phases"][4]["n_generated"] < found["phases"][4]["n_positives"]


def test_the_settings_it_prints_give_the_same_fit(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "cells.diffaug.model"]) == 0
    text = capsys.readouterr().out
    assert "parameters: encoder" in text and "trained on X (counts, sparse), seed 0" in text
    toml = text  # all of it
    assert tomllib.loads(toml)["domain"]["generator_width"] == 32
    Path("printed.toml").write_text(toml)
    assert main(["fit", "cells.h5ad", "-o", "new.h5ad", "--config", "printed.toml"]) == 0
    first, again = (anndata.read_h5ad(f).obsm["X_diffaug"] for f in ("cells.diffaug.h5ad", "new.h5ad"))
    assert np.array_equal(first, again)


def test_info_of_cells(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "cells.diffaug.h5ad", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    assert main(["info", "cells.diffaug.model", "--json"]) == 0
    model = json.loads(capsys.readouterr().out)
    assert cells["obsm"] == {"X_diffaug": 80, "X_diffaug_latent": 128}
    assert cells["obs"] == {"cell_type": 2, "batch": 2}
    assert cells["results"]["diffaug"]["made_by"] == "fit"
    assert cells["results"]["diffaug"]["settings"] == model["settings"]
    assert cells["results"]["diffaug"]["phases"] == model["phases"]
    assert main(["info", "cells.diffaug.h5ad"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^fill +1 +2 +0 ", text, flags=re.MULTILINE) and "uns['diffaug'], written by fit (diffaug" in text
    assert cells["results"]["diffaug"]["asked"] == model["asked"]
    assert tomllib.loads(text[text.index("[loss]") :]) == model["asked"]


def test_info_of_other_cells(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "made.h5ad"]) == 0
    assert "uns['diffaug_made'], written by generate (diffaug" in capsys.readouterr().out
    assert main(["embed", "held_out.h5ad", "--model", "cells.diffaug.model", "-o", "new.h5ad", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["info", "new.h5ad"]) == 0
    assert "uns['diffaug'], written by embed (diffaug" in capsys.readouterr().out
    assert main(["info", "cells.h5ad"]) == 0
    assert capsys.readouterr().out.endswith("nothing of diffaug\n")


def test_info_of_the_installation(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import platform
    from importlib.metadata import version

    import torch

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert main(["info", "--json", "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name, expected in (
        ("diffaug", diffaug.__version__),
        ("torch", torch.__version__),
        ("numpy", np.__version__),
        ("scanpy", version("scanpy")),
        ("anndata", version("anndata")),
        ("python", platform.python_version()),
    ):
        assert found["versions"][name] == expected
    assert found["devices"][0] == "cpu"
    assert sum(d.startswith("cuda") for d in found["devices"]) == torch.cuda.device_count()
    assert (found["threads"], found["OMP_NUM_THREADS"]) == (1, "1")
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert f"torch {torch.__version__}\n" in text and "devices: cpu" in text
    assert f"threads: {torch.get_num_threads()} on " in text and text.endswith("(OMP_NUM_THREADS unset)\n")


def test_info_of_what_is_neither(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    for path, message in {
        "empty": "Expected a model folder with 'config.json', found none in 'empty'.",
        "absent": "Expected an .h5ad file, found nothing at 'absent'.",
        "tiny.toml": "Expected an .h5ad file (HDF5), found another kind of file: 'tiny.toml'.",
    }.items():
        assert main(["info", path]) == 2
        assert said(capsys) == message


# --- demo ------------------------------------------------------------------------------------------------------------

DEMO = [
    "cells.h5ad", "cosine_similarity.png", "embedding.png", "history.png", "model", "probes.json", "synthetic.h5ad", "violin.png",
]  # fmt: skip


def check_demo(folder: Path, out: str) -> dict[str, dict[str, float]]:
    """What any demo must leave and print; its probes."""
    assert sorted(p.name for p in folder.iterdir()) == DEMO
    paths, _, table = out.partition("\n\n")
    assert paths.splitlines() == [str(folder / name) for name in DEMO]
    scores = json.loads((folder / "probes.json").read_text())
    head, *rows = table.rstrip().splitlines()
    assert head.split() == ["labels:", "cell_type", "X_diffaug", "loop_off", "PCA-50"]
    assert [row.split()[-3:] for row in rows] == [[f"{scores[s][k]:.3f}" for s in scores] for k in scores["X_diffaug"]]
    adata = anndata.read_h5ad(folder / "cells.h5ad")
    assert adata.obsm["X_diffaug"].shape == (700, 80)
    made = anndata.read_h5ad(folder / "synthetic.h5ad")
    assert made.shape == adata.shape and made.X.min() >= 0
    assert all((folder / name).read_bytes().startswith(PNG) for name in DEMO if name.endswith(".png"))
    probe = metrics.linear_probe(adata.obsm["X_diffaug"], adata.obs["cell_type"].to_numpy(), protocol="repeated")
    assert scores["X_diffaug"]["linear SVM, accuracy"] == pytest.approx(probe.accuracy)
    return scores


@pytest.mark.slow
def test_demo_with_tiny_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = diffaug.core.config.config_from_dict(
        {
            "training": {
                "warmup_steps": 4,
                "generator_steps": 4,
                "mixed_steps": 4,
                "encoder_passes": 0,
                "generator_passes": 0,
            }
        },
        backend.CellsConfig,
        backend.default_config(),
    )
    monkeypatch.setitem(backend.PRESETS, "default", lambda: tiny)
    folder = tmp_path / "demo"
    assert main(["demo", "-o", str(folder), "--quiet"]) == 0
    out, err = capsys.readouterr()
    check_demo(folder, out)
    assert err == ""
    assert main(["demo", "-o", str(folder)]) == 2
    assert said(capsys).startswith(f"Expected a new folder, found {str(folder)!r}. Pass --overwrite")


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The main job as a user gets it: not worse than PCA on the probe that everything is judged by."""
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    scores = check_demo(tmp_path / "demo", capsys.readouterr().out)
    assert scores["X_diffaug"]["linear SVM, accuracy"] > scores["PCA-50"]["linear SVM, accuracy"] - 0.01


def test_demo_replaces_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert main(["demo", "-o", str(tmp_path), "--overwrite"]) == 2
    assert said(capsys).startswith("Expected a demo's folder to overwrite, found other things in ")
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_demo_knows_an_earlier_one() -> None:
    from diffaug.cli import _demo

    assert sorted([_demo.FOLDER.marker, *_demo.FOLDER.others]) == DEMO


def test_a_failed_demo_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(diffaug.tl, "fit", fail)
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_pca_of_the_demo() -> None:
    """Against scikit-learn, on the same z-scores."""
    import scipy.sparse as sp
    from sklearn.decomposition import PCA

    from diffaug.cli._demo import principal_components

    x = np.random.default_rng(0).gamma(1.0, size=(90, 60)).astype(np.float32)
    found = principal_components(anndata.AnnData(sp.csr_matrix(x)))
    z = np.minimum((x - x.mean(axis=0)) / x.std(axis=0, ddof=1), 10)
    expected = PCA(50, svd_solver="full").fit_transform(z)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
