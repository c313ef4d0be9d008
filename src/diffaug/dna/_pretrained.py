"""Embeddings of published DNA models, from weights in a local folder. Nothing is downloaded, and no foreign code is run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffaug.backends._hyena import BASE_TOKENS, N_TOKENS, HyenaBackbone
from diffaug.core.devices import make_fabric, tuned_cpu
from diffaug.core.memory import enough_memory
from diffaug.dna._sequences import check_sequences

_HYENA_UNKNOWN = 11  # the row of N in HyenaDNA's table
#: Names of weights in HyenaDNA's files, and ours.
_HYENA_NAMES = (
    (r"embeddings\.word_embeddings\.weight", "embedding"),
    (r"layers\.(\d+)\.mixer\.in_proj\.(weight|bias)", r"blocks.\1.mixer.project_in.\2"),
    (r"layers\.(\d+)\.mixer\.out_proj\.(weight|bias)", r"blocks.\1.mixer.project_out.\2"),
    (r"layers\.(\d+)\.mixer\.short_filter\.(weight|bias)", r"blocks.\1.mixer.short.\2"),
    (r"layers\.(\d+)\.mixer\.filter_fn\.bias", r"blocks.\1.mixer.filter.skip"),
    (r"layers\.(\d+)\.mixer\.filter_fn\.implicit_filter\.0\.(weight|bias)", r"blocks.\1.mixer.filter.layers.0.\2"),
    (r"layers\.(\d+)\.mixer\.filter_fn\.implicit_filter\.1\.freq", r"blocks.\1.mixer.filter.frequency"),
    (r"layers\.(\d+)\.mixer\.filter_fn\.implicit_filter\.2\.(weight|bias)", r"blocks.\1.mixer.filter.layers.1.\2"),
    (r"layers\.(\d+)\.mixer\.filter_fn\.implicit_filter\.4\.(weight|bias)", r"blocks.\1.mixer.filter.layers.2.\2"),
    (r"layers\.(\d+)\.mixer\.filter_fn\.implicit_filter\.6\.weight", r"blocks.\1.mixer.filter.out.weight"),
    (r"layers\.(\d+)\.norm1\.(weight|bias)", r"blocks.\1.norm_mixer.\2"),
    (r"layers\.(\d+)\.norm2\.(weight|bias)", r"blocks.\1.norm_mlp.\2"),
    (r"layers\.(\d+)\.mlp\.fc1\.(weight|bias)", r"blocks.\1.mlp.0.\2"),
    (r"layers\.(\d+)\.mlp\.fc2\.(weight|bias)", r"blocks.\1.mlp.2.\2"),
    (r"ln_f\.(weight|bias)", r"norm.\1"),
)
#: In the files, and not needed: the head, constants, and the sine's factor written a second and third time.
_HYENA_IGNORED = re.compile(r"^lm_head\.|\.filter_fn\.(pos_emb|modulation)\.|implicit_filter\.[35]\.freq$")


class _Tokens(NamedTuple):
    """``ids``, shape ``(batch, longest)``, and which are letters of the sequence and not padding or marks."""

    ids: Tensor
    letters: Tensor
    present: Tensor


class PretrainedEncoder:
    """A published DNA model, averaged over the tokens of each sequence; made by :func:`load_pretrained`.

    Attributes
    ----------
    name
        ``"hyenadna"``, ``"dnabert"`` or ``"nucleotide-transformer"``.
    max_length
        Longest sequence in bases.
    n_parameters
        Number of weights.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        pooled: Callable[[nn.Module, list[str], torch.device], Tensor],
        max_length: int,
        device: str,
    ) -> None:
        self.name, self.max_length = name, max_length
        self._device = make_fabric(device).device
        with enough_memory(self._device, f"the {name} model"):
            self._network, self._pooled = network.to(self._device).eval().requires_grad_(False), pooled
        self.n_parameters = sum(p.numel() for p in network.parameters())

    def __repr__(self) -> str:
        return f"PretrainedEncoder({self.name}, {self.n_parameters:,} parameters, {self._device})"

    def embed(self, sequences: Sequence[str], *, batch_size: int = 64) -> NDArray[np.float32]:
        """Embed sequences.

        Parameters
        ----------
        sequences
            Text of the letters A, C, G, T and N.
        batch_size
            Sequences at once; the result does not depend on it.

        Returns
        -------
        Shape ``(n, width)``, float32.

        Raises
        ------
        TypeError, ValueError
            A sequence cannot be read, or is longer than :attr:`max_length`.
        """
        text = check_sequences(sequences)
        longest = max(map(len, text))
        if longest > self.max_length:
            raise ValueError(
                f"Expected sequences of at most {self.max_length} bases for this {self.name} model, found {longest}. "
                "Crop them, e.g. with `diffaug.dna.crop`."
            )
        what = f"the embedding of sequences of up to {longest:,} bases"
        advice = f"Lower `batch_size`, which is {batch_size}, or crop the sequences."
        with enough_memory(self._device, what, advice), tuned_cpu(), torch.no_grad():
            parts = [
                self._pooled(self._network, text[i : i + batch_size], self._device).cpu()
                for i in range(0, len(text), batch_size)
            ]
        return torch.cat(parts).float().numpy()


def load_pretrained(folder: str | Path, *, device: str = "auto") -> PretrainedEncoder:
    """Load HyenaDNA, DNA-BERT or a Nucleotide Transformer from a folder with ``config.json`` and ``model.safetensors``.

    HyenaDNA runs on this package's own network. The other two need the package transformers, and ``vocab.txt`` in the
    folder. Models that come with code of their own (DNABERT-2, Nucleotide Transformer v2) are refused, as it is not run;
    so are weights as ``pytorch_model.bin``, which can hold code.

    Parameters
    ----------
    folder
        The folder, in the layout of the publishers' repositories.
    device
        Where it runs.

    Returns
    -------
    :class:`PretrainedEncoder`.

    Raises
    ------
    FileNotFoundError
        The folder, or a file in it, is missing.
    ImportError
        The model needs transformers, which is not installed.
    ValueError
        The model is of another kind, or its files are damaged or do not fit together.
    """
    folder = Path(folder)
    config = _read_config(folder)
    kind = config.get("model_type")
    if kind == "hyenadna":
        return _load_hyena(folder, config, device)
    if kind not in ("bert", "esm"):
        raise ValueError(f"Expected a model of type hyenadna, bert or esm in {str(folder)!r}, found {kind!r}.")
    if config.get("auto_map"):
        raise ValueError(
            f"Expected a model of the package transformers in {str(folder)!r}, found one with code of its own, "
            "which is not run. Use DNA-BERT (k-mers) or a Nucleotide Transformer of the first version. If it is one of "
            "these, whose networks transformers has itself, take 'auto_map' out of its config.json."
        )
    return _load_words(folder, config, "dnabert" if kind == "bert" else "nucleotide-transformer", device)


def _hint(folder: Path) -> str:
    """What to do with a folder that has other weights."""
    if (folder / "model.safetensors").exists() or not (folder / "pytorch_model.bin").exists():
        return ""
    return " Write the weights of its pytorch_model.bin, which can hold code, with `safetensors.torch.save_file`."


def _read_config(folder: Path) -> dict[str, Any]:
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"Expected a folder with {name!r}, found none in {str(folder)!r}.{_hint(folder)}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"Expected JSON in {str(folder / 'config.json')!r}, found something else ({error})."
        ) from error
    if not isinstance(config, dict):
        raise ValueError(f"Expected settings in {str(folder / 'config.json')!r}, found {type(config).__name__}.")
    return config


def _read_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / "model.safetensors")
    except SafetensorError as error:
        raise ValueError(
            f"Expected whole safetensors weights in {str(folder)!r}, found a damaged file ({error})."
        ) from error


# --- HyenaDNA ---------------------------------------------------------------------------------------------------------


def _load_hyena(folder: Path, config: Mapping[str, Any], device: str) -> PretrainedEncoder:
    wanted = {"hyena_order": 2, "num_inner_mlps": 2, "short_filter_order": 3, "emb_dim": 5, "vocab_size": 12}
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise ValueError(f"Expected a HyenaDNA with {key} {value} in {str(folder)!r}, found {config[key]}.")
    try:
        width, depth, longest = config["d_model"], config["n_layer"], config["max_seq_len"]
    except KeyError as error:
        raise ValueError(f"Expected {error} in the config.json of {str(folder)!r}, found none.") from error
    hidden = config.get("filter_order", 64)
    for key, value in {"d_model": width, "n_layer": depth, "max_seq_len": longest, "filter_order": hidden}.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"Expected a whole number above 0 as {key} in {str(folder)!r}, found {value!r}.")
    network = HyenaBackbone(longest, width, depth, hidden)
    weights = _read_weights(folder)
    try:
        network.load_state_dict(_renamed(weights))
    except RuntimeError as error:
        raise ValueError(
            f"Expected weights of a HyenaDNA of {depth} layers and width {width} in {str(folder)!r}, found others: "
            + " ".join(str(error).split())
        ) from error
    for i, block in enumerate(network.blocks):  # some files hold position features that were trained on
        stored = [t for name, t in weights.items() if name.endswith(f"layers.{i}.mixer.filter_fn.pos_emb.z")]
        if stored:
            features = stored[0].reshape(-1, stored[0].shape[-1]).float()
            if features.shape != (longest, 5):
                raise ValueError(
                    f"Expected features of {longest} positions (max_seq_len) in {str(folder)!r}, "
                    f"found an array of shape {tuple(stored[0].shape)}."
                )
            block.mixer.filter.features = features  # type: ignore[union-attr]
    return PretrainedEncoder("hyenadna", network, _hyena_pooled, longest, device)


def _renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in weights.items():
        bare = re.sub(r"^(hyena\.)?(backbone\.)?", "", name)
        if _HYENA_IGNORED.search(bare):
            continue
        for pattern, ours in _HYENA_NAMES:
            if re.fullmatch(pattern, bare):
                bare = re.sub(pattern, ours, bare)
                break
        found[bare] = tensor.flatten() if bare.endswith(("frequency", "skip")) else tensor
    return found


def _hyena_pooled(network: nn.Module, text: list[str], device: torch.device) -> Tensor:
    """Mean over the bases. Padding comes last, which a causal network does not see."""
    token = {**dict(zip("ACGT", BASE_TOKENS, strict=True)), "N": _HYENA_UNKNOWN}
    hot = torch.zeros(len(text), N_TOKENS, max(map(len, text)))
    for i, s in enumerate(text):
        hot[i, [token[letter] for letter in s], torch.arange(len(s))] = 1
    lengths = torch.tensor([len(s) for s in text])
    real = (torch.arange(hot.shape[2]) < lengths[:, None]).to(device)[..., None]
    return (network(hot.to(device)) * real).sum(dim=1) / real.sum(dim=1)


# --- models of transformers -------------------------------------------------------------------------------------------


def _load_words(folder: Path, config: Mapping[str, Any], name: str, device: str) -> PretrainedEncoder:
    if not (folder / "vocab.txt").is_file():
        raise FileNotFoundError(f"Expected a folder with 'vocab.txt', found none in {str(folder)!r}.")
    try:
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected words in {str(folder / 'vocab.txt')!r}, found a file that is no text.") from error
    vocabulary = {word: i for i, word in enumerate(lines) if word}
    words = [w for w in vocabulary if set(w) <= set("ACGT")]
    k = max(map(len, words), default=0)
    marks = {"start": ("[CLS]", "<cls>"), "padding": ("[PAD]", "<pad>"), "unknown": ("[UNK]", "<unk>")}
    ids = {what: next((vocabulary[m] for m in some if m in vocabulary), None) for what, some in marks.items()}
    ids["end"] = vocabulary.get("[SEP]", vocabulary.get("<eos>"))
    if k < 3 or ids["start"] is None or ids["padding"] is None or ids["unknown"] is None:
        raise ValueError(
            f"Expected words of bases and the marks for start, padding and unknown in {str(folder / 'vocab.txt')!r}, "
            f"found {len(words)} words of at most {k} bases and the marks {ids}."
        )
    if len(vocabulary) != config.get("vocab_size"):
        raise ValueError(
            f"Expected {config.get('vocab_size')} entries in {str(folder / 'vocab.txt')!r}, found {len(vocabulary)}."
        )
    overlapping = name == "dnabert"
    n_marks = 2 if overlapping else 3  # ESM also skips a position
    n_positions = config.get("max_position_embeddings")
    if type(n_positions) is not int or n_positions <= n_marks:
        raise ValueError(
            f"Expected a whole number above {n_marks} as max_position_embeddings in {str(folder)!r}, found {n_positions!r}."
        )
    network, n_tokens = _of_transformers(folder), n_positions - n_marks

    def pooled(network: nn.Module, text: list[str], device: torch.device) -> Tensor:
        tokens = _tokens(text, k, overlapping, vocabulary, ids)
        longest = int(tokens.letters.sum(dim=1).max())
        if longest > n_tokens:  # an N makes single letters of a word
            raise ValueError(f"Expected sequences of at most {n_tokens} words for this {name} model, found {longest}.")
        states = network(input_ids=tokens.ids.to(device), attention_mask=tokens.present.to(device)).last_hidden_state
        weight = tokens.letters.to(device)[..., None]
        return (states * weight).sum(dim=1) / weight.sum(dim=1)

    return PretrainedEncoder(name, network, pooled, n_tokens + k - 1 if overlapping else n_tokens * k, device)


def _of_transformers(folder: Path) -> nn.Module:
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise ImportError(
            f"Expected the package transformers to load {str(folder)!r}, found none. "
            'Install it: pip install "diffaug[dna]"'
        ) from error
    try:
        network, report = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"Expected a model that transformers can read in {str(folder)!r}, found another: {error}"
        ) from error
    # A pooling layer, which the publishers leave out, is not used here.
    missing = [key for key in report["missing_keys"] if "pooler" not in key]
    if missing:
        raise ValueError(f"Expected all weights in {str(folder)!r}, found none for {sorted(missing)[0]!r}.")
    return network


def _tokens(
    text: list[str], k: int, overlapping: bool, vocabulary: Mapping[str, int], ids: Mapping[str, int | None]
) -> _Tokens:
    """Ids of words: all of ``k`` bases (DNA-BERT), or one after the other, the rest letter by letter."""
    rows, marks = [], []
    for s in text:
        words = _overlapping(s, k) if overlapping else _successive(s, k, vocabulary)
        row = [ids["start"], *(vocabulary.get(w, ids["unknown"]) for w in words)]
        mark = [0, *([1] * len(words))]
        if ids["end"] is not None and overlapping:
            row, mark = [*row, ids["end"]], [*mark, 0]
        rows.append(row)
        marks.append(mark)
    longest = max(map(len, rows))
    padded = torch.tensor([[*row, *([ids["padding"]] * (longest - len(row)))] for row in rows])
    letters = torch.tensor([[*mark, *([0] * (longest - len(mark)))] for mark in marks])
    present = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return _Tokens(padded, letters, present)


def _overlapping(s: str, k: int) -> list[str]:
    return [s[i : i + k] for i in range(max(1, len(s) - k + 1))]


def _successive(s: str, k: int, vocabulary: Mapping[str, int]) -> list[str]:
    words, i = [], 0
    while i < len(s):
        word = s[i : i + k] if s[i : i + k] in vocabulary and len(s) - i >= k else s[i]
        words.append(word)
        i += len(word)
    return words
