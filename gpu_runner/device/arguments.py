"""Kernel arguments of a launch plan for one workload: pointers, words and tensor maps. Pure."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from gpu_runner.candidate import Argument, Launch, Slice, TensorMap, Value
from gpu_runner.device.concrete import ConcreteArgument, Map, Pointer, Scratch, Word
from gpu_runner.device.kernel_index import CompiledKernel, parameter_bytes
from gpu_runner.device.plan_rules import WORKSPACE, Site, Words
from gpu_runner.expression import ExpressionError, evaluate
from gpu_runner.problem import Axis, Scalar, Tensor

POINTER_BYTES = 8
MAP_BYTES = 128
SLICE_ALIGNMENT = 16
_FORMATS = {"i32": "<i", "i64": "<q", "f32": "<f", "f64": "<d"}
_MOST_BOX = 256
_MOST_EXTENT = 2**32
_MOST_STRIDE_BYTES = 2**40
_SWIZZLE_BYTES = {"32B": 32, "64B": 64, "128B": 128}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One workload as plans see it."""

    words: Words
    sizes: Mapping[str, int]
    scalars: Mapping[str, float | int]
    name: str = ""
    """The workload's; for messages."""

    def number(self, site: Site, field: str, text: str) -> int:
        """Return the value of an expression.

        Raises:
            PlanError: it has none here.
        """
        try:
            return evaluate(text, self.sizes)
        except ExpressionError as error:
            raise site.error(field, f"workload {self.name!r}: {error}") from error


def lower_argument(
    site: Site, field: str, argument: Argument, point: Point, workspace_bytes: int
) -> ConcreteArgument:
    """Return what the launcher passes for one argument of a plan.

    Raises:
        PlanError: a number does not fit its type, a slice lies outside the workspace, or a tensor
            map breaks a rule of the bulk copy engine.
    """
    match argument:
        case Value():
            return _value(site, field, argument, point)
        case Slice(workspace=text):
            offset = point.number(site, f"{field}.workspace", text)
            return _scratch(site, f"{field}.workspace", offset, workspace_bytes)
        case TensorMap():
            return _map(site, field, argument, point)
        case str() as name:
            return _bare(site, field, name, point, workspace_bytes)


def refuse_mismatch(site: Site, field: str, passed: Argument, words: Words, parameter: str) -> None:
    """Raise unless an argument has the size and kind of the kernel's parameter.

    Raises:
        PlanError: says what is passed and how the kernel declares it.
    """
    size, kind = _passed(passed, words)
    if size == parameter_bytes(parameter) and _agrees(kind, parameter):
        return
    raise site.error(
        field,
        f"the plan passes {size} bytes ({kind}), the kernel declares this parameter as "
        f'{parameter}; change the kernel, or pass {{"value": ..., "type": "i32"}} and its like',
    )


def refuse_unfit(site: Site, launch: Launch, words: Words, kernel: CompiledKernel) -> None:
    """Raise unless a launch passes what the compiled kernel declares.

    Raises:
        PlanError: their numbers, sizes or kinds differ.
    """
    refuse_count(site, len(launch.arguments), kernel)
    for index, argument in enumerate(launch.arguments):
        refuse_mismatch(site, f"arguments[{index}]", argument, words, kernel.parameters[index])


def refuse_count(site: Site, passed: int, kernel: CompiledKernel) -> None:
    """Raise unless the plan passes as many arguments as the kernel has parameters.

    Raises:
        PlanError: says both numbers.
    """
    wanted = len(kernel.parameters) - kernel.hidden
    if passed != wanted:
        raise site.error(
            "arguments",
            f"the plan passes {passed}, the kernel takes {wanted}: "
            f"{', '.join(kernel.parameters[:wanted]) or 'none'}",
        )


def _passed(passed: Argument, words: Words) -> tuple[int, str]:
    """Return the size and the kind of an argument."""
    match passed:
        case TensorMap():
            return MAP_BYTES, "tensor map"
        case Value(type=kind):
            return int(kind[1:]) // 8, "float" if kind[0] == "f" else "integer"
        case str() as name:
            match words.means(name):
                case Axis() | Scalar(kind="int"):
                    return 8, "integer"
                case Scalar():
                    return 8, "float"
                case _:
                    return POINTER_BYTES, "pointer"
        case _:
            return POINTER_BYTES, "pointer"


def _agrees(kind: str, parameter: str) -> bool:
    """Whether kinds agree as far as PTX tells them: its `b` types name none."""
    letter = parameter[0]
    return letter == "b" or (letter == "f") == (kind == "float")


def _bare(
    site: Site, field: str, name: str, point: Point, workspace_bytes: int
) -> ConcreteArgument:
    match point.words.means(name):
        case Tensor():
            return Pointer(tensor=name)
        case Axis():
            return _word(site, field, "i64", point.sizes[name])
        case Scalar(kind=kind):
            return _word(site, field, "i64" if kind == "int" else "f64", point.scalars[name])
        case _ if name == WORKSPACE:
            return _scratch(site, field, 0, workspace_bytes)
        case _:
            raise site.error(field, f"{name!r} is no tensor, axis or scalar of the problem")


def _value(site: Site, field: str, argument: Value, point: Point) -> Word:
    name = argument.value.strip()
    value: float | int
    if name in point.scalars:
        value = point.scalars[name]
    else:
        value = point.number(site, f"{field}.value", argument.value)
    if argument.divisible != 1 and value % argument.divisible:
        raise site.error(
            f"{field}.divisible",
            f"{argument.value!r} gives {value}, no multiple of {argument.divisible}; guard the "
            "plan, and add one without divisible",
        )
    return _word(site, f"{field}.value", argument.type, value)


def _word(site: Site, field: str, kind: str, value: float) -> Word:
    try:
        return Word(bytes=struct.pack(_FORMATS[kind], value))
    except (struct.error, OverflowError) as error:
        raise site.error(field, f"{value} does not fit {kind}; pass a wider type") from error


def _scratch(site: Site, field: str, offset: int, workspace_bytes: int) -> Scratch:
    if offset % SLICE_ALIGNMENT:
        raise site.error(field, f"offset {offset} is no multiple of {SLICE_ALIGNMENT} bytes")
    if not 0 <= offset < workspace_bytes:
        raise site.error(
            field, f"offset {offset} lies outside the plan's workspace of {workspace_bytes} bytes"
        )
    return Scratch(offset=offset)


def _map(site: Site, field: str, argument: TensorMap, point: Point) -> Map:
    tensor = point.words.tensors[argument.tensor]
    extents = [point.sizes[axis] for axis in tensor.shape] or [1]
    rows, columns = math.prod(extents[:-1]), extents[-1]
    if argument.rows:
        rows = point.number(site, f"{field}.rows", argument.rows)
    if argument.columns:
        columns = point.number(site, f"{field}.columns", argument.columns)
    box_rows, box_columns = (
        point.number(site, f"{field}.box[{index}]", text) for index, text in enumerate(argument.box)
    )
    made = Map(
        tensor=tensor.name,
        rows=rows,
        columns=columns,
        box=(box_rows, box_columns),
        item_bytes=tensor.dtype.item_bytes,
        dtype=tensor.dtype,
        swizzle=argument.swizzle,
        l2_promotion=argument.l2_promotion,
    )
    broken = _broken_rule(made, math.prod(extents))
    if broken is not None:
        part, text = broken
        raise site.error(f"{field}.{part}", f"{text}; guard the plan, or change the map")
    return made


def _broken_rule(made: Map, elements: int) -> tuple[str, str] | None:
    """Return the part of a map that breaks a rule and how; the rules of cuTensorMapEncodeTiled."""
    stride = made.columns * made.item_bytes
    width = made.box[1] * made.item_bytes
    span = _SWIZZLE_BYTES.get(made.swizzle)
    rules = (
        ("rows", 1 <= made.rows <= _MOST_EXTENT, f"{made.rows} rows; 1 to 2^32 are possible"),
        (
            "columns",
            1 <= made.columns <= _MOST_EXTENT,
            f"{made.columns} columns; 1 to 2^32 are possible",
        ),
        (
            "rows",
            made.rows * made.columns <= elements,
            f"{made.rows} x {made.columns} elements of the {elements} that {made.tensor!r} has",
        ),
        (
            "columns",
            stride % 16 == 0 and stride < _MOST_STRIDE_BYTES,
            f"a row has {stride} bytes; a multiple of 16 below 2^40 is needed",
        ),
        *(
            (f"box[{index}]", 1 <= extent <= _MOST_BOX, f"{extent}; 1 to {_MOST_BOX} are possible")
            for index, extent in enumerate(made.box)
        ),
        ("box[1]", width % 16 == 0, f"a box row has {width} bytes; a multiple of 16 is needed"),
        (
            "box[1]",
            span is None or width <= span,
            f"a box row has {width} bytes; swizzle {made.swizzle} takes at most {span}",
        ),
    )
    return next(((part, text) for part, holds, text in rules if not holds), None)
