"""An ONNX graph of a BERT encoder from the weights of a checkpoint, with 8-bit matrices.

onnxruntime runs graphs and cannot make them, and a checkpoint is what sentence models ship as. The
graph returns the mean over tokens. Field numbers are those of `onnx.proto3`, operators of opset 20.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_store.errors import SourceError

Array = npt.NDArray[np.float32]
_TYPES = {"float32": 1, "int8": 3, "int64": 7}
_FLOAT, _INT64 = 1, 7
_NUMPY: dict[str, npt.DTypeLike] = {"F32": "<f4", "F16": "<f2"}
_OPSET = 20
_IR_VERSION = 9
_OPAQUE = -1e4
_MORE = 0x80


def read_safetensors(path: Path) -> dict[str, Array]:
    """Return every tensor of a file as float32; BF16 and integers are left out.

    Raises:
        SourceError: the file is not of the format.
    """
    try:
        return _tensors(path.read_bytes())
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is not a safetensors file: {error}") from error


def _tensors(raw: bytes) -> dict[str, Array]:
    (length,) = struct.unpack_from("<Q", raw)
    found: dict[str, Array] = {}
    for name, told in json.loads(raw[8 : 8 + length]).items():
        if name != "__metadata__" and told["dtype"] in _NUMPY:
            first, last = (8 + length + offset for offset in told["data_offsets"])
            flat: Array = np.frombuffer(raw[first:last], _NUMPY[told["dtype"]])
            found[name] = flat.reshape(told["shape"]).astype(np.float32)
    return found


@dataclass
class _Graph:
    """Nodes and constants, already encoded."""

    nodes: list[bytes] = field(default_factory=list)
    constants: list[bytes] = field(default_factory=list)
    made: int = 0

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Add a node; return its output, or its outputs' common name before `.0`, `.1`, ..."""
        self.made += 1
        name = f"{kind}{self.made}"
        names = [name] if outputs == 1 else [f"{name}.{at}" for at in range(outputs)]
        parts = [_text(1, one) for one in inputs] + [_text(2, one) for one in names]
        parts += [_text(4, kind)]
        parts += [_bytes(5, _attribute(key, value)) for key, value in attributes.items()]
        self.nodes.append(b"".join(parts))
        return name

    def constant(self, value: npt.NDArray[np.generic]) -> str:
        """Add a constant; return its name."""
        self.made += 1
        name = f"constant{self.made}"
        dims = b"".join(_number(1, size) for size in value.shape)
        kind = _number(2, _TYPES[value.dtype.name])
        self.constants.append(dims + kind + _text(8, name) + _bytes(9, value.tobytes()))
        return name

    def floats(self, *values: float) -> str:
        return self.constant(np.array(values if len(values) > 1 else values[0], np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def linear(self, x: str, weight: Array, bias: Array) -> str:
        """Multiply by a matrix of [out, in], its columns in 8 bits with a scale each."""
        scale = np.maximum(np.abs(weight).max(axis=1), 1e-12) / 127.0
        rounded = np.ascontiguousarray(np.rint(weight / scale[:, None]).astype(np.int8).T)
        coarse = self.add("DynamicQuantizeLinear", x, outputs=3)
        product = self.add("MatMulInteger", f"{coarse}.0", self.constant(rounded), f"{coarse}.2")
        scales = self.add("Mul", f"{coarse}.1", self.constant(scale.astype(np.float32)))
        scaled = self.add("Mul", self.add("Cast", product, to=_FLOAT), scales)
        return self.add("Add", scaled, self.constant(bias))

    def normalised(self, x: str, weight: Array, bias: Array, epsilon: float) -> str:
        weights = (self.constant(weight), self.constant(bias))
        return self.add("LayerNormalization", x, *weights, axis=-1, epsilon=epsilon)


@dataclass(frozen=True)
class _Shape:
    layers: int
    heads: int
    hidden: int
    epsilon: float


def encoder(weights: dict[str, Array], config: dict[str, object]) -> bytes:
    """Return a model of inputs `input_ids`, `attention_mask` [batch, tokens] and output `mean`.

    Args:
        weights: of a BERT checkpoint, by its names with or without `bert.`.
        config: its `config.json`.

    Raises:
        SourceError: a weight is missing, or the model is not a BERT with GELU.
    """
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise SourceError(
            "only BERT encoders with GELU can be converted; give an ONNX file instead"
        )
    named = {name.removeprefix("bert."): value for name, value in weights.items()}
    graph = _Graph()
    try:
        shape = _Shape(
            layers=int(str(config["num_hidden_layers"])),
            heads=int(str(config["num_attention_heads"])),
            hidden=int(str(config["hidden_size"])),
            epsilon=float(str(config["layer_norm_eps"])),
        )
        x = _embedded(graph, named, shape)
        real = graph.add("Cast", "attention_mask", to=_FLOAT)
        masked = graph.add("Mul", graph.add("Sub", graph.floats(1.0), real), graph.floats(_OPAQUE))
        mask = graph.add("Unsqueeze", masked, graph.integers(1, 2))
        for at in range(shape.layers):
            x = _layer(graph, named, f"encoder.layer.{at}.", (x, mask), shape)
    except KeyError as error:
        raise SourceError(f"the checkpoint lacks {error}; give an ONNX file instead") from error
    column = graph.add("Unsqueeze", real, graph.integers(2))
    total = graph.add("ReduceSum", graph.add("Mul", x, column), graph.integers(1), keepdims=0)
    count = graph.add("ReduceSum", column, graph.integers(1), keepdims=0)
    mean = graph.add("Div", total, count)
    graph.nodes.append(_text(1, mean) + _text(2, "mean") + _text(4, "Identity"))
    return _model(graph, shape.hidden)


def _embedded(graph: _Graph, named: dict[str, Array], shape: _Shape) -> str:
    places = named["embeddings.position_embeddings.weight"]
    # Every token of a single text is of the first type, so its row is part of every place.
    places = places + named["embeddings.token_type_embeddings.weight"][0]
    table = graph.constant(named["embeddings.word_embeddings.weight"])
    length = graph.add(
        "Slice", graph.add("Shape", "input_ids"), graph.integers(1), graph.integers(2)
    )
    some = graph.add("Slice", graph.constant(places), graph.integers(0), length, graph.integers(0))
    x = graph.add("Add", graph.add("Gather", table, "input_ids", axis=0), some)
    norm = "embeddings.LayerNorm."
    return graph.normalised(x, named[f"{norm}weight"], named[f"{norm}bias"], shape.epsilon)


def _layer(
    graph: _Graph, named: dict[str, Array], at: str, given: tuple[str, str], shape: _Shape
) -> str:
    x, mask = given
    size = shape.hidden // shape.heads
    own = [f"{at}attention.self.{part}." for part in ("query", "key", "value")]
    # Divided here once rather than in every product.
    factors = (1.0 / np.sqrt(size), 1.0, 1.0)
    weight = np.concatenate([named[f"{n}weight"] * f for n, f in zip(own, factors, strict=True)])
    bias = np.concatenate([named[f"{n}bias"] * f for n, f in zip(own, factors, strict=True)])
    joined = graph.linear(x, weight.astype(np.float32), bias.astype(np.float32))
    parts = graph.add("Split", joined, outputs=3, axis=-1, num_outputs=3)
    heads = graph.integers(0, 0, shape.heads, size)
    query, key, value = (
        graph.add("Transpose", graph.add("Reshape", f"{parts}.{which}", heads), perm=order)
        for which, order in enumerate(([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    )
    scores = graph.add("Add", graph.add("MatMul", query, key), mask)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    flat = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
    flat = graph.add("Reshape", flat, graph.integers(0, 0, shape.hidden))

    def dense(source: str, name: str) -> str:
        return graph.linear(source, named[f"{at}{name}.weight"], named[f"{at}{name}.bias"])

    def residual(source: str, before: str, name: str) -> str:
        norm = (named[f"{at}{name}.weight"], named[f"{at}{name}.bias"])
        return graph.normalised(graph.add("Add", source, before), *norm, shape.epsilon)

    x = residual(dense(flat, "attention.output.dense"), x, "attention.output.LayerNorm")
    inner = graph.add("Gelu", dense(x, "intermediate.dense"))
    return residual(dense(inner, "output.dense"), x, "output.LayerNorm")


def _model(graph: _Graph, hidden: int) -> bytes:
    inputs = [_value(name, _INT64, ("batch", "tokens")) for name in ("input_ids", "attention_mask")]
    body = b"".join(
        (
            *(_bytes(1, node) for node in graph.nodes),
            _text(2, "encoder"),
            *(_bytes(5, one) for one in graph.constants),
            *(_bytes(11, one) for one in inputs),
            _bytes(12, _value("mean", _FLOAT, ("batch", hidden))),
        )
    )
    opset = _bytes(8, _text(1, "") + _number(2, _OPSET))
    return _number(1, _IR_VERSION) + opset + _bytes(7, body)


def _value(name: str, kind: int, shape: Sequence[str | int]) -> bytes:
    dims = b"".join(
        _bytes(1, _number(1, size) if isinstance(size, int) else _text(2, size)) for size in shape
    )
    tensor = _number(1, kind) + _bytes(2, dims)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _attribute(name: str, value: object) -> bytes:
    if isinstance(value, float):
        return _text(1, name) + _tag(2, 5) + struct.pack("<f", value) + _number(20, 1)
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, 2)
    if isinstance(value, Iterable):
        return _text(1, name) + b"".join(_number(8, one) for one in value) + _number(20, 7)
    raise TypeError(f"attribute {name} is a {type(value).__name__}")


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _number(number: int, value: int) -> bytes:
    return _tag(number, 0) + _varint(value & 0xFFFFFFFFFFFFFFFF)


def _bytes(number: int, value: bytes) -> bytes:
    return _tag(number, 2) + _varint(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= _MORE:
        out.append(value % _MORE | _MORE)
        value >>= 7
    out.append(value)
    return bytes(out)
