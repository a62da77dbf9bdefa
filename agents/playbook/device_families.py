"""The families as recipes for a GPU name them: tensors, axes and scalars of launch plans. Pure.

Kernels receive what a launch plan passes, so a binding holds names of tensors and scalars and
expressions over axes, never C. One element type runs through a problem: mixed ones are left.

Every family binds `problem`, `dtype` ("bfloat16"), `ctype` ("kp_bf16") and `item_bytes`. Products
of matrices bind `a` [m, k], `b` [n, k], `output` [m, n], `bias` [n] or "", the axes `m`, `n`, `k`,
`dtype` of `a` and `b`, `out_dtype` and `out_ctype` of output and bias; `gemm` an `activation` of
{none, relu, silu, gelu_tanh, gelu}, `int8_gemm` float32 `scale_a` [m] and `scale_b` [n].
"""

import re
from collections.abc import Mapping

from agents.errors import NothingFits
from agents.playbook.families import Binding, Dialect, Match, Shape, detect
from gpu_runner.problem import DType, Problem

DEVICE = Dialect(
    floats=frozenset({DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32}),
    field="{}",
    one="1",
    has_erf=True,
)
_CTYPES = {
    DType.FLOAT16: "kp_fp16",
    DType.BFLOAT16: "kp_bf16",
    DType.FLOAT32: "float",
    DType.INT8: "int8_t",
}
_NAMES = {"x": "input", "y": "output"}
_PRODUCT_NAMES = {
    "x": "a",
    "w": "b",
    "y": "output",
    "row_scale": "scale_a",
    "column_scale": "scale_b",
}
_PRODUCTS = {"gemm", "int8_gemm"}


def detect_on_device(problem: Problem) -> Match:
    """Return the family of a problem and its names as launch plans use them.

    Raises:
        NothingFits: no recipe covers it; the message says what to configure.
    """
    quantised = _quantize(Shape(problem, DEVICE))
    if quantised is not None:
        return Match(family="quantize", binding=quantised)
    match = detect(problem, DEVICE)
    bind = _product if match.family in _PRODUCTS else _rows
    return Match(family=match.family, binding=bind(problem, match))


def _quantize(shape: Shape) -> Binding | None:
    """Bind q[..., H], scale[...] = x[..., H] by the largest magnitude of each row over 127."""
    if len(shape.inputs) != 1 or len(shape.outputs) != _OF_QUANTISING or shape.problem.scalars:
        return None
    (x,), (q, scale) = shape.inputs, sorted(shape.outputs, key=lambda t: -len(t.shape))
    least = shape.scalar_or_literal("least")
    is_called_so = "quant" in shape.title and re.search(r"\b127\b", shape.problem.reference)
    is_shaped_so = bool(x.shape) and q.shape == x.shape and scale.shape == x.shape[:-1]
    is_typed_so = q.dtype is DType.INT8 and scale.dtype is DType.FLOAT32 and shape.is_float(x)
    if not is_called_so or not is_shaped_so or not is_typed_so or least is None:
        return None
    names = {"problem": shape.problem.name, "input": x.name, "output": q.name, "scale": scale.name}
    return {**names, **shape.rows(x), **_types("", x.dtype), "least": least}


_OF_QUANTISING = 2
"""Outputs: the integers and their scales."""


def _rows(problem: Problem, match: Match) -> Binding:
    """Bind a family whose tensors are all of one type."""
    dtype = _one_type(problem, {t.name: t.dtype for t in (*problem.inputs, *problem.outputs)})
    names = {_NAMES.get(key, key): value for key, value in match.binding.items()}
    binding: dict[str, str | bool | int] = {**names, **_types("", dtype)}
    if "eps" in binding:
        # A plan passes scalars by name; a number of the reference becomes one of the source.
        is_scalar = binding["eps"] in problem.scalar_names
        binding["eps_value"] = "" if is_scalar else str(binding["eps"])
        binding["eps"] = binding["eps"] if is_scalar else ""
    return binding


def _product(problem: Problem, match: Match) -> Binding:
    """Bind a product of matrices; the second one is stored by output columns."""
    bound = match.binding
    tensors = {t.name: t.dtype for t in (*problem.inputs, *problem.outputs)}
    activation = str(bound.get("activation", "identity"))
    dtype, out = tensors[str(bound["x"])], tensors[str(bound["y"])]
    kept = {name: tensors[name] for name in (bound["y"], bound["bias"]) if name in tensors}
    _one_type(problem, kept)
    is_half = {dtype, out} <= {DType.FLOAT16, DType.BFLOAT16, DType.INT8}
    scales = [tensors[str(bound[key])] for key in ("row_scale", "column_scale") if key in bound]
    is_scaled_right = all(scale is DType.FLOAT32 for scale in scales)
    if not is_half or not is_scaled_right or bound["layout"] != "nk" or activation == "sigmoid":
        raise NothingFits(
            f"problem {problem.name!r}: the device recipes of {match.family} take a [M, K] and "
            f"b [N, K] of float16, bfloat16 or int8 with float32 scales, and no sigmoid; here "
            f"{dtype} [{bound['layout']}] gives {out}; configure a model provider with --team"
        )
    names = {_PRODUCT_NAMES.get(k, k): v for k, v in bound.items() if k != "layout"}
    types = {**_types("", dtype), **_types("out_", out)}
    return {**names, **types, "activation": "none" if activation == "identity" else activation}


def _types(prefix: str, dtype: DType) -> dict[str, str | int]:
    return {
        f"{prefix}dtype": dtype.value,
        f"{prefix}ctype": _CTYPES[dtype],
        f"{prefix}item_bytes": dtype.item_bytes,
    }


def _one_type(problem: Problem, types: Mapping[str, DType]) -> DType:
    found = set(types.values())
    if len(found) > 1:
        listed = ", ".join(f"{name} is {dtype}" for name, dtype in types.items())
        raise NothingFits(
            f"problem {problem.name!r}: the device recipes take one element type, but {listed}; "
            "configure a model provider with --team"
        )
    return found.pop()
