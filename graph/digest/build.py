"""From the facts of a report to the digest of one kernel in it. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from agents.diagnosis.comparison import (
    METRICS,
    change_of,
    compare,
    explain,
    matched,
    microseconds,
    relative,
)
from agents.diagnosis.comparison import percent as shown_percent
from agents.diagnosis.device import Diagnosis, diagnose_kernel
from agents.diagnosis.query import evidence_query
from agents.diagnosis.rules import Reading
from agents.diagnosis.signals import Signals, signals
from agents.diagnosis.vocabulary import LABELS
from agents.replies import Movement
from gpu_runner.facts import KernelFacts
from gpu_runner.message import digest_of
from gpu_runner.report import differences, symbol_of
from graph.digest.model import (
    Against,
    Alternative,
    Digest,
    EvidenceLine,
    ExpectedMovement,
    KernelLine,
    MetricChange,
    NextEdit,
)
from graph.errors import KernelNotFound

_HIGH, _MEDIUM = 0.8, 0.55
_ID_LENGTH = 12
_MOST_NAMED = 12
_MOST_STALLS = 8
_LEAST_STALL = 0.005
_SHARES = ("_fraction", "_share", "_use", "_reached", "_beside_shared")
_CONTEXT = ("time_us", "dram_fraction", "l2_fraction", "sm_fraction", "occupancy_fraction")
"""Shown beside what the rule asked for: where the other explanations stand."""


def chosen(kernels: Sequence[KernelFacts], name: str | None) -> KernelFacts:
    """Return the kernel that is asked for, or the one that takes most time.

    Args:
        kernels: of a report, those that take most time first.
        name: the whole name with parameter types or without, a pattern with `*`, or a part of it.

    Raises:
        KernelNotFound: the report has no such kernel; the message names those it has.
    """
    if name is None:
        return kernels[0]
    for matches in (
        [one for one in kernels if one.kernel in {name, symbol_of(name)}],
        [one for one in kernels if fnmatchcase(one.kernel, name)],
        [one for one in kernels if name.lower() in one.kernel.lower()],
    ):
        if matches:
            return matches[0]
    known = ", ".join(one.kernel for one in kernels[:_MOST_NAMED])
    more = f" and {len(kernels) - _MOST_NAMED} more" if len(kernels) > _MOST_NAMED else ""
    raise KernelNotFound(f"the report has no kernel {name!r}; it has {known}{more}")


def build(
    kernels: Sequence[KernelFacts],
    *,
    report: str,
    kernel: str | None = None,
    against: Sequence[KernelFacts] = (),
    against_report: str = "",
) -> Digest:
    """Return the digest of a kernel.

    Args:
        kernels: of the report, those that take most time first; at least one.
        report: what it is called.
        kernel: which one; the one that takes most time.
        against: kernels of the report to compare with.
        against_report: what that is called.

    Raises:
        KernelNotFound: there is no such kernel, here or in the other report.
    """
    one = chosen(kernels, kernel)
    found = diagnose_kernel(one)
    known = signals(one)
    digest = Digest(
        report=report,
        kernel=one.kernel,
        bottleneck=found.bottleneck,
        label=LABELS[found.bottleneck],
        confidence=found.confidence,
        confidence_word=confidence_word(found.confidence),
        is_near_roof=found.is_near_roof,
        route=_route(found),
        rule=found.rule,
        evidence=_evidence(found, one, known),
        stalls=stalls_of(known),
        inference=_inference(found),
        next_edit=_edit(found, known),
        alternatives=tuple(
            Alternative(bottleneck=name, label=LABELS[name], confidence=confidence)
            for name, confidence in found.alternatives
        ),
        missing=found.missing,
        query=evidence_query(found.bottleneck, found.query, arch=one.arch, operator=one.kernel)
        if found.query
        else None,
        hotspots=one.hotspots,
        against=_against(one, against, against_report) if against else None,
        kernels=tuple(_line(other, is_chosen=other is one) for other in kernels),
        facts=one,
    )
    return digest.model_copy(update={"digest_id": digest_of(digest)[:_ID_LENGTH]})


def confidence_word(confidence: float) -> Literal["high", "medium", "low"]:
    """Return a confidence as people say it."""
    if confidence >= _HIGH:
        return "high"
    return "medium" if confidence >= _MEDIUM else "low"


def stalls_of(known: Signals) -> dict[str, float]:
    """Return the largest reasons for waiting, each by its own name."""
    groups = {"memory", "shared", "sync", "front_end", "execution", "tensor", "atomics", "reasons"}
    shares = {
        name.removeprefix("stall_"): share
        for name, share in known.items()
        if name.startswith("stall_") and name.removeprefix("stall_") not in groups
    }
    ranked = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return {name: share for name, share in ranked[:_MOST_STALLS] if share >= _LEAST_STALL}


def shown(signal: str, value: float) -> str:
    """Write a signal's value with its unit."""
    metric = METRICS.get(signal)
    if metric is not None:
        return metric.show(value)
    is_share = (
        signal.endswith(_SHARES) or signal.startswith(("stall_", "pipe_")) or "busy" in signal
    )
    return shown_percent(value) if is_share or signal == "busiest" else f"{value:.4g}"


def _route(found: Diagnosis) -> Literal["edit", "stop", "capture"]:
    if found.bottleneck == "unknown":
        return "capture"
    return "stop" if found.is_near_roof or found.bottleneck == "launch_overhead" else "edit"


def _evidence(found: Diagnosis, kernel: KernelFacts, known: Signals) -> tuple[EvidenceLine, ...]:
    lines = [_asked(reading) for reading in found.readings]
    asked = {reading.signal for reading in found.readings}
    stall = next(iter(stalls_of(known).items()), None)
    if stall is not None:
        name, share = stall
        lines.append(
            EvidenceLine(
                metric=f"stall_{name}",
                value=share,
                shown=shown_percent(share),
                text=f"warps wait for {name} most: {share:.0%} of their waiting",
            )
        )
    if found.bottleneck == "low_occupancy" and kernel.occupancy_limiters:
        limiters = ", ".join(kernel.occupancy_limiters)
        bound = known["occupancy_bound"]
        lines.append(
            EvidenceLine(
                metric="occupancy_limiters",
                value=bound,
                shown=limiters,
                text=f"occupancy is limited to {bound:.1%} by {limiters}",
            )
        )
    for name in _CONTEXT:
        if name in known and name not in asked:
            value = shown(name, known[name])
            lines.append(
                EvidenceLine(
                    metric=name, value=known[name], shown=value, text=f"{_named(name)} {value}"
                )
            )
    return tuple(lines)


def _asked(reading: Reading) -> EvidenceLine:
    value, limit = (shown(reading.signal, number) for number in (reading.value, reading.threshold))
    return EvidenceLine(
        metric=reading.signal,
        value=reading.value,
        shown=value,
        op=reading.op,
        threshold=reading.threshold,
        source=reading.source,
        text=f"{_named(reading.signal)} {value} ({reading.op} {limit})",
    )


def _named(signal: str) -> str:
    metric = METRICS.get(signal)
    return metric.label if metric is not None else signal.replace("_", " ")


def _inference(found: Diagnosis) -> tuple[str, ...]:
    lines = [*found.because]
    if found.reached is not None:
        words = "near the roof" if found.is_near_roof else "below the roof"
        lines.append(f"{found.reached:.0%} of what the unit can do: {words}")
    lines.append(f"the others are weaker: {found.edit.why_others_are_weaker}")
    if found.missing:
        lines.append(f"not measured: {', '.join(found.missing[:6])}")
    return tuple(lines)


def _edit(found: Diagnosis, known: Signals) -> NextEdit:
    edit = found.edit
    return NextEdit(
        file=edit.path,
        symbol=edit.symbol,
        change=edit.change,
        why_others_are_weaker=edit.why_others_are_weaker,
        expected=_expected(edit.expected, known),
        validation=edit.validation,
    )


def _expected(movement: Movement, known: Signals) -> ExpectedMovement:
    change = (movement.factor - 1) * 100
    now = known.get(movement.metric)
    words = f"{_named(movement.metric)} {movement.direction} by {abs(change):.0f} %"
    if not change:
        words = f"{_named(movement.metric)} stays as it is"
    elif now is not None:
        then = now * movement.factor
        if shown(movement.metric, now).endswith("%"):
            then = min(then, 1.0)
        words += f", {shown(movement.metric, now)} -> {shown(movement.metric, then)}"
    return ExpectedMovement(
        metric=movement.metric, direction=movement.direction, factor=movement.factor, text=words
    )


def _against(kernel: KernelFacts, others: Sequence[KernelFacts], report: str) -> Against:
    other = matched(kernel, others)
    if other is None:
        known = ", ".join(one.kernel for one in others[:_MOST_NAMED])
        raise KernelNotFound(
            f"{report} has no kernel {kernel.kernel!r} to compare with; it has {known}"
        )
    change = change_of(other.time_us, kernel.time_us)
    headline = "no duration in one of the reports"
    if change is not None and other.time_us is not None and kernel.time_us is not None:
        times = f"{microseconds(kernel.time_us)} against {microseconds(other.time_us)}"
        headline = f"{times}: {relative(change)}"
    return Against(
        report=report,
        kernel=other.kernel,
        bottleneck=diagnose_kernel(other).bottleneck,
        time_change_percent=None if change is None else round(change * 100, 2),
        headline=headline,
        changes=tuple(
            MetricChange(
                metric=delta.metric,
                label=delta.label,
                before=delta.before,
                after=delta.after,
                shown_before=delta.shown_before,
                shown_after=delta.shown_after,
                change=delta.shown_change,
                is_better=delta.is_better,
            )
            for delta in compare(other, kernel)
        ),
        explanation=explain(other, kernel),
        sass=differences(other.sass, kernel.sass) if other.sass and kernel.sass else (),
    )


def _line(kernel: KernelFacts, *, is_chosen: bool) -> KernelLine:
    found = diagnose_kernel(kernel)
    return KernelLine(
        kernel=kernel.kernel,
        launches=kernel.launches or 1,
        time_us=kernel.time_us,
        share=kernel.share,
        bottleneck=found.bottleneck,
        label=LABELS[found.bottleneck],
        confidence=found.confidence,
        is_chosen=is_chosen,
    )
