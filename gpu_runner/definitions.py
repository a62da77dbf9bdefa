"""Reads the field's interchange format: flashinfer-bench and SOL-ExecBench definitions, workloads.

A definition is a JSON object `{name, axes, inputs, outputs, reference, ...}`; a workload file has
one JSON object a line, bare or wrapped as a trace `{definition, workload, ...}`. Both become our
nouns.

Three things differ here. Contents are drawn by the harness, so files and generators of contents
are refused. Tolerances are calibrated, so those of a workload are dropped. Scalars follow the
tensors in a call, so a reference with another order is wrapped.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gpu_runner.definition_parts import (
    AxisTable,
    build,
    check_keys,
    fail,
    integer_expression,
    mapping_at,
    nearest,
    reference_in_call_order,
)
from gpu_runner.errors import DefinitionError
from gpu_runner.problem import DType, Problem, Scalar, Tensor, Workload

_DEFINITION_KEYS: Final = (
    "name",
    "axes",
    "inputs",
    "outputs",
    "reference",
    "description",
    "constraints",
    "op_type",
    "type",
    "tags",
    "custom_inputs_entrypoint",
    "array_type",
    "tolerance",
    "rules",
    "profiles",
    "library_ops",
    "flops",
)
_REQUIRED: Final = ("name", "axes", "inputs", "outputs", "reference")
_PASSED_ON: Final = ("tolerance", "rules", "profiles", "library_ops", "flops")
"""Our own additions, as `Problem` spells them."""
_TENSOR_KEYS: Final = ("shape", "dtype", "description", "default", "optional")
_WORKLOAD_KEYS: Final = (
    "axes",
    "inputs",
    "uuid",
    "name",
    "scalars",
    "weight",
    "profile",
    "visibility",
    "source",
    "tolerance",
    "eval_mode",
)
_INPUT_KEYS: Final = {
    "random": ("type",),
    "scalar": ("type", "value"),
    "safetensors": ("type", "path", "tensor_key"),
    "custom": ("type",),
}
_LONGEST_NAME: Final = 64


def load_problem(path: Path) -> Problem:
    """Read a definition file.

    Raises:
        DefinitionError: the file cannot be read or is malformed; names file, key and remedy.
    """
    return parse_definition(_json(_text(path), str(path)), source=str(path))


def load_workloads(path: Path, problem: Problem) -> tuple[Workload, ...]:
    """Read a workload file: JSON lines, or a JSON array.

    Raises:
        DefinitionError: as `load_problem`.
    """
    text = _text(path)
    if text.lstrip().startswith("["):
        given = [(f"{path}[{i}]", item) for i, item in enumerate(_json(text, str(path)))]
    else:
        lines = [(f"{path}:{i}", line) for i, line in enumerate(text.splitlines(), 1)]
        given = [(place, _json(line, place)) for place, line in lines if line.strip()]
    if not given:
        fail(str(path), "", "holds no workload; add one JSON object a line")
    workloads = [parse_workload(item, problem, source=place) for place, item in given]
    names = [workload.name for workload in workloads]
    for (place, _), name in zip(given, names, strict=True):
        if names.count(name) > 1:
            fail(place, "uuid", f"the workload {name!r} is there more than once; rename one")
    return tuple(workloads)


def parse_definition(definition: object, *, source: str) -> Problem:
    """Turn a definition, as JSON or YAML gives it, into a Problem.

    Args:
        definition: the object; unknown keys are refused.
        source: the file, for messages.

    Raises:
        DefinitionError: names source, key and remedy.
    """
    given = mapping_at(definition, source, "")
    check_keys(given, _DEFINITION_KEYS, source, "", required=_REQUIRED)
    if given.get("custom_inputs_entrypoint") is not None:
        fail(
            source,
            "custom_inputs_entrypoint",
            "contents are drawn by the harness, new for every call; describe them under rules:",
        )
    axes = AxisTable.read(mapping_at(given["axes"], source, "axes"), source)
    inputs, scalars, order = _inputs(mapping_at(given["inputs"], source, "inputs"), axes, source)
    outputs = _outputs(mapping_at(given["outputs"], source, "outputs"), axes, source)
    constraints = [
        integer_expression(text, source, f"constraints[{i}]")
        for i, text in enumerate(given.get("constraints") or ())
    ]
    called = [*(tensor.name for tensor in inputs), *(scalar.name for scalar in scalars)]
    values: dict[str, Any] = {
        "name": _identifier(given["name"], source, "name"),
        "description": given.get("description") or "",
        "axes": axes.axes,
        "inputs": inputs,
        "outputs": outputs,
        "scalars": scalars,
        "constraints": constraints,
        "reference": reference_in_call_order(given["reference"], order, called, source),
        "array_type": given.get("array_type", "torch"),
        **{key: given[key] for key in _PASSED_ON if key in given},
    }
    return build(Problem, source, "", **values)


def parse_workload(workload: object, problem: Problem, *, source: str) -> Workload:
    """Turn one workload, bare or in a trace, into a Workload of the problem.

    Raises:
        DefinitionError: names source, key and remedy; also where the problem's axes or constraints
            do not admit the sizes.
    """
    given = mapping_at(workload, source, "")
    if "workload" in given:
        named = _identifier(given.get("definition", problem.name), source, "definition")
        if named != problem.name:
            fail(source, "definition", f"is {named!r}, but the problem is {problem.name!r}")
        given = mapping_at(given["workload"], source, "workload")
    check_keys(given, _WORKLOAD_KEYS, source, "", required=("axes",))
    scalars = {
        **mapping_at(given.get("scalars", {}), source, "scalars"),
        **_scalar_values(mapping_at(given.get("inputs", {}), source, "inputs"), problem, source),
    }
    uuid = str(given.get("uuid", ""))
    values: dict[str, Any] = {
        "name": given.get("name") or _workload_name(uuid, given["axes"], source),
        "axes": mapping_at(given["axes"], source, "axes"),
        "scalars": scalars,
        "source": given.get("source") or (f"uuid {uuid}" if uuid else ""),
        **{key: given[key] for key in ("weight", "profile", "visibility") if key in given},
    }
    result = build(Workload, source, "", **values)
    try:
        problem.sizes(result)
        problem.scalar_values(result)
    except ValueError as error:
        msg = f"{source}: {error}"
        raise DefinitionError(msg) from error
    return result


def _inputs(
    given: Mapping[str, Any], axes: AxisTable, source: str
) -> tuple[list[Tensor], list[Scalar], list[str]]:
    """Return tensors, scalars, and all names in the definition's order."""
    tensors, scalars = [], []
    for name, spec in given.items():
        key = f"inputs.{name}"
        fields = mapping_at(spec, source, key)
        check_keys(fields, _TENSOR_KEYS, source, key, required=("shape", "dtype"))
        if fields["shape"] is None:
            kind = "float" if str(fields["dtype"]).startswith(("float", "bfloat")) else "int"
            default = fields.get("default")
            scalars.append(build(Scalar, source, key, name=name, kind=kind, default=default))
        else:
            tensors.append(_tensor(name, fields, axes, source, key))
    return tensors, scalars, list(given)


def _outputs(given: Mapping[str, Any], axes: AxisTable, source: str) -> list[Tensor]:
    tensors = []
    for name, spec in given.items():
        key = f"outputs.{name}"
        fields = mapping_at(spec, source, key)
        check_keys(fields, _TENSOR_KEYS, source, key, required=("shape", "dtype"))
        shape = [] if fields["shape"] is None else fields["shape"]  # a number is a 0-d tensor
        tensors.append(_tensor(name, {**fields, "shape": shape}, axes, source, key))
    return tensors


def _tensor(name: str, fields: Mapping[str, Any], axes: AxisTable, source: str, key: str) -> Tensor:
    dtype = str(fields["dtype"])
    known = [member.value for member in DType]
    if dtype not in known:
        hint = nearest(dtype, known)
        fail(source, f"{key}.dtype", f"{dtype!r} is not supported{hint}; supported: {known}")
    return build(
        Tensor,
        source,
        key,
        name=name,
        shape=axes.shape(fields["shape"], source, f"{key}.shape"),
        dtype=dtype,
        description=fields.get("description") or "",
    )


def _scalar_values(given: Mapping[str, Any], problem: Problem, source: str) -> dict[str, float]:
    """Return the scalars' values among a workload's input descriptions."""
    tensors = [tensor.name for tensor in problem.inputs]
    values = {}
    for name, spec in given.items():
        key = f"inputs.{name}"
        if name not in tensors and name not in problem.scalar_names:
            known = [*tensors, *problem.scalar_names]
            fail(source, key, f"is no input of {problem.name!r}{nearest(name, known)}")
        fields = mapping_at(spec, source, key)
        kind = fields.get("type")
        if kind not in _INPUT_KEYS:
            hint = nearest(str(kind), _INPUT_KEYS)
            fail(source, f"{key}.type", f"is {kind!r}, not random or scalar{hint}")
        check_keys(fields, _INPUT_KEYS[kind], source, key, required=_INPUT_KEYS[kind])
        if kind in {"safetensors", "custom"}:
            fail(
                source,
                f"{key}.type",
                f"is {kind!r}, but contents are drawn anew for every timed call; make it "
                '{"type": "random"} and give the input a range under rules: where it needs one',
            )
        if (kind == "scalar") != (name in problem.scalar_names):
            want = "scalar" if name in problem.scalar_names else "random"
            fail(source, f"{key}.type", f"is {kind!r}, but the definition makes it {want!r}")
        if kind == "scalar":
            values[name] = _number(fields["value"], source, f"{key}.value")
    return values


def _number(value: object, source: str, key: str) -> float:
    if not isinstance(value, int | float):
        fail(source, key, f"must be a number, not {value!r}")
    return float(value)


def _workload_name(uuid: str, axes: object, source: str) -> str:
    """Return a name for a workload without one: its uuid's, or its sizes'."""
    if uuid:
        return _identifier(f"w_{uuid}", source, "uuid")
    sizes = mapping_at(axes, source, "axes")
    return _identifier("_".join(f"{axis}{size}" for axis, size in sizes.items()), source, "axes")


def _identifier(given: object, source: str, key: str) -> str:
    """Return a name usable in C, Python and YAML alike; published ones hold dots and dashes."""
    text = re.sub(r"[^A-Za-z0-9_]", "_", str(given))[:_LONGEST_NAME]
    if not text or text[0].isdecimal():
        fail(source, key, f"is {given!r}; a name starts with a letter")
    return text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        msg = f"{path} cannot be read: {reason}"
        raise DefinitionError(msg) from error


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"{place} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise DefinitionError(msg) from error
