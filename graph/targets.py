"""Reads a target YAML into a Target for one kind of device, and explains what is wrong with it.

The schema is in `target_schema.py`.
"""

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from gpu_runner.candidate import Candidate, Contender, Language, Source
from gpu_runner.definitions import load_problem, load_workloads
from gpu_runner.errors import DefinitionError
from gpu_runner.problem import DType, Problem, Workload
from graph.errors import TargetError
from graph.explain import DocumentError, Loc, dotted, explain, line_of, nearest, read_document
from graph.settings import CONFIGS
from graph.target import BEST, Goal, Hardware, Scope, Target
from graph.target_schema import Device, DeviceEntry, Overrides, TargetDocument

TARGETS = CONFIGS / "targets"
ModelT = TypeVar("ModelT", bound=BaseModel)


def target_names() -> tuple[str, ...]:
    """Return the names of the shipped targets."""
    return tuple(sorted(path.stem for path in TARGETS.glob("*.yaml")))


def describe_targets() -> tuple[dict[str, str], ...]:
    """Return name, devices and description of every shipped target."""
    described = []
    for name in target_names():
        document, _ = read_document(TARGETS / f"{name}.yaml")
        devices = document.get("devices")
        described.append(
            {
                "name": name,
                "devices": ", ".join(devices) if isinstance(devices, dict) else "",
                "description": " ".join(str(document.get("description", "")).split()),
            }
        )
    return tuple(described)


def devices_of(name_or_path: str) -> tuple[Device, ...]:
    """Return the kinds of device that a target can be measured on, as its file names them.

    Raises:
        TargetError: there is no such target, or its `devices` are no mapping of known kinds.
    """
    path = find_target(name_or_path)
    try:
        document, text = read_document(path)
    except DocumentError as error:
        raise TargetError(f"target {error}") from error
    return tuple(_Reader(path, text).parse(document).devices)


def load_target(
    name_or_path: str,
    device: Device = "cpu",
    overrides: Mapping[str, JsonValue] | None = None,
    amend: Callable[[dict[str, JsonValue]], dict[str, JsonValue]] = lambda document: document,
) -> Target:
    """Read a target for one kind of device.

    Args:
        name_or_path: a name in `configs/targets/`, or a path to a YAML file.
        device: which of the file's `devices` is meant.
        overrides: `{"budget": {"rounds": 3}}`; goal, scope, budget and hardware only.
        amend: changes the document before it is read, as a request in words asks.

    Raises:
        TargetError: names the file, the line, the key and the nearest key or name.
    """
    path = find_target(name_or_path)
    try:
        document, text = read_document(path)
    except DocumentError as error:
        raise TargetError(f"target {error}") from error
    return _Reader(path, text).read(amend(document), device, overrides or {})


def find_target(name_or_path: str) -> Path:
    """Return the file of a target.

    Raises:
        TargetError: there is none; names the nearest.
    """
    if name_or_path in target_names():
        return TARGETS / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.is_file():
        return path
    hint = nearest(name_or_path, target_names())
    if path.suffix in {".yaml", ".yml"} or "/" in name_or_path:
        raise TargetError(f"target file {name_or_path!r} does not exist{hint}")
    raise TargetError(f"unknown target {name_or_path!r}{hint}; or give the path of a YAML file")


class _Reader:
    """One file being read: keeps path and text for messages."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def parse(self, raw: dict[str, JsonValue]) -> TargetDocument:
        return self._parse(TargetDocument, raw)

    def read(
        self, raw: dict[str, JsonValue], device: Device, overrides: Mapping[str, JsonValue]
    ) -> Target:
        document = self.parse(raw)
        if device not in document.devices:
            raise self._error(("devices",), f"has no {device!r}; it has {_list(document.devices)}")
        chosen = document.devices[device]
        problem = self._problem(document, device)
        baselines = tuple(self._baselines(document, device))
        values: dict[str, Any] = {
            "name": document.name,
            "problem": problem,
            "workloads": self._workloads(document, problem, device),
            "baselines": baselines,
            "hardware": Hardware(device=device, threads=chosen.threads, arch=chosen.arch),
            "goal": chosen.goal or document.goal or Goal(against=baselines[0].name),
            "scope": Scope(languages=chosen.languages, lanes=document.scope.lanes),
            "budget": document.budget,
        }
        target = Target(**_overridden(values, overrides))
        names = [baseline.name for baseline in target.baselines]
        if target.goal.against not in {BEST, *names}:
            hint = nearest(target.goal.against, names)
            raise self._error(("goal", "against"), f"no baseline {target.goal.against!r}{hint}")
        return target

    def _problem(self, document: TargetDocument, device: Device) -> Problem:
        dtypes = document.devices[device].dtypes
        if (document.problem is None) == (not document.definition):
            raise self._error((), "give either `problem:` or `definition:`")
        if document.problem is None:
            if dtypes:
                loc: Loc = ("devices", device, "dtypes")
                raise self._error(loc, "a definition names its element types itself; leave it out")
            try:
                return load_problem(self._path.parent / document.definition)
            except DefinitionError as error:
                raise self._error(("definition",), str(error)) from error
        raw: dict[str, JsonValue] = {
            "name": document.name,
            "description": document.description,
            **document.problem,
        }
        for side in ("inputs", "outputs"):
            if side in raw:
                raw[side] = self._with_dtypes(side, raw[side], dtypes)
        if isinstance(raw.get("reference"), str):
            raw["reference"] = _with_roundoffs(str(raw["reference"]), dtypes)
        problem = self._parse(Problem, raw, ("problem",))
        self._check_source(problem.reference, ("problem", "reference"))
        return problem

    def _with_dtypes(self, side: str, tensors: JsonValue, dtypes: Mapping[str, DType]) -> JsonValue:
        """Replace symbolic element types; what is not a tensor is left for the schema to refuse."""
        if not isinstance(tensors, list):
            return tensors
        replaced: list[JsonValue] = []
        for index, tensor in enumerate(tensors):
            if isinstance(tensor, dict) and isinstance(tensor.get("dtype"), str):
                name = str(tensor["dtype"])
                if name not in dtypes and name not in set(DType):
                    hint = nearest(name, [*dtypes, *DType])
                    loc: Loc = ("problem", side, index, "dtype")
                    raise self._error(loc, f"unknown element type {name!r}{hint}")
                replaced.append({**tensor, "dtype": dtypes.get(name, name)})
            else:
                replaced.append(tensor)
        return replaced

    def _baselines(self, document: TargetDocument, device: Device) -> Iterator[Contender]:
        count = 0
        for index, baseline in enumerate(document.baselines):
            if device not in baseline.devices:
                continue
            count += 1
            self._check_source(baseline.text, ("baselines", index, "source"))
            candidate = Candidate(
                language=Language.PYTHON,
                sources=(Source(path="baseline.py", text=baseline.text),),
                calling=baseline.calling,
            )
            yield self._built(
                Contender,
                ("baselines", index),
                name=baseline.name,
                version=baseline.version,
                candidate=candidate,
                is_trusted=True,
            )
        if not count:
            raise self._error(("baselines",), f"none of them is for the device {device!r}")

    def _workloads(
        self, document: TargetDocument, problem: Problem, device: Device
    ) -> tuple[Workload, ...]:
        try:
            path = self._path.parent / document.workloads_file
            filed = load_workloads(path, problem) if document.workloads_file else ()
        except DefinitionError as error:
            raise self._error(("workloads_file",), str(error)) from error
        chosen = document.devices[device]
        listed = self._listed(problem, chosen, device, {workload.name for workload in filed})
        workloads = (*filed, *listed)
        if all(workload.visibility == "hidden" for workload in workloads):
            loc: Loc = ("devices", device, "workloads")
            raise self._error(loc, "no public workload; list one, or name a `workloads_file:`")
        return workloads

    def _listed(
        self, problem: Problem, chosen: DeviceEntry, device: Device, seen: set[str]
    ) -> Iterator[Workload]:
        kinds = (("workloads", "public", chosen.workloads), ("hidden", "hidden", chosen.hidden))
        for key, visibility, listed in kinds:
            for index, item in enumerate(listed):
                loc: Loc = ("devices", device, key, index)
                workload = self._built(Workload, loc, **item.model_dump(), visibility=visibility)
                if workload.name in seen:
                    raise self._error(loc, f"the name {workload.name!r} is given twice")
                seen.add(workload.name)
                try:
                    problem.sizes(workload)
                    problem.scalar_values(workload)
                except ValueError as error:
                    raise self._error(loc, str(error)) from error
                yield workload

    def _check_source(self, source: str, loc: Loc) -> None:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError) as error:
            raise self._error(loc, f"is not Python: {error}") from error
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assigned = {
            name.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for name in node.targets
            if isinstance(name, ast.Name)
        }
        if "run" not in names | assigned:
            raise self._error(loc, "defines no `run(...)`")

    def _built(self, kind: type[ModelT], loc: Loc, **values: Any) -> ModelT:
        try:
            return kind(**values)
        except ValidationError as error:
            problem = error.errors()[0]
            key = dotted(problem["loc"])
            raise self._error(loc, f"{key}: {problem['msg']}") from error

    def _parse(self, kind: type[ModelT], raw: Mapping[str, JsonValue], prefix: Loc = ()) -> ModelT:
        try:
            return kind.model_validate(raw)
        except ValidationError as error:
            lines = explain(error, kind, self._text, prefix)
            raise TargetError(f"target {self._path}:\n{lines}") from error

    def _error(self, loc: Loc, message: str) -> TargetError:
        line = line_of(self._text, loc)
        place = f"{f' line {line}' if line else ''}: {dotted(loc)}" if loc else ""
        return TargetError(f"target {self._path}{place}: {message}")


def _with_roundoffs(source: str, dtypes: Mapping[str, DType]) -> str:
    """Replace `ROUNDOFF_T` by a power of two: arrays of float64 do not tell a bound what T was."""
    for name, dtype in dtypes.items():
        if dtype.unit_roundoff:
            power = f"2.0**{int(math.log2(dtype.unit_roundoff))}"
            source = re.sub(rf"\bROUNDOFF_{re.escape(name)}\b", power, source)
    return source


def _overridden(values: dict[str, Any], overrides: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Apply overrides to the sections they may change."""
    try:
        parsed = Overrides.model_validate(overrides)
    except ValidationError as error:
        raise TargetError(f"override of the target: {explain(error, Overrides, '')}") from error
    changed = dict(values)
    for section, changes in parsed:
        old = changed[section]
        try:
            changed[section] = type(old).model_validate({**old.model_dump(), **changes})
        except ValidationError as error:
            lines = explain(error, type(old), "", (section,))
            raise TargetError(f"override of the target: {lines}") from error
    return changed


def _list(names: Mapping[Device, object]) -> str:
    return ", ".join(repr(str(name)) for name in names)
