"""Pieces of reading a definition: checked keys, axes, integer expressions, call order. Pure.

Every complaint names the source, the key and the remedy, and suggests the nearest known key.
"""

import ast
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Self, TypeVar

from pydantic import BaseModel, ValidationError

from gpu_runner.errors import DefinitionError
from gpu_runner.expression import ExpressionError, names_in
from gpu_runner.problem import Axis

_AXIS_KEYS: Final = {
    "const": ("type", "value", "description"),
    "var": ("type", "parent", "description"),
    "expr": ("type", "expression", "description"),
}
_MOST_POWER: Final = 4
ModelT = TypeVar("ModelT", bound=BaseModel)


def fail(source: str, key: str, text: str) -> NoReturn:
    """Raise a DefinitionError that names source and key."""
    raise DefinitionError(f"{source}: {key} {text}" if key else f"{source} {text}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or nothing where no known name is near."""
    found = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def mapping_at(value: object, source: str, key: str) -> Mapping[str, Any]:
    """Return a value that must be an object with text keys."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        fail(source, key, f"must be an object {{name: ...}}, not {type(value).__name__}")
    return value


def check_keys(
    given: Mapping[str, Any],
    known: Sequence[str],
    source: str,
    key: str,
    *,
    required: Sequence[str] = (),
) -> None:
    """Refuse unknown keys, with the nearest known one, and missing required keys."""
    for name in given:
        if name not in known:
            hint = nearest(name, known)
            fail(source, f"{key}.{name}".lstrip("."), f"is not a known key{hint}")
    for name in required:
        if name not in given:
            others = ", ".join(sorted(given)) or "none"
            fail(source, f"{key}.{name}".lstrip("."), f"is missing; keys given: {others}")


def explain(error: ValidationError, source: str) -> str:
    """Return the first complaint of a schema, with its place."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{source}: {place or 'the definition'}: {first['msg'].removeprefix('Value error, ')}"


def build(noun: type[ModelT], source: str, key: str, /, **values: Any) -> ModelT:
    """Return a noun, or explain why its schema refuses the values."""
    try:
        return noun.model_validate(values)
    except ValidationError as error:
        place = f"{source}: {key}" if key else source
        raise DefinitionError(explain(error, place)) from error


@dataclass(kw_only=True)
class AxisTable:
    """The axes of a definition; sizes written into shapes as numbers are added as const axes."""

    axes: list[Axis] = field(default_factory=list)

    @classmethod
    def read(cls, given: Mapping[str, Any], source: str) -> Self:
        """Read `axes`.

        Raises:
            DefinitionError: an unknown type or key, or an expression that cannot be used.
        """
        table = cls()
        for name, spec in given.items():
            key = f"axes.{name}"
            fields = mapping_at(spec, source, key)
            kind = fields.get("type")
            if kind not in _AXIS_KEYS:
                hint = nearest(str(kind), _AXIS_KEYS)
                fail(source, f"{key}.type", f"is {kind!r}, not const, var or expr{hint}")
            check_keys(fields, _AXIS_KEYS[kind], source, key, required=_AXIS_KEYS[kind][:1])
            expression = fields.get("expression")
            if expression is not None:
                expression = integer_expression(expression, source, f"{key}.expression")
            table.axes.append(
                build(
                    Axis,
                    source,
                    key,
                    name=name,
                    kind=kind,
                    value=fields.get("value"),
                    expression=expression,
                )
            )
        return table

    def shape(self, given: object, source: str, key: str) -> list[str]:
        """Return axis names for a shape, which may hold literal sizes.

        Raises:
            DefinitionError: not a list, or an axis that is not defined.
        """
        if not isinstance(given, list | tuple):
            fail(source, key, f"must be a list of axis names, or null for a scalar, not {given!r}")
        return [self._axis(part, source, key) for part in given]

    def _axis(self, part: object, source: str, key: str) -> str:
        names = [axis.name for axis in self.axes]
        text = str(part)
        if text.isdecimal():
            name = f"size_{int(text)}"
            if name not in names:
                self.axes.append(Axis(name=name, kind="const", value=int(text)))
            return name
        if text not in names:
            hint = nearest(text, names) if text.isidentifier() else ""
            hint = hint or "; define it under axes (as expr for a formula)"
            fail(source, key, f"uses the unknown axis {text!r}{hint}")
        return text


def integer_expression(given: object, source: str, key: str) -> str:
    """Return an expression over axes as our evaluator reads it.

    Exact division is written `/` in the interchange format and small powers `**`; sizes being whole
    numbers, they become `//` and products.

    Raises:
        DefinitionError: not an expression over axes: one about contents, for instance.
    """
    if not isinstance(given, str):
        fail(source, key, f"must be text, an expression over axes, not {given!r}")
    try:
        tree = ast.parse(given.strip(), mode="eval")
        text = ast.unparse(ast.fix_missing_locations(_WholeNumbers().visit(tree)))
        names_in(text)
    except (SyntaxError, ExpressionError) as error:
        raise DefinitionError(f"{source}: {key} cannot be read: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript | ast.Attribute):
            fail(
                source,
                key,
                f"{given!r} is about contents, which are drawn anew for every call; only sizes "
                "can be constrained: remove it and give the input a range under rules:",
            )
        if isinstance(node, ast.Pow):
            fail(source, key, f"{given!r} has a power that is no number up to {_MOST_POWER}")
    return text


def reference_in_call_order(
    reference: object, defined: Sequence[str], called: Sequence[str], source: str
) -> str:
    """Return the reference source so that `run` takes tensors first and scalars last.

    Args:
        reference: source that defines `run` with parameters in the order of the inputs.
        defined: the inputs' names in the definition's order.
        called: the same names in our order.
        source: the file, for messages.

    Raises:
        DefinitionError: no source, a syntax error, no `run`, or one with other parameters.
    """
    if not isinstance(reference, str):
        fail(source, "reference", f"must be Python source, not {type(reference).__name__}")
    try:
        tree = ast.parse(reference)
    except SyntaxError as error:
        msg = f"{source}: reference, line {error.lineno}: {error.msg}; correct the source"
        raise DefinitionError(msg) from error
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    if "run" not in functions:
        hint = nearest("run", functions)
        names = ", ".join(functions) or "none"
        fail(source, "reference", f"defines no top-level function run (functions: {names}){hint}")
    _expect_parameters(functions["run"], defined, source)
    if list(defined) == list(called):
        return reference
    return (
        f"{reference.rstrip()}\n\n\n_run_as_defined = run\n\n\n"
        f"def run({', '.join(called)}):\n    return _run_as_defined({', '.join(defined)})\n"
    )


def _expect_parameters(run: ast.FunctionDef, defined: Sequence[str], source: str) -> None:
    if run.args.vararg is not None:
        return
    parameters = [a.arg for a in (*run.args.posonlyargs, *run.args.args)]
    required = len(parameters) - len(run.args.defaults)
    if not required <= len(defined) <= len(parameters):
        fail(
            source,
            "reference",
            f"run takes {parameters}, but the inputs are {list(defined)}; make them agree",
        )


class _WholeNumbers(ast.NodeTransformer):
    """Rewrites what whole numbers allow: `/` to `//`, `+x` to `x`, `x ** 2` to `x * x`."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Div):
            node.op = ast.FloorDiv()
        if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant):
            power = node.right.value
            if isinstance(power, int) and 1 <= power <= _MOST_POWER:
                product: ast.expr = node.left
                for _ in range(power - 1):
                    product = ast.BinOp(left=product, op=ast.Mult(), right=node.left)
                return product
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        return node.operand if isinstance(node.op, ast.UAdd) else node
