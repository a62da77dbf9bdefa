"""Launch plans as Python that their owner reads: expressions over axes become code. Pure.

The values that the code builds are those of `plans.py` in the repository.
"""

from collections.abc import Iterator
from typing import Final

from gpu_runner.candidate import Argument, Candidate, Language, Launch, LaunchPlan, Slice, Value
from gpu_runner.candidate import TensorMap as PlannedMap
from gpu_runner.problem import Problem
from graph.dispatcher import python_expression
from graph.regimes import ALWAYS

_NAMES: Final = ("Launch", "Number", "Plan", "Pointer", "Scalar", "Scratch", "TensorMap")


def plan_source(problem: Problem, candidate: Candidate, version: str) -> str:
    """Return the module that says which launches serve which sizes."""
    writer = _Writer(problem, is_triton=candidate.language is Language.TRITON)
    plans = candidate.plans
    body = "\n\n".join(
        [
            writer.choice(plans),
            *("\n".join(writer.plan(index, plan)) for index, plan in enumerate(plans)),
        ]
    )
    helper = ", ceil_div" if "ceil_div(" in body else ""
    used = [name for name in _NAMES if f"{name}(" in body]
    return (
        f'"""Launches of {version}: generated from plan.json, edits are lost."""\n\n'
        f"from {problem.name}.plans import {', '.join(used)}{helper}\n\n\n{body.rstrip()}\n"
    )


class _Writer:
    """Writes the plans of one candidate."""

    def __init__(self, problem: Problem, *, is_triton: bool) -> None:
        self._tensors = {t.name: t for t in (*problem.inputs, *problem.outputs)}
        self._scalars = {s.name: s for s in problem.scalars}
        self._axes = [axis.name for axis in problem.axes]
        self._is_triton = is_triton
        self._typed = ", ".join(f"{axis}: int" for axis in self._axes)
        self._passed = ", ".join(f"{axis}={axis}" for axis in self._axes)

    def choice(self, plans: tuple[LaunchPlan, ...]) -> str:
        """Return the function that picks the first plan whose guard holds."""
        lines = [
            f"def plan(*, {self._typed}) -> Plan | None:",
            '    """Return the launches that serve these sizes; None where there are none."""',
        ]
        for index, plan in enumerate(plans):
            call = f"return plan_{index}({self._passed})"
            if plan.guard == ALWAYS:
                return "\n".join([*lines, f"    {call}", ""])
            condition = python_expression(plan.guard, is_condition=True)
            lines += [f"    if {condition}:", f"        {call}"]
        return "\n".join([*lines, "    return None", ""])

    def plan(self, index: int, plan: LaunchPlan) -> Iterator[str]:
        """Yield the lines of one plan's function."""
        where = "whatever the sizes" if plan.guard == ALWAYS else f"where {plan.guard}"
        yield f"def plan_{index}(*, {self._typed}) -> Plan:"
        yield f'    """Serve {where}."""'
        yield "    return Plan("
        yield "        launches=("
        for number, launch in enumerate(plan.launches):
            yield from (f"            {line}" for line in self._launch(f"{index}.{number}", launch))
        yield "        ),"
        workspace = python_expression(plan.workspace_bytes)
        if workspace != "0":
            yield f"        workspace_bytes={workspace},"
        yield "    )"
        yield ""

    def _launch(self, entry: str, launch: Launch) -> Iterator[str]:
        yield "Launch("
        yield f'    entry="{entry}",'
        yield f'    kernel="{launch.kernel}",'
        yield f"    grid={_tuple(launch.grid)},"
        yield f"    block={self._block(launch)},"
        if launch.cluster is not None:
            yield f"    cluster={_tuple(launch.cluster)},"
        shared = python_expression(launch.shared_bytes)
        if shared != "0":
            yield f"    shared_bytes={shared},"
        yield "    arguments=("
        yield from (f"        {self._argument(argument)}," for argument in launch.arguments)
        yield "    ),"
        yield "),"

    def _block(self, launch: Launch) -> str:
        """Return the block; a triton kernel has its warps along x."""
        if not self._is_triton:
            return _tuple(launch.block)
        return _tuple((" * ".join(f"({text})" for text in launch.block), "1", "1"))

    def _argument(self, argument: Argument) -> str:
        match argument:
            case Value():
                return self._value(argument)
            case Slice(workspace=offset):
                return f"Scratch({python_expression(offset)})"
            case PlannedMap():
                return self._map(argument)
            case str() as name:
                return self._bare(name)

    def _bare(self, name: str) -> str:
        if name in self._tensors:
            return f'Pointer("{name}")'
        if name in self._scalars:
            kind = "i64" if self._scalars[name].kind == "int" else "f64"
            return f'Scalar("{kind}", "{name}")'
        return f'Number("i64", {name})' if name in self._axes else "Scratch()"

    def _value(self, value: Value) -> str:
        if value.value.strip() in self._scalars:
            return f'Scalar("{value.type}", "{value.value.strip()}")'
        multiple = f", multiple_of={value.divisible}" if value.divisible != 1 else ""
        return f'Number("{value.type}", {python_expression(value.value)}{multiple})'

    def _map(self, planned: PlannedMap) -> str:
        tensor = self._tensors[planned.tensor]
        rows = planned.rows or " * ".join(tensor.shape[:-1]) or "1"
        columns = planned.columns or (tensor.shape[-1] if tensor.shape else "1")
        parts = [
            f'"{tensor.name}"',
            f'"{tensor.dtype.value}"',
            str(tensor.dtype.item_bytes),
            python_expression(rows),
            python_expression(columns),
            _tuple(planned.box),
        ]
        if planned.swizzle != "none":
            parts.append(f'swizzle="{planned.swizzle}"')
        if planned.l2_promotion != "none":
            parts.append(f'l2_promotion="{planned.l2_promotion}"')
        return f"TensorMap({', '.join(parts)})"


def _tuple(texts: tuple[str, ...]) -> str:
    return f"({', '.join(python_expression(text) for text in texts)})"
