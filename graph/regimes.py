"""The fewest guards that separate shapes served best by different variants. Pure.

A piece is a half-space of one axis (`N <= 724`) or, where half-spaces do not suffice, the cell
around one measured shape. The search is exact up to four pieces, which W never needed so far;
beyond them shapes are cut off one by one, so that an answer always exists.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

from gpu_runner.expression import evaluate

ALWAYS: Final = "1"
_EXACT_UP_TO: Final = 4


@dataclass(frozen=True)
class Shape:
    """The workloads of one set of axis sizes."""

    sizes: Mapping[str, int]
    names: tuple[str, ...]
    weight: float
    """Share of use, 0 to 1."""
    gains: Mapping[str, float]
    """Variant to log speed-up, for the variants that may be chosen."""
    good: frozenset[str]
    """Variants that are good enough; empty where contents of one shape disagree."""

    @property
    def choice(self) -> frozenset[str]:
        """Variants that may serve: the good ones, else the best on average."""
        return self.good or frozenset({max(self.gains, key=lambda name: self.gains[name])})

    def loss(self, variant: str) -> float:
        """Weighted log speed-up given up against the best variant."""
        return self.weight * (max(self.gains.values()) - self.gains[variant])


@dataclass(frozen=True)
class Piece:
    """A regime: shapes by their index."""

    guard: str
    variant: str
    shapes: frozenset[int]


@dataclass(frozen=True)
class Split:
    """An ordered list of pieces that together serve a set of shapes."""

    pieces: tuple[Piece, ...]
    loss: float
    gap: float
    """Narrowest log-ratio of the sizes on two sides of a cut: wide cuts generalise better."""

    @property
    def rank(self) -> tuple[int, float, float, tuple[str, ...]]:
        """Fewest regimes, least loss, widest cuts; then the text, so that a tie has one winner."""
        guards = tuple(piece.guard for piece in self.pieces)
        return len(self.pieces), round(self.loss, 9), -round(self.gap, 9), guards


def shortest_split(shapes: Sequence[Shape], variants: Sequence[str]) -> Split:
    """Return the split with the fewest regimes, then the least loss.

    Args:
        shapes: of different sizes, over the same axes.
        variants: every variant that a shape may choose; the order settles ties.
    """
    search = _Search(tuple(shapes), tuple(variants))
    everything = frozenset(range(len(shapes)))
    for most in range(1, _EXACT_UP_TO + 1):
        split = search.split(everything, most)
        if split is not None:
            return split
    return search.one_by_one(everything)


def crossover(left: int, right: int) -> int:
    """Return the last size on the left side: the geometric mean of two sizes, rounded down."""
    return max(left, math.isqrt(left * right))


class _Search:
    """Memoised search over subsets of the shapes."""

    def __init__(self, shapes: tuple[Shape, ...], variants: tuple[str, ...]) -> None:
        self._shapes = shapes
        self._variants = variants
        # A cell that is a half-space is one: it keeps how far apart the sizes are.
        self._cuts = {**dict.fromkeys(_cells(shapes).values(), 0.0), **_half_spaces(shapes)}
        self._holds = {
            guard: frozenset(i for i, s in enumerate(shapes) if evaluate(guard, s.sizes))
            for guard in self._cuts
        }
        self.split = cache(self._split)
        self._served = cache(self._serve)

    def _serve(self, piece: frozenset[int]) -> tuple[str, float] | None:
        """Return the variant that loses least of those good enough everywhere, and its loss."""
        able = frozenset.intersection(*(self._shapes[i].choice for i in piece))
        losses = {
            v: sum(self._shapes[i].loss(v) for i in piece) for v in self._variants if v in able
        }
        if not losses:
            return None
        chosen = min(losses, key=lambda name: round(losses[name], 12))
        return chosen, losses[chosen]

    def _split(self, rest: frozenset[int], most: int) -> Split | None:
        """Return the best split into at most so many pieces."""
        whole = self._served(rest)
        if whole is not None:
            return Split((Piece(ALWAYS, whole[0], rest),), whole[1], math.inf)
        if most == 1:
            return None
        found = [made for guard in self._cuts if (made := self._after(guard, rest, most))]
        return min(found, key=lambda made: made.rank, default=None)

    def _after(self, guard: str, rest: frozenset[int], most: int) -> Split | None:
        piece = self._holds[guard] & rest
        first = self._served(piece) if piece and piece != rest else None
        others = self.split(rest - piece, most - 1) if first else None
        if first is None or others is None:
            return None
        pieces = (Piece(guard, first[0], piece), *others.pieces)
        return Split(pieces, first[1] + others.loss, min(self._cuts[guard], others.gap))

    def one_by_one(self, rest: frozenset[int]) -> Split:
        """Cut shapes off in the order of W until one variant serves what is left."""
        cells = _cells(self._shapes)
        pieces: list[Piece] = []
        loss = 0.0
        while (served := self._served(rest)) is None:
            index = min(rest)
            alone = frozenset({index})
            chosen, lost = self._served(alone) or (self._variants[0], 0.0)
            pieces.append(Piece(cells[index], chosen, alone))
            loss += lost
            rest -= alone
        pieces.append(Piece(ALWAYS, served[0], rest))
        return Split(tuple(pieces), loss + served[1], 0.0)


def _half_spaces(shapes: Sequence[Shape]) -> dict[str, float]:
    """Return guards of one comparison, with the log-ratio of the sizes they separate."""
    found = {}
    for axis in shapes[0].sizes:
        sizes = sorted({shape.sizes[axis] for shape in shapes})
        for left, right in pairwise(sizes):
            edge = crossover(left, right)
            gap = math.log(right / max(left, 1))
            found[f"{axis} <= {edge}"] = gap
            found[f"{axis} > {edge}"] = gap
    return found


def _cells(shapes: Sequence[Shape]) -> dict[int, str]:
    """Return for each shape a guard that holds for it and for no other shape."""
    cells = {}
    for index, shape in enumerate(shapes):
        sides = []
        for axis, size in shape.sizes.items():
            others = {other.sizes[axis] for other in shapes}
            below = max((o for o in others if o < size), default=None)
            above = min((o for o in others if o > size), default=None)
            if below is not None:
                sides.append(f"{axis} > {crossover(below, size)}")
            if above is not None:
                sides.append(f"{axis} <= {crossover(size, above)}")
        cells[index] = " and ".join(sides) or ALWAYS
    return cells
