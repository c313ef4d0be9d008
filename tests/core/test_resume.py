"""A training that is cut anywhere and goes on ends as one that was not cut, to the bit."""

from __future__ import annotations

import dataclasses
import io
import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffaug.core.checkpoint import CheckpointFile
from diffaug.core.config import Config, DiffusionConfig, TrainingConfig
from diffaug.core.devices import make_fabric, seeded_init
from diffaug.core.networks import AdaptiveResidualMLP, MLPEncoder
from diffaug.core.plan import EpochRecord
from diffaug.core.resume import ResumableRun
from diffaug.core.training import Trainer

WIDTH, N_OBS = 10, 50
#: Every schedule: records of each are A A B B B fill A A and the like.
PLANS: dict[str, dict[str, Any]] = {
    "alternating": {},
    "two cycles": {"n_cycles": 2, "generator_epochs": 1},
    "joint": {"schedule": "joint"},
    "patience": {"n_cycles": 2, "patience": 1, "encoder_lr": 1e-9, "generator_lr": 1e-9, "mixed_epochs": 3},
    "no views": {"view_rate": 0.0},
    "encoder alone": {"n_cycles": 0},
    "ensemble": {"n_encoders": 3},
    "joint ensemble": {"n_encoders": 2, "schedule": "joint"},
    "ensemble, two cycles": {
        "n_encoders": 2,
        "n_cycles": 2,
        "generator_epochs": 1,
        "warmup_epochs": 1,
        "mixed_epochs": 1,
    },
    "ensemble, swept": {"n_encoders": 2, "generator_epochs": 1, "warmup_epochs": 1},
}


class Scale(nn.Module):
    """What a domain learns of the generator's draws, and brings into its views."""

    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("spread", torch.ones(()))

    def calibrate(self, drawn: Tensor, strata: Tensor | None) -> None:
        self.spread = drawn.std()


def make(
    *, with_twin: bool = True, condition: str = "semantic", change: float = 0.0, **plan: Any
) -> tuple[Trainer, Scale]:
    """A small trainer; ``change`` makes one that differs in everything it could hand over."""
    plan = {
        **{"warmup_epochs": 2, "generator_epochs": 3, "mixed_epochs": 2, "batch_size": 16, "view_rate": 0.5},
        **{
            "n_views": 2,
            "n_encoders": 1,
            "input_dropout": 0.1,
            "encoder_lr": 1e-3,
            "generator_lr": 1e-3,
            "adapt_view_rate": True,
        },
        **plan,
    }
    config = Config(diffusion=DiffusionConfig(n_steps=2, condition=condition), training=TrainingConfig(**plan))  # type: ignore[arg-type]
    x = torch.randn(N_OBS, WIDTH, generator=torch.Generator().manual_seed(5))
    scale = Scale()
    with seeded_init(int(change)):
        encoder, *further = [MLPEncoder(WIDTH, (12,), 9, 5) for _ in range(config.training.n_encoders)]
        denoiser = AdaptiveResidualMLP(WIDTH, 9, width=12, depth=1, dropout=0.3)

    def hand_views(index: Tensor, generator: torch.Generator) -> Tensor:
        return x[index] + 0.1 * torch.randn(len(index), WIDTH, generator=generator)

    trainer = Trainer(
        make_fabric("cpu"),
        encoder,
        denoiser,
        x,
        hand_views,
        config,
        to_generator=lambda v, generator: v + 0.01 * torch.randn(v.shape, generator=generator),
        from_generator=lambda g, strata: g / scale.spread,
        calibrate=scale.calibrate,
        seed=int(change),
        with_twin=with_twin,
        further=further,
    )
    return trainer, scale


def disk(state: Any) -> Any:
    """A state after a way through a file, read without any code of the file's."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def ending(trainer: Trainer, scale: Scale) -> dict[str, Any]:
    """All that a finished trainer holds, and what it draws."""
    state = trainer.state()
    state["conditions"] = trainer.all_conditions()
    state["drawn"] = trainer.draw(state["conditions"][:3], torch.Generator().manual_seed(0))
    state["spread"] = scale.spread.clone()
    return state


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return a == b or (a != a and b != b)


def without_time(records: list[EpochRecord]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(dataclasses.replace(r, seconds=0.0)) for r in records]


def twins_of(trainer: Trainer) -> bool:
    return bool(trainer.config.training.n_cycles and trainer.config.training.view_rate)


def epochs(run: ResumableRun) -> Any:
    """All records of a run and of its twins: of one alternating cycle the loop-off twin and another, else the first alone."""
    yield from run.main()
    if twins_of(run.trainer):
        yield from run.twin(0.0)
        plan = run.trainer.config.training
        if plan.n_cycles == 1 and plan.schedule == "alternating":
            yield from run.twin(0.25)


@pytest.mark.parametrize("plan", PLANS)
def test_cut_anywhere_it_ends_the_same(plan: str) -> None:
    """Cut after each record, in the twins too: histories, weights, optimisers, averages, bank and random numbers."""
    run = ResumableRun(*make(**PLANS[plan]))
    n_records = len(list(epochs(run)))
    expected = ending(run.trainer, run.learnt)  # type: ignore[arg-type]
    first = ResumableRun(*make(**PLANS[plan]))
    kept = [disk(first.state()) for _ in epochs(first)]
    for cut in range(1, n_records + 1):
        second = ResumableRun(*make(**PLANS[plan]), CheckpointFile("unused", 1e9), kept[cut - 1])
        assert repr(second.history) == repr(first.history[:cut])  # with the seconds of before the cut
        rest = list(epochs(second))
        assert len(rest) == n_records - cut
        assert equal(without_time(second.history), without_time(run.history)), cut
        assert equal(ending(second.trainer, second.learnt), expected), cut  # type: ignore[arg-type]
        for rate, twin in run.twins.items():
            assert equal(without_time(second.twins[rate].history), without_time(twin.history)), cut
            found = second.twins[rate].encoder
            assert twin.encoder is not None and found is not None
            assert equal(found.state_dict(), twin.encoder.state_dict()), cut


def test_the_plans_have_what_can_go_wrong() -> None:
    """The test above would be empty on runs without a fill, a cut by patience, or a lambda in between."""
    phases = {}
    for plan in PLANS:
        trainer, _ = make(**PLANS[plan])
        phases[plan] = "".join(r.phase[0] for r in trainer.run())
        if plan == "two cycles":
            assert 0 < trainer.trust < 1
    assert phases["alternating"] == "AABBBfAA"
    assert phases["two cycles"] == "AABfAABfAA"
    assert phases["joint"] == "jjfjj"
    assert phases["no views"] == "AABBBAA"
    assert phases["encoder alone"] == "AAAA"
    assert phases["ensemble"] == "AA" * 3 + "BBB" + "fAA" * 3
    assert phases["joint ensemble"] == "jjfjj" + "AAfAA"
    assert phases["ensemble, two cycles"] == "AA" + "BfAfA" * 2
    assert phases["ensemble, swept"] == "AA" + "B" + "fAA" * 2
    assert phases["patience"].count("f") == 2
    assert len(phases["patience"]) < 2 + 2 * (3 + 1 + 3)  # some phases ended early


@pytest.mark.parametrize(
    ("part", "cut"),
    [
        ("encoders", 1),
        ("denoiser", 3),
        ("ema", 3),
        ("condition_encoder", 6),
        ("bank", 6),
        ("trust", 6),
        ("random", 1),
        ("place", 4),
        ("n_mixed", 7),
        ("warm", 7),
        ("twin", 9),
    ],
)
def test_every_part_of_the_state_is_needed(part: str, cut: int) -> None:
    """Negative control: with one part of another trainer's the end is another, or there is none."""
    run = ResumableRun(*make())
    list(epochs(run))
    expected = [ending(run.trainer, run.learnt), without_time(run.twins[0.0].history)]  # type: ignore[arg-type]
    first = ResumableRun(*make())
    for _ in itertools.islice(epochs(first), cut):
        kept = disk(first.state())
    fresh = make(change=1)[0].state()
    if part in ("n_mixed", "warm"):
        kept["trainer"]["encoders"][0][part] = fresh["encoders"][0][part]
    else:
        kept["trainer"][part] = None if part in ("bank", "twin") else 0.5 if part == "trust" else fresh[part]
    second = ResumableRun(*make(), CheckpointFile("unused", 1e9), kept)
    try:
        list(epochs(second))
    except (RuntimeError, ValueError) as error:
        why = {"warm": "Expected a finished `run`", "bank": "Expected a model of one alternating cycle with views"}
        assert why[part] in str(error)
        return
    found = [ending(second.trainer, second.learnt), without_time(second.twins[0.0].history)]  # type: ignore[arg-type]
    assert not equal(found, expected)


def test_what_was_calibrated_is_needed() -> None:
    first = ResumableRun(*make())
    for _ in itertools.islice(epochs(first), 6):
        kept = first.state()
    run = ResumableRun(*make())
    list(epochs(run))
    kept["learnt"] = {"spread": torch.ones(())}
    second = ResumableRun(*make(), CheckpointFile("unused", 1e9), kept)
    list(epochs(second))
    assert not equal(ending(second.trainer, second.learnt), ending(run.trainer, run.learnt))  # type: ignore[arg-type]


def test_patience_goes_on_waiting() -> None:
    """Two epochs without progress before the cut count after it."""
    plan = {"patience": 3, "warmup_epochs": 50, "mixed_epochs": 0, "n_cycles": 0, "encoder_lr": 1e-30}

    def plateau(trainer: Trainer) -> Trainer:
        trainer._a_epoch = lambda: EpochRecord("A", 0, 0, encoder_loss=1.0)  # type: ignore[method-assign]
        return trainer

    first, second = plateau(make(**plan)[0]), plateau(make(**plan)[0])
    for _ in itertools.islice(first.run(), 3):
        state = first.state()
    second.load_state(disk(state))
    assert len(list(second.run())) == 1
    assert len(list(plateau(make(**plan)[0]).run())) == 4


def test_a_state_is_a_snapshot() -> None:
    """Training on does not move a state that was taken before."""
    trainer, _ = make()
    records = trainer.run()
    for _ in range(7):
        next(records)
    state = trainer.state()
    before = disk(state)
    list(records)
    assert equal(state, before)


def test_conditions_can_be_asked_for_again() -> None:
    """Random ones too (ablation A2): a resumption asks for them a second time."""
    trainer, _ = make(condition="noise")
    list(trainer.run())
    first = trainer.all_conditions()
    assert torch.equal(first, trainer.all_conditions())
    assert not torch.equal(first, make(condition="noise", change=1)[0].all_conditions())


def test_another_twin_does_not_go_on_from_the_one_in_training() -> None:
    first, second = make()[0], make()[0]
    list(first.run())
    twin = first.run_twin(0.25)
    next(twin)
    second.load_state(disk(first.state()))
    with pytest.raises(
        ValueError, match=r"Expected view_rate=0\.25, which the loaded state is in the middle of, found 0"
    ):
        next(second.run_twin(0.0))
    assert len(list(second.run_twin(0.25))) == 1
    assert len(list(second.run_twin(0.0))) == 2


def test_a_finished_run_is_not_trained_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, settings = tmp_path / "run.ckpt", {"run": {"a": 1}, "made_with": {}}
    first = CheckpointFile(path)
    assert first.open(**settings) is None
    run = ResumableRun(*make(), first)
    list(epochs(run))
    assert not path.exists()  # ten minutes have not passed
    run.finish()
    written = path.read_bytes()
    second = CheckpointFile(path)
    with caplog.at_level(logging.INFO, logger="diffaug"):
        again = ResumableRun(*make(), second, second.open(**settings))
    assert "7 epochs are done, and 4 of twins" in caplog.text
    assert list(epochs(again)) == []
    assert repr(again.history) == repr(run.history)
    again.finish()
    assert path.read_bytes() == written  # there was nothing new to write
    assert again.trainer.bank is None  # and the file is not as large as the views


def test_state_of_other_networks_is_refused(tmp_path: Path) -> None:
    """As from a version of diffaug with other layers: the settings are the same, the weights are not."""
    run = ResumableRun(*make())
    next(run.main())
    state = run.state()
    state["trainer"]["ema"]["module"].popitem()
    with pytest.raises(
        ValueError, match=r"Expected a state of this version of diffaug in '.*run', found another: .*delete"
    ):
        ResumableRun(*make(), CheckpointFile(tmp_path / "run"), state)
    with pytest.raises(ValueError, match="Expected a state of this version of diffaug"):
        ResumableRun(*make(), CheckpointFile(tmp_path / "run"), {"history": []})
