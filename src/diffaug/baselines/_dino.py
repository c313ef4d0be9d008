"""DINO (Caron et al. 2021, "Emerging properties in self-supervised vision transformers")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffaug.baselines._byol import cosine_momentum
from diffaug.baselines._method import Method, Pass, Sizes, both_latents, frozen_copy
from diffaug.core.config import check_fields
from diffaug.core.ema import move_average
from diffaug.core.networks import Encoding


def dino_loss(
    student: Tensor,
    teacher: Tensor,
    center: Tensor,
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Tensor:
    """Cross-entropy of the student's softmax under the teacher's (Algorithm 1 of the paper).

    Parameters
    ----------
    student, teacher
        Scores of the prototypes, shape ``(batch, n_prototypes)``, for one and the other member of each pair. No gradient
        flows into ``teacher``.
    center
        Subtracted from the teacher's scores, shape ``(n_prototypes,)``, so that no prototype can win everywhere.
    student_temperature, teacher_temperature
        Divide the scores. The teacher's is the lower: its sharper shares keep the student from equal ones everywhere.

    Returns
    -------
    Scalar, mean over the batch.
    """
    shares = F.softmax((teacher.detach() - center) / teacher_temperature, dim=1)
    return -(shares * F.log_softmax(student / student_temperature, dim=1)).sum(dim=1).mean()


def warmed_temperature(first: float, last: float, warmup: float, progress: float) -> float:
    """The teacher's temperature: a straight line from ``first`` to ``last`` over the share ``warmup`` of the steps."""
    return last if progress >= warmup else first + (last - first) * progress / warmup


@dataclass(frozen=True)
class DINOSettings:
    """Settings of DINO.

    Parameters
    ----------
    n_prototypes
        Outputs that the softmax is over. The paper has 65,536 for the million images of ImageNet.
    student_temperature
        As in the paper.
    teacher_temperature_first, teacher_temperature, temperature_warmup
        The teacher's temperature rises from the first to the second over this share of the steps: the paper's 30 of 100
        epochs.
    center_momentum
        Share that the centre keeps of itself at each step.
    momentum
        Share that the teacher keeps of itself at the first step; it rises to 1. The paper's 0.996 is for 100 epochs of
        ImageNet; see :class:`BYOLSettings`.
    """

    n_prototypes: int = 1024
    student_temperature: float = 0.1
    teacher_temperature_first: float = 0.04
    teacher_temperature: float = 0.07
    temperature_warmup: float = 0.3
    center_momentum: float = 0.9
    momentum: float = 0.99

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n_prototypes < 2:
            raise ValueError(f"Expected `n_prototypes` of at least 2, found {self.n_prototypes}.")
        for name in ("student_temperature", "teacher_temperature_first", "teacher_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Expected `{name}` above 0, found {getattr(self, name)}.")
        for name in ("temperature_warmup", "momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Expected `{name}` in [0, 1], found {getattr(self, name)}.")
        if not 0 <= self.center_momentum < 1:
            raise ValueError(f"Expected `center_momentum` in [0, 1), found {self.center_momentum}.")


class Prototypes(nn.Module):
    """Cosine of a vector and each prototype: the paper's last layer, normalised on both sides and of fixed length."""

    def __init__(self, width: int, n_prototypes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_prototypes, width))

    def forward(self, x: Tensor) -> Tensor:
        """Cosines, shape ``(batch, n_prototypes)``."""
        return F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


class DINO(Method):
    """A student says of one member of a pair which prototypes its slow copy, the teacher, finds in the other; both ways.

    Two views, no smaller crops: a small image, a cell and a sequence have no part that stands for the whole. The last
    layer is trained from the first step on. The student is what is embedded with, as with the other methods; the paper
    takes the teacher, which is the student's average.
    """

    name = "dino"
    Settings = DINOSettings
    settings: DINOSettings
    center: Tensor

    def __init__(self, encoder: nn.Module, settings: DINOSettings, sizes: Sizes) -> None:
        super().__init__(encoder, settings, sizes)
        self.prototypes = Prototypes(sizes.n_latent, settings.n_prototypes)
        self.teacher, self.teacher_prototypes = frozen_copy(encoder), frozen_copy(self.prototypes)
        self.register_buffer("center", torch.zeros(settings.n_prototypes))
        self.teacher_temperature = self._temperature(0.0)

    def _temperature(self, progress: float) -> float:
        s = self.settings
        return warmed_temperature(s.teacher_temperature_first, s.teacher_temperature, s.temperature_warmup, progress)

    def forward(self, x: Tensor, views: Tensor) -> Pass:
        """Scores of events and views by the student, and by the teacher."""
        made = super().forward(x, views)
        student = self.prototypes(both_latents(made.x, made.views))
        with torch.no_grad():
            teacher = self.teacher_prototypes(Encoding(*self.teacher(torch.cat([x, views]))).latent)
        return made._replace(extra=(student, teacher))

    def loss(self, made: Pass, index: Tensor) -> Tensor:
        """Symmetric mean of the paper."""
        (s_x, s_views), (t_x, t_views) = (both.chunk(2) for both in made.extra)
        temperatures = {
            "student_temperature": self.settings.student_temperature,
            "teacher_temperature": self.teacher_temperature,
        }
        first = dino_loss(s_x, t_views, self.center, **temperatures)
        return (first + dino_loss(s_views, t_x, self.center, **temperatures)) / 2

    def get_extra_state(self) -> dict[str, float]:
        """The teacher's temperature, for torch's ``state_dict``."""
        return {"teacher_temperature": self.teacher_temperature}

    def set_extra_state(self, state: dict[str, float]) -> None:
        """Go back to :meth:`get_extra_state`."""
        self.teacher_temperature = state["teacher_temperature"]

    @torch.no_grad()
    def after_step(self, made: Pass, index: Tensor, progress: float) -> None:
        """Move the teacher and the centre, and set the temperature of the next step.

        The teacher's batch normalisation uses the batch's statistics, so its buffers do not matter.
        """
        decay = cosine_momentum(self.settings.momentum, progress)
        move_average(self.teacher, self.encoder, decay)
        move_average(self.teacher_prototypes, self.prototypes, decay)
        self.center.lerp_(made.extra[1].mean(dim=0), 1 - self.settings.center_momentum)
        self.teacher_temperature = self._temperature(progress)
