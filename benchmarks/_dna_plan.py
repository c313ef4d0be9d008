"""What all parts of the benchmark of DNA share: the plan of a run, its sets, and the models of a set and a seed."""

from __future__ import annotations

import dataclasses
import time
from functools import cache
from typing import Any

import numpy as np
from _budget import budget, with_steps, without_conditions

from diffaug import DiffAug, dna
from diffaug.backends import get_backend
from diffaug.baselines import ViewGenerator
from diffaug.core.config import Config, config_from_dict

LONGEST = 1024  # what the encoder's settings take
SMOKE = {
    "training": {"warmup_epochs": 1, "generator_epochs": 1, "mixed_epochs": 1, "batch_size": 16},
    "diffusion": {"n_steps": 2},
    "domain": {"n_semantic": 8, "n_latent": 4, "filter_width": 4, "generator_widths": [4, 4, 4, 4], "n_neighbors": 3},
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What all measurements of a run share.

    Attributes
    ----------
    split
        ``"official"`` or ``"deduplicated"``.
    max_train, max_length, steps
        Caps: training sequences, bases (the middle ones), and steps of the warm-up, the generator and the mixed phases.
    max_generated
        Most sequences that a source makes to be judged.
    """

    split: str = "official"
    max_train: int | None = None
    preset: str = "default"
    device: str = "auto"
    smoke: bool = False
    max_length: int | None = None
    steps: tuple[int, int, int] | None = None
    max_generated: int = 2000

    def full(self) -> Config:
        """The settings without a cap."""
        cls = get_backend("dna")
        return config_from_dict(SMOKE, cls.Settings, cls.preset("default")) if self.smoke else cls.preset(self.preset)

    def config(self) -> Config:
        """The settings of a fit."""
        return with_steps(self.full(), self.steps)

    def about(self, *, generated: bool = False) -> dict[str, Any]:
        """What a row depends on beside its key; caps that came later are named where there is one."""
        found: dict[str, Any] = {"preset": "smoke" if self.smoke else self.preset, "max_train": self.max_train}
        if self.max_length is not None:
            found["max_length"] = self.max_length
        if self.steps is not None:
            found["steps"] = list(self.steps)
        if generated:
            found["max_generated"] = self.max_generated
        return found


@cache
def whole(name: str, plan: Plan) -> dna.SequenceTable:
    """A set as it is."""
    return made_here() if plan.smoke else dna.load(name, split=plan.split)


@cache
def table_of(name: str, plan: Plan) -> dna.SequenceTable:
    """A set, cropped to what the plan or the encoder accepts, its training part cut to a random ``max_train`` rows."""
    table = whole(name, plan)
    assert table.split is not None
    keep = table.split != "valid"
    if plan.max_train is not None:
        train = np.flatnonzero(table.split == "train")
        drawn = np.random.default_rng(0).permutation(train)[: plan.max_train]
        keep &= (table.split == "test") | np.isin(np.arange(len(table)), drawn)
    table = table.subset(keep)
    return dataclasses.replace(table, sequences=dna.crop(table.sequences, min(plan.max_length or LONGEST, LONGEST)))


def made_here() -> dna.SequenceTable:
    """Sequences of two classes, one of which has a GT at its centre."""
    rng = np.random.default_rng(0)
    text = [list(rng.choice(list("ACGT"), 40)) for _ in range(120)]
    labels = np.array(["donor", "non_site"] * 60)
    for s in text[::2]:
        s[20:22] = "GT"
    split = np.where(np.arange(120) < 80, "train", "test")
    return dna.SequenceTable(["".join(s) for s in text], [str(i) for i in range(120)], labels, split)


def given(name: str, plan: Plan) -> dict[str, Any]:
    """Columns of every row of a set: what a fit is given."""
    table, uncut = table_of(name, plan), whole(name, plan)
    n, n_full = (len(t.part("train")) for t in (table, uncut))
    return {
        **budget(plan.config(), n, full=plan.full(), n_train_full=n_full),
        "length": max(map(len, table.sequences)), "length_full": max(map(len, uncut.sequences)),
    }  # fmt: skip


def train_array(name: str, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """One-hot training sequences, and all of them, of one width. Test sequences beyond it lose their ends."""
    table = table_of(name, plan)
    x = dna.encode(table.part("train").sequences)
    return x, dna.encode(dna.crop(table.sequences, x.shape[2]), length=x.shape[2])


@cache
def fitted(name: str, seed: int, plan: Plan) -> DiffAug:
    """The model and its loop-off twin, kept while their rows are measured."""
    model = DiffAug(plan.config(), backend="dna", random_state=seed, device=plan.device)
    return model.fit(train_array(name, plan)[0], twin=True, progress=False)


@cache
def told_nothing(name: str, seed: int, plan: Plan) -> DiffAug:
    """The same generator under random conditions (ablation A2), the control of what it makes."""
    x = train_array(name, plan)[0]
    config = without_conditions(plan.config(), len(x))
    return DiffAug(config, backend="dna", random_state=seed, device=plan.device).fit(x, progress=False)


@cache
def view_generator(kind: str, name: str, seed: int, plan: Plan) -> tuple[ViewGenerator, float]:
    """A VAE or a GAN, and the seconds that it took: one for the learners and for its views."""
    begin = time.perf_counter()
    maker = ViewGenerator(kind, plan.config(), backend="dna", random_state=seed, device=plan.device)
    maker.fit(train_array(name, plan)[0], progress=False)
    return maker, time.perf_counter() - begin


def forget() -> None:
    """Drop the models of a set and a seed."""
    fitted.cache_clear()
    told_nothing.cache_clear()
    view_generator.cache_clear()
