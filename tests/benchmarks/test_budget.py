"""Capped runs: what they were given is kept and said, and their rows stand beside those of other settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import _budget
import _common
import numpy as np
import pandas as pd
import pytest

from diffaug import DiffAug
from diffaug.backends import get_backend
from diffaug.core.config import Config


def config() -> Config:
    return get_backend("dna").preset("default")


def test_steps_are_those_that_were_asked_for_and_whole_epochs() -> None:
    """1,000 sequences in batches of 64 are 15 steps an epoch: 7 epochs for 100 steps, 40 for 600."""
    found = _budget.budget(
        _budget.with_steps(config(), (100, 600, 100)), 1000, full=config(), n_train_full=5000, max_epochs=None
    )
    assert found == {
        "n_train": 1000, "n_train_full": 5000, "epochs": "7 + 40 + 7", "steps": "105 + 600 + 105",
        # 78 steps an epoch: passes ask for 780 and 1,560 of them, which are more than 300 and 1,000.
        "steps_full": "780 + 1560 + 780",
    }  # fmt: skip
    assert _budget.with_steps(config(), None) == config()


def test_steps_hold_for_a_preset_that_has_epochs() -> None:
    paper = get_backend("dna").preset("paper")
    plan = _budget.with_steps(paper, (2, 3, 4)).training.resolve(256)
    assert (plan.warmup_epochs, plan.generator_epochs, plan.mixed_epochs) == (2, 3, 4)


@pytest.mark.parametrize("max_epochs", [None, 6])
def test_the_control_is_the_generator_of_a_fit_with_a_warm_up(max_epochs: int | None) -> None:
    """Told nothing, a generator has nothing of the encoder: leaving its warm-up out changes no weight, also under a cap."""
    import _dna_plan

    plan = _dna_plan.Plan(smoke=True, device="cpu", steps=(10, 15, 10))
    x = _dna_plan.train_array("made_here", plan)[0][:32]
    noise = plan.config().updated("diffusion", condition="noise")
    long, short = (
        DiffAug(settings, backend="dna", device="cpu").fit(x, max_epochs=cap, progress=False)
        for settings, cap in (
            (noise, max_epochs),
            (_budget.without_conditions(plan.config(), len(x), max_epochs), None),
        )
    )
    assert {r.phase for r in long.history} == {"A", "B", "fill"} and {r.phase for r in short.history} == {"B"}
    assert sum(r.phase == "B" for r in long.history) == len(short.history) > 0
    made = [model.generate(12, random_state=1).values for model in (long, short)]
    assert np.array_equal(*made)
    views = [model.augment(x[:4], 2, random_state=1) for model in (long, short)]
    assert np.array_equal(*views)


# --- the page --------------------------------------------------------------------------------------------------------


def row(name: str, n: int, *, seed: int = 0, method: str = "diffaug", **settings: Any) -> dict[str, Any]:
    full = n == 5000
    return {
        "set": name, "method": method, "seed": str(seed), "settings": json.dumps({"preset": "default", **settings}),
        "n_train": n, "n_train_full": 5000, "epochs": "1 + 2 + 1", "length": 100 if full else 50, "length_full": 100,
        "steps": "1000 + 2000 + 1000" if full else "100 + 600 + 100", "steps_full": "1000 + 2000 + 1000",
    }  # fmt: skip


def test_a_page_has_one_setting_of_each_set_that_of_the_most_rows() -> None:
    rows = [row("a", 5000), *(row("a", 1000, seed=i, max=1) for i in range(2)), row("b", 1000, max=1), row("b", 5000)]
    table = pd.DataFrame(rows)
    shown = _budget.one_setting(table)
    assert shown.index.tolist() == [1, 2, 4]  # two rows against one; of one each the last
    lines = _budget.said(shown, "sequences", table).splitlines()
    assert lines[0] == (
        "- `a`: preset *default*, 1,000 of 5,000 training sequences, length 50, the middle of 100; steps: encoder 100, "
        "generator 600, encoder 100 (1 + 2 + 1 epochs). **Undertrained**: the full setting has 1000 + 2000 + 1000 steps on "
        "5,000 sequences. In the file and not shown, of other settings: 1 rows."
    )
    assert lines[1].startswith("- `b`: preset *default*, 5,000 training sequences, length 100; steps: encoder 1,000,")
    assert "Undertrained" not in lines[1]


def test_rows_of_an_earlier_version_are_shown_as_what_they_are() -> None:
    """They have no column of steps: nothing is made up, and rows of the same settings that know more speak for all."""
    old = {k: v for k, v in row("a", 5000).items() if not k.startswith(("steps", "epochs", "length_", "n_train_"))}
    assert _budget.said(pd.DataFrame([old]), "images").endswith("length 100, steps not recorded.")
    both = pd.DataFrame([old, row("a", 5000, method="byol")])
    assert len(_budget.one_setting(both)) == 2
    assert "steps: encoder 1,000, generator 2,000, encoder 1,000" in _budget.said(both, "images")


def test_a_capped_run_of_sequences_reaches_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import _dna_plan
    import bench_dna

    for name in ("RESULTS", "PAGES"):
        monkeypatch.setattr(_common, name, tmp_path)
    plan = _dna_plan.Plan(smoke=True, device="cpu", max_train=40, max_length=24, steps=(2, 4, 2), max_generated=12)
    scored = _common.Results("dna", ("set", "split", "method", "seed"))
    made = _common.Results("dna_generated", ("set", "source", "seed"))
    for method in ("majority", "simclr + vae", "diffaug"):
        key = {"set": "made_here", "split": "official", "method": method, "seed": 0}
        scored.once(lambda m=method: bench_dna.measure("made_here", m, 0, plan, {}), settings=plan.about(), **key)
    sources = ("held out", "diffaug", "vae", "random condition", "shuffled letters")
    for source in sources:
        made.once(
            lambda s=source: bench_dna.measure_generated("made_here", s, 0, plan),
            settings=plan.about(generated=True), set="made_here", source=source, seed=0,
        )  # fmt: skip
    # One VAE for the learner and for its views, one DiffAug for its embedding and what it makes, one that is told nothing.
    for of_a_set in (_dna_plan.view_generator, _dna_plan.fitted, _dna_plan.told_nothing):
        assert of_a_set.cache_info().misses == 1
    _dna_plan.forget()
    bench_dna.render(plan)
    page = (tmp_path / "dna.md").read_text(encoding="utf-8")
    said = "length 24, the middle of 40; steps: encoder 2, generator 4, encoder 2"
    assert page.count(f"preset *smoke*, 40 of 80 training sequences, tested on 40, {said}") == 1
    assert page.count(f"preset *smoke*, 40 of 80 training sequences, {said}") == 1  # what is generated has another test
    assert page.count("**Undertrained**: the full setting has 5 + 5 + 5 steps on 80 sequences.") == 2
    assert "| source | seeds | n | js 2 |" in page
    for source in sources:
        assert f"| {source} | 1 | 12 |" in page
    table = made.table.set_index("source")
    assert table["class_kept"].notna().all() and table["judge"].nunique() == 1
    assert table.loc["held out", "class_kept"] > 0.9  # the class is a GT at the centre, as the middle has it
    assert table.loc["shuffled letters", "class_kept"] < 0.8
    assert (table["n_train"] == 40).all() and (table["n"] == 12).all()
