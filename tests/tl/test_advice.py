"""What the user is told of the generated views: end to end, with a generator that copies and one that strays."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import diffaug
from diffaug.cli import main
from diffaug.core.training import Trainer

N_OBS, N_KINDS = 96, 3
SMALL: dict[str, Any] = {
    "training": {
        "n_encoders": 1,
        "warmup_epochs": 6,
        "generator_epochs": 1,
        "mixed_epochs": 4,
        "batch_size": 32,
        "n_views": 2,
    },
    "diffusion": {"n_steps": 2},
    "domain": {
        "encoder_hidden": [24],
        "n_semantic": 8,
        "n_latent": 6,
        "generator_width": 16,
        "generator_depth": 1,
        "views": "mixup",
        "linear_path": False,
    },
}


def cells() -> anndata.AnnData:
    """Three kinds of more cells each than a neighbourhood has, far apart."""
    kind = np.arange(N_OBS) % N_KINDS
    mean = 1 + 9.0 * (kind[:, None] == np.arange(18) % N_KINDS)
    x = np.log1p(np.random.default_rng(0).poisson(mean)).astype(np.float32)
    return anndata.AnnData(x, obs=pd.DataFrame({"kind": kind.astype(str)}, index=[f"cell{i}" for i in range(N_OBS)]))


def let_it_draw(monkeypatch: pytest.MonkeyPatch, made: str) -> None:
    """Replace what the trained generator would put into the bank."""

    def draw(self: Trainer, cond: Tensor, generator: Any, *_: Tensor | None) -> Tensor:
        views = self.data.repeat_interleave(self.config.training.n_views, dim=0)
        assert len(cond) == len(views)  # the whole bank at once, in the order of the cells
        if made == "copies":
            return views
        if made == "strangers":  # cells of another kind
            return views.roll(self.config.training.n_views, dims=0)
        index = torch.arange(self.n_obs).repeat_interleave(self.config.training.n_views)
        return self.hand_views(index, generator)

    monkeypatch.setattr(Trainer, "draw", draw)


@pytest.mark.parametrize(
    ("made", "level", "said"),
    [
        ("copies", logging.WARNING, "near copies of their cells"),
        ("strangers", logging.WARNING, "strangers to their cells"),
        ("hand-made", logging.INFO, "of the positives after the warm-up"),
    ],
)
def test_what_the_generator_does_is_told(
    made: str,
    level: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """By the log, the history, the saved model and the written cells, all with the same numbers."""
    let_it_draw(monkeypatch, made)
    adata = cells()
    with caplog.at_level(logging.INFO, logger="diffaug"):
        model = diffaug.tl.fit(adata, config=SMALL, device="cpu", progress=False)
    (record,) = [r for r in caplog.records if "Generated views make up" in r.getMessage()]
    assert (record.levelno, said in record.getMessage()) == (level, True), record.getMessage()
    assert ("n_cycles=0" in record.getMessage()) == (level == logging.WARNING)
    assert ("twin=True" in record.getMessage()) == (level == logging.INFO)
    assert "few counts" not in record.getMessage()  # which is known of ensembles

    (fill,) = [r for r in model.history if r.phase == "fill"]
    assert fill.view_rate == min(1.0, fill.news) ** 2 * min(1.0, fill.faith) * min(1.0, fill.realism)
    assert (fill.view_rate < 0.1) == (level == logging.WARNING)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    model.save(tmp_path / "model")
    loaded = diffaug.DiffAug.load(tmp_path / "model", device="cpu").history
    for history in (
        adata.uns["diffaug"]["history"],
        anndata.read_h5ad(tmp_path / "cells.h5ad").uns["diffaug"]["history"],
    ):
        assert [str(phase) for phase in history["phase"]] == [r.phase for r in model.history]
        for name in ("view_rate", "news", "faith", "realism"):
            np.testing.assert_array_equal(history[name], [getattr(r, name) for r in model.history])
            np.testing.assert_array_equal(history[name], [getattr(r, name) for r in loaded])


@pytest.mark.parametrize("twin", [False, True])
def test_who_has_a_twin_is_not_sent_to_fit_one(
    twin: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    let_it_draw(monkeypatch, "hand-made")
    with caplog.at_level(logging.INFO, logger="diffaug"):
        diffaug.tl.fit(cells(), config=SMALL, n_encoders=2, device="cpu", progress=False, twin=twin)
    (record,) = [r for r in caplog.records if "Generated views make up" in r.getMessage()]
    assert ("twin=True" in record.getMessage(), "few counts" in record.getMessage()) == (not twin, not twin)


@pytest.mark.parametrize("off", [{"n_cycles": 0}, {"view_rate": 0.0}])
def test_without_generated_views_nothing_is_said(off: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="diffaug"):
        diffaug.tl.fit(cells(), config=SMALL, device="cpu", progress=False, **off)
    assert "wrote .obsm" in caplog.text
    assert "enerated views" not in caplog.text


def test_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Advice even where the log is not wanted; ``info`` repeats it of the model and of the cells, as text and as JSON."""
    monkeypatch.chdir(tmp_path)
    let_it_draw(monkeypatch, "copies")
    cells().write_h5ad("cells.h5ad")
    lines = [
        line
        for section, values in SMALL.items()
        for line in (f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items()))
    ]
    Path("small.toml").write_text("\n".join(lines))
    assert main(["fit", "cells.h5ad", "--config", "small.toml", "--quiet"]) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "Generated views" in line]
    assert said.startswith("warning: Generated views make up") and "near copies of their cells" in said
    for path, where in (
        ("cells.diffaug.model", lambda d: d),
        ("cells.diffaug.h5ad", lambda d: d["results"]["diffaug"]),
    ):
        assert main(["info", path]) == 0
        text = capsys.readouterr().out
        assert said.removeprefix("warning: ") in text
        assert "beside hand-made views: news 0.0" in text
        assert main(["info", path, "--json"]) == 0
        views = where(json.loads(capsys.readouterr().out))["views"]
        factors = (min(1.0, views["news"]) ** 2, min(1.0, views["faith"]), min(1.0, views["realism"]))
        assert views["view_rate"] == math.prod(factors) < 0.1
        assert (views["view_rate_asked"], views["said"]) == (1.0, said.removeprefix("warning: "))
    assert main(["fit", "cells.h5ad", "-o", "off.h5ad", "--config", "small.toml", "--n-cycles", "0"]) == 0
    capsys.readouterr()
    assert main(["info", "off.model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["views"] is None
    assert main(["info", "off.model"]) == 0
    assert "Generated views" not in capsys.readouterr().out


def test_a_training_that_goes_on_tells_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    let_it_draw(monkeypatch, "copies")
    told = []
    for _ in range(2):  # the second time from the kept end
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="diffaug"):
            model = diffaug.tl.fit(
                cells(), config=SMALL, device="cpu", progress=False, checkpoint=tmp_path / "run.ckpt"
            )
        told += [
            (r.getMessage(), repr(model.history[7])) for r in caplog.records if "Generated views" in r.getMessage()
        ]
    assert "Going on from" in caplog.text
    assert len(told) == 2 and told[0] == told[1]
    assert "phase='fill'" in told[0][1]
