import json
import math
import sys
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest

from knowledge_store import embedders
from knowledge_store.embedders import LocalEmbedder, choose
from knowledge_store.errors import SourceError
from knowledge_store.onnx_bert import encoder, read_safetensors
from knowledge_store.vectors import unit
from tests.knowledge_store.models import CONFIG, tiny_weights, write_model, write_safetensors
from tests.knowledge_store.servers import served


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def local(folder):
    return LocalEmbedder(folder, threads=1)


def reference(ids):
    """Return the mean over tokens of the tiny BERT, written out plainly in float64."""
    w = {name: value.astype(np.float64) for name, value in tiny_weights().items()}

    def norm(x, at):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return scaled * w[f"{at}.weight"] + w[f"{at}.bias"]

    def dense(x, at):
        return x @ w[f"{at}.weight"].T + w[f"{at}.bias"]

    def gelu(x):
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    places = w["embeddings.position_embeddings.weight"][: len(ids)]
    types = w["embeddings.token_type_embeddings.weight"][0]
    x = norm(w["embeddings.word_embeddings.weight"][ids] + places + types, "embeddings.LayerNorm")
    for layer in range(2):
        at = f"encoder.layer.{layer}"
        heads = []
        parts = [dense(x, f"{at}.attention.self.{name}") for name in ("query", "key", "value")]
        for head in range(4):
            query, key, value = (part[:, head * 8 : head * 8 + 8] for part in parts)
            scores = np.exp(query @ key.T / math.sqrt(8))
            heads.append(scores / scores.sum(-1, keepdims=True) @ value)
        mixed = dense(np.concatenate(heads, axis=1), f"{at}.attention.output.dense")
        x = norm(x + mixed, f"{at}.attention.output.LayerNorm")
        inner = dense(gelu(dense(x, f"{at}.intermediate.dense")), f"{at}.output.dense")
        x = norm(x + inner, f"{at}.output.LayerNorm")
    return x.mean(axis=0)


def cosine(first, second):
    return float(
        unit(first[None, :].astype(np.float32))[0] @ unit(second[None, :].astype(np.float32))[0]
    )


def test_the_graph_computes_what_the_checkpoint_means(local):
    (row,) = local.embed(["tma copy warp"])
    assert cosine(row, reference([2, 4, 5, 6, 3])) > 0.99


def test_rows_are_in_the_order_of_the_texts_and_padding_changes_little(local):
    texts = ["tma copy warp swizzle bank page tma copy", "warp", "page bank", ""] * 9
    together = local.embed(texts)
    assert together.shape == (36, 32)
    assert together.dtype == np.float32
    for text, row in zip(texts[:4], together, strict=False):
        assert cosine(row, local.embed([text])[0]) > 0.98


def test_long_texts_are_cut_off(local):
    assert np.isfinite(local.embed(["tma " * 2000])).all()


def test_no_texts_give_no_rows(local):
    assert local.embed([]).shape[0] == 0


def test_the_name_is_of_the_weights(local, folder, tmp_path):
    again = LocalEmbedder(folder / "model.safetensors", threads=1)
    assert again.name == local.name
    assert local.name.startswith("local-safetensors-")
    write_model(tmp_path / "other")
    weights = tiny_weights()
    weights["embeddings.LayerNorm.bias"] += 1
    write_safetensors(tmp_path / "other" / "model.safetensors", weights)
    assert LocalEmbedder(tmp_path / "other", threads=1).name != local.name


def test_an_onnx_file_is_used_as_it_is(folder, local, tmp_path):
    made = tmp_path / "onnx"
    made.mkdir()
    (made / "model.onnx").write_bytes(encoder(tiny_weights(), CONFIG))
    (made / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    other = LocalEmbedder(made, threads=1)
    assert other.name.startswith("local-onnx-")
    np.testing.assert_allclose(other.embed(["tma"]), local.embed(["tma"]), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"\x01", "not a safetensors file"),
        ("model.safetensors", b"\xff" * 64, "not a safetensors file"),
        ("config.json", b'{"model_type": "gpt2"}', "only BERT"),
        ("config.json", json.dumps({**CONFIG, "num_hidden_layers": 3}).encode(), "lacks"),
        ("tokenizer.json", b"{}", "cannot be used"),
    ],
)
def test_a_broken_model_is_an_error_that_says_so(tmp_path, name, content, message):
    write_model(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        LocalEmbedder(tmp_path)


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(SourceError, match=r"neither model\.onnx nor"):
        LocalEmbedder(tmp_path)


def test_half_precision_is_read_and_integers_are_left_out(tmp_path):
    half = np.array([[1.5, -2.0]], np.float16)
    write_safetensors(tmp_path / "x", {"half": half, "ids": np.arange(3)})
    found = read_safetensors(tmp_path / "x")
    assert list(found) == ["half"]
    assert found["half"].dtype == np.float32
    assert found["half"].tolist() == [[1.5, -2.0]]


def test_none_is_no_embedder_and_says_so():
    choice = choose("none")
    assert choice.embedder is None
    assert "words alone rank" in choice.said


def test_without_a_model_at_hand_auto_is_none_in_one_line(monkeypatch):
    monkeypatch.setattr(embedders, "WHEEL", "no_such_wheel_at_all")
    choice = choose()
    assert choice.embedder is None
    assert "no model at hand" in choice.said
    assert "\n" not in choice.said
    with pytest.raises(SourceError, match="no local model"):
        choose("local")


def test_auto_takes_the_model_of_the_optional_wheel(monkeypatch, tmp_path):
    write_model(tmp_path / "some_wheel" / "model")
    (tmp_path / "some_wheel" / "__init__.py").write_text("raise RuntimeError('never run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(embedders, "WHEEL", "some_wheel")
    choice = choose()
    assert choice.embedder is not None
    assert "some_wheel" in choice.said
    assert "some_wheel" not in sys.modules


@pytest.mark.parametrize("wanted", ["magic", "openai", "sentence-transformers", "openai:"])
def test_an_unknown_embedder_is_an_error_that_lists_the_known(wanted):
    with pytest.raises(SourceError, match=r"use none, auto, local:PATH"):
        choose(wanted)


def test_a_local_path_is_loaded(folder, local):
    choice = choose(f"local:{folder}")
    assert choice.embedder is not None
    assert choice.embedder.name == local.name


def test_openai_needs_a_key():
    with pytest.raises(SourceError, match="OPENAI_API_KEY"):
        choose("openai:some-model", environment={})


class Server(BaseHTTPRequestHandler):
    """Answers embeddings out of order, as a server may; refuses a model of one name."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == "refused":
            self.send_response(400)
            answer: dict[str, object] = {"error": {"message": "no such model"}}
        else:
            self.send_response(200)
            data = [
                {"object": "embedding", "index": at, "embedding": [float(len(text)), 1.0]}
                for at, text in enumerate(asked["input"])
            ]
            answer = {"object": "list", "model": "m", "data": data[::-1]}
        raw = json.dumps(answer).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    with served(Server) as port:
        yield {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}


def test_a_server_of_openai_s_protocol_embeds_in_order(server):
    made = choose("openai:some-model", environment=server).embedder
    assert made is not None
    assert made.name == "openai-some-model"
    assert made.embed(["a", "bbb", ""]).tolist() == [[1.0, 1.0], [3.0, 1.0], [1.0, 1.0]]


def test_a_refusal_of_the_server_is_an_error_that_names_the_model(server):
    made = choose("openai:refused", environment=server).embedder
    assert made is not None
    with pytest.raises(SourceError, match="refused"):
        made.embed(["a"])
