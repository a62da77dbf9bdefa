"""Parameters and bindings that no target uses, at -O3, against double precision written here."""

import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from agents.playbook.catalogue import Recipe, Value, recipes_of, render
from agents.playbook.families import detect
from gpu_runner.problem import Problem, Scalar, Workload
from tests.agents.builders import problem_of
from tests.agents.playbook.kernels import compiled, contents
from tests.agents.playbook.test_kernels import machine_isa

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="recipes use x86 intrinsics"),
]

UNIT = 2.0**-24
EPS = 1e-5
Wide = np.ndarray
Answer = Callable[..., tuple[tuple[Wide, ...], Wide]]
"""Inputs to the outputs in double precision, and the size that errors are measured against."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A problem, what makes it, and what is right."""

    problem: Problem
    recipe: str
    parameters: Mapping[str, Value]
    shapes: tuple[dict[str, int], ...]
    answer: Answer
    units: float
    """Largest error, in roundings of the size."""
    isa: tuple[str, ...] = field(default_factory=machine_isa)

    def find(self) -> Recipe:
        match = detect(self.problem)
        found = [r for r in recipes_of(match.family, self.isa) if r.name == self.recipe]
        if not found:
            pytest.skip(f"this machine cannot run {match.family}/{self.recipe}")
        return found[0]


def logistic(v: Wide) -> Wide:
    grown: Wide = np.exp(-v)
    return 1 / (1 + grown)


def gelu(v: Wide) -> Wide:
    bent: Wide = np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))
    grown: Wide = 0.5 * v * (1 + bent)
    return grown


def softmax(x: Wide) -> tuple[tuple[Wide, ...], Wide]:
    grown = np.exp(x - x.max(-1, keepdims=True))
    y = grown / grown.sum(-1, keepdims=True)
    return (y,), y * (4 + np.abs(x - x.max(-1, keepdims=True)))


def deviating(x: Wide) -> tuple[tuple[Wide, ...], Wide]:
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPS)
    return (y,), 1 + np.abs(y)


def shifted(x: Wide, shift: Wide, eps: float) -> tuple[tuple[Wide, ...], Wide]:
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return (y + shift,), 1 + np.abs(y) + np.abs(shift)


def rms(x: Wide, w: Wide, eps: float) -> tuple[tuple[Wide, ...], Wide]:
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w
    return (y,), np.abs(y)


def added_rms(x: Wide, r: Wide, w: Wide, eps: float) -> tuple[tuple[Wide, ...], Wide]:
    total = (x.astype(np.float32) + r.astype(np.float32)).astype(np.float64)
    (y,), size = rms(total, w, eps)
    return (y, total), size + np.abs(total)


def gate(activation: Callable[[Wide], Wide]) -> Answer:
    def answer(x: Wide) -> tuple[tuple[Wide, ...], Wide]:
        left, right = np.split(x, 2, axis=-1)
        y = activation(left) * right
        return (y,), np.abs(y)

    return answer


def pointwise(activation: Callable[[Wide], Wide]) -> Answer:
    def answer(x: Wide) -> tuple[tuple[Wide, ...], Wide]:
        return (activation(x),), np.abs(activation(x)) + 1e-30

    return answer


def product(activation: Callable[[Wide], Wide], *, is_transposed: bool = True) -> Answer:
    def answer(x: Wide, w: Wide, bias: Wide | float = 0.0) -> tuple[tuple[Wide, ...], Wide]:
        turned = w.T if is_transposed else w
        size = np.abs(x) @ np.abs(turned) + np.abs(bias)
        return (activation(x @ turned + bias),), size * x.shape[1] ** 0.5

    return answer


def scaled(a: Wide, b: Wide, scale_a: Wide, scale_b: Wide) -> tuple[tuple[Wide, ...], Wide]:
    y = (a @ b.T) * scale_a[:, None] * scale_b
    return (y,), np.abs(y)


def turned(q: Wide, k: Wide, cos: Wide, sin: Wide) -> tuple[tuple[Wide, ...], Wide]:
    made = []
    for heads in (q, k):
        low, high = np.split(heads, 2, axis=-1)
        c, s = cos[:, None], sin[:, None]
        made.append(np.concatenate([low * c - high * s, high * c + low * s], -1))
    return tuple(made), np.array(8.0)


def mat(name: str, w: str, *, bias: bool = False, reference: str = "def run(): ...") -> Problem:
    inputs = {"x": "M K", "w": w} | ({"bias": "N"} if bias else {})
    return problem_of(name, inputs, {"y": "M N"}, reference=reference)


SCALARS = (Scalar(name="eps", default=EPS),)
ROWS = tuple({"M": 3, "H": n} for n in (1, 15, 16, 17, 33, 1023, 1025))
GATES = tuple({"M": 3, "D": n} for n in (1, 7, 16, 31, 129))
PRODUCTS = (
    *({"M": m, "N": 13, "K": 37} for m in (1, 2, 5, 9, 16, 33)),
    {"M": 17, "N": 1, "K": 1},
    {"M": 50, "N": 25, "K": 257},
)
GELU = "def run(x, w, bias):\n    return gelu(x @ w.T + bias, 0.044715)\n"

CASES = {
    "softmax of three axes through scratch": Case(
        problem=problem_of("softmax", {"x": "A B N"}, {"y": "A B N"}),
        recipe="three_pass",
        parameters={"unroll": 2, "prefetch": "none", "stores": "scratch", "exp_degree": 5},
        shapes=tuple({"A": 2, "B": 3, "N": n} for n in (1, 15, 17, 64, 127, 129)),
        answer=softmax,
        units=8,
    ),
    "softmax in small chunks past the caches": Case(
        problem=problem_of("softmax", {"x": "B N"}, {"y": "B N"}),
        recipe="online",
        parameters={"unroll": 2, "chunk": 1024, "stores": "streaming", "exp_degree": 5},
        shapes=tuple({"B": 2, "N": n} for n in (1, 17, 1023, 1024, 1025, 2100)),
        answer=softmax,
        units=8,
    ),
    "layernorm without weight or bias": Case(
        problem=problem_of(
            "layernorm", {"x": "M H"}, {"y": "M H"}, reference=f"def run(x): return x + {EPS}"
        ),
        recipe="three_pass",
        parameters={"unroll": 1, "prefetch": "none", "stores": "streaming"},
        shapes=ROWS[1:],
        answer=deviating,
        units=16,
    ),
    "layernorm with a shift alone": Case(
        problem=problem_of("layernorm", {"x": "M H", "shift": "H"}, {"y": "M H"}, scalars=SCALARS),
        recipe="three_pass",
        parameters={"unroll": 8, "prefetch": "row", "stores": "in_place"},
        shapes=ROWS[1:],
        answer=shifted,
        units=16,
    ),
    "rmsnorm without residual": Case(
        problem=problem_of("rmsnorm", {"x": "M H", "w": "H"}, {"y": "M H"}, scalars=SCALARS),
        recipe="two_pass",
        parameters={"unroll": 2, "prefetch": "none", "stores": "streaming"},
        shapes=ROWS,
        answer=rms,
        units=8,
    ),
    "rmsnorm that gives the sum back": Case(
        problem=problem_of(
            "rmsnorm",
            {"x": "M H", "r": "M H", "w": "H"},
            {"y": "M H", "sum": "M H"},
            scalars=SCALARS,
        ),
        recipe="two_pass",
        parameters={"unroll": 8, "prefetch": "row", "stores": "in_place"},
        shapes=ROWS,
        answer=added_rms,
        units=8,
    ),
    "gate of relu": Case(
        problem=problem_of("reglu", {"x": "M H"}, {"y": "M D"}, expressions={"H": "2 * D"}),
        recipe="vector",
        parameters={"division": "divide", "unroll": 1, "prefetch": "none", "stores": "streaming"},
        shapes=GATES,
        answer=gate(lambda v: np.maximum(v, 0)),
        units=2,
    ),
    "gate of sigmoid": Case(
        problem=problem_of("sigmoid_gate", {"x": "M H"}, {"y": "M D"}, expressions={"H": "2 * D"}),
        recipe="vector",
        parameters={"division": "divide", "unroll": 8, "exp_degree": 5},
        shapes=GATES,
        answer=gate(logistic),
        units=16,
    ),
    "sigmoid of three axes": Case(
        problem=problem_of("sigmoid", {"x": "A B C"}, {"y": "A B C"}),
        recipe="vector",
        parameters={"unroll": 2, "stores": "streaming", "exp_degree": 5},
        shapes=tuple({"A": 2, "B": 3, "C": n} for n in (1, 5, 16, 43, 171)),
        answer=pointwise(logistic),
        units=16,
    ),
    "silu in the narrowest vectors": Case(
        problem=problem_of("silu", {"x": "B N"}, {"y": "B N"}),
        recipe="vector",
        parameters={"unroll": 1, "division": "divide"},
        shapes=tuple({"B": 2, "N": n} for n in (1, 3, 4, 5, 101)),
        answer=pointwise(lambda v: v * logistic(v)),
        units=16,
        isa=(),
    ),
    "product with a weight of the other layout": Case(
        problem=mat("matmul", "K N"),
        recipe="tiles_256",
        parameters={"tile": "1x8", "few_rows": 8, "depth_unroll": 2, "depth_block": 64},
        shapes=PRODUCTS,
        answer=product(lambda v: v, is_transposed=False),
        units=2,
    ),
    "product with bias and gelu": Case(
        problem=mat("linear_gelu", "N K", bias=True, reference=GELU),
        recipe="tiles",
        parameters={"tile": "1x12", "few_rows": 2, "depth_unroll": 1, "depth_block": 256},
        shapes=PRODUCTS,
        answer=product(gelu),
        units=4,
    ),
    "int8 product without bias": Case(
        problem=problem_of(
            "qmm", {"a": "M K!", "b": "N K!", "scale_a": "M", "scale_b": "N"}, {"y": "M N"}
        ),
        recipe="vnni",
        parameters={"tile": "1x16", "few_rows": 8, "depth_unroll": 2},
        shapes=PRODUCTS,
        answer=scaled,
        units=4,
    ),
    "rope of two kinds of heads": Case(
        problem=problem_of(
            "rope",
            {"q": "M Q D", "k": "M G D", "cos": "M R", "sin": "M R"},
            {"q_out": "M Q D", "k_out": "M G D"},
            expressions={"D": "2 * R"},
        ),
        recipe="vector",
        parameters={"unroll": 4, "prefetch": 256, "stores": "streaming"},
        shapes=tuple({"M": 3, "Q": 5, "G": 2, "R": n} for n in (1, 15, 16, 17, 40)),
        answer=turned,
        units=4,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_variant_agrees_with_double_precision(name, tmp_path):
    case = CASES[name]
    recipe, match = case.find(), detect(case.problem)
    parameters = {**recipe.defaults(), **case.parameters}
    assert recipe.fits(parameters)
    candidate = render(recipe, match, parameters)
    kernel = compiled(
        case.problem, candidate.sources[0].text, tmp_path, flags=("-O3", *candidate.flags)
    )
    for number, axes in enumerate(case.shapes):
        workload = Workload(name="w", axes=axes)
        inputs = contents(case.problem, workload, "normal", number)
        wide = [inputs[t.name].astype(np.float64) for t in case.problem.inputs]
        expected, size = case.answer(*wide, *case.problem.scalar_values(workload))
        actual = kernel(workload, inputs)
        for tensor, right in zip(case.problem.outputs, expected, strict=True):
            error = np.abs(actual[tensor.name].astype(np.float64) - right)
            worst = float((error / (UNIT * size + 1e-40)).max())
            assert worst <= case.units, f"{axes} {tensor.name}: {worst:.3g} roundings"


def test_each_variant_leaves_the_defaults():
    for name, case in CASES.items():
        if {r.name for r in recipes_of(detect(case.problem).family, case.isa)} >= {case.recipe}:
            defaults = case.find().defaults()
            assert any(defaults[key] != value for key, value in case.parameters.items()), name
