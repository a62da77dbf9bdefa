"""How tensors' shapes become axis sizes, as Python source: the binding of a problem. Pure.

Axes are bound in the order in which the inputs name them. An axis that only an expression knows
(`D` of `D2 = 2 * D`, where the input has the extent `D2`) is solved for; the expression has to be
a straight line in it.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gpu_runner.expression import evaluate, names_in
from gpu_runner.problem import DType, Problem, Tensor
from graph.errors import ShipFailed

_PROBES: Final = (0, 1, 2, 7, 1000)
_OTHERS: Final = 3
"""Size of every other axis while an expression is probed."""
_COLUMNS: Final = 100
_CTYPES: Final = {"int": "c_int64", "float": "c_double"}


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of the operator."""

    name: str
    extents: str
    """A tuple over `sizes`, as source."""
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Pieces of source that the templates put together."""

    parameters: str
    """Tensors and scalars with their types and defaults, as the operator takes them."""
    destination_parameters: str
    tensor_parameters: str
    shape_parameters: str
    axis_parameters: str
    schema: str
    """The operator as torch declares it."""
    destination_schema: str
    """The operator that writes given tensors."""
    arguments: str
    """Names of tensors and scalars, separated by commas; so are the next four."""
    tensors: str
    shapes: str
    scalars: str
    destinations: str
    destination_arguments: str
    """Everything that the writing operator takes."""
    input_tuple: str
    scalar_tuple: str
    output_tuple: str
    first: str
    """Name of the first input."""
    input_count: int
    returns: str
    size_lines: tuple[str, ...]
    axes: tuple[str, ...]
    contract: str
    """A condition over axes; `True` where there is none."""
    idle: str
    """Axes that the contract does not look at, separated by commas."""
    outputs: tuple[Output, ...]
    solves: bool
    needs_ceil_div: bool


def bind(problem: Problem) -> Binding:
    """Return the binding of a problem.

    Raises:
        ShipFailed: an axis does not follow from the shapes of the inputs; names it.
    """
    lines = tuple(_size_lines(problem))
    inputs = [t.name for t in problem.inputs]
    outputs = [t.name for t in problem.outputs]
    typed = ", ".join(f"{name}: Tensor" for name in inputs)
    written = ", ".join(f"{name}: Tensor" for name in outputs)
    plain = "".join(f", {s.name}: {s.kind}" for s in problem.scalars)
    texts = [*problem.constraints, *(a.expression or "" for a in problem.axes)]
    used = {name for text in problem.constraints for name in names_in(text)}
    count = len(outputs)
    return Binding(
        parameters=typed + _scalar_parameters(problem),
        destination_parameters=f"{typed}{plain}, {written}",
        tensor_parameters=typed,
        axis_parameters="".join(["*", *(f", {axis.name}: int" for axis in problem.axes)]),
        schema=_schema(problem),
        destination_schema=_destination_schema(problem),
        arguments=", ".join([*inputs, *problem.scalar_names]),
        shape_parameters=", ".join(f"{name}: Sequence[int]" for name in inputs),
        tensors=", ".join(inputs),
        shapes=", ".join(f"{name}.shape" for name in inputs),
        scalars=", ".join(problem.scalar_names),
        destinations=", ".join(outputs),
        destination_arguments=", ".join([*inputs, *problem.scalar_names, *outputs]),
        input_tuple=_tuple(inputs),
        scalar_tuple=_tuple(problem.scalar_names),
        output_tuple=_tuple(outputs),
        first=inputs[0],
        input_count=len(inputs),
        idle=", ".join(a.name for a in problem.axes if a.name not in used),
        returns="Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]",
        size_lines=lines,
        axes=tuple(axis.name for axis in problem.axes),
        contract=" and ".join(_python(text) for text in problem.constraints) or "True",
        outputs=tuple(_output(problem, tensor) for tensor in problem.outputs),
        solves=any("_solve(" in line for line in lines),
        needs_ceil_div=any("ceil_div" in text for text in texts),
    )


def struct_fields(problem: Problem) -> tuple[tuple[str, str], ...]:
    """Return field names and ctypes of the struct in `problem.h`, in its order."""
    pointers = [(t.name, "c_void_p") for t in (*problem.inputs, *problem.outputs)]
    axes = [(axis.name, "c_int64") for axis in problem.axes]
    scalars = [(s.name, _CTYPES[s.kind]) for s in problem.scalars]
    return (*pointers, *axes, *scalars, ("threads", "c_int64"))


def torch_dtype(dtype: DType) -> str:
    """Return an element type as torch writes it."""
    return f"torch.{dtype.value}"


def _size_lines(problem: Problem) -> Iterator[str]:
    """Yield statements that bind every axis, then check what was bound twice."""
    bound: set[str] = set()
    checks: list[str] = []
    for tensor in problem.inputs:
        new = [axis for axis in dict.fromkeys(tensor.shape) if axis not in bound]
        if new:
            targets = ", ".join(
                a if a in new and a not in tensor.shape[:i] else "_"
                for i, a in enumerate(tensor.shape)
            )
            rank = len(tensor.shape)
            comma = "," if rank == 1 else ""
            yield f'{targets}{comma} = _extents("{tensor.name}", {tensor.name}, {rank})'
        if len(new) < len(tensor.shape) or not tensor.shape:
            checks.append(f'_expect("{tensor.name}", {tensor.name}, {_extents(tensor)})')
        bound |= set(new)
    yield from _derived(problem, bound)
    yield from checks


def _derived(problem: Problem, bound: set[str]) -> Iterator[str]:
    """Yield statements for axes that no input names, and checks of the computed ones."""
    texts = {a.name: a.expression for a in problem.axes if a.expression is not None}
    for name, text in texts.items():
        unknown = [a for a in sorted(names_in(text)) if a not in bound and a not in texts]
        values = {a.name: a.value for a in problem.axes if a.value is not None}
        unknown = [a for a in unknown if a not in values]
        if name in bound and len(unknown) == 1 and _is_line(text, unknown[0]):
            yield f"{unknown[0]} = _solve({name}, lambda {unknown[0]}: {_python(text)})"
            bound.add(unknown[0])
    for axis in problem.axes:
        if axis.value is not None and axis.name not in bound:
            yield f"{axis.name} = {axis.value}"
        elif axis.value is not None:
            yield from _agreement(axis.name, str(axis.value))
    missing = [a.name for a in problem.axes if a.kind == "var" and a.name not in bound]
    if missing:
        raise ShipFailed(
            f"problem {problem.name!r}: the axis {missing[0]!r} does not follow from the shapes of "
            "the inputs; make it an axis of an input, or of an expression that is linear in it"
        )
    for name, text in texts.items():
        if name in bound:
            yield from _agreement(name, _python(text))
        else:
            yield f"{name} = {_python(text)}"


def _agreement(axis: str, text: str) -> Iterator[str]:
    yield f"if {axis} != {text}:"
    yield f'    raise ValueError(f"{axis} is {{{axis}}}, not {text}")'


def _is_line(text: str, axis: str) -> bool:
    """Return whether an expression is a rising straight line in one axis."""
    others = dict.fromkeys(names_in(text), _OTHERS)
    values = [evaluate(text, {**others, axis: probe}) for probe in _PROBES]
    slope = values[1] - values[0]
    return slope > 0 and all(
        value == values[0] + slope * probe for value, probe in zip(values, _PROBES, strict=True)
    )


def _output(problem: Problem, tensor: Tensor) -> Output:
    like = next((t.name for t in problem.inputs if t.dtype is tensor.dtype), None)
    extents = _tuple([f'sizes["{axis}"]' for axis in tensor.shape])
    dtype = f"{like}.dtype" if like else torch_dtype(tensor.dtype)
    return Output(name=tensor.name, extents=extents, dtype=dtype)


def _extents(tensor: Tensor) -> str:
    return _tuple(tensor.shape)


def _tuple(names: Sequence[str]) -> str:
    comma = "," if len(names) == 1 else ""
    return f"({', '.join(names)}{comma})"


def _schema(problem: Problem) -> str:
    scalars = _scalar_parameters(problem).replace(" = ", "=").split(", ")[1:]
    typed = []
    for text in scalars:
        name, _, rest = text.partition(": ")
        kind, equals, default = rest.partition("=")
        typed.append(f"{kind} {name}{equals}{default}")
    parameters = ", ".join([*(f"Tensor {t.name}" for t in problem.inputs), *typed])
    count = len(problem.outputs)
    returns = "Tensor" if count == 1 else f"({', '.join(['Tensor'] * count)})"
    return f"{problem.name}({parameters}) -> {returns}"


def _destination_schema(problem: Problem) -> str:
    """Return the schema of the operator whose outputs are arguments, marked as written."""
    parameters = [f"Tensor {t.name}" for t in problem.inputs]
    parameters += [f"{s.kind} {s.name}" for s in problem.scalars]
    parameters += [f"Tensor(a{i}!) {t.name}" for i, t in enumerate(problem.outputs)]
    return f"{problem.name}_into({', '.join(parameters)}) -> ()"


def definition(name: str, parameters: str, returns: str) -> str:
    """Return the head of a function, one parameter a line where it gets too long."""
    head = f"def {name}({parameters}) -> {returns}:"
    if len(head) <= _COLUMNS:
        return head
    lines = "".join(f"    {part},\n" for part in parameters.split(", "))
    return f"def {name}(\n{lines}) -> {returns}:"


def _scalar_parameters(problem: Problem) -> str:
    """Return scalar parameters; a default needs one on every parameter behind it."""
    parts: list[str] = []
    may_default = True
    for scalar in reversed(problem.scalars):
        may_default = may_default and scalar.default is not None
        default = f" = {_literal(scalar.kind, scalar.default)}" if may_default else ""
        parts.append(f", {scalar.name}: {scalar.kind}{default}")
    return "".join(reversed(parts))


def _literal(kind: str, value: float | None) -> str:
    number = float(value or 0.0)
    return repr(int(number) if kind == "int" else number)


def _python(text: str) -> str:
    return ast.unparse(ast.parse(text.strip(), mode="eval"))


def example_call(problem: Problem, sizes: Mapping[str, int], device: str = "cpu") -> str:
    """Return a call for the README: tensors of one workload's sizes."""
    place = "" if device == "cpu" else f', device="{device}"'
    made = []
    for tensor in problem.inputs:
        extents, kind = [str(sizes[axis]) for axis in tensor.shape], _suffix(tensor.dtype)
        drawn = "torch.rand(" if tensor.dtype.is_float else "torch.randint(0, 2, "
        made.append(f"{drawn}{_tuple(extents)}{kind}{place})")
    made += [_literal(s.kind, s.default) for s in problem.scalars if s.default is not None]
    results = ", ".join(t.name for t in problem.outputs)
    head = f"{results} = {problem.name}.{problem.name}("
    if len(head) + len(", ".join(made)) < _COLUMNS:
        return f"{head}{', '.join(made)})"
    return head + "".join(f"\n    {argument}," for argument in made) + "\n)"


def _suffix(dtype: DType) -> str:
    return "" if dtype is DType.FLOAT32 else f", dtype={torch_dtype(dtype)}"
