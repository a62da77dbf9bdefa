"""The two figures over attempts: speed-up against the first baseline, and latency of one call."""

from dataclasses import dataclass

from markupsafe import Markup

from graph.ledger import Attempt, AttemptOutcome
from graph.report.story import Point
from graph.report.svg import (
    LogScale,
    element,
    figure,
    line,
    log_scale,
    micros,
    ratio,
    shortened,
    text,
    tick_label,
)

_WIDTH, _HEIGHT = 560.0, 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 16.0, 16.0, 58.0
_STRIP = _HEIGHT - 34.0
"""Height of the strip of attempts that have no number."""
_MOST_LABELS = 12
_NAME_ROOM, _NAME_AWAY = 34.0, 13.0


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One attempt in one figure."""

    order: int
    value: float
    low: float
    high: float
    attempt: Attempt
    is_direct: bool
    title: str


def speedup_figure(
    points: tuple[Point, ...], attempts: tuple[Attempt, ...], baseline: str
) -> Markup:
    """Return speed-up over attempts; above 1 is faster than the baseline."""
    marks = [
        _mark(
            p, p.speedup, p.low, p.high, f"{ratio(p.speedup)} ({ratio(p.low)} to {ratio(p.high)})"
        )
        for p in points
    ]
    values = [1.0, *(v for p in points for v in (p.low, p.high))]
    scale = log_scale(values, _HEIGHT - _BOTTOM, _TOP)
    labels = [(value, f"{tick_label(value)}×") for value in scale.ticks()]
    notes = _rule(scale, 1.0, baseline) + _names(marks, scale, len(attempts), away=-_NAME_AWAY)
    return _figure(f"Speed-up over {baseline}, by attempt", scale, labels, marks, attempts, notes)


def latency_figure(
    points: tuple[Point, ...],
    attempts: tuple[Attempt, ...],
    baseline: str,
    baseline_us: float | None,
) -> Markup:
    """Return the median latency of one call over attempts; lower is better."""
    marks = [
        _mark(
            p,
            p.latency_us,
            p.latency_low_us,
            p.latency_high_us,
            f"{micros(p.latency_us)} against {micros(p.decision.overall.against_us)}"
            f" ({p.decision.against})",
        )
        for p in points
    ]
    known = [] if baseline_us is None else [baseline_us]
    values = [*known, *(v for m in marks for v in (m.value, m.low, m.high))]
    scale = log_scale(values, _HEIGHT - _BOTTOM, _TOP)
    labels = [(value, tick_label(value)) for value in scale.ticks()]
    rule = Markup() if baseline_us is None else _rule(scale, baseline_us, baseline)
    notes = rule + _names(marks, scale, len(attempts), away=_NAME_AWAY + 8)
    title = "Latency of one call, µs, by attempt"
    return _figure(title, scale, labels, marks, attempts, notes)


def _mark(point: Point, value: float, low: float, high: float, says: str) -> Mark:
    attempt = point.attempt
    how = "" if point.is_direct else ", placed through the incumbent it was compared with"
    name = f"{attempt.version} " if attempt.version else ""
    return Mark(
        order=point.order,
        value=value,
        low=low,
        high=high,
        attempt=attempt,
        is_direct=point.is_direct,
        title=f"{name}{attempt.attempt_id}: {says}{how}; {attempt.outcome}; "
        f"{shortened(attempt.motivation, 120)}; record {point.decision.record_id}",
    )


def _figure(
    label: str,
    scale: LogScale,
    labels: list[tuple[float, str]],
    marks: list[Mark],
    attempts: tuple[Attempt, ...],
    notes: Markup,
) -> Markup:
    return figure(
        _WIDTH,
        _HEIGHT,
        label,
        *(_grid(scale(value), shown) for value, shown in labels),
        notes,
        _best_so_far(marks, scale, len(attempts)),
        *(_drawn(mark, scale, len(attempts)) for mark in marks),
        _strip(attempts, {mark.attempt.attempt_id for mark in marks}),
        *_order_labels(attempts),
    )


def _x(order: int, total: int) -> float:
    share = (order + 0.5) / max(total, 1)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _grid(y: float, shown: str) -> Markup:
    return line(_LEFT, y, _WIDTH - _RIGHT, y, "grid") + text(
        _LEFT - 8, y + 4, shown, class_="tick", anchor="end"
    )


def _rule(scale: LogScale, value: float, name: str) -> Markup:
    y = scale(value)
    label = text(_WIDTH - _RIGHT, y - 5, shortened(name, 40), class_="rule-label", anchor="end")
    return line(_LEFT, y, _WIDTH - _RIGHT, y, "rule") + label


def _best_so_far(marks: list[Mark], scale: LogScale, total: int) -> Markup:
    """Return the step line through the promoted attempts."""
    promoted = [m for m in marks if m.attempt.outcome is AttemptOutcome.PROMOTED]
    if not promoted:
        return Markup()
    path = f"M {_x(promoted[0].order, total):.1f} {scale(promoted[0].value):.1f}"
    for mark in promoted[1:]:
        path += f" H {_x(mark.order, total):.1f} V {scale(mark.value):.1f}"
    return element("path", d=f"{path} H {_WIDTH - _RIGHT:.1f}", class_="best")


def _drawn(mark: Mark, scale: LogScale, total: int) -> Markup:
    x, y = _x(mark.order, total), scale(mark.value)
    is_promoted = mark.attempt.outcome is AttemptOutcome.PROMOTED
    kind = "promoted" if is_promoted else ("direct" if mark.is_direct else "placed")
    return element(
        "a",
        element("title", mark.title),
        line(x, scale(mark.low), x, scale(mark.high), f"whisker {kind}"),
        element("circle", cx=x, cy=y, r=5.0 if is_promoted else 3.5, class_=f"dot {kind}"),
        href=f"#{mark.attempt.attempt_id}",
    )


def _names(marks: list[Mark], scale: LogScale, total: int, *, away: float) -> Markup:
    """Return the versions of promoted attempts, from the last backwards as far as there is room."""
    shown = Markup()
    free = _WIDTH
    for mark in reversed(marks):
        x = _x(mark.order, total)
        if mark.attempt.version and mark.attempt.outcome is AttemptOutcome.PROMOTED and x < free:
            y = scale(mark.value) + away
            shown += text(x, y, mark.attempt.version, class_="name", anchor="middle")
            free = x - _NAME_ROOM
    return shown


def _strip(attempts: tuple[Attempt, ...], shown: set[str]) -> Markup:
    """Return a cross for every attempt without a number, below the axis."""
    crosses = [
        element(
            "a",
            element(
                "title",
                f"{attempt.attempt_id}: {attempt.outcome}, {attempt.reason or 'not measured'}; "
                f"{shortened(attempt.message, 120)}",
            ),
            element(
                "path",
                d=f"M {x - 3:.1f} {_STRIP - 3:.1f} l 6 6 m 0 -6 l -6 6",
                class_=f"cross {attempt.outcome}",
            ),
            href=f"#{attempt.attempt_id}",
        )
        for order, attempt in enumerate(attempts)
        if attempt.attempt_id not in shown
        for x in (_x(order, len(attempts)),)
    ]
    return Markup("").join(crosses)


def _order_labels(attempts: tuple[Attempt, ...]) -> list[Markup]:
    stride = -(-len(attempts) // _MOST_LABELS) or 1
    shown = [
        text(
            _x(order, len(attempts)),
            _HEIGHT - 12,
            attempt.attempt_id,
            class_="tick",
            anchor="middle",
        )
        for order, attempt in enumerate(attempts)
        if order % stride == 0
    ]
    return [line(_LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, "axis"), *shown]
