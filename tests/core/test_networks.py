"""Structure of the networks, and that time and condition reach their output."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from diffaug.core.networks import AdaptiveResidualMLP, BottleneckMLP, Listing2, MLPEncoder, time_features

DENOISERS: dict[str, Callable[[int, int], nn.Module]] = {
    "adaptive": lambda n_features, n_cond: AdaptiveResidualMLP(n_features, n_cond, width=32, depth=2),
    "listing2": lambda n_features, n_cond: Listing2(n_features, n_cond, width=40),
    "bottleneck": lambda n_features, n_cond: BottleneckMLP(n_features, n_cond, hidden=(30, 12, 30)),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)  # layers take no generator


def make(name: str, n_features: int = 9, n_cond: int = 8, *, perturbed: bool = True) -> nn.Module:
    """A denoiser; ``perturbed`` moves it away from the layers that start at zero."""
    net = DENOISERS[name](n_features, n_cond)
    if perturbed:
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return net


def linear_shapes(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


# --- encoder ----------------------------------------------------------------------------------------------------------


def test_encoder_has_the_papers_widths() -> None:
    encoder = MLPEncoder(1457)
    assert linear_shapes(encoder.body) == [(1457, 500), (500, 300), (300, 80)]
    assert linear_shapes(encoder.head) == [(80, 80), (80, 128)]
    encoding = encoder(torch.randn(6, 1457))
    assert encoding.semantic.shape == (6, 80) and encoding.latent.shape == (6, 128)


def test_encoder_widths_are_settings_and_latent_is_a_function_of_semantic() -> None:
    encoder = MLPEncoder(12, hidden=(7,), n_semantic=5, n_latent=2).eval()
    assert linear_shapes(encoder) == [(12, 7), (7, 5), (5, 5), (5, 2)]
    encoding = encoder(torch.randn(6, 12))
    assert encoding.semantic.shape == (6, 5) and encoding.latent.shape == (6, 2)
    assert torch.equal(encoder.head(encoding.semantic), encoding.latent)


def test_encoder_normalises_by_the_batch_in_training_only() -> None:
    encoder = MLPEncoder(12, hidden=(7, 6), n_semantic=5, n_latent=3)
    x, other = torch.randn(20, 12), 3 * torch.randn(20, 12) + 1

    encoder.train()
    alone, together = encoder(x).semantic, encoder(torch.cat([x, other])).semantic[:20]
    assert (alone - together).abs().max() > 0.05  # why originals and views go through it in one batch
    encoder.eval()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    torch.testing.assert_close(encoder(x).semantic, encoder(torch.cat([x, other])).semantic[:20])
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())  # no statistics move

    encoder.train()
    encoder(other)
    moved = {k for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and all("running" in k or "num_batches" in k for k in moved)


def test_encoder_clips_outlying_features() -> None:
    encoder = MLPEncoder(12, hidden=(7,), n_semantic=5, n_latent=2, max_value=3.0).eval()
    x = 10 * torch.randn(20, 12)
    assert (x.abs() > 3).any() and (x.abs() < 3).any()
    clipped = encoder(x.clamp(-3, 3)).semantic
    torch.testing.assert_close(encoder(x).semantic, clipped)
    assert (encoder(x.clamp(-2, 2)).semantic - clipped).abs().max() > 1e-3  # and no more than that


def test_the_linear_path_adds_an_orthogonal_map_and_moves_nothing_else() -> None:
    def made(path: bool) -> MLPEncoder:
        torch.manual_seed(0)
        return MLPEncoder(12, hidden=(7,), n_semantic=5, n_latent=2, max_value=3.0, linear_path=path).eval()

    plain, with_path = made(False), made(True)
    assert set(with_path.state_dict()) - set(plain.state_dict()) == {"path.weight"}
    assert all(torch.equal(v, with_path.state_dict()[k]) for k, v in plain.state_dict().items())
    weight = with_path.path.weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(5))
    x = 10 * torch.randn(20, 12)
    added = with_path(x).semantic - plain(x).semantic
    torch.testing.assert_close(added, x.clamp(-3, 3) @ weight.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(with_path(x).latent, with_path.head(with_path(x).semantic))


# --- time -------------------------------------------------------------------------------------------------------------


def test_time_features_are_sinusoids() -> None:
    t = torch.tensor([0.0, 1.0, 17.5, 999.0])
    found = time_features(t, 8)
    for i, value in enumerate(t.tolist()):
        frequencies = [10_000 ** (-j / 4) for j in range(4)]
        expected = [math.cos(value * f) for f in frequencies] + [math.sin(value * f) for f in frequencies]
        assert found[i].tolist() == pytest.approx(expected, abs=1e-4)


def test_every_time_has_features_of_its_own() -> None:
    features = time_features(torch.arange(1000), 128)
    assert torch.pdist(features).min() > 0.1
    torch.testing.assert_close(features, time_features(torch.arange(1000.0), 128))  # integer or not


# --- denoisers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENOISERS)
def test_denoiser_returns_the_shape_of_the_event(name: str) -> None:
    net = make(name)
    assert net(torch.randn(5, 9), torch.arange(5), torch.randn(5, 8)).shape == (5, 9)
    assert net(torch.randn(1, 9), torch.tensor([3.7]), torch.randn(1, 8)).shape == (1, 9)


@pytest.mark.parametrize("name", DENOISERS)
def test_event_time_and_condition_change_the_output(name: str) -> None:
    """Each alone; and rows of a batch do not change each other."""
    net = make(name)
    x, t, cond = torch.randn(5, 9), torch.full((5,), 10), torch.randn(5, 8)
    base = net(x, t, cond)
    for changed in (net(x + 1, t, cond), net(x, t + 1, cond), net(x, t, torch.randn(5, 8)), net(x, t, 0 * cond)):
        assert ((changed - base).abs().amax(dim=1) > 1e-3).all()
    other = cond.clone()
    other[0] = torch.randn(8)
    torch.testing.assert_close(net(x, t, other)[1:], base[1:])


@pytest.mark.parametrize("name", DENOISERS)
def test_one_time_serves_the_whole_batch(name: str) -> None:
    """What samplers hand over, shape (1,), is the same time in every row."""
    net = make(name)
    x, cond = torch.randn(5, 9), torch.randn(5, 8)
    torch.testing.assert_close(net(x, torch.tensor([3.7]), cond), net(x, torch.full((5,), 3.7), cond))


@pytest.mark.parametrize("name", DENOISERS)
def test_all_weights_are_trained(name: str) -> None:
    net = make(name)
    net(torch.randn(16, 9), torch.arange(16), torch.randn(16, 8)).square().sum().backward()
    for key, p in net.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", DENOISERS)
def test_condition_has_a_fixed_scale_and_zero_is_the_null_condition(name: str) -> None:
    """Whatever the scale of y, the same output; but the zero vector stays zero: no other condition looks like it."""
    net = make(name)
    x, t, cond = torch.randn(5, 9), torch.arange(5), torch.randn(5, 8)
    torch.testing.assert_close(net(x, t, 1000 * cond), net(x, t, cond), rtol=1e-4, atol=1e-4)

    seen: list[Tensor] = []
    first = net.cond[0] if isinstance(net.cond, nn.Sequential | nn.ModuleList) else None
    assert isinstance(first, nn.Linear)
    first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    net(x, t, torch.zeros(5, 8))
    net(x, t, cond)
    assert torch.equal(seen[0], torch.zeros(5, 8))
    torch.testing.assert_close(seen[1].square().mean(dim=1), torch.ones(5), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", DENOISERS)
def test_two_dimensional_condition_is_more_than_a_sign(name: str) -> None:
    """The paper's latent vector z is two-dimensional, and ``condition="latent"`` hands it over."""
    net = make(name, n_cond=2)
    x, t = torch.randn(1, 9).expand(2, -1), torch.zeros(2)
    near, far = net(x, t, torch.tensor([[1.0, 0.5], [-3.0, -40.0]]))
    assert (near - far).abs().max() > 1e-3


@pytest.mark.parametrize("name", DENOISERS)
def test_denoiser_learns_to_use_its_condition(name: str) -> None:
    """Events that the condition decides, under noise that hides them: the right condition beats a shuffled one."""
    net = make(name, perturbed=False)
    g = torch.Generator().manual_seed(0)
    cond = torch.randn(256, 8, generator=g)
    cond = cond / cond.norm(dim=1, keepdim=True)
    event = cond @ torch.randn(8, 9, generator=g)
    t = torch.randint(100, (256,), generator=g)
    noise = torch.randn(256, 9, generator=g)

    def error(condition: Tensor) -> Tensor:
        return (net(noise, t, condition) - event).square().mean()

    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        error(cond).backward()
        optimizer.step()
    assert error(cond) < 0.5 * event.var()
    assert error(cond.roll(1, dims=0)) > 2 * error(cond)


def test_adaptive_blocks_start_as_the_identity_and_the_output_at_zero() -> None:
    net = AdaptiveResidualMLP(9, 8, width=16, depth=3)
    x, t, cond = torch.randn(5, 9), torch.arange(5), torch.randn(5, 8)
    assert torch.equal(net(x, t, cond), torch.zeros(5, 9))
    with torch.no_grad():
        net.out.weight.normal_()
        expected = net.out(net.norm(net.inp(x)))[:, :9]  # no block and no path adds anything yet
    torch.testing.assert_close(net(x, t, cond), expected)
    assert len(net.blocks) == len(net.offset) == 3


def test_adaptive_network_written_out() -> None:
    """Blocks h + gate * block(norm(h) * (1 + scale) + shift), each with its own offset; then the head."""
    net = make("adaptive")
    x, t, cond = torch.randn(5, 9), torch.arange(5), torch.randn(5, 8)

    def silu(v: Tensor) -> Tensor:
        return v * torch.sigmoid(v)

    def norm(v: Tensor) -> Tensor:
        return (v - v.mean(dim=1, keepdim=True)) / (v.var(dim=1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    modulation = net.modulate(silu(net.time(t) + net.cond(norm(cond))))
    h = net.inp(x)
    for i in range(2):
        shift, scale, gate = (modulation + net.offset[i]).split(32, dim=1)
        h = h + gate * net.blocks[i](norm(h) * (1 + scale) + shift)
    stream, path = net.out(norm(h)), net.path(silu(net.path_time(t)))
    gate = torch.sigmoid(path[:, 9:18].exp() * x + stream[:, 9:])
    expected = stream[:, :9] + path[:, :9] * gate + path[:, 18:] * x
    torch.testing.assert_close(net(x, t, cond), expected)


def test_adaptive_dropout_is_for_training_only() -> None:
    """It leaves out condition and hidden units; the average over many steps is near the whole network's stream."""
    x, t, cond = torch.randn(1, 9), torch.zeros(1), torch.randn(1, 8)
    torch.manual_seed(1)
    net, whole = AdaptiveResidualMLP(9, 8, width=32, depth=2, dropout=0.5), AdaptiveResidualMLP(9, 8, width=32, depth=2)
    assert torch.equal(net(x, t, cond), net(x, t, cond))  # nothing is left of the blocks at the start
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    for mine, its in zip(whole.parameters(), net.parameters(), strict=True):
        mine.data.copy_(its)
    assert not torch.equal(net(x, t, cond), net(x, t, cond))
    seen = torch.cat([net.cond(cond) for _ in range(2000)])
    assert 0.45 < (seen == 0).float().mean() < 0.55
    torch.testing.assert_close(seen.mean(dim=0), whole.cond(cond)[0], atol=0.05, rtol=0.1)
    assert torch.equal(net.eval()(x, t, cond), whole(x, t, cond))


def test_adaptive_head_holds_the_posterior_mean_of_two_values() -> None:
    """A feature is 0 or ``high`` (expressed with probability ``share``): Bayes' rule is a setting of the biases."""
    n = 9
    net = AdaptiveResidualMLP(n, 8, width=16, depth=1)
    high, share = torch.linspace(0.5, 4.0, n), torch.linspace(0.05, 0.9, n)
    signal, noise = 0.8, 0.6
    with torch.no_grad():
        net.out.bias[n:] = torch.log(share / (1 - share)) - (signal * high) ** 2 / (2 * noise**2)
        net.path.bias[:n] = high
        net.path.bias[n : 2 * n] = torch.log(signal * high / noise**2)
    x_t = 3 * torch.randn(200, n)
    found = net(x_t, torch.zeros(1), torch.randn(200, 8))

    x_t, high, share = x_t.double(), high.double(), share.double()  # the likelihoods underflow in float32
    at_zero = (1 - share) * torch.exp(-(x_t**2) / (2 * noise**2))
    at_high = share * torch.exp(-((x_t - signal * high) ** 2) / (2 * noise**2))
    torch.testing.assert_close(found.double(), high * at_high / (at_zero + at_high), rtol=1e-4, atol=1e-5)


def test_listing_2_has_eight_blocks_and_its_size() -> None:
    """At the 1,457 genes of GA1457: 47 M parameters in the blocks, 51 M with the embeddings and the output."""
    net = Listing2(1457, 80)
    assert len(net.blocks) == 8
    for block in net.blocks:
        assert linear_shapes(block) == [(1457, 2000), (2000, 1457)]
        norms = [m for m in block.modules() if isinstance(m, nn.LayerNorm)]
        assert len(norms) == 1 and not norms[0].elementwise_affine  # InstanceNorm1d of a flat input
    in_blocks = sum(p.numel() for p in net.blocks.parameters())
    assert in_blocks == 8 * (1457 * 2000 + 2000 + 2000 * 1457 + 1457) == 46_651_656
    assert linear_shapes(net.cond) == [(80, 200), (200, 200), (200, 1457)]
    assert 50.5e6 < sum(p.numel() for p in net.parameters()) < 51.5e6


def test_listing_2_skips_form_a_u() -> None:
    """The same sum, unrolled: the output of block i joins the input of block 9 - i."""
    net = make("listing2")
    x, t, cond = torch.randn(5, 9), torch.arange(5), torch.randn(5, 8)
    context = net.time(t) + net.cond(nn.functional.layer_norm(cond, (8,)))
    h = {0: x}
    for i in range(1, 9):
        entry = h[i - 1] + h[9 - i] if i > 4 else h[i - 1]
        h[i] = entry + net.blocks[i - 1](entry + context)
    torch.testing.assert_close(net(x, t, cond), net.out(h[8]))


def test_listing_2_normalises_as_instance_norm_does() -> None:
    """The layer that the listing names, given a flat input as one channel."""
    x = torch.randn(6, 40) * 3 + 2
    norm = Listing2(9, 8, width=40).blocks[0][1]
    torch.testing.assert_close(norm(x), nn.functional.instance_norm(x[:, None])[:, 0])


def test_bottleneck_has_the_first_versions_widths() -> None:
    net = BottleneckMLP(1457, 80)
    shapes = [(m.in_features, m.out_features) for m in (*net.layers, net.out)]
    assert shapes == [(1457, 500), (500, 80), (80, 500), (500, 1457)]
