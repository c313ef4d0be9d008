"""DNA: sequences of bases, one-hot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from diffaug.backends import _dna_views as made_by_hand
from diffaug.backends import register
from diffaug.backends._base import Backend
from diffaug.backends._hyena import HyenaEncoder, occupied
from diffaug.backends._unet1d import UNet1d
from diffaug.core.config import Config, DiffusionConfig, LossConfig, TrainingConfig, check_fields
from diffaug.core.neighbors import nearest_neighbors
from diffaug.core.views import HandViews

#: The channels of a one-hot sequence; turned around, each base becomes its complement.
BASES = "ACGT"
#: Channels of a position may add up to this much more or less than 1.
_SLACK = 1e-3
#: Length of the words whose numbers say which sequences are neighbours.
_WORD = 4

ViewKind = Literal[
    "evoaug",
    "translocation",
    "insertion",
    "deletion",
    "inversion",
    "mutation",
    "reverse_complement",
    "noise",
    "mixup",
]
#: Kinds that ``"evoaug"`` can combine: those that need nothing but the sequence.
_COMBINABLE = tuple(kind for kind in get_args(ViewKind) if kind not in ("evoaug", "mixup"))
_MakeView = Callable[[Tensor, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class DNAConfig:
    """Settings of the DNA backend.

    Parameters
    ----------
    n_semantic, n_latent
        Width of the Hyena encoder and of its semantic vector, and of the head's output.
    depth, filter_width
        Hyena blocks, and width of the MLP that writes their filters.
    max_length
        Longest sequence to accept: time and memory grow with the length.
    generator_widths
        Channels of the U-Net at full, half, fourth and eighth length.
    attention
        ``"full"``: self-attention in the U-Net on every map but the full-length one, as in the paper's listing; ``"coarse"``: on
        those of at most ``attention_up_to`` positions.
    attention_up_to
        See ``attention``.
    views
        Hand-made views, see :mod:`diffaug.backends._dna_views`. ``"evoaug"`` applies two of ``combined`` to each
        sequence, drawn at random.
    combined
        Kinds that ``"evoaug"`` draws from. The two that change strands are not among the default ones, as a promoter or a
        splice site has a direction.
    largest_segment
        Most bases that a view shifts, inserts, deletes or inverts; never more than a quarter of the sequence.
    mutation_rate
        Share of bases that ``"mutation"`` changes.
    noise_std
        Standard deviation of ``"noise"``.
    n_neighbors
        Neighbours of each sequence for ``"mixup"``, found on its numbers of words of four bases.
    """

    n_semantic: int = 128
    n_latent: int = 128
    depth: int = 2
    filter_width: int = 64
    max_length: int = 1024
    generator_widths: tuple[int, ...] = (32, 64, 128, 128)
    attention: Literal["coarse", "full"] = "coarse"
    attention_up_to: int = 128
    views: ViewKind = "evoaug"
    combined: tuple[str, ...] = ("translocation", "insertion", "deletion", "mutation")
    largest_segment: int = 20
    mutation_rate: float = 0.05
    noise_std: float = 0.2
    n_neighbors: int = 15

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("n_semantic", "n_latent", "depth", "filter_width", "max_length", "largest_segment", "n_neighbors"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` of at least 1, found {getattr(self, name)}.")
        widths = self.generator_widths
        if len(widths) != 4 or any(w < 4 or w % 4 for w in widths):
            raise ValueError(f"Expected `generator_widths` of four multiples of 4, found {widths}.")
        if self.attention_up_to < 0:
            raise ValueError(f"Expected `attention_up_to` of at least 0, found {self.attention_up_to}.")
        if len(set(self.combined)) < 2 or any(kind not in _COMBINABLE for kind in self.combined):
            raise ValueError(f"Expected `combined` of two or more of {list(_COMBINABLE)}, found {list(self.combined)}.")
        if not 0 < self.mutation_rate <= 0.75:
            raise ValueError(f"Expected `mutation_rate` in (0, 0.75], found {self.mutation_rate}.")
        if not self.noise_std > 0:
            raise ValueError(f"Expected `noise_std` above 0, found {self.noise_std}.")


def _diffusion(**changes: Any) -> DiffusionConfig:
    """T = 50 with the betas scaled to match; letters lie at plus and minus one."""
    return DiffusionConfig(n_timesteps=50, clip_x0=1.0, **changes)


def default_config() -> Config:
    """Settings that fit a laptop. They follow the cells' and were not tuned on labels of any DNA set.

    The generator predicts the clean sequence, which has few possible values: on small examples it took fewer steps than
    to predict velocity, and many fewer than to predict noise.
    """
    return Config(
        diffusion=_diffusion(prediction_type="x0"),
        training=TrainingConfig(
            n_encoders=1,
            warmup_steps=300,
            generator_steps=1500,
            mixed_steps=300,
            encoder_passes=10,
            generator_passes=20,
            batch_size=64,
            input_dropout=0.0,
        ),
        domain=DNAConfig(),
    )


def paper_config() -> Config:
    """The paper's sizes: HyenaDNA-tiny, DDPM with T = 50 and the widths of Listing 1.

    It gives no epochs for DNA; these are those of its images (A 200 -> B 400 -> A 800, batch 256).
    """
    return Config(
        loss=LossConfig(name="soft", dof_semantic=1.0, dof_latent=1.0),
        diffusion=_diffusion(prediction_type="epsilon", sampler="ddpm", n_steps=50),
        training=TrainingConfig(
            n_encoders=1,
            warmup_epochs=200,
            generator_epochs=400,
            mixed_epochs=800,
            batch_size=256,
            encoder_lr=1e-3,
            generator_lr=1e-3,
            weight_decay=1e-6,
            lr_schedule="constant",
            view_rate=0.1,
            adapt_view_rate=False,
            input_dropout=0.0,
        ),
        domain=DNAConfig(generator_widths=(16, 32, 64, 64), attention="full"),
    )


PRESETS = {"default": default_config, "paper": paper_config}


@register
class DNABackend(Backend):
    """Soft one-hot sequences, shape ``(4, length)``: the weights of A, C, G and T at each position.

    A position has weights that add up to 1 (an N has a quarter of each), or none where the sequence has ended; sequences
    shorter than the longest end in such padding. The encoder sees the weights as they are. The generator works on plus and
    minus 1: a base that is not sure is drawn from its weights, and the end of a sequence is drawn with it, as positions
    without any base. What it draws becomes the nearest sequence of a length that the training data have.

    Attributes
    ----------
    shortest, longest
        Lengths of the shortest and the longest training sequence.
    """

    name = "dna"
    events = "sequences"
    Settings = DNAConfig
    view_kinds = get_args(ViewKind)

    settings: DNAConfig
    shortest: Tensor
    longest: Tensor

    def __init__(self, settings: DNAConfig, event_shape: tuple[int, ...]) -> None:
        super().__init__(settings, event_shape)
        self.length = event_shape[1]
        if self.length > settings.max_length:
            raise ValueError(
                f"Expected sequences of at most {settings.max_length} bases (`domain.max_length`), found {self.length}. "
                "Crop them, or raise the limit."
            )
        self.register_buffer("shortest", torch.tensor(1))
        self.register_buffer("longest", torch.tensor(self.length))

    @classmethod
    def preset(cls, name: str) -> Config:
        """``"default"`` or ``"paper"``."""
        if name not in PRESETS:
            raise ValueError(f"Expected a preset among {list(PRESETS)}, found {name!r}.")
        return PRESETS[name]()

    @classmethod
    def settings_of_older(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Models of before had attention everywhere where they name no limit."""
        return {"attention": "coarse" if "attention_up_to" in values else "full", **values}

    @classmethod
    def event_shape_of(cls, x: Any) -> tuple[int, ...]:
        """``(4, length)``; raises ``TypeError`` or ``ValueError`` for what is no array of one-hot sequences."""
        if not isinstance(x, np.ndarray):
            raise TypeError(
                f"Expected a numpy array of one-hot sequences, found {type(x).__name__}. "
                "`diffaug.dna` takes sequences as text."
            )
        if x.dtype.kind not in "fiub":
            raise TypeError(f"Expected real numbers, found dtype {x.dtype}. `diffaug.dna.encode` makes them of text.")
        if x.ndim != 3 or x.shape[1] != len(BASES) or x.shape[2] < 1:
            raise ValueError(f"Expected sequences of shape (n, 4, length), found shape {x.shape}.")
        return (len(BASES), int(x.shape[2]))

    def prepare(self, x: Any) -> None:
        """Learn the range of the lengths."""
        lengths = _checked_lengths(x)
        self.shortest, self.longest = torch.tensor(int(lengths.min())), torch.tensor(int(lengths.max()))

    def to_model(self, x: Any) -> Tensor:
        """The weights, float32, shape ``(n, 4, length)``."""
        _checked_lengths(x)
        return torch.as_tensor(np.array(x, dtype=np.float32))  # a copy: the user's array is never written to

    def from_model(self, v: Tensor) -> np.ndarray:
        """The weights as they are: a view by mixup or noise stays soft."""
        return v.cpu().numpy()

    def to_generator(self, v: Tensor, generator: torch.Generator) -> Tensor:
        """One-hot on plus and minus 1; a base that is not sure (an N) is drawn anew each time; no base is all minus 1."""
        reached = v.cumsum(dim=1)
        total = reached[:, -1:]
        drawn = torch.rand(total.shape, generator=generator, device=v.device) * total
        base = (drawn >= reached).sum(dim=1).clamp_max(len(BASES) - 1)
        return 2 * _one_hot(base, total.squeeze(1) > 0) - 1

    def from_generator(self, g: Tensor, strata: Tensor | None = None) -> Tensor:
        """The nearest one-hot sequence (least squares) of a length between the shortest and the longest of the training.

        A base instead of none at a position brings the sequence nearer by four times the base's value. So the best
        base is the largest of the four, and the best length that of the largest sum of them.
        """
        value, base = g.max(dim=1)
        shortest, longest = int(self.shortest), int(self.longest)
        gain = value.cumsum(dim=1)[:, shortest - 1 : longest]
        length = shortest + gain.argmax(dim=1, keepdim=True)
        return _one_hot(base, torch.arange(g.shape[2], device=g.device)[None] < length)

    def make_encoder(self) -> nn.Module:
        """Hyena with masked mean pooling and a projection head."""
        s = self.settings
        return HyenaEncoder(self.length, s.n_semantic, s.n_latent, s.depth, s.filter_width)

    def make_denoiser(self, n_cond: int) -> nn.Module:
        """The one-dimensional U-Net."""
        s = self.settings
        return UNet1d(len(BASES), n_cond, s.generator_widths, s.attention_up_to if s.attention == "coarse" else None)

    def hand_views(self, data: Tensor, *, kind: str | None = None, batch: np.ndarray | None = None) -> HandViews:
        """EvoAug's views, or mixup with a sequence of similar words."""
        kind = self.settings.views if kind is None else kind
        if kind not in self.view_kinds:
            raise ValueError(f"Expected views of a kind in {list(self.view_kinds)}, found {kind!r}.")
        if batch is not None:
            raise ValueError("Expected no `batch` for DNA, whose views lead nowhere else, found one. Leave it out.")
        if kind == "mixup":
            return self._mixup(data)
        lengths = occupied(data).sum(dim=1)
        make = self._combined if kind == "evoaug" else self._maker(kind)

        def views(index: Tensor, generator: torch.Generator) -> Tensor:
            return make(data[index], lengths[index], generator)

        return views

    def _maker(self, kind: str) -> _MakeView:
        """The function of a kind, with its settings."""
        s = self.settings
        function: Callable[..., Tensor] = getattr(made_by_hand, kind)
        if kind == "mutation":
            return partial(function, rate=s.mutation_rate)
        if kind == "noise":
            return partial(function, std=s.noise_std)
        return function if kind == "reverse_complement" else partial(function, largest=s.largest_segment)

    def _combined(self, x: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """Two kinds for each sequence, one after the other."""
        kinds = self.settings.combined
        rank = torch.rand(len(x), len(kinds), generator=generator, device=x.device).argsort(dim=1).argsort(dim=1)
        for kind, place in zip(kinds, rank.T, strict=True):
            x = torch.where((place < 2)[:, None, None], self._maker(kind)(x, lengths, generator), x)
        return x

    def _mixup(self, data: Tensor) -> HandViews:
        if len(data) < 2:
            raise ValueError(f"Expected at least 2 sequences for mixup views, found {len(data)}.")
        words = torch.cat([made_by_hand.kmer_counts(part, _WORD) for part in data.split(4096)])
        words = words / words.sum(dim=1, keepdim=True).clamp_min(1)
        neighbors = nearest_neighbors(words, min(self.settings.n_neighbors, len(data) - 1))

        def views(index: Tensor, generator: torch.Generator) -> Tensor:
            pick = torch.randint(neighbors.shape[1], index.shape, generator=generator, device=index.device)
            return made_by_hand.mixed(data[index], data[neighbors[index, pick]], generator)

        return views


def _one_hot(base: Tensor, real: Tensor) -> Tensor:
    """Float32, shape ``(n, 4, length)``; zero where ``real`` is false."""
    return (nn.functional.one_hot(base, len(BASES)) * real[..., None]).transpose(1, 2).float()


def _checked_lengths(x: np.ndarray) -> np.ndarray:
    """Lengths of soft one-hot sequences; raises ``ValueError`` for what is none."""
    with np.errstate(all="ignore"):
        total = x.sum(axis=1, dtype=np.float64)
    if not np.isfinite(total).all():
        rows = int((~np.isfinite(total)).any(axis=1).sum())
        raise ValueError(f"Expected finite weights of bases, found NaN or infinite ones in {rows} sequences.")
    real = total > 0.5
    wrong = (np.abs(total - real) > _SLACK) | (x < 0).any(axis=1)
    if wrong.any():
        row, position = np.argwhere(wrong)[0]
        raise ValueError(
            "Expected weights of A, C, G and T of at least 0 that add up to 1, or to 0 after a sequence's end, "
            f"found {x[row, :, position].tolist()} at position {position} of sequence {row}."
        )
    if not real[:, 0].all():
        raise ValueError(f"Expected sequences of at least 1 base, found an empty one: {int(np.argmin(real[:, 0]))}.")
    if (real[:, 1:] & ~real[:, :-1]).any():
        row = int(np.argmax((real[:, 1:] & ~real[:, :-1]).any(axis=1)))
        raise ValueError(f"Expected padding after the last base only, found a gap in sequence {row}.")
    return real.sum(axis=1)
