"""What a rule is, and how rules judge signals. Pure; the tables are data in modules of their own.

A rule names a class when all its conditions hold. How far each value lies beyond its threshold
towards the value that leaves no doubt is the condition's margin; the least margin gives the
confidence. Rules are asked by tier: what explains the others away comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from agents.diagnosis.signals import Signals
from agents.diagnosis.vocabulary import Bottleneck
from agents.replies import Movement

_LEAST, _MOST = 0.5, 0.95
"""Confidence of a rule whose conditions just hold, and of one that leaves no doubt."""
_UNTOLD = 0.9
"""Factor for each condition that could not be asked: its metric was not measured."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A threshold for one signal."""

    signal: str
    op: Literal[">=", "<="]
    threshold: float
    sure: float
    """The value from which nothing is in doubt."""
    source: str
    """Where the threshold comes from."""
    is_needed: bool = True
    """Otherwise it must hold only where it was measured."""
    by_arch: Mapping[str, float] = field(default_factory=dict)
    """Thresholds that differ on some architecture: `sm_80`."""

    def limit(self, arch: str) -> float:
        """Return the threshold on an architecture."""
        return self.by_arch.get(arch, self.threshold)


def at_least(
    signal: str, threshold: float, sure: float, source: str, *, is_needed: bool = True
) -> Condition:
    """Return a condition that asks for a value of at least the threshold."""
    return Condition(
        signal=signal, op=">=", threshold=threshold, sure=sure, source=source, is_needed=is_needed
    )


def at_most(
    signal: str, threshold: float, sure: float, source: str, *, is_needed: bool = True
) -> Condition:
    """Return a condition that asks for a value of at most the threshold."""
    return Condition(
        signal=signal, op="<=", threshold=threshold, sure=sure, source=source, is_needed=is_needed
    )


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """The edit that a rule asks for."""

    change: str
    expects: Movement
    validation: str
    by_arch: Mapping[str, str] = field(default_factory=dict)
    """Other words where an architecture has a better remedy."""
    by_limiter: Mapping[str, str] = field(default_factory=dict)
    """Other words for what limits occupancy."""


@dataclass(frozen=True, kw_only=True)
class DeviceRule:
    """One row of a table."""

    name: str
    """Its predictions are kept under this name."""
    bottleneck: Bottleneck
    tier: int
    conditions: tuple[Condition, ...]
    because: tuple[str, ...]
    """From the counters to the mechanism."""
    others_are_weaker: str
    treatment: Treatment
    query: str
    """What to ask the researcher."""
    utilisation: str = ""
    """The signal that ranks a rule among those of its tier; its confidence otherwise."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A condition with the value it was asked about."""

    signal: str
    value: float
    op: str
    threshold: float
    margin: float
    """0 at the threshold, 1 where nothing is in doubt."""
    source: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A rule that holds, and how surely."""

    rule: DeviceRule
    confidence: float
    readings: tuple[Reading, ...]
    missing: tuple[str, ...]
    """Signals that would have made it surer."""
    strength: float

    @property
    def bottleneck(self) -> Bottleneck:
        """The class."""
        return self.rule.bottleneck


def judge(signals: Signals, arch: str, rules: Sequence[DeviceRule]) -> tuple[Verdict, ...]:
    """Return every rule that holds, the one that explains most first."""
    held = [verdict for rule in rules if (verdict := _verdict(rule, signals, arch)) is not None]
    return tuple(sorted(held, key=lambda one: (one.rule.tier, -one.strength)))


def missing(signals: Signals, rules: Sequence[DeviceRule]) -> tuple[str, ...]:
    """Return the signals without which some rule could not be asked, the most wanted first."""
    wanted: dict[str, int] = {}
    for rule in rules:
        for condition in rule.conditions:
            if condition.is_needed and condition.signal not in signals:
                wanted[condition.signal] = wanted.get(condition.signal, 0) + 1
    return tuple(sorted(wanted, key=lambda name: (-wanted[name], name)))


def _verdict(rule: DeviceRule, signals: Signals, arch: str) -> Verdict | None:
    readings: list[Reading] = []
    untold: list[str] = []
    for condition in rule.conditions:
        value = signals.get(condition.signal)
        if value is None:
            if condition.is_needed:
                return None
            untold.append(condition.signal)
            continue
        limit = condition.limit(arch)
        holds = value >= limit if condition.op == ">=" else value <= limit
        if not holds:
            return None
        readings.append(
            Reading(
                signal=condition.signal,
                value=value,
                op=condition.op,
                threshold=limit,
                margin=_margin(value, limit, condition.sure),
                source=condition.source,
            )
        )
    margin = min((reading.margin for reading in readings), default=0.0)
    confidence = (_LEAST + (_MOST - _LEAST) * margin) * _UNTOLD ** len(untold)
    return Verdict(
        rule=rule,
        confidence=round(confidence, 2),
        readings=tuple(readings),
        missing=tuple(untold),
        strength=signals.get(rule.utilisation, confidence) if rule.utilisation else confidence,
    )


def _margin(value: float, limit: float, sure: float) -> float:
    if sure == limit:
        return 1.0
    return min(1.0, max(0.0, (value - limit) / (sure - limit)))
