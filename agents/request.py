"""Reads what a user asks for in a sentence: which kernel, on what, for which shapes, how fast.

Pure rules against the targets that come with the program. What the sentence leaves open is taken
from the target and named as an assumption; what can be taken from nowhere is an error that lists
all of it at once.
"""

import itertools
import re
from collections.abc import Iterator

from pydantic import Field

from agents.errors import RequestIncomplete
from gpu_runner.message import Message

_ALIASES = {
    "int8_scaled_mm": ("int8 scaled mm", "int8 scaled matmul", "int8 gemm", "w8a8 gemm"),
    "gemm_bias_act": ("gemm bias act", "gemm with bias and activation", "linear gelu"),
    "gelu_tanh": ("gelu tanh", "gelu"),
    "silu_and_mul": ("silu and mul", "swiglu", "silu mul"),
    "layernorm": ("layer norm", "layer normalisation", "layer normalization"),
    "rmsnorm": ("rms norm", "root mean square norm"),
    "quantize_per_token": (
        "quantize per token",
        "per token quantisation",
        "per token quantization",
    ),
    "rope": ("rotary embedding", "rotary position", "rotary"),
}
"""Other names of shipped targets, as people write them; longer ones win."""

_GPUS = {
    "h100": "sm_90",
    "h200": "sm_90",
    "h800": "sm_90",
    "gh200": "sm_90",
    "hopper": "sm_90",
    "b100": "sm_100",
    "b200": "sm_100",
    "gb200": "sm_100",
    "blackwell": "sm_100",
    "a100": "sm_80",
    "a800": "sm_80",
    "l4": "sm_89",
    "l40": "sm_89",
    "l40s": "sm_89",
    "rtx4090": "sm_89",
    "4090": "sm_89",
}
_DTYPES = {
    "fp16": "float16",
    "float16": "float16",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp32": "float32",
    "float32": "float32",
}
_AXIS = re.compile(
    r"\b([A-Za-z][A-Za-z0-9_]*)\s*(?:=|:|\bin\b)\s*[\[({]?\s*"
    r"(\d[\d_]*k?(?:\s*(?:,|\bor\b|\band\b|\|)\s*\d[\d_]*k?\b(?!\s*(?:=|%|x\b)))*)",
    re.IGNORECASE,
)
_CROSS = re.compile(r"\b(\d+(?:\s*[x×]\s*\d+)+)\b")
_TIMES = re.compile(r"\b(\d+(?:\.\d+)?)\s*(?:x\b|times\b|-fold\b|fold\b)", re.IGNORECASE)
_PERCENT = re.compile(r"\b(\d+(?:\.\d+)?)\s*(?:%|percent\b|per cent\b)", re.IGNORECASE)
_ROUNDS = re.compile(r"\b(\d+)\s+rounds?\b", re.IGNORECASE)
_SPAN = re.compile(
    r"\b(?:within|in|for|at most)\s+(\d+(?:\.\d+)?)\s*"
    r"(s|sec|seconds?|m|min|minutes?|h|hours?|days?)\b",
    re.IGNORECASE,
)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NO_BIAS = re.compile(r"\b(?:no|without)\s+(?:a\s+)?bias\b", re.IGNORECASE)
_MOST_SHAPES = 64


class KnownTarget(Message):
    """What a request is held against: one target that comes with the program."""

    name: str
    axes: tuple[str, ...]
    """Those whose size a workload gives."""
    inputs: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    devices: tuple[str, ...]
    dtypes: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Device to symbolic element type to its value."""
    goals: dict[str, str] = Field(default_factory=dict)
    """Device to the goal in words."""


class Request(Message):
    """What a sentence asks for."""

    text: str
    target: str
    device: str = ""
    """Empty: nobody said."""
    arch: str = ""
    shapes: tuple[dict[str, int], ...] = ()
    """Axis sizes of each workload; none: the target's own workloads."""
    dtype: str = ""
    speedup: float | None = None
    against: str = ""
    rounds: int | None = None
    wall_s: float | None = None
    assumptions: tuple[str, ...]
    """What was not said, and what it was taken to be."""


def is_request(text: str) -> bool:
    """Whether the argument of `run` is a sentence rather than a name or a path."""
    return bool(re.search(r"\S\s+\S", text)) and not text.endswith((".yaml", ".yml"))


def parse_request(text: str, known: tuple[KnownTarget, ...]) -> Request:
    """Return what a sentence asks for.

    Args:
        text: as the user wrote it.
        known: the targets it may mean.

    Raises:
        RequestIncomplete: something that no rule can supply is missing or contradicts itself; the
            message lists all of it.
    """
    named = _targets(text, known)
    if len(named) != 1:
        names = ", ".join(target.name for target in known)
        which = f"several kernels ({', '.join(t.name for t in named)})" if named else "no kernel"
        raise RequestIncomplete(
            f"the request names {which} of those that come with the program ({names}); name "
            "one of them, or write a target file and give its path"
        )
    return _Reader(text, named[0]).read()


def _targets(text: str, known: tuple[KnownTarget, ...]) -> list[KnownTarget]:
    """Return the targets that a sentence names; a name inside a longer one is not named."""
    plain = _plain(text)
    spans: list[tuple[int, int, KnownTarget]] = []
    for target in known:
        for name in (target.name, *_ALIASES.get(target.name, ())):
            named = re.finditer(rf"\b{re.escape(_plain(name))}\b", plain)
            spans += [(found.start(), found.end(), target) for found in named]
    outer = [
        target
        for start, end, target in spans
        if not any(
            other is not target and s <= start and end <= e and (e - s) > (end - start)
            for s, e, other in spans
        )
    ]
    return list({target.name: target for target in outer}.values())


def _plain(text: str) -> str:
    return re.sub(r"[\s_\-]+", " ", text.lower())


class _Reader:
    """One sentence against one target; collects what is assumed and what is missing."""

    def __init__(self, text: str, target: KnownTarget) -> None:
        self._text = text
        self._target = target
        self._words = set(re.findall(r"[a-z0-9_]+", text.lower()))
        self._assumed: list[str] = []
        self._missing: list[str] = []

    def read(self) -> Request:
        device, arch = self._hardware()
        shapes = self._shapes()
        dtype = self._dtype(device)
        speedup, against = self._goal(device)
        self._bias()
        if self._missing:
            raise RequestIncomplete(
                f"the request for {self._target.name} cannot be run:\n"
                + "\n".join(f"- {line}" for line in self._missing)
            )
        rounds = _ROUNDS.search(self._text)
        span = _SPAN.search(self._text)
        return Request(
            text=self._text,
            target=self._target.name,
            device=device,
            arch=arch,
            shapes=shapes,
            dtype=dtype,
            speedup=speedup,
            against=against,
            rounds=int(rounds[1]) if rounds else None,
            wall_s=float(span[1]) * _SECONDS[span[2][0].lower()] if span else None,
            assumptions=tuple(self._assumed),
        )

    def _hardware(self) -> tuple[str, str]:
        text = self._text.lower().replace(" ", "")
        gpus = [gpu for gpu in _GPUS if gpu in self._words or (gpu == "rtx4090" and gpu in text)]
        arches = dict.fromkeys(_GPUS[gpu] for gpu in gpus)
        if len(arches) > 1:
            self._missing.append(f"one GPU: {', '.join(gpus)} are of several architectures")
        device = "cuda" if gpus or self._words & {"gpu", "cuda", "nvidia"} else ""
        if not device and self._words & {"cpu", "processor", "x86"}:
            device = "cpu"
        if device and device not in self._target.devices:
            offered = ", ".join(self._target.devices)
            self._missing.append(f"a device that {self._target.name} is written for: {offered}")
        if not device:
            self._assumed.append("hardware: a GPU where target and pool have one, else the CPU")
            return "", ""
        arch = next(iter(arches), "")
        if arch:
            self._assumed.append(
                f"hardware: {gpus[0].upper()} means {arch}; the run is measured on the GPU that "
                "the pool has, and every record names it"
            )
        return device, arch

    def _shapes(self) -> tuple[dict[str, int], ...]:
        axes = {axis.lower(): axis for axis in self._target.axes}
        sizes: dict[str, list[int]] = {}
        for name, values in _AXIS.findall(self._text):
            if name.lower() in axes:
                sizes[axes[name.lower()]] = [
                    _number(v) for v in re.findall(r"\d[\d_]*k?", values, re.IGNORECASE)
                ]
            elif len(name) == 1:
                known = ", ".join(self._target.axes)
                self._missing.append(
                    f"{name}={values}: the axes of {self._target.name} are {known}"
                )
        cross = _CROSS.search(self._text)
        if cross and not sizes:
            given = [int(value) for value in re.findall(r"\d+", cross[1])]
            if len(given) == len(self._target.axes):
                sizes = {axis: [size] for axis, size in zip(self._target.axes, given, strict=True)}
                order = " x ".join(self._target.axes)
                self._assumed.append(f"shapes: {cross[1]} is read as {order}")
        if not sizes:
            self._assumed.append(f"shapes: the workloads that {self._target.name} comes with")
            return ()
        absent = [axis for axis in self._target.axes if axis not in sizes]
        if absent:
            self._missing.append(f"the size of {', '.join(absent)}: write {absent[0]}=...")
            return ()
        return self._points(sizes)

    def _points(self, sizes: dict[str, list[int]]) -> tuple[dict[str, int], ...]:
        if any(size < 1 for values in sizes.values() for size in values):
            self._missing.append("sizes of at least 1")
            return ()
        points = [
            dict(zip(sizes, chosen, strict=True)) for chosen in itertools.product(*sizes.values())
        ]
        if len(points) > _MOST_SHAPES:
            self._missing.append(
                f"fewer shapes: {len(points)} are asked for, {_MOST_SHAPES} at most"
            )
            return ()
        if len(points) > 1:
            self._assumed.append(f"weights: the {len(points)} shapes count alike")
        return tuple(points)

    def _dtype(self, device: str) -> str:
        found = list(dict.fromkeys(_DTYPES[word] for word in _DTYPES if word in self._words))
        if len(found) > 1:
            self._missing.append(f"one element type: {', '.join(found)} are named")
        if found:
            return found[0]
        types = self._target.dtypes.get(device or self._target.devices[0], {})
        if types:
            named = ", ".join(f"{name} is {dtype}" for name, dtype in types.items())
            self._assumed.append(f"element type: {named}, as the target says")
        return ""

    def _goal(self, device: str) -> tuple[float | None, str]:
        speedup = next(self._speedups(), None)
        lower = self._text.lower()
        against = max(
            (name for name in self._target.baselines if name.lower() in lower),
            key=len,
            default="",
        )
        if not against and re.search(r"\b(?:best|every|all|strongest)\s+baselines?\b", lower):
            against = "best"
        own = self._target.goals.get(device or self._target.devices[0], "the target's own")
        if speedup is None:
            self._assumed.append(f"goal: {own}")
        elif not against:
            self._assumed.append(f"baseline: as in the target's own goal, {own}")
        return speedup, against

    def _speedups(self) -> Iterator[float]:
        """Yield what is asked for as a speed-up; a percentage is one of speed."""
        percent = _PERCENT.search(self._text)
        if percent:
            share = float(percent[1]) / 100
            less = 100 * share / (1 + share)
            self._assumed.append(
                f"goal: {percent[1]} % is read as speed, {1 + share:.4g} times the baseline's, "
                f"which is {less:.1f} % less time"
            )
            yield 1 + share
        for found in _TIMES.finditer(_CROSS.sub(" ", self._text)):
            if float(found[1]) > 0:
                yield float(found[1])

    def _bias(self) -> None:
        """Refuse a bias that the target has not, or has and is not wanted."""
        has_bias = "bias" in self._target.inputs
        name = self._target.name
        if _NO_BIAS.search(self._text):
            if has_bias:
                self._missing.append(f"a kernel without bias: {name} has one; write a target file")
        elif "bias" in self._words and not has_bias and "bias" not in name:
            self._missing.append(f"a kernel with a bias: {name} has none; write a target file")


def _number(text: str) -> int:
    digits = text.lower().replace("_", "")
    return int(digits[:-1]) * 1024 if digits.endswith("k") else int(digits)
