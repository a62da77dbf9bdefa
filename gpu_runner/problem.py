"""What has to be computed, on which shapes: Problem (K and R) and Workload (one point of W).

Nouns only. Definitions in the field's interchange format are read by `definitions.py`; a Problem
is concrete: every tensor has one dtype. Axis sizes come from a Workload.
"""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from gpu_runner.expression import evaluate, names_in
from gpu_runner.message import Message, Name


class DType(StrEnum):
    """Element types, named as torch names them."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT64 = "int64"
    INT32 = "int32"
    INT8 = "int8"
    UINT8 = "uint8"
    BOOL = "bool"

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return _ITEM_BYTES[self]

    @property
    def is_float(self) -> bool:
        """Whether the type holds fractions."""
        return self in _UNIT_ROUNDOFF

    @property
    def unit_roundoff(self) -> float:
        """Half the distance from 1 to the next larger number; 0 for integers."""
        return _UNIT_ROUNDOFF.get(self, 0.0)


_ITEM_BYTES = {
    DType.FLOAT64: 8,
    DType.FLOAT32: 4,
    DType.FLOAT16: 2,
    DType.BFLOAT16: 2,
    DType.INT64: 8,
    DType.INT32: 4,
    DType.INT8: 1,
    DType.UINT8: 1,
    DType.BOOL: 1,
}
_UNIT_ROUNDOFF = {
    DType.FLOAT64: 2.0**-53,
    DType.FLOAT32: 2.0**-24,
    DType.FLOAT16: 2.0**-11,
    DType.BFLOAT16: 2.0**-8,
}


class Axis(Message):
    """A named size: fixed by the problem, chosen by the workload, or computed from other axes."""

    name: Name
    kind: Literal["const", "var", "expr"]
    value: int | None = Field(default=None, ge=0)
    """The size of a const axis."""
    expression: str | None = None
    """The size of an expr axis, over const and var axes: `H // 2`."""

    @model_validator(mode="after")
    def _fields_match_kind(self) -> Self:
        wanted = {"const": "value", "var": None, "expr": "expression"}[self.kind]
        for field in ("value", "expression"):
            present = getattr(self, field) is not None
            if present != (field == wanted):
                verb = "needs" if field == wanted else "must not have"
                msg = f"axis {self.name!r} of kind {self.kind!r} {verb} {field!r}"
                raise ValueError(msg)
        return self


class Tensor(Message):
    """A contiguous row-major array over named axes."""

    name: Name
    shape: tuple[Name, ...]
    """Axis names, outermost first; empty for a 0-d tensor."""
    dtype: DType
    description: str = ""


class Scalar(Message):
    """A number passed by value."""

    name: Name
    kind: Literal["int", "float"] = "float"
    default: float | None = None
    """Used where a workload names no value."""


class Tolerance(Message):
    """How far an output may be from the fp64 oracle, elementwise, all elements, NaN counted.

    |y - y64| <= relative_units * u * |y64| + absolute, u the unit roundoff of the output dtype. A
    reference that defines `bound(...)` replaces this by its own elementwise bound (error analysis
    of the operation); the figures here then serve only what it does not cover.

    Source: MEASUREMENT C3.
    """

    relative_units: float = Field(default=4.0, gt=0)
    absolute: float = Field(default=0.0, ge=0)
    rms_factor: float = Field(default=3.0, gt=0)
    """Root-mean-square error may be at most this many times the trusted same-precision one."""


class ProfileName(StrEnum):
    """Distributions of input contents (MEASUREMENT C4)."""

    NORMAL = "normal"
    UNIFORM = "uniform"
    OFFSET = "offset"
    LOG_UNIFORM = "log_uniform"
    MIXED_ROWS = "mixed_rows"
    LARGE = "large"
    DENORMAL = "denormal"
    ZEROS = "zeros"
    CONSTANT = "constant"
    ONE_HOT = "one_hot"
    SORTED = "sorted"
    SPARSE = "sparse"
    INTEGERS = "integers"
    ALTERNATING = "alternating"
    NAN_ONE = "nan_one"
    INF_MASK = "inf_mask"


class InputRule(Message):
    """How one input's contents are drawn."""

    input: Name
    role: Literal["activation", "parameter"] = "activation"
    """Profiles apply to activations; a parameter is always drawn from `range`, never 0 or 1."""
    low: float = -1.0
    high: float = 1.0
    """Range of a parameter, or of integer contents, inclusive for integers."""


class Workload(Message):
    """One point of W."""

    name: Name
    axes: dict[Name, int]
    """A size for each var axis."""
    scalars: dict[Name, float] = Field(default_factory=dict)
    weight: float = Field(default=1.0, gt=0)
    """Share of use; weights of public workloads are normalised where they are used."""
    profile: ProfileName = ProfileName.NORMAL
    visibility: Literal["public", "hidden"] = "public"
    """Hidden workloads decide acceptance; nobody who writes kernels sees them."""
    source: str = ""
    """Where the shape is met in practice."""


class Problem(Message):
    """K and R: the tensors, the axes, the reference that says what is right."""

    name: Name
    description: str = ""
    axes: tuple[Axis, ...]
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    scalars: tuple[Scalar, ...] = ()
    constraints: tuple[str, ...] = ()
    """Conditions over axes that every workload must meet: `H % 2 == 0`."""
    reference: str
    """Python source defining `run(*inputs, *scalars)`; given float64 arrays it answers in float64.
    It may define `bound(*inputs, *scalars, expected=...)`: elementwise absolute error bounds."""
    array_type: Literal["numpy", "torch"] = "numpy"
    """What the reference computes on."""
    tolerance: Tolerance = Tolerance()
    rules: tuple[InputRule, ...] = ()
    profiles: tuple[ProfileName, ...] = (ProfileName.NORMAL,)
    """Distributions the contract covers; hidden checks draw from all of them."""
    library_ops: tuple[str, ...] = ()
    """Operators (`aten::_softmax`) that a candidate may not call: that would be the baseline."""
    flops: str = "0"
    """Expression over axes: floating-point (or integer multiply-add) operations of one call."""

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        axes = [axis.name for axis in self.axes]
        names = [*axes, *(t.name for t in (*self.inputs, *self.outputs)), *self.scalar_names]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            msg = f"problem {self.name!r} uses the name {repeated[0]!r} more than once"
            raise ValueError(msg)
        for tensor in (*self.inputs, *self.outputs):
            for axis in tensor.shape:
                if axis not in axes:
                    msg = f"tensor {tensor.name!r} uses the unknown axis {axis!r}; axes: {axes}"
                    raise ValueError(msg)
        for text in (*self.constraints, self.flops, *(a.expression or "0" for a in self.axes)):
            unknown = sorted(names_in(text) - set(axes))
            if unknown:
                msg = f"expression {text!r} uses the unknown axis {unknown[0]!r}; axes: {axes}"
                raise ValueError(msg)
        for rule in self.rules:
            if rule.input not in [t.name for t in self.inputs]:
                msg = f"rule for {rule.input!r}: no such input"
                raise ValueError(msg)
        return self

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """Names of the scalars, in call order."""
        return tuple(s.name for s in self.scalars)

    def sizes(self, workload: Workload) -> dict[str, int]:
        """Return the size of every axis, in declaration order.

        Raises:
            ValueError: an axis has no size, is unknown, or a constraint fails; names which.
        """
        var_axes = {a.name for a in self.axes if a.kind == "var"}
        if set(workload.axes) != var_axes:
            odd = sorted(set(workload.axes) ^ var_axes)
            msg = f"workload {workload.name!r}: axes {odd} are missing or not var axes"
            raise ValueError(msg)
        known = dict(workload.axes)
        known.update({a.name: a.value for a in self.axes if a.value is not None})
        for axis in self.axes:
            if axis.expression is not None:
                known[axis.name] = int(evaluate(axis.expression, known))
        for text in self.constraints:
            if not evaluate(text, known):
                msg = f"workload {workload.name!r} breaks the constraint {text!r}"
                raise ValueError(msg)
        return {axis.name: known[axis.name] for axis in self.axes}

    def shape(self, tensor: Tensor, workload: Workload) -> tuple[int, ...]:
        """Return the tensor's extents under a workload."""
        sizes = self.sizes(workload)
        return tuple(sizes[axis] for axis in tensor.shape)

    def scalar_values(self, workload: Workload) -> tuple[float | int, ...]:
        """Return the scalars' values in call order.

        Raises:
            ValueError: a scalar has neither a value nor a default.
        """
        values: list[float | int] = []
        for scalar in self.scalars:
            value = workload.scalars.get(scalar.name, scalar.default)
            if value is None:
                msg = f"workload {workload.name!r} gives no value for the scalar {scalar.name!r}"
                raise ValueError(msg)
            values.append(int(value) if scalar.kind == "int" else float(value))
        return tuple(values)

    def required_bytes(self, workload: Workload) -> int:
        """Return the bytes one call must at least read and write."""
        total = 0
        for tensor in (*self.inputs, *self.outputs):
            count = 1
            for size in self.shape(tensor, workload):
                count *= size
            total += count * tensor.dtype.item_bytes
        return total

    def required_flops(self, workload: Workload) -> float:
        """Return the operations one call must do; 0 where the problem names none."""
        return float(evaluate(self.flops, self.sizes(workload)))
