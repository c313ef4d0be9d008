"""The arms by name, and the twin of each: the arm that differs from it by nothing but what is asked about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.mixed import (
    ClusterMates,
    EncoderAlone,
    FreshEncoder,
    MixedPhase,
    Mixture,
    NearMixtures,
    OwnPartners,
    PartialNoise,
    SeveralPositives,
    half,
    none,
)


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Parameters
    ----------
    code
        Short name for the command line; earlier rows have it too.
    name
        What it is, in words; rows are known by it. An arm that changes its meaning needs another name.
    twin
        Name of the arm that it is compared with; the empty text for none.
    """

    code: str
    name: str
    twin: str = ""


@dataclass(frozen=True)
class MixedArm(Arm):
    """A mixed phase on the generator that all arms of a set and seed share."""

    kind: type[MixedPhase] = MixedPhase
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EncoderArm(Arm):
    """An encoder alone, with settings on top of the run's; not trained at all where ``trained`` is false."""

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trained: bool = True
    kind: type[EncoderAlone] = EncoderAlone
    options: Mapping[str, Any] = field(default_factory=dict)


_OFF = "hand-made views only"
_TWO, _THREE = "two hand-made views", "three hand-made views"
_FRESH_OFF = "fresh encoder, hand-made views only"
_ALONE = "encoder alone"
_TRUST = "lambda times trust, news squared"  # earlier rows have "lambda times trust": the news counted once
_PLAIN = {"linear_path": False, "views": "mixup"}  # whatever the number of features
_COLD = {"loss": {"temperature": 0.2}}


def _halves(rate: float) -> tuple[float, float]:
    return 0.5, 0.5


def _by_trust(rate: float) -> tuple[float, float]:
    return 1 - rate / 2, rate / 2


def _thirds(rate: float) -> tuple[float, float, float]:
    return 1 / 3, 1 / 3, 1 / 3


def _several(code: str, name: str, twin: str, weights: Any, *further: str) -> MixedArm:
    return MixedArm(code, name, twin, SeveralPositives, {"further": further, "weights": weights})


def _encoder(code: str, name: str, further: Mapping[str, Any] | None = None, **domain: Any) -> EncoderArm:
    return EncoderArm(code, name, "" if name == _ALONE else _ALONE, {"domain": {**_PLAIN, **domain}, **(further or {})})


def _own(code: str, name: str, kind: type[OwnPartners], **options: float) -> EncoderArm:
    return EncoderArm(code, name, _ALONE, {"domain": _PLAIN}, kind=kind, options=options)


MIXED: tuple[MixedArm, ...] = (
    MixedArm("l0", _OFF, options={"share": none}),
    MixedArm("def", f"{_TRUST} (the default)", _OFF),
    MixedArm("th", f"half of {_TRUST}", _OFF, options={"share": half}),
    _several("m2h", _TWO, _OFF, _halves, "hand-made"),
    _several("mhg", "a hand-made and a generated view", _TWO, _halves, "generated"),
    _several(
        "mhgt", f"a hand-made and a generated view, this weighted by half of {_TRUST}", _TWO, _by_trust, "generated"
    ),
    _several("mh2g", "a hand-made and two generated views", _THREE, _thirds, "generated", "generated"),
    _several("m3h", _THREE, _OFF, _thirds, "hand-made", "hand-made"),
    MixedArm("mixx", "mixture of cell and generated view", _OFF, Mixture, {"origin": "cell"}),
    MixedArm("mixh", "mixture of hand-made and generated view", _OFF, Mixture, {"origin": "hand-made"}),
    MixedArm("fr0", _FRESH_OFF, _OFF, FreshEncoder, {"share": none}),
    MixedArm("fr.5t", f"fresh encoder, half of {_TRUST}", _FRESH_OFF, FreshEncoder, {"share": half}),
    MixedArm("fr1t", f"fresh encoder, {_TRUST}", _FRESH_OFF, FreshEncoder),
    MixedArm("s.5", f"half-noised cell as the start, {_TRUST}", _OFF, PartialNoise, {"strength": 0.5}),
)  # fmt: skip

ENCODER: tuple[EncoderArm, ...] = (
    _encoder("base", _ALONE),
    EncoderArm("raw", "the features themselves, standardised", _ALONE, trained=False),
    _encoder("orth", "linear path", linear_path=True),
    _encoder("M", "mask", views="mask"),
    _encoder("T", "temperature 0.2", further=_COLD),
    _encoder("MT", "mask, temperature 0.2", further=_COLD, views="mask"),
    _encoder("orthM", "linear path, mask", linear_path=True, views="mask"),
    _encoder("orthT", "linear path, temperature 0.2", further=_COLD, linear_path=True),
    _encoder("orthMT", "linear path, mask, temperature 0.2", further=_COLD, linear_path=True, views="mask"),
    _encoder("std", "standard scaling", scaling="standard"),
    _own("near", "mixtures with the encoder's own neighbours", NearMixtures, share=1.0),
    _own("near.5", "mixtures with the encoder's own neighbours in half of the pairs", NearMixtures, share=0.5),
    _own("mates", "cells of the same cluster in half of the pairs", ClusterMates, resolution=1.0, share=0.5),
    _own("mates.25", "cells of the same cluster in a quarter of the pairs", ClusterMates, resolution=1.0, share=0.25),
    _own("mates.fine", "cells of the same small cluster in half of the pairs", ClusterMates, resolution=4.0, share=0.5),
    _own(
        "mates.fine.25",
        "cells of the same small cluster in a quarter of the pairs",
        ClusterMates,
        resolution=4.0,
        share=0.25,
    ),
)

ARMS: dict[str, Arm] = {arm.code: arm for arm in (*MIXED, *ENCODER)}


def chosen_arms(names: list[str]) -> tuple[Arm, ...]:
    """Arms by code or by name, with ``"mixed"`` and ``"encoder"`` for all of a kind, and their twins; in the lists' order."""
    wanted: set[str] = set()
    by_name = {arm.name: arm.code for arm in ARMS.values()}
    for name in names:
        family = {"mixed": MIXED, "encoder": ENCODER}.get(name)
        if family is not None:
            wanted |= {arm.code for arm in family}
        elif name in ARMS or name in by_name:
            wanted.add(by_name.get(name, name))
        else:
            raise ValueError(f"Expected arms among {['mixed', 'encoder', *ARMS]}, found {name!r}.")
    wanted |= {by_name[ARMS[code].twin] for code in wanted if ARMS[code].twin}
    return tuple(arm for code, arm in ARMS.items() if code in wanted)


def kind_of(arm: Arm) -> str:
    """``"mixed"`` or ``"encoder"``, the column of the rows."""
    return "mixed" if isinstance(arm, MixedArm) else "encoder"
