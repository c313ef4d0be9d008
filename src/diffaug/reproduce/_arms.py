"""Every ablation as a configuration: changes to a base, and the tables and figures that they make up."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from diffaug.core.config import Config, config_from_dict
from diffaug.reproduce._paper import FIG6_TEXT, FIG7_TEXT, TABLE2_MEAN, PaperNumber, not_at_hand

#: Groups of scores that a run can be asked for: ``"probes"`` of the embedding as it is, ``"map"`` in two dimensions,
#: ``"views"`` of generated views beside hand-made ones.
Group = Literal["probes", "map", "views"]
Domain = Literal["bio", "dna", "vision"]
DIFFAUG = "diffaug"
#: Which command runs what.
COMMANDS: dict[Domain, str] = {
    "bio": "diffaug-cells reproduce",
    "dna": "diffaug-dna reproduce",
    "vision": "diffaug-vision reproduce",
}

LAMBDAS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
DOFS = (0.1, 0.5, 1.0, 2.0, 5.0)
BETAS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Arm:
    """One row of a table, or one point of a curve.

    Attributes
    ----------
    key
        Short name: ``"A1"``.
    title
        What it is.
    changes
        Nested settings on top of the base. They are all that sets the arm apart.
    method
        ``"diffaug"``, or the name of a learner of :mod:`diffaug.baselines`.
    paper
        The paper's mean, linear SVM.
    curve, x
        For figures: the setting that is swept, and its value.
    against
        Key of the arm that it is compared with; by default the reference of its table.
    """

    key: str
    title: str
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    method: str = DIFFAUG
    paper: PaperNumber | None = None
    curve: str | None = None
    x: float | None = None
    against: str | None = None


@dataclass(frozen=True)
class Artefact:
    """A table or figure of the paper.

    Attributes
    ----------
    name
        ``"table2"``.
    title
        What it shows.
    arms
        Its rows or points.
    reference
        Key of the arm that the others are compared with, where they do not say so themselves.
    groups
        Scores that its runs need.
    notes
        What differs from the paper, beyond what differs in all of them.
    paper_only
        Rows of the paper that this command does not run.
    domain
        Of its sets.
    by_set
        Nested settings of single sets, on top of every arm's.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    reference: str
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    paper_only: Mapping[str, PaperNumber] = field(default_factory=dict)
    domain: Domain = "bio"
    by_set: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def references(self) -> dict[str, str]:
        """Key of the arm that each arm is compared with."""
        return {arm.key: arm.against or self.reference for arm in self.arms}

    @property
    def is_figure(self) -> bool:
        """Whether a picture belongs to it."""
        return self.name.startswith("fig")


def resolve(arm: Arm, base: Config) -> Config:
    """Settings of an arm: the base with the arm's changes."""
    return config_from_dict(arm.changes, type(base.domain), base)


def run_id(method: str, config: Config) -> str:
    """Name of what an arm runs. Arms of different tables with equal settings have one, and share their rows."""
    text = json.dumps([method, config.to_dict()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def artefacts(domain: Domain | None = None) -> dict[str, Artefact]:
    """All tables and figures of a domain, or of all of them."""
    from diffaug.reproduce._split_arms import SPLIT_ARTEFACTS  # it is made of this module's parts

    return {name: a for name, a in {**ARTEFACTS, **SPLIT_ARTEFACTS}.items() if domain in (None, a.domain)}


def artefact(name: str, domain: Domain = "bio") -> Artefact:
    """A table or figure of a domain by its name; an unknown one gets the nearest."""
    known, elsewhere = artefacts(domain), artefacts()
    if name not in known:
        if name in elsewhere:
            command = COMMANDS[elsewhere[name].domain]
            raise ValueError(f"Expected a table or figure among {list(known)}, found {name!r}. Do: {command} {name}")
        near = difflib.get_close_matches(name.lower().replace(" ", ""), known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Expected a table or figure among {list(known)}, found {name!r}.{hint}")
    return known[name]


def base_of(domain: Domain, preset: str = "default", changes: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """What the arms of a domain change: a preset, what :data:`PINNED` has, and settings of the user's on top."""
    from diffaug.backends import get_backend

    backend = get_backend("cells" if domain == "bio" else domain)
    pinned = config_from_dict(PINNED.get(domain, {}), backend.Settings, backend.preset(preset))
    return config_from_dict(changes or {}, backend.Settings, pinned)


#: What the paper's tables are made of on every set, where this package decides by the number of features: on panels arms
#: whose names say mixup would have masks, and all of them a linear path.
PINNED: Mapping[Domain, Mapping[str, Mapping[str, Any]]] = {
    "bio": {"training": {"n_encoders": 1}, "domain": {"views": "mixup", "linear_path": False}}
}

_SOFT = {"name": "soft"}
#: Beta acts only where the positive's target is not 1 already, and with the default kernel it is.
_SOFT_EQ9 = {"name": "soft", "kernel": "student_t"}
_NO_LOOP = {"view_rate": 0.0, "generator_epochs": 0}
#: Harm shall be seen where there is some, so lambda is not lowered on its account.
_AS_ASKED = {"training": {"adapt_view_rate": False}}
#: A generator of so few epochs draws views that do harm.
_WEAK_EPOCHS = 5


def _condition(name: str, *, fixed: bool = False) -> dict[str, dict[str, Any]]:
    return {"diffusion": {"condition": name}, **(_AS_ASKED if fixed else {})}


def _lambdas(curve: str, prefix: str, what: str, paper: PaperNumber | None, **training: Any) -> tuple[Arm, ...]:
    """A curve of Fig. 6: arms that differ in lambda alone, so that one generator serves them all."""
    return tuple(
        Arm(
            f"{prefix}lambda={rate:g}",
            "no generated views (the twin)" if rate == 0 else f"{what} at rate {rate:g}",
            {"training": _NO_LOOP if rate == 0 else {"view_rate": rate, "adapt_view_rate": False, **training}},
            paper=paper,
            curve=curve,
            x=rate,
        )
        for rate in LAMBDAS
    )


def _baseline(key: str, title: str, paper: PaperNumber | None = None) -> Arm:
    return Arm(key, title, method=key, paper=paper)


#: What a column means.
_KEPT = (
    "`kept' is the share of generated views whose nearest real cell, their source left out, has the class of the source; "
    "`kept, real' (in every row of rows.csv as kept_real) is the same of the source cells themselves, the ceiling."
)
_SIMCLR_IS_THE_TWIN = (
    "With InfoNCE as the loss, SimCLR on this encoder, these views and as many epochs is the twin itself: equal seeds give "
    "equal rows."
)
_LOOP_OFF = Arm("loop_off", "DiffAug's twin: equal encoder epochs, hand-made views only", {"training": _NO_LOOP})

_TABLE2 = Artefact(
    "table2",
    "Table 2: embeddings of biological data under a linear SVM",
    (
        Arm("diffaug", "DiffAug", paper=TABLE2_MEAN["DiffAug"]),
        Arm(
            "soft_2d",
            "DiffAug with the soft loss on a two-dimensional latent",
            {"loss": _SOFT, "domain": {"n_latent": 2}},
        ),
        _LOOP_OFF,
        _baseline("simclr", "SimCLR + mixup", TABLE2_MEAN["SimCLR + mixup"]),
        _baseline("byol", "BYOL + mixup", TABLE2_MEAN["BYOL + mixup"]),
        _baseline("moco", "MoCo + mixup", TABLE2_MEAN["MoCo + mixup"]),
        _baseline("dlme", "DLME + mixup", TABLE2_MEAN["DLME + mixup"]),
    ),
    reference="loop_off",
    groups=("probes", "map"),
    notes=(
        "The paper's number is a linear SVM, 90/10 in its main text; its appendix runs ten folds in two dimensions. Both "
        "are here: `linear' is five stratified 90/10 splits of the 80 semantic dimensions, `linear 2-D' is ten folds in "
        "two dimensions, which are the latent vectors where these are two-dimensional and a UMAP of the semantic "
        "vectors elsewhere.",
        "The learners beside DiffAug are this package's, on the same encoder, with the same hand-made views and epochs.",
        _SIMCLR_IS_THE_TWIN,
        "The paper's first version also has four k-means accuracies of DiffAug (77.0, 72.5, 70.6, 74.1); which sets they "
        "belong to is not at hand, so they stand in no row.",
    ),
    paper_only={name: TABLE2_MEAN[name] for name in ("PaCMAP", "hNNE", "TopoAE")},
)

_TABLE4 = Artefact(
    "table4",
    "Table 4: what the generator is conditioned on",
    (
        Arm("A1", "the label, one-hot (supervised)", _condition("label"), paper=not_at_hand("Table 4")),
        Arm("A2", "random numbers", _condition("noise"), paper=not_at_hand("Table 4")),
        Arm("A3", "the semantic vector (DiffAug)", _condition("semantic"), paper=not_at_hand("Table 4")),
        *(
            Arm(f"{key}-fixed", f"{key}, lambda as asked", _condition(name, fixed=True), against="A3-fixed")
            for key, name in (("A1", "label"), ("A2", "noise"), ("A3", "semantic"))
        ),
        _LOOP_OFF,
    ),
    reference="A3",
    groups=("probes", "views"),
    notes=(
        "A1 is the one run of all that reads labels: its generator is trained on the labels of all cells, those of the "
        "probe's test cells included. Its scores are no fair test beside the others.",
        "A1, A2 and A3 lower lambda by themselves where their views are poor, as this package's default does; the column `lambda' "
        "says how far, and an arm with a lambda near 0 is nearly the twin. The rows `-fixed' take lambda as it is asked for, "
        "as the paper does, and are compared with A3-fixed: what a condition is worth is seen there, harm included.",
        _KEPT,
        "loop_off and the rows `-fixed' are not in the paper's table.",
    ),
)

_TABLE5 = Artefact(
    "table5",
    "Table 5: loss, diffusion and schedule",
    (
        Arm("B1", "SimCLR, hand-made views", method="simclr", paper=not_at_hand("Table 5")),
        Arm("B2", "soft loss, no diffusion", {"loss": _SOFT, "training": _NO_LOOP}, paper=not_at_hand("Table 5")),
        Arm(
            "B3",
            "InfoNCE instead of the soft loss",
            {"loss": {"name": "info_nce"}, "training": {"schedule": "alternating"}},
            paper=not_at_hand("Table 5"),
        ),
        Arm(
            "B4",
            "soft loss, joint training",
            {"loss": _SOFT, "training": {"schedule": "joint"}},
            paper=not_at_hand("Table 5"),
        ),
        Arm(
            "B5",
            "soft loss, alternating training (DiffAug)",
            {"loss": _SOFT, "training": {"schedule": "alternating"}},
            paper=not_at_hand("Table 5"),
        ),
        Arm("B2-InfoNCE", "InfoNCE, no diffusion", {"loss": {"name": "info_nce"}, "training": _NO_LOOP}),
        Arm(
            "B4-InfoNCE",
            "InfoNCE, joint training",
            {"loss": {"name": "info_nce"}, "training": {"schedule": "joint"}},
        ),
    ),
    reference="B5",
    groups=("probes",),
    notes=(
        "The paper's ablations start from its soft loss, and so do B2, B4 and B5 here, in the scale-free form (the literal "
        "one does not train). This package's default is InfoNCE: B3 is its full recipe, and B2-InfoNCE and B4-InfoNCE "
        "are the other ablations of it.",
        "No diffusion (B2) means as many encoder epochs as the others, with hand-made views only.",
        "In joint training (B4) the generator takes as many steps as the encoder, which may be fewer than alternating "
        "training gives it.",
        "B1 is this package's SimCLR on the same encoder, with the same hand-made views and epochs.",
        _SIMCLR_IS_THE_TWIN.replace("the twin itself", "B2-InfoNCE"),
    ),
)

_FIG5 = Artefact(
    "fig5",
    "Fig. 5: cosine of a cell and its views in the semantic space",
    (Arm("A3", "DiffAug", _condition("semantic"), paper=not_at_hand("Fig. 5")),),
    reference="A3",
    groups=("probes", "views"),
    notes=(
        "The encoder that judges is the one trained with these views, which flatters the kinds of view that it saw: "
        "mixup and generated ones, not feature swaps. Pairs of unrelated cells show what a cosine means here.",
        "500 cells, one view each.",
        _KEPT,
    ),
)

_FIG6 = Artefact(
    "fig6",
    "Fig. 6: the share lambda of generated views, and their toxicity",
    (
        *_lambdas("view_rate", "", "generated views", not_at_hand("Fig. 6")),
        *_lambdas("view_rate_weak", "weak_", "views of a weak generator", None, generator_epochs=_WEAK_EPOCHS),
    ),
    reference="lambda=0",
    groups=("probes", "views"),
    notes=(
        FIG6_TEXT,
        "One generator a set and seed is trained for all lambdas of a curve, which equals fits of their own; the seconds of "
        "each row are with it. Lambda is not lowered where the views are poor, so that their harm is seen.",
        f"The second curve (weak_...) has a generator of {_WEAK_EPOCHS} epochs, for harm to be seen: views of the default one may do "
        "none at any lambda. It is not in the paper.",
        "The warm-up always uses hand-made views, so that lambda = 1 is all generated views from the second A phase on.",
        "`rank' is the effective rank of the embedding; near 1 it has collapsed.",
        _KEPT,
    ),
)

_FIG7 = Artefact(
    "fig7",
    "Fig. 7: degrees of freedom nu and trust beta of the soft loss",
    tuple(
        [
            Arm(
                f"nu_z={dof:g}",
                f"soft loss, dof_latent {dof:g}",
                {"loss": {**_SOFT, "dof_latent": dof}},
                paper=not_at_hand("Fig. 7"),
                curve="dof_latent",
                x=dof,
            )
            for dof in DOFS
        ]
        + [
            Arm(
                f"nu_y={dof:g}",
                f"soft loss, dof_semantic {dof:g}",
                {"loss": {**_SOFT, "dof_semantic": dof}},
                paper=not_at_hand("Fig. 7"),
                curve="dof_semantic",
                x=dof,
            )
            for dof in DOFS
        ]
        + [
            Arm(
                f"beta={beta:g}",
                f"soft loss, kernel of Eq. 9, beta {beta:g}",
                {"loss": {**_SOFT_EQ9, "beta": beta}},
                paper=not_at_hand("Fig. 7"),
                curve="beta",
                x=beta,
            )
            for beta in BETAS
        ]
    ),
    reference="nu_z=1",
    groups=("probes",),
    notes=(
        FIG7_TEXT,
        "Table 11 gives one nu a set; here the two of the soft loss are swept one at a time, the other at the base's value.",
        "Beta is swept with the kernel of Eq. 9 (`student_t'). With the default kernel the positive's target is 1 already "
        "and beta has no effect.",
        "Losses and label-free probes over the epochs are another picture: `diffaug-cells plot --kind history'.",
    ),
)

ARTEFACTS = {a.name: a for a in (_TABLE2, _TABLE4, _TABLE5, _FIG5, _FIG6, _FIG7)}
