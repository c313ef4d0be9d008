"""What a training consists of: random streams, phases in their order, the place in them, and the record of an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from diffaug.core.config import TrainingConfig

Phase = Literal["A", "B", "fill", "joint"]

#: Random streams of a run, each with its own numbers. New ones come last, so that the others keep theirs.
STREAMS = (
    "order",
    "hand",
    "mix",
    "generator_order",
    "noise",
    "bank",
    "condition",
    "dropout",
    "space",
    "calibration",
    "trust",
    "network",
)


@dataclass(frozen=True)
class EpochRecord:
    """One line of the history.

    Attributes
    ----------
    phase
        ``"A"`` (encoder), ``"B"`` (generator), ``"fill"`` (the bank of views) or ``"joint"``.
    cycle
        0 for the warm-up, then 1 .. n_cycles; with ``n_cycles=0`` the encoders' second phase is 1 as in a loop of one cycle.
    epoch
        Running number over all phases; a fill repeats the number of the epoch before it.
    encoder_loss, generator_loss
        Mean over the epoch's steps; NaN where the network was frozen.
    n_positives, n_generated
        Positive views shown to the encoder in this epoch, and how many of them were generated; in a fill, the views made.
    semantic_cosine, effective_rank
        Label-free probes on the epoch's last batch: mean cosine of an event and its positive in the semantic space, and
        the effective rank of the semantic vectors (near 1: collapse).
    view_rate
        The lambda in force after a filling of the bank; NaN elsewhere.
    seconds
        Wall time.
    news, faith, realism
        Of a filling: why lambda is lowered (:class:`diffaug.core.trust.ViewTrust`); NaN elsewhere, and where lambda is not
        to be adapted.
    member
        Encoder of the ensemble that was trained, or for which the bank was filled, from 0; 0 for the generator.
    """

    phase: Phase
    cycle: int
    epoch: int
    encoder_loss: float = math.nan
    generator_loss: float = math.nan
    n_positives: int = 0
    n_generated: int = 0
    semantic_cosine: float = math.nan
    effective_rank: float = math.nan
    view_rate: float = math.nan
    seconds: float = 0.0
    news: float = math.nan
    faith: float = math.nan
    realism: float = math.nan
    member: int = 0


def rate_in_force(history: Iterable[EpochRecord]) -> float:
    """The lambda of the last cycle: ``view_rate`` times the trust that the fit puts in its views; 0 without views.

    Of an ensemble it is the mean over the encoders, each of which has views of its own.
    """
    fills = [record for record in history if record.phase == "fill"]
    last = [record.view_rate for record in fills if record.cycle == fills[-1].cycle]
    return sum(last) / len(last) if last else 0.0


class Block(NamedTuple):
    """Epochs of one phase, at most ``n_epochs`` of them; a filling of the bank is a block of one.

    ``member`` is the encoder of the ensemble, from 0; 0 for the generator, which belongs to all.
    """

    phase: Phase
    cycle: int
    n_epochs: int
    member: int = 0


@dataclass
class Place:
    """How far a run is: ``block`` blocks and ``done`` epochs of the next one, ``epoch`` epochs in all.

    Where a block ends early (patience), ``done`` is all of its epochs.
    """

    block: int = 0
    done: int = 0
    epoch: int = 0


def known_epochs(plan: TrainingConfig) -> tuple[int, int, int]:
    """Epochs of the warm-up, of a B and of a mixed phase; raises ``ValueError`` where they are not filled in."""
    return _known(plan.warmup_epochs), _known(plan.generator_epochs), _known(plan.mixed_epochs)


def blocks_of(plan: TrainingConfig) -> list[Block]:
    """The blocks of a training in their order; a bank that nobody draws from is not filled.

    All encoders are warm before the generator learns, because its conditions are the vectors of them all. In the joint
    schedule the generator learns beside the first encoder, and the others follow. Without cycles there is none to learn.
    """
    warmup, generate, mixed = known_epochs(plan)
    members, cycles = range(plan.n_encoders), range(1, plan.n_cycles + 1)
    if not cycles:
        return [Block("A", cycle, epochs, m) for cycle, epochs in enumerate(plan.encoder_phases) for m in members]

    def learning(phase: Phase, cycle: int, member: int) -> list[Block]:
        fill = [Block("fill", cycle, 1, member)] if plan.view_rate > 0 and mixed > 0 else []
        return [*fill, Block(phase, cycle, mixed, member)]

    if plan.schedule == "joint":
        blocks = []
        for member in members:
            phase: Phase = "A" if member else "joint"
            blocks.append(Block(phase, 0, warmup, member))
            blocks += [block for cycle in cycles for block in learning(phase, cycle, member)]
        return blocks
    blocks = [Block("A", 0, warmup, member) for member in members]
    for cycle in cycles:
        blocks.append(Block("B", cycle, generate))
        blocks += [block for member in members for block in learning("A", cycle, member)]
    return blocks


def _known(epochs: int | None) -> int:
    if epochs is None:
        raise ValueError("Expected known numbers of epochs, found None. Call `TrainingConfig.resolve(n_obs)` first.")
    return epochs
