"""Generated sequences beside real ones, shuffles and other controls: what is measured of each, and the tables."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from _budget import one_setting, said
from _common import machine, markdown_table
from _dna_plan import Plan, fitted, given, table_of, told_nothing, train_array, view_generator
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedKFold

from diffaug import dna
from diffaug.baselines import VIEW_GENERATORS
from diffaug.dna._peers import PEERS
from diffaug.metrics import mean_interval

GENERATED = ("held out", "diffaug", "vae", "gan", "random condition", "shuffled letters", "shuffled pairs", "copies")
#: Motifs whose place is looked at: introns start with GT and end with AG.
MOTIFS = {"gue_splice_small": {"donor": "GT", "acceptor": "AG"}}
#: Which of these judges the classes of a set is chosen on its training part.
JUDGES = ("kmer4", "onehot")
KS = (2, 4, 6)


class Made(NamedTuple):
    """Sequences to judge, and the class that each was made for: that of the training sequence it comes from, or its own."""

    sequences: list[str]
    labels: np.ndarray


def halves(name: str, seed: int, plan: Plan) -> tuple[dna.SequenceTable, dna.SequenceTable]:
    """Two random halves of the test part: one to be judged in place of generated ones, and one to judge all against."""
    test = table_of(name, plan).part("test")
    first = np.zeros(len(test), dtype=bool)  # a file may be sorted by class
    first[np.random.default_rng(seed).permutation(len(test))[: len(test) // 2]] = True
    return test.subset(first), test.subset(~first)


def synthetic(name: str, source: str, seed: int, plan: Plan) -> Made:
    """As many sequences of each source."""
    train, (real, _) = table_of(name, plan).part("train"), halves(name, seed, plan)
    assert train.labels is not None
    assert real.labels is not None
    n = min(len(train), len(real), plan.max_generated)
    if source == "held out":
        return Made(real.sequences[:n], real.labels[:n])
    rows = np.random.default_rng(seed).permutation(len(train))[:n]
    drawn, labels = [train.sequences[i] for i in rows], train.labels[rows]
    if source == "copies":
        return Made(drawn, labels)
    if source.startswith("shuffled"):
        return Made(dna.shuffle(drawn, k=1 if source.endswith("letters") else 2, random_state=seed), labels)
    if source in VIEW_GENERATORS:  # each a view of the sequence, as DiffAug's is drawn under its condition
        maker, _ = view_generator(source, name, seed, plan)
        return Made(dna.decode(maker.augment(train_array(name, plan)[0][rows], random_state=seed)[:, 0]), labels)
    model = (fitted if source == "diffaug" else told_nothing)(name, seed, plan)
    return Made(dna.decode(model.generate(source=rows, random_state=seed).values), labels)


def measure_generated(name: str, source: str, seed: int, plan: Plan) -> dict[str, Any]:
    """One row: every number beside what real sequences have."""
    train, held = table_of(name, plan).part("train"), halves(name, seed, plan)[1]
    begin = time.perf_counter()
    made = synthetic(name, source, seed, plan)
    seconds = time.perf_counter() - begin
    report = dna.judge(made.sequences, train=train.sequences, held_out=held.sequences, random_state=seed)
    row: dict[str, Any] = {}
    for k in KS:
        row[f"js{k}"], row[f"js{k}_floor"] = report.kmer[k].value, report.kmer[k].floor
    return row | {
        "gc": report.gc.value,
        "gc_floor": report.gc.floor,
        "gc_std_ratio": report.gc_std.value / report.gc_std.floor,
        "auc": report.discriminator.value,
        "auc_floor": report.discriminator.floor,
        "copies": report.memorisation.copies.value,
        "copies_floor": report.memorisation.copies.floor,
        "closer_to_train": report.memorisation.closer_to_train,
        "distance": report.memorisation.distance.value,
        "distance_floor": report.memorisation.distance.floor,
        **class_kept(name, made, plan),
        **motifs(name, made, plan),
        "n": len(made.sequences),
        "n_held": len(held),
        **given(name, plan),
        "seconds": seconds,
        "machine": machine(),
    }


@cache
def judge_of(name: str, plan: Plan) -> str:
    """The classifier that judges the classes of a set: the better one in three folds of the training part, once for all."""
    train = table_of(name, plan).part("train")
    assert train.labels is not None
    y, right = train.labels.astype(str), dict.fromkeys(JUDGES, 0)
    for fit, test in StratifiedKFold(3, shuffle=True, random_state=0).split(y, y):
        known, asked = ([train.sequences[i] for i in rows] for rows in (fit, test))
        for peer in JUDGES:
            right[peer] += int((PEERS[peer](known, y[fit], asked, 0, plan.device) == y[test]).sum())
    return max(right, key=lambda peer: right[peer])


def class_kept(name: str, made: Made, plan: Plan) -> dict[str, Any]:
    """Share of sequences to which the judge, trained on the real ones, gives the class that they were made for."""
    train, judge = table_of(name, plan).part("train"), judge_of(name, plan)
    assert train.labels is not None
    wanted = made.labels.astype(str)
    found = PEERS[judge](train.sequences, train.labels.astype(str), made.sequences, 0, plan.device)
    largest = np.unique(wanted, return_counts=True)[1].max() / len(wanted)
    return {"class_kept": float((found == wanted).mean()), "largest_class": float(largest), "judge": judge}


def motifs(name: str, made: Made, plan: Plan) -> dict[str, float]:
    """Share with the motif at the place where the real training sequences of that class have it most."""
    found = {"motif": np.nan, "motif_real": np.nan, "motif_elsewhere": np.nan}
    train = table_of(name, plan).part("train")
    assert train.labels is not None
    wanted = {"donor": "GT"} if plan.smoke else MOTIFS.get(name, {})
    shares = []
    for label, motif in wanted.items():
        real = [s for s, y in zip(train.sequences, train.labels, strict=True) if y == label]
        profile = dna.motif_frequency(real, motif)
        place = int(np.nanargmax(profile))
        mine = [s for s, y in zip(made.sequences, made.labels, strict=True) if y == label]
        if not mine or max(map(len, mine)) < place + len(motif):
            continue
        here = dna.motif_frequency(mine, motif)
        shares.append((here[place], profile[place], np.nanmean(np.delete(here, place))))
    if shares:
        found = dict(zip(found, np.mean(shares, axis=0).tolist(), strict=True))
    return found


# --- tables -----------------------------------------------------------------------------------------------------------

#: Columns of the table, and those whose floor is a row of it.
COLUMNS = {
    **{f"js{k}": f"js {k}" for k in KS}, "gc": "GC", "gc_std_ratio": "spread of GC", "auc": "AUC", "copies": "copies",
    "closer_to_train": "closer to train", "distance": "distance", "class_kept": "class kept", "motif": "motif",
    "motif_elsewhere": "motif elsewhere",
}  # fmt: skip
FLOORS = ("js2", "js4", "js6", "gc", "auc", "copies", "distance")

SAID = """
## Generated sequences

*held out* are real sequences in place of generated ones, a random half of the test part: the ceiling of every column. All
sources give as many sequences, and all are judged against the other half. *js* is the Jensen-Shannon distance of the words
of 2, 4 and 6 bases, *GC* the Wasserstein distance of the GC contents and *spread of GC* the ratio of their standard
deviations (1 is right), *AUC* that of a discriminator on words of four bases (0.5 is right), *copies* the share identical to a
training sequence, *closer to train* the share whose nearest real sequence is one of the training (0.5 is right), *distance*
the share of positions that differ from the nearest training sequence. The row *floor* is the training part in place of
generated ones, and for *copies* and *distance* the held-out half. *class kept* is the share that has the class of the sequence
it was made from, or its own where it is real, as one classifier per set says, which was chosen and trained on the training
part; *motif* the share of donors (acceptors) with GT (AG) at the place where the real ones have it most. *vae* and *gan* are
views of training sequences by these; *random condition*, *shuffled letters* and *pairs*, and *copies* are controls.

Means over the seeds, with 95 % intervals over them by Student's t where there are two or more. With one seed that of *class
kept* is for another sample of as many sequences (Wilson), and the others have none.
"""


def tables(everything: pd.DataFrame) -> str:
    """A table for each set, below what its rows were given."""
    made = one_setting(everything)
    parts = [SAID, said(made, "sequences", everything)]
    for name, rows in made.groupby("set", sort=False):
        judges = ", ".join(dict.fromkeys(rows["judge"]))
        largest = rows["largest_class"].mean()
        known = [c for c in COLUMNS if rows[c].notna().any()]
        order = [s for s in GENERATED if s in set(rows["source"])]
        lines = [_line(source, rows[rows["source"] == source], known) for source in order]
        floor = [_interval(rows.drop_duplicates("seed")[f"{c}_floor"]) if c in FLOORS else "" for c in known]
        lines.insert(0, ["*floor*", rows["seed"].nunique(), _span(rows["n_train"]), *floor])
        head = ["source", "seeds", "n", *(COLUMNS[c] for c in known)]
        text = f"`{name}`, classes by *{judges}*, {100 * largest:.0f} % in the largest class"
        real = rows["motif_real"].dropna()
        text += f", {100 * real.mean():.0f} % of the real training sequences with the motif there" if len(real) else ""
        parts.append(f"{text}:\n\n{markdown_table(head, *lines)}")
    return "\n\n".join(parts) + "\n"


def _line(source: str, rows: pd.DataFrame, columns: list[str]) -> list[object]:
    cells: list[object] = [source, rows["seed"].nunique(), _span(rows["n"])]
    for c in columns:
        if c == "class_kept" and len(rows) == 1:
            n, share = int(rows["n"].iloc[0]), float(rows[c].iloc[0])
            wilson = binomtest(round(share * n), n).proportion_ci(method="wilson")
            cells.append(f"{share:.3f} [{wilson.low:.3f}, {wilson.high:.3f}]")
        else:
            cells.append(_interval(rows[c]))
    return cells


def _span(numbers: pd.Series) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _interval(values: pd.Series) -> str:
    values = values.dropna()
    if not len(values):
        return "-"
    if len(values) == 1:
        return f"{values.iloc[0]:.3f}"
    found = mean_interval(values)
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
