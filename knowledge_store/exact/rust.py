"""The same pattern for ripgrep, or None where its engine has no equal.

Every consuming operation is written as the set of bytes it accepts on a line, so nothing depends
on what the two engines call a digit, a space or a line.
"""

from __future__ import annotations

from re import _constants as op  # type: ignore[attr-defined]  # the stubs leave it out

from knowledge_store.exact import needs
from knowledge_store.exact.dialect import byte_pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_ANY = frozenset(range(256)) - {10}
_MOST_COPIES = 2000
_FLAG_IGNORE_CASE = 2
_PLACES = {
    op.AT_BEGINNING: "^",
    op.AT_BEGINNING_STRING: "^",
    op.AT_END: "$",
    op.AT_END_STRING: "$",
    op.AT_BOUNDARY: r"\b",
}


class _NoEqualError(Exception):
    """The other engine has no equal operation."""


def expression(tree: needs.Tree) -> str | None:
    """Return a pattern that matches the same lines as a syntax tree, or None."""
    try:
        return _sequence(tree, folds=bool(tree.state.flags & _FLAG_IGNORE_CASE), copies=1)
    except _NoEqualError:
        return None


def _sequence(items: needs.Tree, *, folds: bool, copies: int) -> str:
    return "".join(
        _item(operation, argument, folds=folds, copies=copies) for operation, argument in items
    )


def _item(operation: object, argument: Any, *, folds: bool, copies: int) -> str:
    accepted = needs.bytes_of(operation, argument, folds=folds)
    if accepted is not None:
        return _class(accepted)
    if operation is op.SUBPATTERN:
        _, added, removed, body = argument
        inner = (folds or bool(added & _FLAG_IGNORE_CASE)) and not removed & _FLAG_IGNORE_CASE
        return f"(?:{_sequence(body, folds=inner, copies=copies)})"
    if operation is op.BRANCH:
        parts = (_sequence(branch, folds=folds, copies=copies) for branch in argument[1])
        return f"(?:{'|'.join(parts)})"
    if operation in (op.MAX_REPEAT, op.MIN_REPEAT):
        return _repeat(argument, folds=folds, copies=copies, is_lazy=operation is op.MIN_REPEAT)
    if operation is op.AT and argument in _PLACES:
        return _PLACES[argument]
    raise _NoEqualError


def _repeat(argument: tuple[int, Any, Any], *, folds: bool, copies: int, is_lazy: bool) -> str:
    least, most, body = argument
    is_unbounded = most is op.MAXREPEAT
    copies *= max(1, least if is_unbounded else most)
    if copies > _MOST_COPIES:
        raise _NoEqualError
    count = f"{{{least},}}" if is_unbounded else f"{{{least},{most}}}"
    inner = _sequence(body, folds=folds, copies=copies)
    return f"(?:{inner}){count}{'?' if is_lazy else ''}"


def _class(accepted: frozenset[int]) -> str:
    if not accepted:
        raise _NoEqualError
    if accepted == _ANY:
        return "."
    if len(accepted) == 1:
        return byte_pattern(next(iter(accepted)))
    return f"[{''.join(_range(first, last) for first, last in _ranges(sorted(accepted)))}]"


def _ranges(members: Sequence[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for member in members:
        if ranges and ranges[-1][1] == member - 1:
            ranges[-1] = (ranges[-1][0], member)
        else:
            ranges.append((member, member))
    return ranges


def _range(first: int, last: int) -> str:
    return byte_pattern(first) if first == last else f"{byte_pattern(first)}-{byte_pattern(last)}"
