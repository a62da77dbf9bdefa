"""What a regular expression's syntax tree says: literals it cannot match without, and its cost.

Everything here is a sound weakening: a line that matches holds one literal of every clause. The
tree is that of the standard library's own parser, so there is no second reading of patterns.
"""

from __future__ import annotations

import itertools
import re
from re import _constants as op  # type: ignore[attr-defined]  # the stubs leave both out
from re import _parser as parser  # type: ignore[attr-defined]  # same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from typing import Any

    Clause = frozenset[bytes]
    Clauses = tuple[Clause, ...]
    Tree = Any  # the parser's SubPattern: a sequence of (operation, argument)
    Shape = tuple[Sequence[bytes], list[Clause], Sequence[bytes] | None]

_MOST_ALTERNATIVES = 16
_MOST_CLASS = 4
_LONGEST = 256
_STEPS = 20_000_000
_LINE = 1 << 30
_LOOKS = (op.ASSERT, op.ASSERT_NOT)
_ZERO_WIDTH = (op.AT, *_LOOKS)
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_NOTHING = (b"",)
_UNKNOWN: Shape = (_NOTHING, [], _NOTHING)

_DIGITS = frozenset(b"0123456789")
_SPACES = frozenset(b" \t\n\r\f\v")
_WORDS = _DIGITS | frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_ALL = frozenset(range(256))
_CATEGORIES = {
    op.CATEGORY_DIGIT: _DIGITS,
    op.CATEGORY_NOT_DIGIT: _ALL - _DIGITS,
    op.CATEGORY_SPACE: _SPACES,
    op.CATEGORY_NOT_SPACE: _ALL - _SPACES,
    op.CATEGORY_WORD: _WORDS,
    op.CATEGORY_NOT_WORD: _ALL - _WORDS,
}


def parse(source: bytes, flags: int) -> Tree:
    """Return the syntax tree of a pattern that `re.compile` accepted."""
    return parser.parse(source, flags)


def is_nullable(tree: Tree) -> bool:
    """Say whether the pattern can match without consuming anything."""
    return bool(tree.getwidth()[0] == 0)


def ignores_case(tree: Tree) -> bool:
    """Say whether any part of a pattern ignores case."""
    return bool(tree.state.flags & re.IGNORECASE) or any(
        operation is op.SUBPATTERN and argument[1] & re.IGNORECASE
        for operation, argument in _walk(tree)
    )


def bytes_of(operation: object, argument: Any, *, folds: bool) -> frozenset[int] | None:
    """Return the bytes that an operation takes one of on a line; None for other operations."""
    if operation is op.LITERAL:
        return (_either_case({argument}) if folds else frozenset({argument})) - {10}
    if operation is op.NOT_LITERAL:
        return _ALL - {10} - (_either_case({argument}) if folds else {argument})
    if operation is op.ANY:
        return _ALL - {10}
    if operation is not op.IN:
        return None
    members: set[int] = set()
    is_negated = argument[0][0] is op.NEGATE
    for kind, value in argument[1:] if is_negated else argument:
        if kind is op.LITERAL:
            members.add(value)
        elif kind is op.RANGE:
            members.update(range(value[0], value[1] + 1))
        else:
            members.update(_CATEGORIES[value])
    chosen = _either_case(members) if folds else frozenset(members)
    return (_ALL - chosen if is_negated else chosen) - {10}


def _may_take(operation: object, argument: Any, *, folds: bool) -> frozenset[int] | None:
    """Return every byte that an operation may take where only some of a pattern may fold."""
    exact = bytes_of(operation, argument, folds=False)
    # Neither holds the other: a class that leaves letters out takes fewer when it folds.
    folded = bytes_of(operation, argument, folds=True) if folds else None
    return exact if exact is None or folded is None else exact | folded


def _either_case(members: Iterable[int]) -> frozenset[int]:
    raw = bytes(sorted(members))
    return frozenset(raw.lower()) | frozenset(raw.upper()) | frozenset(raw)


# Literals


def clauses_of(tree: Tree, *, folds: bool) -> Clauses:
    """Return sets of literals; a matching line holds at least one of each set.

    Args:
        tree: as `parse` gives it.
        folds: literals are lower-case, for a lower-cased line.
    """
    exact, clauses = _sequence(tree, folds=folds)
    if exact is not None:
        clauses = _flushed(exact)
    return tuple(sorted(set(clauses), key=_strength, reverse=True))


def _strength(clause: AbstractSet[bytes]) -> tuple[int, int, list[bytes]]:
    return min(map(len, clause)), -len(clause), sorted(clause)


def _flushed(run: Sequence[bytes]) -> list[Clause]:
    return [] if b"" in run else [frozenset(run)]


def _joined(first: Sequence[bytes], second: Sequence[bytes]) -> tuple[bytes, ...] | None:
    if len(first) * len(second) > _MOST_ALTERNATIVES:
        return None
    if max(map(len, first)) + max(map(len, second)) > _LONGEST:
        return None
    return tuple(dict.fromkeys(a + b for a in first for b in second))


def _sequence(items: Tree, *, folds: bool) -> tuple[Sequence[bytes] | None, list[Clause]]:
    """Return what a sequence matches, where that is a small set of strings, or else its clauses."""
    run: Sequence[bytes] = _NOTHING
    clauses: list[Clause] = []
    is_exact = True
    for operation, argument in items:
        lead, inner, trail = _item(operation, argument, folds=folds)
        joined = _joined(run, lead)
        if joined is None:
            clauses += _flushed(run)
            is_exact = False
        run = lead if joined is None else joined
        if trail is not None:
            clauses += _flushed(run) + inner
            run, is_exact = trail, False
    if is_exact:
        return run, []
    return None, clauses + _flushed(run)


def _item(operation: object, argument: Any, *, folds: bool) -> Shape:
    """Return how an item begins, its clauses and how it ends; None where it is all beginning."""
    accepted = _may_take(operation, argument, folds=folds)
    if accepted is not None:
        letters = {bytes((b,)).lower() if folds else bytes((b,)) for b in accepted}
        is_small = 0 < len(letters) <= _MOST_CLASS
        return (sorted(letters), [], None) if is_small else _UNKNOWN
    if operation in _ZERO_WIDTH:
        return _NOTHING, [], None
    if operation is op.BRANCH:
        return _branch(argument[1], folds=folds)
    if operation in _REPEATS:
        return _repeat(argument, folds=folds)
    body = _group_of(operation, argument)
    if body is None:
        return _UNKNOWN
    exact, clauses = _sequence(body, folds=folds)
    return (exact, [], None) if exact is not None else (_NOTHING, clauses, _NOTHING)


def _group_of(operation: object, argument: Any) -> Tree | None:
    if operation is op.SUBPATTERN:
        return argument[3]
    return argument if operation is op.ATOMIC_GROUP else None


def _branch(branches: Sequence[Tree], *, folds: bool) -> Shape:
    shapes = [_sequence(branch, folds=folds) for branch in branches]
    strings = [string for exact, _ in shapes if exact is not None for string in exact]
    if all(exact is not None for exact, _ in shapes) and len(strings) <= _MOST_ALTERNATIVES:
        return tuple(dict.fromkeys(strings)), [], None
    union: set[bytes] = set()
    for exact, clauses in shapes:
        own = _flushed(exact) if exact is not None else clauses
        if not own:
            return _UNKNOWN
        best: Clause = max(own, key=_strength)
        union |= best
    clauses = [frozenset(union)] if len(union) <= 2 * _MOST_ALTERNATIVES else []
    return _NOTHING, clauses, _NOTHING


def _repeat(argument: tuple[int, Any, Tree], *, folds: bool) -> Shape:
    least, most, body = argument
    if least == 0 and most != 1:
        return _UNKNOWN
    exact, clauses = _sequence(body, folds=folds)
    if exact is None:
        return _NOTHING, clauses if least else [], _NOTHING
    if least == 0:
        return tuple(dict.fromkeys((*exact, b""))), [], None
    powers: Sequence[bytes] = _NOTHING
    for _ in range(least):
        longer = _joined(powers, exact)
        if longer is None:
            return powers, [], exact
        powers = longer
    return (powers, [], None) if least == most else (powers, [], powers)


# Cost


def most_width(tree: Tree) -> float:
    """Return the widest line, in bytes, that backtracking judges in a fraction of a second.

    Paths are counted as a polynomial of the width: an unbounded repeat that what follows it can
    take over multiplies them by it. Nested repeats make the answer 0: no width is safe.
    """
    paths = _paths(tree)
    if paths is None:
        return 0
    factor, degree = paths
    is_anchored = bool(tree) and tree[0][0] is op.AT and tree[0][1] is op.AT_BEGINNING
    # A handed-over repeat adds no path, but each path may run over the line for it.
    degree += (0 if is_anchored else 1) + (1 if _hands_over(tree) else 0)
    # A literal at the beginning leaves as many starts as there is room for it.
    factor /= max(1, _lead(tree))
    return _LINE if degree == 0 else float((_STEPS / factor) ** (1 / degree))


def _lead(tree: Tree) -> int:
    lead, _, trail = _item(*tree[0], folds=False) if tree else (_NOTHING, [], None)
    # What repeats a letter can begin again within itself.
    shortest = min(len(set(literal)) for literal in lead)
    if trail is None and shortest == 1:
        literals = itertools.takewhile(lambda item: item[0] is op.LITERAL, tree)
        return len({argument for _, argument in literals})
    return shortest


def _hands_over(items: Tree) -> bool:
    ahead = [*items]
    return any(
        (
            operation in _REPEATS
            and argument[1] is op.MAXREPEAT
            and _is_handed_over(argument[2], ahead[index + 1 :])
        )
        or any(_hands_over(part) for part in _parts(operation, argument))
        for index, (operation, argument) in enumerate(ahead)
    )


def _paths(items: Tree) -> tuple[float, int] | None:
    factor, degree = 1.0, 0
    ahead = [*items]
    for index, (operation, argument) in enumerate(ahead):
        one = _choices(operation, argument, ahead[index + 1 :])
        if one is None:
            return None
        factor, degree = factor * one[0], degree + one[1]
        if factor > _STEPS:
            return None
    return factor, degree


def _choices(
    operation: object, argument: Any, following: Sequence[Any]
) -> tuple[float, int] | None:
    body = argument[1] if operation in _LOOKS else _group_of(operation, argument)
    if body is not None:
        return _paths(body)
    if operation in (op.BRANCH, op.GROUPREF_EXISTS):
        ways = [_paths(branch) for branch in _parts(operation, argument)]
        known = [way for way in ways if way is not None]
        if len(known) < len(ways):
            return None
        return sum(way[0] for way in known), max(way[1] for way in known)
    if operation in _REPEATS:
        return _repeated(argument, following)
    return (1.0, 1) if operation is op.GROUPREF else (1.0, 0)


def _repeated(
    argument: tuple[int, Any, Tree], following: Sequence[Any]
) -> tuple[float, int] | None:
    least, most, body = argument
    inner = _paths(body)
    if inner is None:
        return None
    if inner != (1.0, 0):
        return None if most != 1 else (inner[0] + 1, inner[1])
    if _is_handed_over(body, following):
        return 1.0, 0
    return (1.0, 1) if most is op.MAXREPEAT else (float(most - least + 1), 0)


def _is_handed_over(body: Tree, following: Sequence[Any]) -> bool:
    """Say whether what follows cannot begin with what is repeated, so that one length can match."""
    if len(body) != 1 or not following:
        return False
    # Both stand in one scope of flags; which one it is makes no difference to few patterns.
    for folds in (False, True):
        own = bytes_of(*body[0], folds=folds)
        next_ = bytes_of(*following[0], folds=folds)
        if own is None or next_ is None or own & next_:
            return False
    return True


def _walk(items: Tree) -> Iterator[tuple[Any, Any]]:
    """Yield every operation of a tree with its argument."""
    for operation, argument in items:
        yield operation, argument
        for part in _parts(operation, argument):
            yield from _walk(part)


def _parts(operation: object, argument: Any) -> Iterator[Tree]:
    body = argument[1] if operation in _LOOKS else _group_of(operation, argument)
    if body is not None:
        yield body
    elif operation is op.BRANCH:
        yield from argument[1]
    elif operation in _REPEATS:
        yield argument[2]
    elif operation is op.GROUPREF_EXISTS:
        yield from (part for part in argument[1:] if part is not None)
