"""Devices, denormals and random streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from diffaug import DiffAug
from diffaug.core.devices import (
    device_name,
    flushed_denormals,
    make_fabric,
    random_streams,
    respected_threads,
    seeded_init,
    tuned_cpu,
)

CPU = torch.device("cpu")


def denormals_survive() -> bool:
    """Half the smallest normal float32 is a denormal; times two it is that number again, unless it was flushed."""
    half = torch.full((4,), torch.finfo(torch.float32).tiny) / 2
    return bool((half * 2 > 0).all())


def test_denormals_are_flushed_inside_only() -> None:
    assert denormals_survive()
    with flushed_denormals():
        assert not denormals_survive()
        with flushed_denormals():
            assert not denormals_survive()
        assert not denormals_survive()  # the inner block does not end the outer one
    assert denormals_survive()


def test_denormals_are_restored_to_what_the_caller_had() -> None:
    torch.set_flush_denormal(True)
    try:
        with flushed_denormals():
            assert not denormals_survive()
        assert not denormals_survive()
    finally:
        torch.set_flush_denormal(False)
    assert denormals_survive()


def test_denormals_are_restored_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="on purpose"), flushed_denormals():
        raise RuntimeError("on purpose")
    assert denormals_survive()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As after a parallel numba function, which sets the threads of the whole process."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("asked", "inside"), [("1", 1), ("3", 3), ("0", 2), ("-1", 2), ("many", 2), ("", 2), (None, 2)]
)
@pytest.mark.parametrize("context", [respected_threads, tuned_cpu])
def test_threads_that_the_user_asked_for(
    two_threads: None, monkeypatch: pytest.MonkeyPatch, context: Callable, asked: str | None, inside: int
) -> None:
    if asked is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    with pytest.raises(RuntimeError, match="on purpose"), context():
        assert torch.get_num_threads() == inside
        raise RuntimeError("on purpose")
    assert torch.get_num_threads() == 2


def test_tuned_cpu_flushes_denormals() -> None:
    with tuned_cpu():
        assert not denormals_survive()
    assert denormals_survive()


def test_streams_are_reproducible_and_apart() -> None:
    def numbers(seed: int, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
        return {k: torch.randn(1000, generator=g) for k, g in random_streams(seed, names, CPU).items()}

    first, again, other = numbers(0, ("a", "b", "c")), numbers(0, ("a", "b", "c")), numbers(1, ("a", "b", "c"))
    for k in "abc":
        assert torch.equal(first[k], again[k])
        assert not torch.equal(first[k], other[k])
    together = torch.stack([*first.values(), *other.values()])
    correlation = torch.corrcoef(together) - torch.eye(6)
    assert correlation.abs().max() < 0.15  # 4.7 standard deviations of 1 / sqrt(1000)


def test_a_new_last_stream_leaves_the_others_alone() -> None:
    short, long = random_streams(5, ("a", "b"), CPU), random_streams(5, ("a", "b", "c"), CPU)
    for k in "ab":
        assert torch.equal(torch.rand(10, generator=short[k]), torch.rand(10, generator=long[k]))


def test_streams_leave_global_state_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    torch.rand(5, generator=random_streams(0, ("a",), CPU)["a"])
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_seeded_init() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    weights = []
    for seed in (0, 0, 1, 2**70 + 7):  # torch itself takes 64 bits only
        with seeded_init(seed):
            weights.append(torch.nn.Linear(5, 5).weight.detach().clone())
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_seeded_init_is_restored_after_an_error() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="on purpose"), seeded_init(4):
        raise RuntimeError("on purpose")
    assert torch.equal(before, torch.get_rng_state())


def test_seeded_init_reseeds_no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.manual_seed`` would: on a machine with a GPU the caller's random numbers there would start anew."""

    def forbidden(seed: int) -> None:
        raise AssertionError("the GPU's generators were seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", forbidden)
    with pytest.raises(AssertionError, match="the GPU's"):
        torch.manual_seed(0)  # the control
    with seeded_init(0):
        pass


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_fabric(name: str) -> None:
    device = make_fabric(name).device
    assert torch.zeros(1, device=device).device.type == device.type
    if name == "cpu":
        assert device == CPU
    assert make_fabric(str(device)).device == device


def test_apples_device_is_known_by_the_name_that_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("lightning_fabric.accelerators.mps.MPSAccelerator.is_available", lambda: True)
    device = make_fabric("mps").device
    assert make_fabric(str(device)).device == device == torch.device("mps", 0)


@pytest.mark.parametrize("name", ["gpu", "tpu", "", "cuda:x", "cpu:1", "mps:1", "mps:x", "cuda:-1", 0, None, ["cpu"]])
def test_unknown_device(name: object) -> None:
    with pytest.raises(ValueError, match=r"Expected `device` 'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps', found"):
        make_fabric(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "mps:0"])
def test_absent_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=rf"for device='{name}', found none on this machine. Use 'auto' or 'cpu'"):
        make_fabric(name)


def test_device_number_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"Expected `device` below cuda:2, found 'cuda:2'"):
        make_fabric("cuda:2")


def test_slow_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.raises(ValueError, match="fast bfloat16 products for precision='bf16-mixed', found a CPU without them"):
        make_fabric("cpu", "bf16-mixed")
    with pytest.raises(ValueError, match="fast bfloat16 products"):
        DiffAug({"training": {"precision": "bf16-mixed"}}, device="cpu").fit(np.random.rand(30, 5), progress=False)


def test_bfloat16_changes_the_training_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the products are fast; here the check is lifted, because a tiny fit can bear slow ones."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    tiny = {"warmup_epochs": 3, "generator_epochs": 3, "mixed_epochs": 3, "batch_size": 20}
    found = {
        precision: DiffAug({"training": {**tiny, "precision": precision}}, device="cpu").fit(x, progress=False)
        for precision in ("32-true", "bf16-mixed")
    }
    full, half = (found[p].embed(x).semantic for p in ("32-true", "bf16-mixed"))
    assert half.dtype == np.float32 and np.isfinite(half).all()
    assert not np.array_equal(full, half)
    assert np.corrcoef(full.ravel(), half.ravel())[0, 1] > 0.9
    assert {p.dtype for p in found["bf16-mixed"]._denoiser.parameters()} == {torch.float32}


def test_the_name_of_a_device_is_the_cards_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: asked.append(device) or "NVIDIA H200")
    assert device_name(torch.device("cpu")) == "cpu" and not asked
    assert device_name(torch.device("cuda:1")) == "NVIDIA H200" and asked == [torch.device("cuda:1")]
