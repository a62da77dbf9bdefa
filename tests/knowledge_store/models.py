"""Embedders for tests: one that hashes words, and a tiny BERT checkpoint with its tokenizer."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 64
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 32,
    "layer_norm_eps": 1e-12,
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "tma", "copy", "warp", "swizzle", "bank", "page"]


class WordEmbedder:
    """Adds a fixed random vector for each word: texts that share words are alike."""

    def __init__(self, name="words-1"):
        self.name = name
        self.embedded = []

    def embed(self, texts):
        self.embedded.extend(texts)
        rows = np.zeros((len(texts), WIDTH), np.float32)
        for at, text in enumerate(texts):
            for word in text.lower().split():
                seed = zlib.crc32(word.strip(".,;:()").encode())
                rows[at] += np.random.default_rng(seed).normal(size=WIDTH)
        return rows


def tiny_weights():
    random = np.random.default_rng(5)
    hidden, inner, most = 32, 64, 300

    def normal(*shape):
        return random.normal(0, 0.3, shape).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": normal(len(VOCABULARY), hidden),
        "embeddings.position_embeddings.weight": normal(most, hidden),
        "embeddings.token_type_embeddings.weight": normal(2, hidden),
        "embeddings.LayerNorm.weight": 1 + normal(hidden),
        "embeddings.LayerNorm.bias": normal(hidden),
    }
    for layer in range(2):
        at = f"encoder.layer.{layer}."
        for name, out, given in (
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", inner, hidden),
            ("output.dense", hidden, inner),
        ):
            weights[f"{at}{name}.weight"] = normal(out, given)
            weights[f"{at}{name}.bias"] = normal(out)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            weights[f"{at}{name}.weight"] = 1 + normal(hidden)
            weights[f"{at}{name}.bias"] = normal(hidden)
    return weights


def write_safetensors(path: Path, weights) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    content = b""
    for name, value in weights.items():
        raw = value.tobytes()
        kind = {"float32": "F32", "float16": "F16", "int64": "I64"}[value.dtype.name]
        header[name] = {
            "dtype": kind,
            "shape": list(value.shape),
            "data_offsets": [len(content), len(content) + len(raw)],
        }
        content += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def write_model(folder: Path) -> Path:
    """Write a checkpoint of a tiny BERT; return its folder."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - only the tests of a local model need it
    from tokenizers.models import WordLevel  # noqa: PLC0415 - same
    from tokenizers.pre_tokenizers import Whitespace  # noqa: PLC0415 - same
    from tokenizers.processors import TemplateProcessing  # noqa: PLC0415 - same

    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tiny_weights())
    (folder / "config.json").write_text(json.dumps(CONFIG))
    vocabulary = {word: at for at, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
