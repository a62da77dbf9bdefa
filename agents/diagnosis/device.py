"""From the facts of a kernel on a GPU to a class, its evidence and exactly one next edit. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from agents.diagnosis.roof_rules import NEAR_ROOF, ROOF_RULES, ROOF_SIGNALS
from agents.diagnosis.rules import DeviceRule, Reading, Treatment, Verdict, judge, missing
from agents.diagnosis.signals import Signals, signals
from agents.diagnosis.vocabulary import ROOFS, Bottleneck, coarse
from agents.diagnosis.waiting_rules import WAITING_RULES
from agents.diagnosis.waste_rules import WASTE_RULES
from agents.replies import Edit, Movement
from gpu_runner.facts import Hotspot, KernelFacts

DEVICE_RULES: tuple[DeviceRule, ...] = (*WASTE_RULES, *ROOF_RULES, *WAITING_RULES)
_UNKNOWN_CONFIDENCE = 0.2
_MOST_ALTERNATIVES = 3
_NO_SOURCE = "the kernel's source"
"""Where no export of the source page says which file it is."""
_REST = (
    "leave this kernel as it is: it reaches {reached:.0%} of what the unit can do; route the "
    "effort elsewhere: {elsewhere}"
)
_ELSEWHERE = {
    "dram_bandwidth": "fuse it with its producer or consumer so that fewer bytes move, or store "
    "its data in a narrower type",
    "tensor_pipe": "a narrower input type, or fewer products",
}
_FEWER_OPERATIONS = "an algorithm with fewer operations, dispatch by shape, or the next kernel"
_CAPTURE = (
    "capture the kernel again with `ncu --set full --import-source on` and digest that: what was "
    "exported does not tell what binds it"
)
_UNTOUCHED = (
    "time the kernel at twice the block size and at half of it: no counter stands out, so the next "
    "thing to learn is whether it is latency"
)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What binds a kernel, and what follows from it."""

    bottleneck: Bottleneck
    rule: str
    confidence: float
    readings: tuple[Reading, ...]
    because: tuple[str, ...]
    is_near_roof: bool
    reached: float | None
    """Of what the unit can do, where a unit is the bottleneck."""
    edit: Edit
    expects: Movement
    """What treating it should move, near the roof or not."""
    others_are_weaker: str
    query: str
    alternatives: tuple[tuple[Bottleneck, float], ...]
    """Other classes whose rules hold, with their confidence."""
    missing: tuple[str, ...]
    """Signals that were not measured and would decide more."""


def diagnose_kernel(kernel: KernelFacts, rules: Sequence[DeviceRule] = DEVICE_RULES) -> Diagnosis:
    """Return what binds a kernel; `unknown`, with what is missing, where no rule holds."""
    known = signals(kernel)
    held = judge(known, kernel.arch, rules)
    if not held:
        return _unknown(kernel, known, rules)
    verdict = held[0]
    reached = _reached(verdict.bottleneck, known)
    near = reached is not None and reached >= NEAR_ROOF and not _can_do_better(verdict, kernel)
    others: dict[Bottleneck, float] = {}
    for other in held[1:]:
        if other.bottleneck not in {verdict.bottleneck, coarse(verdict.bottleneck)}:
            others.setdefault(other.bottleneck, other.confidence)
    return Diagnosis(
        bottleneck=verdict.bottleneck,
        rule=verdict.rule.name,
        confidence=verdict.confidence,
        readings=verdict.readings,
        because=verdict.rule.because,
        is_near_roof=near,
        reached=reached,
        edit=_rest(kernel, verdict, reached or 0.0) if near else _edit(kernel, verdict),
        expects=verdict.rule.treatment.expects,
        others_are_weaker=verdict.rule.others_are_weaker,
        query=verdict.rule.query,
        alternatives=tuple(others.items())[:_MOST_ALTERNATIVES],
        missing=verdict.missing,
    )


def _reached(bottleneck: str, known: Signals) -> float | None:
    """Return how near its roof a class is, as far as a unit bounds it."""
    if bottleneck not in ROOFS:
        return None
    value = known.get(ROOF_SIGNALS[bottleneck])
    return None if value is None else min(1.0, value)


def _can_do_better(verdict: Verdict, kernel: KernelFacts) -> bool:
    """Whether the architecture has an instruction that the busy pipe was not asked for."""
    is_old_product = "hmma" in kernel.tensor_kinds and "gmma" not in kernel.tensor_kinds
    variants = verdict.rule.treatment.by_arch
    return verdict.bottleneck == "tensor_pipe" and is_old_product and kernel.arch in variants


def _edit(kernel: KernelFacts, verdict: Verdict) -> Edit:
    treatment = verdict.rule.treatment
    path, symbol = place(kernel)
    return Edit(
        path=path,
        symbol=symbol,
        change=_change(treatment, kernel, verdict),
        why_others_are_weaker=verdict.rule.others_are_weaker,
        expected=treatment.expects,
        validation=treatment.validation,
    )


def _change(treatment: Treatment, kernel: KernelFacts, verdict: Verdict) -> str:
    for limiter in kernel.occupancy_limiters:
        if limiter in treatment.by_limiter:
            return treatment.by_limiter[limiter]
    is_wgmma = verdict.bottleneck == "tensor_pipe" and "gmma" in kernel.tensor_kinds
    if kernel.arch in treatment.by_arch and not is_wgmma:
        return treatment.by_arch[kernel.arch]
    return treatment.change


def _rest(kernel: KernelFacts, verdict: Verdict, reached: float) -> Edit:
    elsewhere = _ELSEWHERE.get(verdict.bottleneck, _FEWER_OPERATIONS)
    path, symbol = place(kernel)
    return Edit(
        path=path,
        symbol=symbol,
        change=_REST.format(reached=reached, elsewhere=elsewhere),
        why_others_are_weaker="nothing else can gain more than the little that is left",
        expected=Movement(metric="time_us", direction="down", factor=1.0),
        validation="the time of what calls this kernel, not of the kernel itself",
    )


def _unknown(kernel: KernelFacts, known: Signals, rules: Sequence[DeviceRule]) -> Diagnosis:
    absent = missing(known, rules)
    path, symbol = place(kernel)
    has_little = "busiest" not in known or "stall_reasons" not in known
    return Diagnosis(
        bottleneck="unknown",
        rule="unknown",
        confidence=_UNKNOWN_CONFIDENCE,
        readings=(),
        because=(
            "too little was measured to tell what binds the kernel"
            if has_little
            else "no unit is busy and no reason for waiting stands out",
        ),
        is_near_roof=False,
        reached=None,
        edit=Edit(
            path=path,
            symbol=symbol,
            change=_CAPTURE if has_little else _UNTOUCHED,
            why_others_are_weaker="no fact speaks for any of them",
            expected=Movement(metric="time_us", direction="down", factor=1.0),
            validation="the next digest names a class",
        ),
        expects=Movement(metric="time_us", direction="down", factor=1.0),
        others_are_weaker="no fact speaks for any of them",
        query="",
        alternatives=(),
        missing=absent,
    )


def place(kernel: KernelFacts) -> tuple[str, str]:
    """Return file and symbol of the hottest line, as far as they are known."""
    spot = hottest_line(kernel)
    if spot is None:
        return _NO_SOURCE, kernel.kernel
    return (f"{spot.path}:{spot.line}" if spot.line is not None else spot.path), kernel.kernel


def hottest_line(kernel: KernelFacts) -> Hotspot | None:
    """Return the line of the user's source that takes most samples; headers only without one."""
    lines = [spot for spot in kernel.hotspots if spot.path and spot.line is not None]
    own = [spot for spot in lines if not spot.path.startswith("/usr/")]
    return max(own or lines, key=lambda spot: spot.share, default=None)
