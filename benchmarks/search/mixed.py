"""The mixed phase in other forms: classes over the model's own trainer, all going on from one trained generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from anndata import AnnData
from torch import Tensor

from diffaug.backends.cells import CellsBackend
from diffaug.core.bank import Positives, mix_views
from diffaug.core.batches import contrastive_loss
from diffaug.core.config import Config
from diffaug.core.devices import make_fabric, seeded_init
from diffaug.core.inference import draw, encode
from diffaug.core.learner import Learner
from diffaug.core.neighbors import nearest_neighbors
from diffaug.core.networks import Encoding
from diffaug.core.training import Trainer
from diffaug.core.views import HandViews, neighbor_mixup

T = TypeVar("T", bound=Trainer)
#: Share of generated views as a function of the model's own share, which is lambda times trust.
Share = Callable[[float], float]

#: New weights are of this seed plus the run's, so that they are not those the run began with.
_NEW_WEIGHTS = 77


def whole(rate: float) -> float:
    return rate


def half(rate: float) -> float:
    return rate / 2


def none(rate: float) -> float:
    return 0.0


@dataclass(frozen=True)
class Parts:
    """What all trainings on one set with one seed share: made as :meth:`diffaug.DiffAug.fit` makes it."""

    backend: CellsBackend
    data: Tensor
    hand_views: HandViews
    config: Config
    seed: int

    @classmethod
    def of(cls, x: Any, config: Config, seed: int) -> Parts:
        """Parts for events ``x``, shape ``(n_obs, n_features)``; the epochs of ``config`` are filled in here."""
        plan = config.training
        if plan.n_cycles != 1 or plan.schedule != "alternating" or plan.patience is not None:
            raise ValueError(
                "Expected n_cycles=1, the alternating schedule and no patience, so that all arms have the same epochs; "
                f"found {plan.n_cycles}, {plan.schedule!r} and {plan.patience}."
            )
        if config.diffusion.condition != "semantic":
            raise ValueError(f"Expected condition='semantic', found {config.diffusion.condition!r}.")
        config = dataclasses.replace(config, training=plan.resolve(x.shape[0]))
        backend = CellsBackend(config.domain, (x.shape[1],))
        backend.prepare(x)
        data = backend.to_model(x)
        return cls(backend, data, backend.hand_views(data), config, seed)

    def trainer(self, kind: Callable[..., T], **options: Any) -> T:
        """A trainer with the first weights of the seed."""
        with seeded_init(self.seed):
            encoder = self.backend.make_encoder()
            denoiser = self.backend.make_denoiser(self.config.domain.n_semantic)
        return kind(
            make_fabric("cpu", self.config.training.precision),
            encoder,
            denoiser,
            self.data,
            self.hand_views,
            self.config,
            to_generator=self.backend.to_generator,
            from_generator=self.backend.from_generator,
            calibrate=self.backend.calibrate if self.backend.calibrates() else None,
            strata=self.backend.strata(self.data),
            seed=self.seed,
            **options,
        )


def with_full_bank(parts: Parts) -> Trainer:
    """A trainer that has just filled its bank: the state from which every arm of the mixed phase goes on."""
    trainer = parts.trainer(Trainer)
    for record in trainer.run():
        if record.phase == "fill":
            return trainer
    raise ValueError("Expected settings with generated views, found view_rate=0, which fills no bank.")


class EncoderAlone(Trainer):
    """The encoder with hand-made views for all epochs of the plan: the loop-off twin, without a generator."""

    def train(self) -> None:
        for _ in range(self.config.training.encoder_epochs):
            self._a_epoch()


class OwnPartners(EncoderAlone):
    """After the warm-up, views that come of the encoder's own vectors, in a share of the pairs; no generator.

    Parameters
    ----------
    share
        Share of the views that are such; the others are hand-made.
    """

    def __init__(self, *args: Any, share: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._share = share
        self._is_warm = False

    def train(self) -> None:
        warmup, _, mixed = self._epochs
        for _ in range(warmup):
            self._a_epoch()
        self.learn(torch.nn.functional.normalize(encode(self.encoder, self.data).semantic))
        self._is_warm = True
        for _ in range(mixed):
            self._a_epoch()

    def learn(self, vectors: Tensor) -> None:
        """Read the vectors of all cells, of length 1, shape ``(n_obs, n_semantic)``."""
        raise NotImplementedError

    def own(self, index: Tensor, stream: torch.Generator) -> Tensor:
        """Views of these cells."""
        raise NotImplementedError

    def positives(self, index: Tensor) -> Positives:
        hand_made = self.hand_views(index, self._random["hand"])
        if not self._is_warm:
            return Positives(hand_made, 0)
        stream = self._random["mix"]
        own = self.own(index, stream)
        replace = torch.rand(len(index), 1, generator=stream, device=self.device) < self._share
        return Positives(torch.where(replace, own, hand_made), 0)


class NearMixtures(OwnPartners):
    """Mixtures with neighbours found anew, by the cosine of the vectors."""

    def learn(self, vectors: Tensor) -> None:
        self._near = nearest_neighbors(vectors, self.config.domain.n_neighbors)

    def own(self, index: Tensor, stream: torch.Generator) -> Tensor:
        return neighbor_mixup(self.data, index, self._near, stream)


class ClusterMates(OwnPartners):
    """Any cell of the same Leiden cluster of the vectors: what a perfect generator that is told the cluster would draw.

    Parameters
    ----------
    resolution
        Of Leiden.
    """

    def __init__(self, *args: Any, resolution: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._resolution = resolution

    def learn(self, vectors: Tensor) -> None:
        import scanpy as sc

        cells = AnnData(vectors.cpu().numpy())
        sc.pp.neighbors(cells, n_neighbors=self.config.domain.n_neighbors, use_rep="X", random_state=0)
        sc.tl.leiden(cells, resolution=self._resolution, flavor="igraph", n_iterations=2, random_state=0)
        self.clusters = torch.as_tensor(cells.obs["leiden"].astype(int).to_numpy(), device=self.device)
        self._order = self.clusters.argsort(stable=True)
        self._size = torch.bincount(self.clusters)
        self._begin = self._size.cumsum(0) - self._size

    def own(self, index: Tensor, stream: torch.Generator) -> Tensor:
        code = self.clusters[index]
        share = torch.rand(index.shape, generator=stream, device=self.device)
        place = torch.minimum((share * self._size[code]).long(), self._size[code] - 1)
        return self.data[self._order[self._begin[code] + place]]


class MixedPhase(Trainer):
    """The model's own mixed phase; an arm overrides what is its own.

    Parameters
    ----------
    share
        Share of the views that are generated, as a function of the model's.
    """

    def __init__(self, *args: Any, share: Share = whole, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._share = share
        self.rate = 0.0

    def begin(self, state: dict[str, Any], parts: Parts) -> None:
        """Go to the state with the full bank, and decide on the share of generated views."""
        self.load_state(state)
        self.rate = self._share(self._view_rate * self.trust)

    @property
    def n_epochs(self) -> int:
        return self._epochs[2]

    def train(self) -> None:
        for _ in range(self.n_epochs):
            self._a_epoch()

    def positives(self, index: Tensor) -> Positives:
        hand_made = self.hand_views(index, self._random["hand"])
        return mix_views(hand_made, self.bank, index, self.rate, self._random["mix"])

    def _generated(self, index: Tensor) -> Tensor:
        assert self.bank is not None  # `begin` has loaded it
        return self.bank.draw(index, self._random["mix"])


class SeveralPositives(MixedPhase):
    """Each cell is paired with a hand-made view and with further ones; the losses of the pairs are added with weights.

    Parameters
    ----------
    further
        Kind of each further view.
    weights
        Weights of all pairs, the hand-made view's first, as a function of the model's share of generated views.
    """

    def __init__(
        self,
        *args: Any,
        further: tuple[Literal["hand-made", "generated"], ...],
        weights: Callable[[float], tuple[float, ...]],
        **settings: Any,
    ) -> None:
        super().__init__(*args, share=none, **settings)
        self._further, self._weights_of = further, weights
        self._weights: tuple[float, ...] = ()

    def begin(self, state: dict[str, Any], parts: Parts) -> None:
        super().begin(state, parts)
        self._weights = self._weights_of(self._view_rate * self.trust)
        if len(self._weights) != 1 + len(self._further):
            raise ValueError(f"Expected a weight for each of {1 + len(self._further)} views, found {self._weights}.")
        kinds = ("hand-made", *self._further)
        self.rate = sum(w for w, kind in zip(self._weights, kinds, strict=True) if kind == "generated")

    def positives(self, index: Tensor) -> Positives:
        return Positives(self.hand_views(index, self._random["hand"]), 0)

    def a_step(self, index: Tensor, views: Tensor) -> tuple[Tensor, Encoding, Encoding]:
        further = [
            self._generated(index) if kind == "generated" else self.hand_views(index, self._random["mix"])
            for kind in self._further
        ]
        groups = [self._dropped(x) for x in (self.data[index], views, *further)]
        encoded = self._encoder.net(torch.cat(groups))  # one batch, for batch normalisation
        x, *others = (Encoding(*part) for part in zip(*(v.chunk(len(groups)) for v in encoded), strict=True))
        loss = torch.zeros((), device=self.device)
        for weight, other in zip(self._weights, others, strict=True):
            loss = loss + weight * contrastive_loss(x, other, self.config.loss)
        self._encoder.step(loss)
        return loss.detach(), x, others[0]


class Mixture(MixedPhase):
    """Each view is a uniform point between a generated view and the cell, or its hand-made view.

    Parameters
    ----------
    origin
        Other end of the segment.
    """

    def __init__(self, *args: Any, origin: Literal["cell", "hand-made"], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._origin = origin

    def begin(self, state: dict[str, Any], parts: Parts) -> None:
        super().begin(state, parts)
        self.rate = 1.0  # whatever the trust

    def positives(self, index: Tensor) -> Positives:
        other = self.data[index] if self._origin == "cell" else self.hand_views(index, self._random["hand"])
        generated, stream = self._generated(index), self._random["mix"]
        weight = torch.rand(len(index), *(1,) * (other.ndim - 1), generator=stream, device=self.device)
        return Positives(torch.lerp(other, generated, weight), len(index))


class FreshEncoder(MixedPhase):
    """An encoder with new weights that sees the views from its first step, for the epochs of warm-up and mixed phase."""

    def begin(self, state: dict[str, Any], parts: Parts) -> None:
        super().begin(state, parts)
        with seeded_init(_NEW_WEIGHTS + parts.seed):
            encoder = parts.backend.make_encoder()
        plan = self.config.training
        steps = [self.n_epochs * self.steps_per_epoch]
        fabric = make_fabric("cpu", plan.precision)
        self._member.learner = Learner(fabric, encoder, plan.encoder_lr, plan.weight_decay, steps, plan.lr_schedule)

    @property
    def n_epochs(self) -> int:
        return self._epochs[0] + self._epochs[2]


class PartialNoise(MixedPhase):
    """Views that start from the partly noised cell in place of pure noise, with a trust of their own.

    Parameters
    ----------
    strength
        Share of the noising that the cell goes through before it is denoised.
    """

    def __init__(self, *args: Any, strength: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._strength = strength
        self._n_drawn = 0

    def begin(self, state: dict[str, Any], parts: Parts) -> None:
        super().begin(state, parts)
        self._started = parts.backend
        self._fill()
        self.rate = self._share(self._view_rate * self.trust)

    def draw(self, cond: Tensor, generator: torch.Generator, strata: Tensor | None = None) -> Tensor:
        """As the trainer draws for its bank: all cells in order, ``n_views`` of each; here each starts from its own cell."""
        n_views, event = self.config.training.n_views, tuple(self.data.shape[1:])
        cells = self.data.repeat_interleave(n_views, dim=0)[self._n_drawn : self._n_drawn + len(cond)]
        self._n_drawn += len(cond)
        drawn = draw(
            self.diffusion,
            self.ema.module,
            cond,
            event,
            self.config,
            generator,
            start=self._started.to_generator(cells, generator),
            strength=self._strength,
        )
        return self._started.from_generator(drawn, strata)
