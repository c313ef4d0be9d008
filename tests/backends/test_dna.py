"""The DNA domain: its settings, its spaces, its views, and what it refuses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from diffaug import DiffAug
from diffaug.backends import _dna_views
from diffaug.backends.dna import DNABackend, DNAConfig, default_config, paper_config
from diffaug.core.schedules import NoiseSchedule

TINY = {
    "training": {"warmup_epochs": 1, "generator_epochs": 1, "mixed_epochs": 1, "batch_size": 16},
    "diffusion": {"n_steps": 3},
    "domain": {"n_semantic": 8, "n_latent": 4, "filter_width": 4, "generator_widths": [4, 4, 4, 4], "n_neighbors": 3},
}


def one_hot(*sequences: str, length: int | None = None) -> np.ndarray:
    x = np.zeros((len(sequences), 4, length or max(map(len, sequences))), dtype=np.float32)
    for i, s in enumerate(sequences):
        for j, letter in enumerate(s):
            x[i, :, j] = 0.25 if letter == "N" else np.array(list("ACGT")) == letter
    return x


def text(x: Any) -> list[str]:
    return ["".join("ACGT"[c.argmax()] for c in np.asarray(row).T if c.any()) for row in x]


def backend(x: np.ndarray, **settings: Any) -> DNABackend:
    made = DNABackend(DNAConfig(**settings), DNABackend.event_shape_of(x))
    made.prepare(x)
    return made


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_semantic": 0}, "`n_semantic` of at least 1, found 0"),
        ({"max_length": 0}, "`max_length` of at least 1"),
        ({"generator_widths": (8, 8, 8)}, r"`generator_widths` of four multiples of 4, found \(8, 8, 8\)"),
        ({"generator_widths": (8, 8, 8, 6)}, "four multiples of 4"),
        ({"attention_up_to": -1}, "`attention_up_to` of at least 0, found -1"),
        ({"combined": ("mutation",)}, "`combined` of two or more of"),
        ({"combined": ("mutation", "mutation")}, "`combined` of two or more of"),
        ({"combined": ("mutation", "mixup")}, r"`combined` of two or more of .*found \['mutation', 'mixup'\]"),
        ({"mutation_rate": 0.8}, r"`mutation_rate` in \(0, 0.75\], found 0.8"),
        ({"noise_std": 0.0}, "`noise_std` above 0"),
        ({"views": "cutout"}, "`views` in .*'translocation'.*found 'cutout'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DNAConfig(**settings)


def test_presets() -> None:
    """T = 50 with betas of 20 times the usual ones, which end in noise; the encoder is HyenaDNA-tiny in both."""
    for config in (default_config(), paper_config()):
        assert config.diffusion.n_timesteps == 50
        schedule = NoiseSchedule(config.diffusion.schedule, 50)
        assert float(1 - schedule.alpha_bar[0]) == pytest.approx(1e-4 * 20)
        assert float(schedule.alpha_bar[-1]) < 1e-4
        made = DNABackend(config.domain, (4, 32))
        assert sum(p.numel() for p in made.make_encoder().backbone.parameters()) == 436_096
    paper = paper_config()
    assert (paper.diffusion.sampler, paper.diffusion.n_steps, paper.diffusion.prediction_type) == (
        "ddpm",
        50,
        "epsilon",
    )
    assert paper.domain.generator_widths == (16, 32, 64, 64)
    assert paper.domain.attention == "full"


# --- what it refuses -------------------------------------------------------------------------------------------------


def changed(position: tuple[int, int, int], value: float) -> np.ndarray:
    x = one_hot("ACGTA", "GGT", "TTTTT")
    x[position] = value
    return x


def gap() -> np.ndarray:
    x = one_hot("ACGTA", "GGT", "TTTTT")
    x[1, :, 1] = 0
    return x


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (["ACGT"] * 3, TypeError, "Expected a numpy array of one-hot sequences, found list.*diffaug.dna"),
        (np.array(["ACGT"] * 3), TypeError, "Expected real numbers, found dtype <U4"),
        (np.zeros((3, 5)), ValueError, r"Expected sequences of shape \(n, 4, length\), found shape \(3, 5\)"),
        (np.zeros((3, 5, 4)), ValueError, r"found shape \(3, 5, 4\)"),
        (np.zeros((3, 4, 0)), ValueError, r"found shape \(3, 4, 0\)"),
        (
            changed((0, 0, 0), np.nan),
            ValueError,
            "Expected finite weights of bases, found NaN or infinite ones in 1 seq",
        ),
        (changed((0, 0, 0), np.inf), ValueError, "Expected finite weights"),
        (changed((2, 3, 4), 2.0), ValueError, r"add up to 1.*found \[0.0, 0.0, 0.0, 2.0\] at position 4 of sequence 2"),
        (changed((1, 1, 4), 0.3), ValueError, "add up to 1.*at position 4 of sequence 1"),
        (changed((0, 1, 0), -0.5), ValueError, "of at least 0 that add up to 1"),
        (one_hot("ACG", "", "T"), ValueError, "Expected sequences of at least 1 base, found an empty one: 1"),
        (gap(), ValueError, "Expected padding after the last base only, found a gap in sequence 1"),
    ],
)
def test_bad_events(x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DiffAug(TINY, backend="dna", device="cpu").fit(x, progress=False)


def test_too_long_sequences() -> None:
    config = {**TINY, "domain": {**TINY["domain"], "max_length": 10}}
    with pytest.raises(ValueError, match=r"at most 10 bases \(`domain.max_length`\), found 11. Crop them, or raise"):
        DiffAug(config, backend="dna", device="cpu").fit(one_hot(*["ACGTACGTACG"] * 5), progress=False)


def test_batch_codes_are_refused() -> None:
    x = one_hot(*["ACGTACGT", "TTGGCCAA"] * 8)
    with pytest.raises(ValueError, match="Expected no `batch` for DNA"):
        DiffAug(TINY, backend="dna", device="cpu").fit(x, batch=np.arange(16) % 2, progress=False)


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float64, np.float16])
def test_any_kind_of_number(dtype: type) -> None:
    x = one_hot("ACGT", "GG")
    v = backend(x).to_model(x.astype(dtype))
    assert v.dtype == torch.float32
    np.testing.assert_array_equal(v.numpy(), x)


# --- the generator's space -------------------------------------------------------------------------------------------


def test_generator_space_is_plus_and_minus_one() -> None:
    x = one_hot("ACGT", "GG")
    made = backend(x)
    g = made.to_generator(made.to_model(x), generator())
    assert torch.equal(g, 2 * torch.as_tensor(x) - 1)
    assert torch.equal(made.from_generator(g), torch.as_tensor(x))


def test_unknown_bases_are_drawn() -> None:
    """Each base as often as its weight says; a new draw each time."""
    x = one_hot(*["NA"] * 4000)
    x[:, :, 1] = [0.1, 0.0, 0.6, 0.3]
    made = backend(x)
    g = made.to_generator(torch.as_tensor(x), generator())
    assert set(g.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(g.sum(dim=1), torch.full((4000, 2), -2.0))
    share = (g > 0).float().mean(dim=0)
    torch.testing.assert_close(share[:, 0], torch.full((4,), 0.25), atol=0.03, rtol=0)
    torch.testing.assert_close(share[:, 1], torch.tensor([0.1, 0.0, 0.6, 0.3]), atol=0.03, rtol=0)
    assert not torch.equal(g, made.to_generator(torch.as_tensor(x), generator(1)))


def test_what_is_drawn_becomes_the_nearest_sequence() -> None:
    """Oracle: all sequences of two to four bases, by their distance."""
    made = backend(one_hot("ACGT", "CC", "GAT"))
    words = ["".join(w) for n in (2, 3, 4) for w in itertools.product("ACGT", repeat=n)]
    candidates = 2 * torch.as_tensor(one_hot(*words, length=4)) - 1
    drawn = torch.randn(200, 4, 4, generator=generator())
    nearest = torch.cdist(drawn.flatten(1), candidates.flatten(1), compute_mode="donot_use_mm_for_euclid_dist").argmin(
        1
    )
    assert text(made.from_generator(drawn)) == [words[i] for i in nearest]
    assert {len(words[i]) for i in nearest} == {2, 3, 4}


def test_equal_lengths_stay() -> None:
    made = backend(one_hot("ACGT", "CCGT"))
    assert {len(s) for s in text(made.from_generator(torch.randn(50, 4, 4, generator=generator()) - 3))} == {4}


def test_lengths_of_generated_sequences_are_learnt() -> None:
    """Two lengths with letters of their own: a generator of a few hundred steps ends sequences where they end."""
    x = one_hot(*["ACACACACACACACAC", "GTGTGT"] * 16)
    config = {
        "training": {
            "warmup_epochs": 5,
            "generator_epochs": 100,
            "mixed_epochs": 0,
            "batch_size": 32,
            "view_rate": 0.0,
            "generator_lr": 5e-3,
        },
        "diffusion": {"n_steps": 10},
        "domain": {**TINY["domain"], "generator_widths": [8, 8, 8, 8]},
    }
    model = DiffAug(config, backend="dna", device="cpu").fit(x, progress=False)
    made = model.generate(source=np.arange(32)).values
    lengths = (made.sum(axis=1) > 0).sum(axis=1)
    assert (np.abs(lengths[::2] - 16) <= 1).mean() > 0.9
    assert (np.abs(lengths[1::2] - 6) <= 1).mean() > 0.9
    # And the condition says which letters: the generator learnt more than lengths.
    assert np.mean([set(s) <= set("AC") for s in text(made)[::2]]) > 0.8


# --- views -----------------------------------------------------------------------------------------------------------


def test_settings_reach_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    x = one_hot("ACGTACGTACGTACGTACGT", "TTTTTTTTTTGGGGGGGGGG")
    made = backend(x, largest_segment=3, mutation_rate=0.3, noise_std=0.7)
    seen: dict[str, dict[str, Any]] = {}
    for kind in ("translocation", "insertion", "deletion", "inversion", "mutation", "reverse_complement", "noise"):
        monkeypatch.setattr(_dna_views, kind, lambda x, lengths, generator, k=kind, **s: seen.__setitem__(k, s) or x)
        made.hand_views(torch.as_tensor(x), kind=kind)(torch.arange(2), generator())
    segments = {kind: {"largest": 3} for kind in ("translocation", "insertion", "deletion", "inversion")}
    assert seen == {**segments, "mutation": {"rate": 0.3}, "reverse_complement": {}, "noise": {"std": 0.7}}


def test_evoaug_applies_two_kinds_to_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds replaced by marks: each row gets two different ones, all pairs about as often."""
    kinds = ("inversion", "mutation", "noise")
    for i, kind in enumerate(kinds):
        monkeypatch.setattr(_dna_views, kind, lambda x, lengths, generator, power=10**i, **_: x + power)
    x = torch.zeros(3000, 4, 8)
    x[:, 0] = 1
    made = backend(x.numpy(), combined=kinds).hand_views(x, kind="evoaug")(torch.arange(3000), generator()) - x
    marks, counts = made[:, 0, 0].unique(return_counts=True)
    assert marks.tolist() == [11, 101, 110]
    assert counts.min() > 900


def test_mixup_is_with_sequences_of_similar_words() -> None:
    """Two families that differ in their words: a view of one never mixes in letters of the other."""
    rng = np.random.default_rng(0)
    x = one_hot(*["".join(rng.choice(list("AC" if i % 2 else "GT"), 40)) for i in range(40)])
    views = backend(x, n_neighbors=5).hand_views(torch.as_tensor(x), kind="mixup")
    made = views(torch.arange(40), generator())
    assert not made[1::2, 2:].any()
    assert not made[::2, :2].any()
    assert ((made > 0) & (made < 1)).any()
    with pytest.raises(ValueError, match="Expected at least 2 sequences for mixup views, found 1"):
        backend(x).hand_views(torch.as_tensor(x[:1]), kind="mixup")


def test_unknown_kind() -> None:
    x = one_hot("ACGT", "TTTT")
    with pytest.raises(ValueError, match=r"Expected views of a kind in \['evoaug', .*\], found 'cutout'"):
        backend(x).hand_views(torch.as_tensor(x), kind="cutout")


def test_hand_views_keep_lengths() -> None:
    sequences = ["ACGTTGCAACGT", "TTGGAACC", "ACGTA", "GGGGGGGGGG"] * 5
    x = one_hot(*sequences)
    made = backend(x, n_neighbors=3)
    for kind in made.view_kinds:
        views = made.hand_views(torch.as_tensor(x), kind=kind)(torch.arange(20), generator())
        real = (torch.as_tensor(x) != 0).any(dim=1)
        assert torch.equal((views != 0).any(dim=1), real), kind


def test_a_model_of_before_keeps_its_attention() -> None:
    """None, which stood for attention everywhere, was not written."""
    older = DNABackend.settings_of_older
    assert older({"depth": 2})["attention"] == "full"
    assert older({"attention_up_to": 64})["attention"] == "coarse"
    assert older({"attention": "full", "attention_up_to": 64})["attention"] == "full"
