"""The figure over workloads: one row a workload, one bar with its interval a baseline."""

from markupsafe import Markup

from gpu_runner.problem import Workload
from gpu_runner.records import Comparison, Decision
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

_WIDTH = 1080.0
_LEFT, _RIGHT, _TOP = 270.0, 190.0, 30.0
_BAR, _GAP = 18.0, 14.0
MOST_SERIES = 4
"""Colours of the style sheet; more baselines repeat them."""


def workloads_figure(decisions: tuple[Decision, ...], workloads: tuple[Workload, ...]) -> Markup:
    """Return the speed-up of the best kernel on every public workload against every baseline."""
    compared = [w for w in workloads if any(w.name in d.workloads for d in decisions)]
    every = [d.workloads[w.name] for w in compared for d in decisions if w.name in d.workloads]
    values = [1.0, *(value for c in every for value in (c.low, c.high))]
    scale = log_scale(values, _LEFT, _WIDTH - _RIGHT, room=1.04)
    row = len(decisions) * _BAR + _GAP
    height = _TOP + len(compared) * row + 8
    total = sum(w.weight for w in workloads) or 1.0
    return figure(
        _WIDTH,
        height,
        "Speed-up on every public workload, with intervals",
        *(_grid(scale, value, height) for value in scale.ticks()),
        line(scale(1.0), _TOP - 6, scale(1.0), height - 4, "rule"),
        *(
            _row(scale, workload, decisions, _TOP + index * row, workload.weight / total)
            for index, workload in enumerate(compared)
        ),
    )


def _grid(scale: LogScale, value: float, height: float) -> Markup:
    x = scale(value)
    return line(x, _TOP - 6, x, height - 4, "grid") + text(
        x, _TOP - 12, f"{tick_label(value)}×", class_="tick", anchor="middle"
    )


def _row(
    scale: LogScale, workload: Workload, decisions: tuple[Decision, ...], top: float, share: float
) -> Markup:
    sizes = " ".join(f"{axis}={size}" for axis, size in workload.axes.items())
    middle = top + len(decisions) * _BAR / 2
    bars = [
        _bar(scale, workload, decision, top + index * _BAR, index % MOST_SERIES)
        for index, decision in enumerate(decisions)
        if workload.name in decision.workloads
    ]
    return element(
        "g",
        element("title", f"{workload.name}: {sizes}; weight {share:.0%}; {workload.source}"),
        text(0, middle - 1, shortened(workload.name, 30), class_="row"),
        text(0, middle + 13, shortened(f"{sizes} · {share:.0%} of W", 42), class_="tick"),
        *bars,
    )


def _bar(
    scale: LogScale, workload: Workload, decision: Decision, top: float, series: int
) -> Markup:
    compared: Comparison = decision.workloads[workload.name]
    y = top + _BAR / 2
    start, end = sorted((scale(1.0), scale(compared.speedup)))
    says = (
        f"{workload.name} against {decision.against}: {compared.verdict}, "
        f"{ratio(compared.speedup)} ({ratio(compared.low)} to {ratio(compared.high)}), "
        f"{micros(compared.candidate_us)} against {micros(compared.against_us)}, "
        f"record {decision.record_id}"
    )
    return element(
        "g",
        element("title", says),
        element(
            "rect",
            x=start,
            y=top + 3,
            width=max(end - start, 1.0),
            height=_BAR - 6,
            rx=2.0,
            class_=f"bar series{series}",
        ),
        line(scale(compared.low), y, scale(compared.high), y, "whisker over"),
        line(scale(compared.low), y - 4, scale(compared.low), y + 4, "whisker over"),
        line(scale(compared.high), y - 4, scale(compared.high), y + 4, "whisker over"),
        text(_WIDTH - _RIGHT + 14, y + 4, ratio(compared.speedup), class_="value"),
        text(_WIDTH - _RIGHT + 70, y + 4, compared.verdict, class_=f"verdict {compared.verdict}"),
    )
