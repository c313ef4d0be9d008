"""Published models from a local folder, here with random weights in the publishers' layout."""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffaug import dna
from diffaug.backends._hyena import HyenaBackbone
from diffaug.core.memory import OutOfMemory

HYENA = {
    "model_type": "hyenadna",
    "d_model": 8,
    "n_layer": 2,
    "filter_order": 4,
    "max_seq_len": 34,
    "hyena_order": 2,
    "num_inner_mlps": 2,
    "short_filter_order": 3,
    "emb_dim": 5,
    "vocab_size": 12,
    "auto_map": {"AutoModel": "modeling_hyena.HyenaDNAModel"},
}
SEQUENCES = ["ACGTTGCAACGTACGT", "TTTTGGG", "GATTACANGATTACA"]


def published_names(d: int, n: int, hidden: int, longest: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights in the published files, typed from their listing."""
    found: dict[str, tuple[int, ...]] = {"hyena.backbone.embeddings.word_embeddings.weight": (16, d)}
    for i in range(n):
        at = f"hyena.backbone.layers.{i}"
        found |= {
            f"{at}.mixer.in_proj.weight": (3 * d, d),
            f"{at}.mixer.in_proj.bias": (3 * d,),
            f"{at}.mixer.out_proj.weight": (d, d),
            f"{at}.mixer.out_proj.bias": (d,),
            f"{at}.mixer.short_filter.weight": (3 * d, 1, 3),
            f"{at}.mixer.short_filter.bias": (3 * d,),
            f"{at}.mixer.filter_fn.bias": (d,),
            f"{at}.mixer.filter_fn.pos_emb.t": (1, longest, 1),
            f"{at}.mixer.filter_fn.pos_emb.z": (1, longest, 5),
            f"{at}.mixer.filter_fn.modulation.deltas": (1, 1, d),
            f"{at}.mixer.filter_fn.implicit_filter.0.weight": (hidden, 5),
            f"{at}.mixer.filter_fn.implicit_filter.0.bias": (hidden,),
            f"{at}.mixer.filter_fn.implicit_filter.6.weight": (d, hidden),
            f"{at}.norm1.weight": (d,),
            f"{at}.norm1.bias": (d,),
            f"{at}.norm2.weight": (d,),
            f"{at}.norm2.bias": (d,),
            f"{at}.mlp.fc1.weight": (4 * d, d),
            f"{at}.mlp.fc1.bias": (4 * d,),
            f"{at}.mlp.fc2.weight": (d, 4 * d),
            f"{at}.mlp.fc2.bias": (d,),
        }
        for layer in (2, 4):
            found[f"{at}.mixer.filter_fn.implicit_filter.{layer}.weight"] = (hidden, hidden)
            found[f"{at}.mixer.filter_fn.implicit_filter.{layer}.bias"] = (hidden,)
        for layer in (1, 3, 5):
            found[f"{at}.mixer.filter_fn.implicit_filter.{layer}.freq"] = (1, hidden)
    return found | {
        "hyena.backbone.ln_f.weight": (d,),
        "hyena.backbone.ln_f.bias": (d,),
        "lm_head.weight": (16, d),
    }


@pytest.fixture
def hyena(tmp_path: Path) -> Path:
    random = torch.Generator().manual_seed(0)
    weights = {k: 0.5 * torch.randn(s, generator=random) for k, s in published_names(8, 2, 4, 34).items()}
    reference = HyenaBackbone(34, 8, 2, 4)
    for name in weights:
        if name.endswith("pos_emb.z"):
            weights[name] = reference.blocks[0].mixer.filter.features[None].clone(memory_format=torch.contiguous_format)
    (tmp_path / "config.json").write_text(json.dumps(HYENA))
    save_file(weights, tmp_path / "model.safetensors")
    return tmp_path


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


# --- HyenaDNA --------------------------------------------------------------------------------------------------------


def test_hyena(hyena: Path) -> None:
    model = dna.load_pretrained(hyena, device="cpu")
    assert (model.name, model.max_length) == ("hyenadna", 34)
    assert "hyenadna" in repr(model)
    found = model.embed(SEQUENCES)
    assert found.shape == (3, 8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model.embed(SEQUENCES, batch_size=1), rtol=1e-4, atol=1e-5)
    assert not np.allclose(found[0], found[1], atol=1e-3)


def test_hyena_weights_are_where_they_belong(hyena: Path) -> None:
    """Each weight of the file in its place of the network; and an N has its own row, unlike in our own encoder."""
    weights = load_file(hyena / "model.safetensors")
    network = dna.load_pretrained(hyena, device="cpu")._network
    block = network.blocks[1]  # type: ignore[union-attr, index]
    at = "hyena.backbone.layers.1"
    for mine, theirs in (
        (block.mixer.filter.frequency, "mixer.filter_fn.implicit_filter.1.freq"),
        (block.mixer.filter.skip, "mixer.filter_fn.bias"),
        (block.mixer.filter.layers[2].weight, "mixer.filter_fn.implicit_filter.4.weight"),
        (block.mixer.short.bias, "mixer.short_filter.bias"),
        (block.norm_mlp.weight, "norm2.weight"),
        (block.mlp[2].weight, "mlp.fc2.weight"),
    ):
        torch.testing.assert_close(mine.flatten(), weights[f"{at}.{theirs}"].flatten())
    model = dna.load_pretrained(hyena, device="cpu")
    weights["hyena.backbone.embeddings.word_embeddings.weight"][11] *= -3
    save_file(weights, hyena / "model.safetensors")
    other = dna.load_pretrained(hyena, device="cpu")
    changed = np.abs(model.embed(SEQUENCES) - other.embed(SEQUENCES)).max(axis=1)
    assert (changed[:2] < 1e-6).all()
    assert changed[2] > 1e-3


def test_too_little_memory(hyena: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> torch.Tensor:
        return torch.empty(10**15)

    model = dna.load_pretrained(hyena, device="cpu")
    monkeypatch.setattr(HyenaBackbone, "forward", too_large)
    wanted = r"^Expected the embedding of sequences of up to 16 bases to fit .*Lower `batch_size`, which is 2, or crop"
    with pytest.raises(OutOfMemory, match=wanted):
        model.embed(SEQUENCES, batch_size=2)
    monkeypatch.setattr(HyenaBackbone, "to", too_large)
    with pytest.raises(OutOfMemory, match="^Expected the hyenadna model to fit into the memory of this computer"):
        dna.load_pretrained(hyena, device="cpu")


def test_hyena_position_features_of_the_file_are_used(hyena: Path) -> None:
    model = dna.load_pretrained(hyena, device="cpu")
    weights = load_file(hyena / "model.safetensors")
    for name in weights:
        if name.endswith("pos_emb.z"):
            weights[name] = weights[name] + 0.3
    save_file(weights, hyena / "model.safetensors")
    assert not np.allclose(dna.load_pretrained(hyena, device="cpu").embed(SEQUENCES), model.embed(SEQUENCES), atol=1e-3)


def test_wrong_hyena(hyena: Path) -> None:
    with pytest.raises(ValueError, match="Expected sequences of at most 34 bases for this hyenadna model, found 35"):
        dna.load_pretrained(hyena, device="cpu").embed(["A" * 35])
    change_config(hyena, d_model=16)
    with pytest.raises(ValueError, match="Expected weights of a HyenaDNA of 2 layers and width 16"):
        dna.load_pretrained(hyena)
    change_config(hyena, hyena_order=3)
    with pytest.raises(ValueError, match="Expected a HyenaDNA with hyena_order 2 in .*found 3"):
        dna.load_pretrained(hyena)
    config = {k: v for k, v in HYENA.items() if k != "n_layer"}
    (hyena / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="Expected 'n_layer' in the config.json"):
        dna.load_pretrained(hyena)
    (hyena / "config.json").write_text(json.dumps({**HYENA, "max_seq_len": 32}))
    with pytest.raises(ValueError, match=r"Expected features of 32 positions \(max_seq_len\) in .*shape \(1, 34, 5\)"):
        dna.load_pretrained(hyena)
    for value in ("34", 34.0, 0, None):
        (hyena / "config.json").write_text(json.dumps({**HYENA, "max_seq_len": value}))
        with pytest.raises(ValueError, match=f"Expected a whole number above 0 as max_seq_len in .*found {value!r}"):
            dna.load_pretrained(hyena)


# --- folders ---------------------------------------------------------------------------------------------------------


def test_bad_folders(hyena: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected a folder with 'config.json', found none"):
        dna.load_pretrained(tmp_path / "none")
    (hyena / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match="Expected whole safetensors weights in .*found a damaged file"):
        dna.load_pretrained(hyena)
    (hyena / "config.json").write_text("{")
    with pytest.raises(ValueError, match="Expected JSON in"):
        dna.load_pretrained(hyena)
    (hyena / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="Expected settings in .*found list"):
        dna.load_pretrained(hyena)
    (hyena / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="Expected a model of type hyenadna, bert or esm in .*found 'gpt2'"):
        dna.load_pretrained(hyena)
    (hyena / "config.json").write_text(json.dumps({"model_type": "bert", "auto_map": {"AutoModel": "code.py"}}))
    with pytest.raises(ValueError, match="found one with code of its own, which is not run.*take 'auto_map' out"):
        dna.load_pretrained(hyena)
    (hyena / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="Expected a folder with 'model.safetensors', found none in '.*'.$"):
        dna.load_pretrained(hyena)
    (hyena / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="'model.safetensors'.*Write the weights of its pytorch_model.bin"):
        dna.load_pretrained(hyena)


def write_vocabulary(folder: Path, words: list[str]) -> int:
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return len(words)


def bert_words(k: int = 3) -> list[str]:
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *("".join(w) for w in product("ACGT", repeat=k))]


def esm_words(k: int = 3) -> list[str]:
    words = ["".join(w) for w in product("ATCG", repeat=k)]
    return ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>", *words, "A", "T", "C", "G", "N"]


def test_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = write_vocabulary(tmp_path, bert_words())
    config = {"model_type": "bert", "vocab_size": n, "max_position_embeddings": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'Expected the package transformers.*pip install "diffaug\[dna\]"'):
        dna.load_pretrained(tmp_path)


def test_bad_vocabularies(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 7}))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"Expected a folder with 'vocab.txt', found none"):
        dna.load_pretrained(tmp_path)
    write_vocabulary(tmp_path, ["[PAD]", "the", "of"])
    with pytest.raises(ValueError, match="Expected words of bases and the marks for start, padding and unknown"):
        dna.load_pretrained(tmp_path)
    write_vocabulary(tmp_path, bert_words())
    with pytest.raises(ValueError, match="Expected 7 entries in .*found 69"):
        dna.load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 69}))
    with pytest.raises(ValueError, match="Expected a whole number above 2 as max_position_embeddings in .*found None"):
        dna.load_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"Expected words in '.*vocab.txt', found a file that is no text"):
        dna.load_pretrained(tmp_path)


# --- with transformers -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason='needs transformers: pip install "diffaug[dna]"')


@pytest.fixture
def dnabert(tmp_path: Path, transformers: Any) -> Path:
    n = write_vocabulary(tmp_path, bert_words())
    config = transformers.BertConfig(
        vocab_size=n, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def nucleotide_transformer(tmp_path: Path, transformers: Any) -> Path:
    n = write_vocabulary(tmp_path, esm_words())
    config = transformers.EsmConfig(
        vocab_size=n, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=20, pad_token_id=1, mask_token_id=2, position_embedding_type="absolute",
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.EsmForMaskedLM(config).save_pretrained(tmp_path)
    return tmp_path


def test_dnabert(dnabert: Path, transformers: Any) -> None:
    """Against the package itself, on ids written by hand: all words of three bases, marks left out of the mean."""
    model = dna.load_pretrained(dnabert, device="cpu")
    assert (model.name, model.max_length) == ("dnabert", 32)
    found = model.embed(["ACGTA", "TTTGNA"])
    np.testing.assert_allclose(found, model.embed(["ACGTA", "TTTGNA"], batch_size=1), rtol=1e-4, atol=1e-5)
    words = bert_words()
    network = transformers.BertModel.from_pretrained(dnabert, add_pooling_layer=False).eval()
    for text, row in ((["ACG", "CGT", "GTA"], found[0]), (["TTT", "TTG", "[UNK]", "[UNK]"], found[1])):
        ids = torch.tensor([[words.index("[CLS]"), *map(words.index, text), words.index("[SEP]")]])
        with torch.no_grad():
            expected = network(input_ids=ids).last_hidden_state[0, 1:-1].mean(dim=0)
        np.testing.assert_allclose(row, expected.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="at most 32 bases for this dnabert model, found 33"):
        model.embed(["A" * 33])
    assert model.embed(["A" * 32]).shape == (1, 8)


def test_nucleotide_transformer(nucleotide_transformer: Path, transformers: Any) -> None:
    """Words of three one after the other, and letters where an N or the end leaves no whole word."""
    model = dna.load_pretrained(nucleotide_transformer, device="cpu")
    assert (model.name, model.max_length) == ("nucleotide-transformer", 51)
    found = model.embed(["ACGTAC", "ACNGTTA"])
    words = esm_words()
    network = transformers.EsmModel.from_pretrained(nucleotide_transformer, add_pooling_layer=False).eval()
    for text, row in ((["ACG", "TAC"], found[0]), (["A", "C", "N", "GTT", "A"], found[1])):
        ids = torch.tensor([[words.index("<cls>"), *map(words.index, text)]])
        with torch.no_grad():
            expected = network(input_ids=ids).last_hidden_state[0, 1:].mean(dim=0)
        np.testing.assert_allclose(row, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert model.embed(["ACG" * 17]).shape == (1, 8)
    with pytest.raises(ValueError, match="Expected sequences of at most 17 words for this nucleotide-transformer"):
        model.embed(["ANG" * 7])


def test_missing_weights(dnabert: Path) -> None:
    weights = load_file(dnabert / "model.safetensors")
    gone = next(k for k in weights if "word_embeddings" in k)
    save_file({k: v for k, v in weights.items() if k != gone}, dnabert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="Expected all weights in .*found none for .*word_embeddings"):
        dna.load_pretrained(dnabert, device="cpu")
