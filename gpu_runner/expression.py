"""Integer expressions over axes: parsed by `ast`, evaluated by a walk; no names beyond the axes.

Used for expr axes, constraints, launch plans and guards. Pure.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache

_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_COMPARE: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_CALLS: dict[str, Callable[..., int]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "ceil_div": lambda a, b: -(-a // b),
}
_LONGEST = 500
_LARGEST = 2**63
_LARGEST_SHIFT = 63


class ExpressionError(ValueError):
    """The text is not an expression over axes, or has no value for these sizes."""


def names_in(text: str) -> set[str]:
    """Return the axis names an expression uses."""
    tree = _parse(text)
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called}


def evaluate(text: str, sizes: Mapping[str, int]) -> int:
    """Return the value of an expression; comparisons and `and`/`or`/`not` give 0 or 1.

    Raises:
        ExpressionError: syntax, an unknown name, a division by zero, or a value beyond 64 bits.
    """
    value = _walk(_parse(text).body, sizes, text)
    if abs(value) >= _LARGEST:
        msg = f"expression {text!r} gives {value}, beyond 64 bits"
        raise ExpressionError(msg)
    return value


@lru_cache(maxsize=4096)
def _parse(text: str) -> ast.Expression:
    if len(text) > _LONGEST:
        msg = f"expression of {len(text)} characters; at most {_LONGEST}"
        raise ExpressionError(msg)
    try:
        return ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        msg = f"expression {text!r} cannot be read: {error}"
        raise ExpressionError(msg) from error


def _walk(node: ast.expr, sizes: Mapping[str, int], text: str) -> int:
    match node:
        case ast.Constant(value=bool() | int() as value):
            return int(value)
        case ast.Name(id=name):
            return _size(name, sizes, text)
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            value = _walk(node.operand, sizes, text)
            return -value if isinstance(node.op, ast.USub) else int(not value)
        case ast.BinOp(op=op) if type(op) in _BINARY:
            return _binary(op, _walk(node.left, sizes, text), _walk(node.right, sizes, text), text)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _CALLS and node.args:
            return _call(name, [_walk(a, sizes, text) for a in node.args], text)
        case _:
            return _condition(node, sizes, text)


def _condition(node: ast.expr, sizes: Mapping[str, int], text: str) -> int:
    match node:
        case ast.BoolOp():
            values = [_walk(v, sizes, text) for v in node.values]
            return int(all(values) if isinstance(node.op, ast.And) else any(values))
        case ast.Compare() if all(type(op) in _COMPARE for op in node.ops):
            values = [_walk(v, sizes, text) for v in (node.left, *node.comparators)]
            pairs = zip(node.ops, values, values[1:], strict=False)
            return int(all(_COMPARE[type(op)](a, b) for op, a, b in pairs))
        case ast.IfExp():
            chosen = node.body if _walk(node.test, sizes, text) else node.orelse
            return _walk(chosen, sizes, text)
        case _:
            msg = f"expression {text!r}: {ast.unparse(node)!r} is not allowed"
            raise ExpressionError(msg)


def _size(name: str, sizes: Mapping[str, int], text: str) -> int:
    if name not in sizes:
        msg = f"expression {text!r} uses {name!r}; known: {', '.join(sorted(sizes))}"
        raise ExpressionError(msg)
    return int(sizes[name])


def _binary(op: ast.operator, left: int, right: int, text: str) -> int:
    if isinstance(op, ast.LShift | ast.RShift) and not 0 <= right <= _LARGEST_SHIFT:
        msg = f"expression {text!r} shifts by {right}"
        raise ExpressionError(msg)
    try:
        return _BINARY[type(op)](left, right)
    except ZeroDivisionError as error:
        msg = f"expression {text!r} divides by zero"
        raise ExpressionError(msg) from error


def _call(name: str, values: list[int], text: str) -> int:
    try:
        return _CALLS[name](*values)
    except (TypeError, ZeroDivisionError) as error:
        msg = f"expression {text!r}: {name}{tuple(values)} has no value"
        raise ExpressionError(msg) from error
