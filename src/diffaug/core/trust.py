"""How far generated views are trusted without labels, and what to say of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

#: Under this share of the lambda asked for, advice is due: fewer than one pair in ten has a generated view. A border by eye.
_FEW = 0.1
#: A discriminator that tells less tells nothing: of a few hundred rows its reading varies by some hundredths around one half.
_UNTOLD = 0.55


#: For each factor of :class:`ViewTrust`: what such views are and would teach, and what may help.
_REASONS = {
    "news": ("are near copies of their {events}, and would teach nothing", ""),
    "faith": (
        "are strangers to their {events}, and would teach what is wrong",
        " A longer training of the generator (generator_steps) may bring them nearer.",
    ),
    "realism": (
        "do not look like {events}, and would teach what is wrong",
        " A longer training of the generator (generator_steps) may make them more real.",
    ),
}


class ViewReading(NamedTuple):
    """What is read of one kind of views, in the encoder's space.

    Attributes
    ----------
    nearest, near
        Share of views whose own event is the nearest of all, and share of those with it among the nearest 15
        (:func:`diffaug.core.probes.nearest_own`).
    apart
        How well a discriminator tells them from events (:func:`diffaug.core.probes.told_apart`): 0.5 not at all, 1 always.
    """

    nearest: float
    near: float
    apart: float = 0.5


class ViewTrust(NamedTuple):
    """What :func:`view_trust` is made of.

    Attributes
    ----------
    news
        How much further from being copies than the hand-made views; 0 for copies, 1 for as far as those.
    faith
        How much nearer to their own events than to others, beside the hand-made views; 0 for strangers, 1 for as near.
    realism
        How much harder to tell from events than the hand-made views; 0 for views that are always told, 1 for as hard. NaN
        in models that were saved before it was measured.
    """

    news: float
    faith: float
    realism: float = math.nan

    @classmethod
    def measured(cls, generated: ViewReading, hand_made: ViewReading) -> ViewTrust:
        """From what is read of each kind of views."""
        return cls(
            news=(1.01 - generated.nearest) / (1.01 - hand_made.nearest),
            faith=(0.01 + generated.near) / (0.01 + hand_made.near),
            realism=(1.01 - max(_UNTOLD, generated.apart)) / (1.01 - max(_UNTOLD, hand_made.apart)),
        )

    @property
    def weights(self) -> tuple[float, float, float]:
        """What the three count for, each in [0, 1]: more than hand-made views have earns no more than all.

        News counts twice: views that are half copies did harm already (entry 15 of ``docs/experiments.md``).
        """
        realism = 1.0 if math.isnan(self.realism) else min(1.0, self.realism)
        return min(1.0, self.news) ** 2, min(1.0, self.faith), realism

    @property
    def share(self) -> float:
        """Share of lambda to use, in [0, 1]: the product of the weights."""
        return math.prod(self.weights)


def view_trust(generated: ViewReading, hand_made: ViewReading) -> float:
    r"""Share of lambda to use, from how generated and hand-made views lie to their events, and to all events.

    A contrast with a copy teaches nothing, and replaces a hand-made view that would have taught something: on dense,
    low-noise data the condition tells the generator all of the event. A contrast with a stranger teaches what is wrong. A
    view that looks like no event teaches what events do not have: a generator of too few steps follows its condition, and
    still draws mud. With :math:`s` the share of views whose own event is the nearest, :math:`t` that of views with their own
    event among the nearest 15, and :math:`a` the area under the ROC curve of a discriminator between views and events,

    .. math::
        \min\Bigl(1, \frac{1 - s_\text{generated}}{1 - s_\text{hand-made}}\Bigr)^2 \cdot
        \min\Bigl(1, \frac{t_\text{generated}}{t_\text{hand-made}}\Bigr) \cdot
        \min\Bigl(1, \frac{1 - a_\text{generated}}{1 - a_\text{hand-made}}\Bigr) .

    A hundredth is added above and below each fraction, so that nothing is divided by nothing, and :math:`a` is at least 0.55, as
    less is noise. The first fraction is the
    news, squared as copies do harm before all views are copies, the second the faith, the third the realism
    (:class:`ViewTrust`).

    Our addition, and a brake only. ``docs/experiments.md`` found the first two near 0 where views at full lambda did
    nothing or harm (entry 6), and the third low where the generator had too few steps (entry 19). Near 1 it does not
    promise a gain: that of views which are trusted is small, and can be a loss (entries 13 and 14).

    Parameters
    ----------
    generated, hand_made
        What is read of each kind of views.

    Returns
    -------
    In [0, 1].
    """
    return ViewTrust.measured(generated, hand_made).share


@dataclass(frozen=True)
class ViewShare:
    """What became of lambda in a training.

    Attributes
    ----------
    rate
        The lambda in force after the last filling of the bank; of an ensemble, the mean over its encoders.
    asked
        The lambda of the settings.
    trust
        Why the one is less than the other; ``None`` where it was not measured, or not kept.
    cycle
        The cycle of that filling.
    """

    rate: float
    asked: float
    trust: ViewTrust | None
    cycle: int

    @property
    def is_low(self) -> bool:
        """Whether so little is left of the lambda asked for that the user should know what that means."""
        return self.rate < _FEW * self.asked

    def sentence(self, events: str = "events") -> str:
        """For the user; ``events`` is what the domain calls its events."""
        where = "after the warm-up" if self.cycle == 1 else f"in cycle {self.cycle}"
        said = (
            f"Generated views make up {_percent(self.rate)} of the positives {where} "
            f"(lambda in force {self.rate:.2g} of {self.asked:.2g})"
        )
        if not self.is_low:
            return f"{said}."
        advice = (
            "The embedding is nearly that of the hand-made views. Where only an embedding is wanted, n_cycles=0 trains one "
            "without the generator, in less time."
        )
        if self.trust is None:
            return f"{said}. {advice}"
        cost = dict(zip(ViewTrust._fields, self.trust.weights, strict=True))
        why, remedy = _REASONS[min(cost, key=lambda name: cost[name])]  # of equals the first
        return f"{said}: they {why.format(events=events)}. {advice}{remedy}"


def view_share(history: Iterable[Mapping[str, Any]], asked: float) -> ViewShare | None:
    """What became of lambda, from a history (rows of :class:`diffaug.core.plan.EpochRecord` as dictionaries).

    ``None`` where no bank was filled, or by a version that did not keep the lambda in force.
    """
    fills = [row for row in history if str(row["phase"]) == "fill"]
    if not fills:
        return None
    cycle = int(fills[-1]["cycle"])
    last = [row for row in fills if int(row["cycle"]) == cycle]

    def mean(name: str) -> float:
        return sum(float(row.get(name, math.nan)) for row in last) / len(last)

    rate = mean("view_rate")
    if math.isnan(rate):
        return None
    found = ViewTrust(*map(mean, ViewTrust._fields))
    trust = None if math.isnan(found.news) or math.isnan(found.faith) else found
    return ViewShare(rate, float(asked), trust, cycle)


def _percent(share: float) -> str:
    return "less than 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
