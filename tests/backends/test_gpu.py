"""What a first fit on a GPU must not stumble over, on machines without one: see ``pretend_device.py`` beside this file."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffaug import DiffAug
from diffaug.backends import available_backends
from diffaug.backends._cell_views import thin_counts
from diffaug.backends._hyena import causal_convolution
from diffaug.backends.cells import CellsBackend, CellsConfig
from diffaug.baselines import METHODS, VIEW_GENERATORS, Baseline, ViewGenerator
from diffaug.core.checkpoint import CheckpointFile
from diffaug.core.diffusion import GaussianDiffusion
from diffaug.core.schedules import NoiseSchedule
from diffaug.core.timebox import OutOfTime
from diffaug.core.views import drop_features

N = 24
Case = Any  # the dataclass of conftest.py, which is no module to import from
TINY = {
    "training": {
        "n_encoders": 1,
        "warmup_epochs": 1,
        "generator_epochs": 1,
        "mixed_epochs": 1,
        "batch_size": 12,
        "n_views": 1,
    }
}


def load_helper() -> ModuleType:
    name = "diffaug_pretend_device"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("pretend_device.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


pretended = load_helper().pretended


def settings(case: Case, **domain: Any) -> dict[str, dict[str, Any]]:
    training = {**case.config["training"], **TINY["training"]}
    return {**case.config, "training": training, "domain": {**case.config["domain"], **domain}}


# --- the pretended device itself: what must not pass -----------------------------------------------------------------


def test_it_refuses_what_a_real_one_refuses() -> None:
    with pretended() as device:
        x, there = torch.ones(3, device="cuda"), torch.arange(2, device="cuda")
        generator = torch.Generator("cuda").manual_seed(0)
        for wrong in (
            lambda: x + torch.ones(3),
            lambda: torch.cat([x, torch.ones(3)]),
            lambda: nn.Linear(3, 2)(x),
            lambda: nn.functional.mse_loss(torch.ones(3), x),
            lambda: torch.ones(3).add_(x),
            lambda: torch.where(torch.ones(3, dtype=torch.bool), x, 0.0),
        ):
            with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cpu"):
                wrong()
        with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"):
            torch.ones(3)[there]
        with pytest.raises(RuntimeError, match="Expected the values on the same device"):
            x[there] = torch.ones(2)
        with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
            torch.rand(3, generator=torch.Generator(), device="cuda")
        with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator but found 'cuda'"):
            torch.randperm(3, generator=generator)
        with pytest.raises(RuntimeError, match="Unsupported dtype BFloat16"):
            torch.fft.rfft(x.bfloat16())
        with pytest.raises(RuntimeError, match="not supported"):
            x.numpy()
        # The controls: what a real one takes.
        assert float((x + torch.tensor(1.0)).sum()) == 6 and x[torch.tensor([0])].device.type == "cuda"
        assert torch.rand(3, generator=generator, device="cuda").device == device.device
    with pretended("mps:0"), pytest.raises(TypeError, match="MPS doesn't support float64"):
        torch.ones(2, device="mps").double()


def test_it_counts_what_makes_the_host_wait() -> None:
    with pretended() as device:
        x = torch.ones(4, device="cuda")
        ((x * 2).sum() + x[1:].cumsum(0).amax()).sqrt_()
        assert device.waits == Counter({})
        float(x[0]), bool((x > 0).all()), x[x > 0], x.cpu(), x[[0, 1]], x.nonzero(), torch.ones(2).to("cuda:0")
        assert device.waits == Counter(
            {
                "_local_scalar_dense": 2,
                "a mask as an index": 1,
                "from the device": 1,
                "an index to the device": 1,
                "nonzero": 1,
                "to the device": 1,
            }
        )


def test_a_forgotten_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of all that follows: numbers of the CPU in one step of the training."""
    module = sys.modules["diffaug.core.training"]
    x = np.random.default_rng(0).normal(size=(N, 6)).astype(np.float32)

    def fit() -> None:
        DiffAug({**TINY, "domain": {"encoder_hidden": [4]}}, device="cuda").fit(x, progress=False)

    monkeypatch.setattr(module, "drop_features", lambda x, rate, generator: x * (torch.rand(x.shape) >= rate))
    with pretended(), pytest.raises(RuntimeError, match="at least two devices"):
        fit()
    monkeypatch.setattr(module, "drop_features", drop_features)
    monkeypatch.setattr(GaussianDiffusion, "_tables", lambda self, device: (torch.ones(1000), torch.ones(1000)))
    with pretended(), pytest.raises(RuntimeError, match="indices should be either on cpu"):
        fit()


# --- whole fits ------------------------------------------------------------------------------------------------------


def made_by(model: DiffAug, x: np.ndarray) -> dict[str, np.ndarray]:
    """All that a model makes."""
    kinds = {kind: model.augment(x[:5], 2, kind=kind) for kind in ("diffaug", *model.backend.view_kinds)}
    return {
        **kinds,
        "near": model.augment(x[:3], strength=0.5),
        "generated": model.generate(4).values,
        "semantic": model.embed(x).semantic,
        "latent": model.embed(x).latent,
        "overlap": model.split_half_overlap(x, k=3, n_splits=1),
    }


@pytest.mark.parametrize("backend", available_backends())
def test_a_fit_on_the_device_is_that_on_the_cpu(backend: str, case: Case, tmp_path: Path) -> None:
    """To the bit, as the CPU computes for both: nothing is computed elsewhere or otherwise because of the device.

    For convolutions and transforms torch itself has other formulas off the CPU; there rounding may differ, and what
    follows of it in training. Hand-made views are the same even there.
    """
    if backend == "vision":
        pytest.importorskip("kornia", reason="needs kornia for the views of images")
    x = case.make(N, 0)

    def fitted(device: str) -> tuple[DiffAug, dict[str, np.ndarray]]:
        config = {**settings(case), "diffusion": {"n_steps": 2, "guidance_scale": 1.5, "condition_dropout": 0.2}}
        with sdpa_kernel(SDPBackend.MATH):
            model = DiffAug(config, backend=backend, device=device).fit(x, twin=True, progress=False)
            return model, made_by(model, x)

    with pretended() as device:
        model, made = fitted("cuda")
        assert {t.device for t in model._tensors().values()} == {device.device}
        model.save(tmp_path / "model")
        loaded = DiffAug.load(tmp_path / "model", device="cuda")
        assert {t.device for t in loaded._tensors().values()} == {device.device}
        np.testing.assert_array_equal(loaded.embed(x).semantic, made["semantic"])
        fingerprint = model.fingerprint
    on_cpu, expected = fitted("cpu")
    by_vectors = backend in ("cells", "toy")
    assert (fingerprint == on_cpu.fingerprint) is by_vectors
    for mine, its in zip(model.history, on_cpu.history, strict=True):
        for loss in ("encoder_loss", "generator_loss", "semantic_cosine"):
            assert getattr(mine, loss) == pytest.approx(getattr(its, loss), rel=1e-2, nan_ok=True), loss
    for name, values in expected.items():
        if by_vectors or name in model.backend.view_kinds:
            np.testing.assert_array_equal(made[name], values, err_msg=name)
        else:
            assert made[name].shape == values.shape
            assert np.abs(made[name] - values).mean() < 0.05 * np.ptp(values), name


@pytest.mark.parametrize("backend", available_backends())
def test_steps_do_not_wait_for_the_device(backend: str, case: Case) -> None:
    """A fit of twice as many steps in as many epochs waits no oftener; nor does a sampler of twice as many."""
    domain = {"views": "mixup"} if backend == "vision" else {}  # kornia waits in each of its steps

    def waits(batch_size: int, n_steps: int) -> Counter[str]:
        config = settings(case, **domain)
        config["training"]["batch_size"] = batch_size
        with pretended() as device:
            DiffAug(
                {**config, "diffusion": {"n_steps": n_steps}}, backend=backend, device="cuda"
            ).fit(case.make(N, 0), progress=False)  # fmt: skip
        return device.waits

    assert waits(6, 4) == waits(12, 2)


@pytest.mark.parametrize("kind", CellsBackend.view_kinds)
def test_views_of_cells_do_not_wait_for_the_device(kind: str, case_of_cells: np.ndarray) -> None:
    backend = CellsBackend(CellsConfig(n_neighbors=3), (case_of_cells.shape[1],))
    backend.prepare(case_of_cells)
    with pretended() as device:
        data = backend.to_model(case_of_cells).to("cuda:0")
        views = backend.to("cuda:0").hand_views(data, kind=kind)
        index, generator = torch.arange(9, device="cuda"), torch.Generator("cuda").manual_seed(0)
        device.waits.clear()
        assert views(index, generator).device == device.device
        assert device.waits == Counter()


@pytest.fixture
def case_of_cells() -> np.ndarray:
    return np.log1p(np.random.default_rng(0).poisson(1.5, size=(N, 15))).astype(np.float32)


def test_a_training_goes_on_where_it_was_cut(case_of_cells: np.ndarray, tmp_path: Path) -> None:
    """The optimiser, the streams, the bank and the twin's start come from a file, and go to the device."""

    def fit(**cut: Any) -> DiffAug:
        file = CheckpointFile(tmp_path / "run.pt", 0, **cut)
        config = {**TINY, "domain": {"encoder_hidden": [4], "generator_width": 8, "generator_depth": 1}}
        return DiffAug(config, device="cuda").fit(case_of_cells, twin=True, checkpoint=file, progress=False)

    with pretended():
        whole = fit()
        expected = whole.fingerprint, whole.twin.fingerprint  # type: ignore[union-attr]
        (tmp_path / "run.pt").unlink()
        for _ in range(5):  # warm-up, B, fill, mixed, twin
            with pytest.raises(OutOfTime):
                fit(until=time.monotonic())
        pieces = fit()
        assert (pieces.fingerprint, pieces.twin.fingerprint) == expected  # type: ignore[union-attr]


@pytest.mark.parametrize("method", METHODS)
def test_baselines_on_the_device(method: str, case_of_cells: np.ndarray) -> None:
    config = {**TINY, "domain": {"encoder_hidden": [8], "n_semantic": 6, "n_latent": 5, "n_neighbors": 3}}
    generated = np.stack([case_of_cells] * 2, axis=1)

    def fit(device: str, batch_size: int) -> Baseline:
        plan = {**TINY["training"], "batch_size": batch_size}
        model = Baseline(method, {**config, "training": plan}, augment_both=True, device=device)
        return model.fit(case_of_cells, generated=generated, progress=False)

    waits = []
    for batch_size in (6, 12):
        with pretended() as device:
            model = fit("cuda", batch_size)
            assert {p.device for p in model._encoder.parameters()} == {device.device}
            waits.append(Counter(device.waits))
            semantic = model.embed(case_of_cells).semantic
        np.testing.assert_array_equal(semantic, fit("cpu", batch_size).embed(case_of_cells).semantic)
    assert waits[0] == waits[1]


@pytest.mark.parametrize("kind", VIEW_GENERATORS)
@pytest.mark.parametrize("backend", ["cells", "dna"])
def test_view_generators_on_the_device(kind: str, backend: str, case: Case) -> None:
    x = case.make(N, 0)

    def made(device: str) -> np.ndarray:
        model = ViewGenerator(kind, settings(case), settings={"width": 4}, backend=backend, device=device)
        return model.fit(x, progress=False).augment(x, 2)

    with pretended() as device:
        found = made("cuda")
        assert device.seen["_fused_adamw_"] == {torch.float32}
    expected = made("cpu")
    # Of letters a few may turn out otherwise: convolutions round otherwise off the CPU.
    assert (found != expected).mean() <= (0.1 if backend == "dna" else 0)


# --- bfloat16 --------------------------------------------------------------------------------------------------------


class Dtypes(TorchDispatchMode):
    """Which types of numbers go into and come out of each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        found = {x.dtype for x in tree_leaves((args, out)) if isinstance(x, torch.Tensor)}
        self.seen.setdefault(func._schema.name.removeprefix("aten::"), set()).update(found)
        return out


@pytest.fixture
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's rules of mixed precision; tiny fits can bear slow products."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)


def half(seen: dict[str, set[torch.dtype]]) -> set[str]:
    return {name for name, dtypes in seen.items() if torch.bfloat16 in dtypes}


@pytest.mark.parametrize("backend", available_backends())
def test_a_fit_in_bfloat16(backend: str, case: Case, fast_bfloat16: None) -> None:
    """The networks' products are in bfloat16; losses, weights, Fourier transforms and what comes out are not."""
    config = settings(case, **({"views": "mixup"} if backend == "vision" else {}))
    config["training"]["precision"] = "bf16-mixed"
    x = case.make(N, 0)
    with Dtypes() as mode:
        model = DiffAug(config, backend=backend, device="cpu").fit(x, progress=False)
    assert {"addmm", "mm"} & half(mode.seen)  # the control
    for name in ("_log_softmax", "mse_loss", "_fused_adamw_", "_foreach_lerp_"):
        assert name in mode.seen and name not in half(mode.seen)
    assert ("_fft_r2c" in mode.seen) is (backend == "dna")
    assert not {name for name in half(mode.seen) if "fft" in name or "cdist" in name}
    assert torch.bfloat16 not in {t.dtype for t in model._tensors().values()}
    assert all(np.isfinite(values).all() for values in (*model.embed(x), model.augment(x[:3])))


@pytest.mark.parametrize("method", METHODS)
def test_baselines_in_bfloat16(method: str, case_of_cells: np.ndarray, fast_bfloat16: None) -> None:
    """Queue, centre, targets and losses stay in float32."""
    config = {"training": {**TINY["training"], "precision": "bf16-mixed"}, "domain": {"encoder_hidden": [8]}}
    with Dtypes() as mode:
        model = Baseline(method, config, device="cpu").fit(case_of_cells, progress=False)
    assert {"addmm", "mm"} & half(mode.seen)
    assert not {"_log_softmax", "_fused_adamw_", "_foreach_lerp_", "_euclidean_dist", "_cdist_forward"} & half(
        mode.seen
    )
    assert np.isfinite(model.embed(case_of_cells).semantic).all()


def test_the_convolution_of_dna_takes_bfloat16() -> None:
    """No Fourier transform takes it, which is the control; on a GPU mixed precision does not cast for them."""
    u, filters = torch.randn(2, 3, 9), torch.randn(3, 9)
    with pretended() as device:
        found = causal_convolution(u.bfloat16().to("cuda:0"), filters.bfloat16().to("cuda:0"))
        assert found.dtype == torch.bfloat16
        assert torch.bfloat16 not in device.seen["_fft_r2c"] | device.seen["_fft_c2r"]
        with pytest.raises(RuntimeError, match="Unsupported dtype BFloat16"):
            torch.fft.rfft(u.bfloat16().to("cuda:0"))


# --- Apple's devices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", available_backends())
def test_no_float64_on_mps(backend: str, case: Case) -> None:
    domain = {"views": "mixup"} if backend == "vision" else {}
    x = case.make(N, 0)
    with pretended("mps:0") as device:
        model = DiffAug(settings(case, **domain), backend=backend, device="mps").fit(x, progress=False)
        assert {t.device for t in model._tensors().values()} == {device.device}
        assert np.isfinite(model.augment(x[:3])).all()


def test_depths_of_cells_are_read_on_mps() -> None:
    rng = np.random.default_rng(0)
    depth = np.where(np.arange(420) % 2, 30.0, 300.0)[:, None]
    counts = rng.poisson(depth * rng.dirichlet(np.ones(30)))
    x = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    backend = CellsBackend(CellsConfig(), (30,))
    backend.prepare(x)
    data = backend.to_model(x)
    expected = backend.strata(data)
    assert expected is not None and len(expected.unique()) > 1
    with pretended("mps:0"):
        found = backend.to("mps:0").strata(data.to("mps:0"))
        assert found is not None and torch.equal(found.cpu(), expected)


def test_counts_are_thinned_on_mps() -> None:
    """The CPU draws, from a seed of the device's stream; the control is the draw there."""
    with pretended("mps:0") as device:
        counts, units = torch.full((50, 40), 8.0, device="mps:0"), torch.full((50,), 2.0, device="mps:0")
        with pytest.raises(NotImplementedError, match="binomial"):
            torch.binomial(counts, counts / 16)
        stream = torch.Generator("mps").manual_seed(0)
        first, second = (thin_counts(counts, units, 0.5, stream) for _ in range(2))
        again = thin_counts(counts, units, 0.5, torch.Generator("mps").manual_seed(0))
        assert first.device == device.device
        first, second, again = first.cpu(), second.cpu(), again.cpu()
    assert torch.equal(first, again) and not torch.equal(first, second)
    # Values are 0, 4, .., 16: four counts of 2, each kept or not, divided by what is kept on average.
    assert set(first.unique().tolist()) == {0.0, 4.0, 8.0, 12.0, 16.0}
    assert abs(float(first.mean()) - 8) < 0.45  # five standard errors of 4 / sqrt(2000)


def test_coefficients_of_a_sampler_are_those_of_the_cpu() -> None:
    """In float64 where there is float64: the host does not wait, and a sampler's bits stay what they were."""
    diffusion, t = GaussianDiffusion(NoiseSchedule("cosine", 50)), torch.full((1,), 17.3)
    expected = diffusion.coefficients(t, torch.ones(2, 3))
    for name in ("cuda:0", "mps:0"):
        with pretended(name) as device:
            t_there, like = torch.full((1,), 17.3, device=name), torch.ones(2, 3, device=name)
            diffusion.coefficients(t_there, like)  # the table goes to the device once
            device.waits.clear()
            found = diffusion.coefficients(t_there, like)
            assert (sum(device.waits.values()) == 0) is (name != "mps:0")
            assert all(
                a.device == device.device and torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True)
            )
