"""What a profile means: a table of rules from facts to a bottleneck, each with its reason. Pure.

Rules are asked in order; the first whose evidence is not empty names the bottleneck. The figures
are thresholds of judgement, not of acceptance: a wrong diagnosis costs one attempt.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.contexts import RunView
from agents.diagnosis.vocabulary import Bottleneck
from agents.replies import Movement
from gpu_runner.facts import Facts, InstructionMix, Roofline

NEAR_ROOF = 0.85
_MANY_SPILLS = 8
_SPILLED_SHARE = 0.15
_DIVISION_SHARE = 0.01
_SCALAR_SHARE = 0.5
_ONCE_A_ROW_SHARE = 0.2
"""With less scalar arithmetic than this, the inner loops are vectors and a call is made by rows."""
_TINY_US = 5.0
"""A call this short is mostly set-up; no floor made of bytes and operations describes it."""
_SETUP_US = 0.5
_WIDTHS = (("avx512f", 512), ("avx2", 256))

Evidence = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One row of the table."""

    bottleneck: Bottleneck
    confidence: float
    evidence: Callable[[Facts, RunView], Evidence]
    because: tuple[str, ...]
    """The chain from the evidence to the remedy."""
    expects: Movement
    """What treating it should move."""
    others_are_weaker: str
    query: str
    """What to ask the researcher."""
    name: str = ""
    """Its predictions are scored under this name; the bottleneck's where it has none."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The rule that held and what made it hold."""

    rule: Rule
    evidence: Evidence


def diagnose(facts: Facts, view: RunView, rules: Sequence[Rule] | None = None) -> Diagnosis:
    """Return the first rule of the table that holds; the last one of a table always does.

    Args:
        facts: the profile.
        view: what the machine offers, and the weights of the workloads.
        rules: the table; by default that of a processor.
    """
    for rule in RULES if rules is None else rules:
        evidence = rule.evidence(facts, view)
        if evidence:
            return Diagnosis(rule=rule, evidence=evidence)
    raise AssertionError("the last rule of the table holds for any facts")


def worst(facts: Facts, view: RunView) -> Roofline | None:
    """Return the workload with most to gain: its weight times the logarithm of time over floor."""
    weights = {workload.name: workload.weight for workload in view.workloads}

    def gain(roof: Roofline) -> float:
        ratio = max(roof.time_us, _SETUP_US) / (roof.floor_us + _SETUP_US)
        return weights.get(roof.workload, 1.0) * math.log(ratio)

    return max(facts.roofline, key=gain, default=None)


def changes(now: Facts, before: Facts | None) -> Evidence:
    """Say how the counts and the fractions reached moved against the parent."""
    if before is None:
        return ()
    found = []
    if now.instructions and before.instructions:
        for name in ("total", "fma", "division", "spills", "vector_arithmetic"):
            new, old = getattr(now.instructions, name), getattr(before.instructions, name)
            if new != old:
                found.append(f"{name}: {old} -> {new}")
        gone = set(before.instructions.calls_in_loops) - set(now.instructions.calls_in_loops)
        found += [f"no longer called from a loop: {name}" for name in sorted(gone)]
    old_roofs = {roof.workload: roof for roof in before.roofline}
    for roof in now.roofline:
        old = old_roofs.get(roof.workload)
        if old is not None:
            found.append(
                f"{roof.workload}: {old.time_us:.4g} -> {roof.time_us:.4g} us, "
                f"{old.fraction_reached:.0%} -> {roof.fraction_reached:.0%} of the roof"
            )
    return tuple(found)


def _near_roof(facts: Facts, _: RunView) -> Evidence:
    roofs = [roof for roof in facts.roofline if roof.time_us > _TINY_US]
    if not roofs or any(roof.fraction_reached <= NEAR_ROOF for roof in roofs):
        return ()
    return tuple(f"{r.workload}: {r.fraction_reached:.0%} of the roof" for r in roofs)


def _calls(facts: Facts, _: RunView) -> Evidence:
    mix = facts.instructions
    if mix is None or mix.scalar_arithmetic < _ONCE_A_ROW_SHARE * mix.vector_arithmetic:
        return ()
    return tuple(f"{name} is called from inside a loop" for name in mix.calls_in_loops)


def _scalar(facts: Facts, view: RunView) -> Evidence:
    mix = facts.instructions
    if mix is None:
        return ()
    arithmetic = mix.vector_arithmetic + mix.scalar_arithmetic
    found = []
    if arithmetic and mix.scalar_arithmetic / arithmetic > _SCALAR_SHARE:
        found.append(f"{mix.scalar_arithmetic} of {arithmetic} arithmetic instructions are scalar")
    widest, offered = _widest(mix), _offered(view)
    if widest and offered and 2 * widest < offered:
        found.append(f"widest vectors have {widest} bits, the machine offers {offered}")
    missed = [remark for remark in facts.remarks if remark.kind == "missed"]
    if found and missed:
        found.append(f"line {missed[0].line} not vectorised: {missed[0].text}")
    return tuple(found)


def _spills(facts: Facts, _: RunView) -> Evidence:
    mix = facts.instructions
    if mix is None or mix.spills < max(_MANY_SPILLS, _SPILLED_SHARE * mix.total):
        return ()
    return (f"{mix.spills} stack accesses inside loops, of {mix.total} instructions",)


def _division(facts: Facts, view: RunView) -> Evidence:
    mix, lowest = facts.instructions, worst(facts, view)
    if mix is None or lowest is None or lowest.bound == "memory":
        return ()
    if not mix.division or mix.division < _DIVISION_SHARE * mix.total:
        return ()
    return (f"{mix.division} divisions or square roots", where(lowest))


def _overhead(facts: Facts, view: RunView) -> Evidence:
    lowest = worst(facts, view)
    if lowest is None or lowest.bound != "latency" or lowest.time_us > _TINY_US:
        return ()
    return (f"{lowest.workload} takes {lowest.time_us:.3g} us in all", where(lowest))


def bound_by(name: str) -> Callable[[Facts, RunView], Evidence]:
    """Return the evidence that the workload with most to gain is bound so."""

    def evidence(facts: Facts, view: RunView) -> Evidence:
        lowest = worst(facts, view)
        return (where(lowest),) if lowest is not None and lowest.bound == name else ()

    return evidence


def always(facts: Facts, _: RunView) -> Evidence:
    """Return what the profile lacks."""
    return facts.unavailable or ("no instruction counts and no roofline in the profile",)


def where(roof: Roofline) -> str:
    """Say where a workload stands."""
    return (
        f"{roof.workload}: {roof.time_us:.4g} us, {roof.fraction_reached:.0%} of a floor of "
        f"{roof.floor_us:.4g} us, bound by {roof.bound}"
    )


def _widest(mix: InstructionMix) -> int:
    return max((int(bits) for bits, count in mix.vector_bits.items() if count), default=0)


def _offered(view: RunView) -> int:
    return next((bits for name, bits in _WIDTHS if name in view.isa), 0)


UNKNOWN = Rule(
    bottleneck="unknown",
    confidence=0.2,
    evidence=always,
    because=("the profile says too little; the search goes on without it",),
    expects=Movement(metric="speedup", direction="up", factor=1.02),
    others_are_weaker="no fact speaks for any of them",
    query="",
)
"""The last one of every table: it always holds."""

RULES: tuple[Rule, ...] = (
    Rule(
        bottleneck="near_roof",
        confidence=0.9,
        evidence=_near_roof,
        because=(
            "every workload is within 15 % of what memory or arithmetic allow",
            "no edit of this kernel can pay for its risk; effort belongs to dispatch by shape",
        ),
        expects=Movement(metric="fraction_reached", direction="up", factor=1.0),
        others_are_weaker="nothing else can gain more than the 15 % that are left",
        query="non-temporal stores fusion",
    ),
    Rule(
        bottleneck="calls_in_loop",
        confidence=0.95,
        evidence=_calls,
        because=(
            "a call from a loop handles one element and keeps the loop from being vectorised",
            "a polynomial in vector registers computes as many at once as lanes fit",
        ),
        expects=Movement(metric="speedup", direction="up", factor=5.0),
        others_are_weaker="bandwidth and latency cannot matter while every element costs a call",
        query="polynomial exp",
    ),
    Rule(
        bottleneck="not_vectorised",
        confidence=0.9,
        evidence=_scalar,
        because=(
            "most arithmetic handles one element an instruction",
            "whole vectors do the same work in a fraction of the instructions",
        ),
        expects=Movement(metric="vector_bits", direction="up", factor=2.0),
        others_are_weaker="the instruction count falls by the lanes of a vector, nothing else does",
        query="vector width",
    ),
    Rule(
        bottleneck="spills",
        confidence=0.7,
        evidence=_spills,
        because=(
            "the loop keeps more values than there are registers",
            "fewer independent chains, or smaller tiles, keep them in registers",
        ),
        expects=Movement(metric="spills", direction="down", factor=0.5),
        others_are_weaker="stack traffic takes the load and store slots that the data needs",
        query="unroll registers",
    ),
    Rule(
        bottleneck="launch_overhead",
        confidence=0.5,
        evidence=_overhead,
        because=(
            "the call is over in a few microseconds; what is done once a call or a row weighs most",
            "less set-up for each row helps more than a faster inner loop",
        ),
        expects=Movement(metric="time_us", direction="down", factor=0.9),
        others_are_weaker="neither ceiling explains the time of so short a call",
        query="small rows",
    ),
    Rule(
        bottleneck="division",
        confidence=0.7,
        evidence=_division,
        because=(
            "a vector division takes as long as ten multiply-adds and its unit takes one at a time",
            "an approximate reciprocal and a Newton step, or one reciprocal a row, replace it",
        ),
        expects=Movement(metric="time_us", direction="down", factor=0.85),
        others_are_weaker="memory does not bind this workload, the divider does",
        query="division newton",
    ),
    Rule(
        bottleneck="memory_bandwidth",
        confidence=0.8,
        evidence=bound_by("memory"),
        because=(
            "the bytes that must move explain most of the time",
            "fetching ahead and stores past the caches move fewer bytes or move them earlier",
        ),
        expects=Movement(metric="fraction_reached", direction="up", factor=1.15),
        others_are_weaker="the arithmetic already hides behind the memory traffic",
        query="streaming stores prefetch",
    ),
    Rule(
        bottleneck="compute",
        confidence=0.75,
        evidence=bound_by("compute"),
        because=(
            "the arithmetic that must be done explains most of the time",
            "wider vectors, fewer operations an element and full multiply-add pipes reduce it",
        ),
        expects=Movement(metric="fraction_reached", direction="up", factor=1.15),
        others_are_weaker="the data arrives faster than it is worked on",
        query="register tile",
    ),
    Rule(
        bottleneck="latency",
        confidence=0.6,
        evidence=bound_by("latency"),
        because=(
            "neither memory nor arithmetic explains the time, so the pipes wait",
            "more independent chains and earlier fetches give them something to do",
        ),
        expects=Movement(metric="time_us", direction="down", factor=0.85),
        others_are_weaker="both ceilings are far away",
        query="independent chains latency",
    ),
    UNKNOWN,
)
"""In the order they are asked: what makes the others moot comes first."""
