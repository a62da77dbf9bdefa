"""Reciprocal-rank fusion: one order from several, which keeps why each entry is where it is. Pure.

Source of the rule: Cormack, Clarke and Buettcher, SIGIR 2009. Their constant of 60 lets a weak
ranker outvote a strong one; with a strong ranker of words in the mix 10 finds more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONSTANT = 10


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one ranker says: keys, best first."""

    name: str
    keys: tuple[str, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Fused:
    """A key with its score and the place, from 1, that each ranker gave it."""

    key: str
    score: float
    ranks: Mapping[str, int]


def fuse(rankings: Sequence[Ranking], constant: int = CONSTANT) -> tuple[Fused, ...]:
    """Return every key once, best first; ties are in order of key, so that answers repeat.

    Each ranker gives a key weight / (constant + place).
    """
    scores: dict[str, float] = {}
    ranks: dict[str, dict[str, int]] = {}
    for ranking in rankings:
        for place, key in enumerate(dict.fromkeys(ranking.keys), start=1):
            scores[key] = scores.get(key, 0.0) + ranking.weight / (constant + place)
            ranks.setdefault(key, {})[ranking.name] = place
    order = sorted(scores, key=lambda key: (-scores[key], key))
    return tuple(Fused(key, scores[key], ranks[key]) for key in order)
