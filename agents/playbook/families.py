"""Which kernel family a problem belongs to, and how its names bind to a recipe's. Pure.

A family is recognised by structure (ranks, dtypes, how axes relate) together with what the problem
is called and what its reference calls. A binding holds C expressions over `struct <problem>_args`;
`device_families` binds the names that launch plans use instead. A wrong guess costs attempts, never
a wrong result: every candidate is checked against the oracle.
"""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from agents.errors import NothingFits
from gpu_runner.expression import ExpressionError, evaluate
from gpu_runner.problem import DType, Problem, Tensor

Binding = Mapping[str, str | bool | int]
MATRIX = 2
"""Rank of a matrix."""
_TRIAL_SIZES = ((6, 10, 14, 22, 26, 34, 38, 46), (16, 12, 20, 28, 44, 52, 68, 76))
_SMALL = 0.01
"""A literal below this in a normalisation is its epsilon."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What recipes of a language compute in, and how they name axes and scalars."""

    floats: frozenset[DType]
    """Element types of tensors of numbers."""
    field: str
    """Format of an axis or a scalar."""
    one: str
    """The product of no axes."""
    has_erf: bool
    """Whether there are recipes for the erf form of GELU."""

    def product(self, axes: tuple[str, ...]) -> str:
        """Return the expression of a product of axes."""
        return " * ".join(self.field.format(axis) for axis in axes) or self.one


CPP = Dialect(floats=frozenset({DType.FLOAT32}), field="a->{}", one="int64_t{1}", has_erf=False)


@dataclass(frozen=True, kw_only=True)
class Match:
    """A problem seen as a member of a family."""

    family: str
    binding: Binding
    """Template variables: names of fields, C expressions, the activation."""


class Shape:
    """A problem with the questions that the recognisers ask of it."""

    def __init__(self, problem: Problem, dialect: Dialect = CPP) -> None:
        """Look at `problem` as recipes of `dialect` would."""
        self.problem = problem
        self.dialect = dialect
        self.inputs = problem.inputs
        self.outputs = problem.outputs
        self._tree = _parsed(problem.reference)

    @cached_property
    def words(self) -> frozenset[str]:
        """Every name and attribute that the reference uses, in lower case."""
        tree = self._tree
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        functions = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        return frozenset(word.lower() for word in names | attributes | functions)

    @property
    def title(self) -> str:
        """The problem's name without separators: `layer_norm` and `layernorm` are one."""
        return self.problem.name.lower().replace("_", "")

    def is_float(self, *tensors: Tensor) -> bool:
        """Say whether all are of types that the recipes take."""
        return all(t.dtype in self.dialect.floats for t in tensors)

    def field(self, name: str) -> str:
        """Return an axis or a scalar as the recipes name it."""
        return self.dialect.field.format(name)

    def rows(self, tensor: Tensor) -> dict[str, str | bool]:
        """Return the expressions of a tensor's extents as a matrix."""
        leading = self.dialect.product(tensor.shape[:-1])
        return {"rows": leading, "columns": self.field(tensor.shape[-1])}

    def is_twice(self, longer: str, shorter: str) -> bool:
        """Say whether one axis is always two times the other."""
        return all(sizes[longer] == 2 * sizes[shorter] for sizes in self._trials())

    def _trials(self) -> list[dict[str, int]]:
        variable = [a.name for a in self.problem.axes if a.kind == "var"]
        found = []
        for numbers in _TRIAL_SIZES:
            sizes = dict(zip(variable, numbers * (1 + len(variable) // len(numbers)), strict=False))
            sizes |= {a.name: a.value for a in self.problem.axes if a.value is not None}
            for axis in self.problem.axes:
                if axis.expression is not None:
                    try:
                        sizes[axis.name] = evaluate(axis.expression, sizes)
                    except ExpressionError:
                        sizes[axis.name] = -1
            found.append(sizes)
        return found

    def scalar_or_literal(self, name: str) -> str | None:
        """Return a scalar such as `eps`: an argument, or the one small literal there is."""
        found = [s for s in self.problem.scalar_names if name in s.lower()]
        if found:
            return self.field(found[0])
        literals = {
            n.value
            for n in ast.walk(self._tree)
            if isinstance(n, ast.Constant) and isinstance(n.value, float) and 0 < n.value < _SMALL
        }
        return repr(literals.pop()) if len(literals) == 1 else None


def _parsed(source: str) -> ast.Module:
    """Return the syntax tree; an empty one where the text is not Python (admission says so)."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def detect(problem: Problem, dialect: Dialect = CPP) -> Match:
    """Return the family of a problem and the binding of its names.

    Raises:
        NothingFits: no recipe covers it; the message says what to configure.
    """
    shape = Shape(problem, dialect)
    for family, recognise in _FAMILIES.items():
        binding = recognise(shape)
        if binding is not None:
            return Match(family=family, binding={"problem": problem.name, **binding})
    tensors = ", ".join(
        f"{t.name}[{', '.join(t.shape)}] {t.dtype}" for t in (*problem.inputs, *problem.outputs)
    )
    raise NothingFits(
        f"problem {problem.name!r}: no recipe covers {tensors}; configure a model provider with "
        f"--team, or add a recipe under agents/recipes/ (families: {', '.join(_FAMILIES)})"
    )


def _softmax(shape: Shape) -> Binding | None:
    if len(shape.inputs) != 1 or len(shape.outputs) != 1 or shape.problem.scalars:
        return None
    (x,), (y,) = shape.inputs, shape.outputs
    is_called_so = "softmax" in shape.title or {"exp", "max", "sum"} <= shape.words
    is_other = "log" in shape.title or {"log", "log_softmax", "cumsum"} & shape.words
    if not x.shape or x.shape != y.shape or not shape.is_float(x, y):
        return None
    if not is_called_so or is_other:
        return None
    return {**shape.rows(x), "x": x.name, "y": y.name}


def _rmsnorm(shape: Shape) -> Binding | None:
    is_called_so = "rms" in shape.title or (
        "sqrt" in shape.words and "norm" in shape.title and not _is_layernorm(shape)
    )
    full, vectors = _full_and_vectors(shape)
    eps = shape.scalar_or_literal("eps")
    if not is_called_so or eps is None or len(vectors) != 1 or len(full) not in {1, 2}:
        return None
    # Gemma's factor is 1 + weight; these recipes have none.
    weight = vectors[0].name
    if re.search(rf"\b1(\.0?)?\s*\+\s*{weight}\b|\b{weight}\s*\+\s*1\b", shape.problem.reference):
        return None
    binding: dict[str, str | bool] = {"weight": weight, "eps": eps, "residual_out": ""}
    if len(full) == 1:
        if len(shape.outputs) != 1:
            return None
        y = shape.outputs[0]
        return {**binding, **shape.rows(full[0]), "x": full[0].name, "y": y.name, "residual": ""}
    sums = [t for t in shape.outputs if re.search(r"res|sum|total|add", t.name)]
    normal = [t for t in shape.outputs if t not in sums[:1]]
    if len(normal) != 1:
        return None
    if sums:
        binding["residual_out"] = sums[0].name
    names = {"x": full[0].name, "residual": full[1].name, "y": normal[0].name}
    return {**binding, **shape.rows(full[0]), **names}


def _is_layernorm(shape: Shape) -> bool:
    return "layernorm" in shape.title or "layer_norm" in shape.words


def _layernorm(shape: Shape) -> Binding | None:
    full, vectors = _full_and_vectors(shape)
    eps = shape.scalar_or_literal("eps")
    if not _is_layernorm(shape) or eps is None or len(full) != 1 or len(shape.outputs) != 1:
        return None
    bias = [t.name for t in vectors if re.search(r"bias|beta|shift", t.name)]
    weight = [t.name for t in vectors if t.name not in bias]
    if len(bias) > 1 or len(weight) > 1:
        return None
    return {
        **shape.rows(full[0]),
        "x": full[0].name,
        "y": shape.outputs[0].name,
        "weight": weight[0] if weight else "",
        "bias": bias[0] if bias else "",
        "eps": eps,
    }


def _full_and_vectors(shape: Shape) -> tuple[list[Tensor], list[Tensor]]:
    """Return the inputs of the output's shape and the vectors over its last axis; [] else."""
    first = shape.outputs[0]
    full = [t for t in shape.inputs if t.shape == first.shape]
    vectors = [t for t in shape.inputs if t.shape == first.shape[-1:] and t not in full]
    fits = len(first.shape) > 1 and len(full) + len(vectors) == len(shape.inputs)
    same = all(t.shape == first.shape for t in shape.outputs)
    if not fits or not same or not shape.is_float(*shape.inputs, *shape.outputs):
        return [], []
    return full, vectors


def _activation(shape: Shape, *, may_be_absent: bool) -> str | None:
    """Return the activation a problem applies; None where it is not one of ours.

    Args:
        shape: the problem.
        may_be_absent: a product of matrices may have none, and its name may not tell which.
    """
    reference = shape.problem.reference
    if "gelu" in shape.title or "gelu" in shape.words or "0.044715" in reference:
        # The erf form differs from the tanh form by more than rounding.
        is_tanh = "0.044715" in reference or "tanh" in shape.title
        if "erf" in shape.words:
            return "gelu" if shape.dialect.has_erf and not is_tanh else None
        return "gelu_tanh" if is_tanh else None
    if re.search(r"leaky|relu6|(?<!r)elu|mish|hard", shape.title):
        return None
    named = [name for name, pattern in _NAMED.items() if re.search(pattern, shape.title)]
    if named or not may_be_absent:
        return named[0] if named else None
    if shape.words & {"erf", "tanh", "exp", "sigmoid", "silu", "log", "where"}:
        return "silu" if "silu" in shape.words else None
    return "relu" if shape.words & {"maximum", "relu", "clip"} else "identity"


_NAMED = {"silu": "silu|swiglu|swish", "relu": "relu|reglu", "sigmoid": "sigmoid"}


def _gated(shape: Shape) -> Binding | None:
    if len(shape.inputs) != 1 or len(shape.outputs) != 1 or shape.problem.scalars:
        return None
    (x,), (y,) = shape.inputs, shape.outputs
    activation = _activation(shape, may_be_absent=False)
    if activation is None or not y.shape or not shape.is_float(x, y):
        return None
    if x.shape[:-1] != y.shape[:-1] or not shape.is_twice(x.shape[-1], y.shape[-1]):
        return None
    return {**shape.rows(y), "x": x.name, "y": y.name, "activation": activation}


def _elementwise(shape: Shape) -> Binding | None:
    if len(shape.inputs) != 1 or len(shape.outputs) != 1 or shape.problem.scalars:
        return None
    (x,), (y,) = shape.inputs, shape.outputs
    activation = _activation(shape, may_be_absent=False)
    if activation is None or x.shape != y.shape or not shape.is_float(x, y):
        return None
    names = {"x": x.name, "y": y.name, "activation": activation}
    return {"elements": shape.dialect.product(x.shape), **names}


def _gemm(shape: Shape) -> Binding | None:
    found = _product_of_two(shape, shape.dialect.floats)
    if found is None or shape.problem.scalars:
        return None
    binding, rest = found
    n = shape.outputs[0].shape[1]
    activation = _activation(shape, may_be_absent=True)
    if activation is None or len(rest) > 1 or any(t.shape != (n,) for t in rest):
        return None
    if not shape.is_float(*rest):
        return None
    return {**binding, "bias": rest[0].name if rest else "", "activation": activation}


def _int8_gemm(shape: Shape) -> Binding | None:
    found = _product_of_two(shape, frozenset({DType.INT8}))
    if found is None or shape.problem.scalars:
        return None
    binding, rest = found
    m, n = shape.outputs[0].shape
    scales = [t for t in rest if "scale" in t.name.lower()]
    bias = [t for t in rest if t not in scales]
    by_row = [t.name for t in scales if t.shape == (m,)]
    by_column = [t.name for t in scales if t.shape == (n,)]
    is_right = len(by_row) == len(by_column) == 1 and len(scales) == 2  # noqa: PLR2004 - one of each
    if not is_right or len(bias) > 1 or any(t.shape != (n,) for t in bias):
        return None
    if not shape.is_float(*rest) or binding["layout"] != "nk":
        return None
    names = {"row_scale": by_row[0], "column_scale": by_column[0]}
    return {**binding, **names, "bias": bias[0].name if bias else ""}


def _product_of_two(
    shape: Shape, dtypes: frozenset[DType]
) -> tuple[dict[str, str | bool], list[Tensor]] | None:
    """Bind y[M, N] = x[M, K] w, w being [N, K] or [K, N]; return the other inputs beside it."""
    matrices = [t for t in shape.inputs if len(t.shape) == MATRIX]
    is_pair = len(matrices) == 2  # noqa: PLR2004 - two factors
    if not is_pair or len(shape.outputs) != 1 or len(shape.outputs[0].shape) != MATRIX:
        return None
    y = shape.outputs[0]
    m, n = y.shape
    x, w = matrices if matrices[0].shape[0] == m else matrices[::-1]
    k = x.shape[1]
    layouts = {(n, k): "nk", (k, n): "kn"}
    if x.shape[0] != m or w.shape not in layouts or len({m, n, k}) != 3:  # noqa: PLR2004 - all differ
        return None
    if x.dtype not in dtypes or w.dtype is not x.dtype or not shape.is_float(y):
        return None
    sizes = {"m": shape.field(m), "n": shape.field(n), "k": shape.field(k)}
    names = {"x": x.name, "w": w.name, "y": y.name, "layout": layouts[w.shape]}
    rest = [t for t in shape.inputs if t not in matrices]
    return {**sizes, **names}, rest


def _rope(shape: Shape) -> Binding | None:
    cosines = [t for t in shape.inputs if "cos" in t.name.lower()]
    sines = [t for t in shape.inputs if "sin" in t.name.lower() and t not in cosines]
    heads = [t for t in shape.inputs if t not in cosines and t not in sines]
    if len(cosines) != 1 or len(sines) != 1 or len(heads) != len(shape.outputs):
        return None
    angles = cosines[0]
    if sines[0].shape != angles.shape or len(angles.shape) != MATRIX:
        return None
    tokens, half = angles.shape
    for taken, given in zip(heads, shape.outputs, strict=True):
        is_heads = len(taken.shape) == 3 and taken.shape[0] == tokens  # noqa: PLR2004 - [tokens, heads, size]
        if not is_heads or taken.shape != given.shape or not shape.is_twice(taken.shape[2], half):
            return None
    # Interleaved pairs are another layout; its reference takes every other element.
    is_interleaved = re.search(r"::\s*2", shape.problem.reference)
    if is_interleaved or not shape.is_float(*shape.inputs, *shape.outputs):
        return None
    pairs = zip(heads, shape.outputs, strict=True)
    calls = ";".join(f"{taken.name},{given.name},{taken.shape[1]}" for taken, given in pairs)
    names = {"cosines": angles.name, "sines": sines[0].name, "calls": calls}
    return {"rows": shape.field(tokens), "half": shape.field(half), **names}


_FAMILIES: dict[str, Callable[[Shape], Binding | None]] = {
    "softmax": _softmax,
    "rmsnorm": _rmsnorm,
    "layernorm": _layernorm,
    "gated": _gated,
    "elementwise": _elementwise,
    "int8_gemm": _int8_gemm,
    "gemm": _gemm,
    "rope": _rope,
}
