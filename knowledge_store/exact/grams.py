"""From literals to a query of the index: which three bytes a block must hold to be looked at.

What the index finds holds every matching line and more. Loaded by one-shot searches.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from knowledge_store.exact.dialect import Matcher
    from knowledge_store.exact.needs import Clause
    from knowledge_store.exact.part import Part

GRAM = 3
_GRAMS_A_LITERAL = 5
_CLAUSES_A_PATTERN = 3


def grams_of(literal: bytes) -> list[bytes]:
    """Return the distinct three bytes of a literal as the index has them."""
    folded = literal.lower().replace(b"\0", b"\1")
    return list(dict.fromkeys(folded[at : at + GRAM] for at in range(len(folded) - GRAM + 1)))


def query(part: Part, matchers: Sequence[Matcher], *, is_all: bool) -> str | None:
    """Return the index's expression for blocks that may hold a hit; None where any block may."""
    usable = [[clause for clause in matcher.clauses if _is_usable(clause)] for matcher in matchers]
    if is_all:
        usable = [clauses for clauses in usable if clauses]
    if not usable or not all(usable):
        return None
    every = {
        gram
        for clauses in usable
        for clause in clauses
        for literal in clause
        for gram in grams_of(literal)
    }
    common = part.frequencies(map(_number, every))
    expressions = [_conjunction(clauses, common) for clauses in usable]
    return _group(expressions, " AND " if is_all else " OR ")


def _is_usable(clause: Clause) -> bool:
    return min(map(len, clause)) >= GRAM


def _number(gram: bytes) -> int:
    return int.from_bytes(gram.replace(b"\1", b"\0"), "big")


def _conjunction(clauses: Iterable[Clause], common: Mapping[int, int]) -> str:
    """Return the expression of those clauses of one pattern that leave the fewest blocks."""

    def blocks(clause: Clause) -> int:
        return sum(
            min(common.get(_number(gram), 0) for gram in grams_of(literal)) for literal in clause
        )

    best = sorted(clauses, key=blocks)[:_CLAUSES_A_PATTERN]
    return _group([_disjunction(clause, common) for clause in best], " AND ")


def _disjunction(clause: Clause, common: Mapping[int, int]) -> str:
    return _group([_literal(literal, common) for literal in sorted(clause)], " OR ")


def _literal(literal: bytes, common: Mapping[int, int]) -> str:
    rarest = sorted(grams_of(literal), key=lambda gram: common.get(_number(gram), 0))
    quoted = (gram.decode("latin-1").replace('"', '""') for gram in rarest[:_GRAMS_A_LITERAL])
    return _group([f'"{gram}"' for gram in quoted], " AND ")


def _group(parts: Sequence[str], operator: str) -> str:
    return parts[0] if len(parts) == 1 else f"({operator.join(parts)})"
