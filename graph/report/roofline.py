"""The roofline figures: where kernels stand under the ceilings measured on the machine."""

from dataclasses import dataclass

from markupsafe import Markup

from gpu_runner.facts import Roofline
from graph.report.svg import (
    LogScale,
    element,
    figure,
    line,
    log_scale,
    micros,
    shortened,
    text,
    tick_label,
)

_WIDTH, _HEIGHT = 560.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 18.0, 22.0, 46.0
_TRACK_LEFT, _TRACK_RIGHT, _TRACK = 190.0, 64.0, 30.0
_SERIES = 6
_SHARES = ((0.0, "axis"), (0.25, "grid"), (0.5, "grid"), (0.75, "grid"), (1.0, "rule"))


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """The rooflines of one attempt."""

    attempt_id: str
    version: str
    is_best: bool
    roofline: tuple[Roofline, ...]


@dataclass(frozen=True, kw_only=True)
class LinearScale:
    """Map 0 to 1 onto pixels; a little above 1 still fits."""

    start: float
    end: float

    def __call__(self, share: float) -> float:
        """Return the pixel of a share."""
        return self.start + min(max(share, 0.0), 1.05) * (self.end - self.start)


def roofline_figure(profiled: tuple[Profiled, ...]) -> Markup:
    """Return operations a second over operations a byte, with both measured ceilings."""
    every = [(p, r) for p in profiled for r in p.roofline if r.required_flops > 0]
    if not every:
        return Markup()
    peak = max(r.peak_flops_per_s for _, r in every)
    widths = _bandwidths([r.bandwidth_bytes_per_s for _, r in every])
    ridges = [peak / width for width in widths]
    intensities = [_intensity(r) for _, r in every]
    x = log_scale([*intensities, *ridges], _LEFT, _WIDTH - _RIGHT, room=4.0)
    reached = [r.required_flops / r.time_us * 1e6 for _, r in every]
    y = log_scale([*reached, peak], _HEIGHT - _BOTTOM, _TOP, room=1.8)
    names = list(dict.fromkeys(r.workload for _, r in every))
    return figure(
        _WIDTH,
        _HEIGHT,
        "Roofline: operations a second over operations a byte, measured ceilings",
        *(_vertical(x(value), tick_label(value)) for value in x.ticks()),
        *(_horizontal(y(value), tick_label(value)) for value in y.ticks()),
        text(_WIDTH - _RIGHT, _HEIGHT - 6, "operations a byte", class_="tick", anchor="end"),
        text(_LEFT - 46, 12, "operations a second", class_="tick"),
        *(_slope(x, y, width, peak) for width in widths),
        line(x(peak / max(widths)), y(peak), _WIDTH - _RIGHT, y(peak), "ceiling"),
        text(_WIDTH - _RIGHT, y(peak) - 6, f"{tick_label(peak)}op/s", class_="name", anchor="end"),
        *(_dot(x, y, p, r, names.index(r.workload) % _SERIES) for p, r in every),
    )


def fraction_figure(profiled: tuple[Profiled, ...]) -> Markup:
    """Return how much of its roof each workload reaches, every profiled attempt on one track."""
    names = list(dict.fromkeys(r.workload for p in profiled for r in p.roofline))
    scale = LinearScale(start=_TRACK_LEFT, end=_WIDTH - _TRACK_RIGHT)
    return figure(
        _WIDTH,
        _TOP + len(names) * _TRACK + 8,
        "Fraction of the roof reached, by workload",
        *(
            line(scale(share), _TOP, scale(share), _TOP + len(names) * _TRACK, kind)
            + text(scale(share), _TOP - 8, f"{share:.0%}", class_="tick", anchor="middle")
            for share, kind in _SHARES
        ),
        *(
            _track(name, profiled, index % _SERIES, _TOP + (index + 0.5) * _TRACK)
            for index, name in enumerate(names)
        ),
    )


def _bandwidths(measured: list[float]) -> list[float]:
    """Return the distinct bandwidths, those within a tenth of each other as one."""
    kept: list[float] = []
    for value in sorted(measured, reverse=True):
        if not kept or value < kept[-1] * 0.9:
            kept.append(value)
    return kept


def _intensity(roofline: Roofline) -> float:
    return roofline.required_flops / max(roofline.required_bytes, 1)


def _vertical(x: float, shown: str) -> Markup:
    return line(x, _TOP, x, _HEIGHT - _BOTTOM, "grid") + text(
        x, _HEIGHT - _BOTTOM + 16, shown, class_="tick", anchor="middle"
    )


def _horizontal(y: float, shown: str) -> Markup:
    return line(_LEFT, y, _WIDTH - _RIGHT, y, "grid") + text(
        _LEFT - 8, y + 4, shown, class_="tick", anchor="end"
    )


def _slope(x: LogScale, y: LogScale, width: float, peak: float) -> Markup:
    """Return one bandwidth ceiling, from where it enters the figure to the peak."""
    first = max(x.low, y.low / width)
    last = min(peak / width, x.high)
    label = f"{width / 1e9:.3g} GB/s"
    middle = (first * last) ** 0.5
    return line(x(first), y(first * width), x(last), y(last * width), "ceiling") + text(
        x(middle) - 8, y(middle * width) - 6, label, class_="name", anchor="end"
    )


def _says(profiled: Profiled, roofline: Roofline) -> str:
    name = f"{profiled.version} " if profiled.version else ""
    return (
        f"{name}{profiled.attempt_id} on {roofline.workload}: {micros(roofline.time_us)}, floor "
        f"{micros(roofline.floor_us)}, {roofline.fraction_reached:.0%} of the roof, "
        f"{roofline.bound} bound"
    )


def _dot(x: LogScale, y: LogScale, profiled: Profiled, roofline: Roofline, series: int) -> Markup:
    reached = roofline.required_flops / roofline.time_us * 1e6
    return element(
        "a",
        element("title", _says(profiled, roofline)),
        element(
            "circle",
            cx=x(_intensity(roofline)),
            cy=y(reached),
            r=6.0 if profiled.is_best else 3.5,
            class_=f"dot work{series}" + ("" if profiled.is_best else " earlier"),
        ),
        href=f"#{profiled.attempt_id}",
    )


def _track(name: str, profiled: tuple[Profiled, ...], series: int, y: float) -> Markup:
    scale = LinearScale(start=_TRACK_LEFT, end=_WIDTH - _TRACK_RIGHT)
    mine = [(p, r) for p in profiled for r in p.roofline if r.workload == name]
    shares = [r.fraction_reached for _, r in mine]
    best = next((r for p, r in mine if p.is_best), mine[-1][1])
    dots = [
        element(
            "a",
            element("title", _says(p, r)),
            element(
                "circle",
                cx=scale(r.fraction_reached),
                cy=y,
                r=6.0 if p.is_best else 3.5,
                class_=f"dot work{series}" + ("" if p.is_best else " earlier"),
            ),
            href=f"#{p.attempt_id}",
        )
        for p, r in sorted(mine, key=lambda pair: pair[0].is_best)
    ]
    return element(
        "g",
        text(0, y + 4, shortened(name, 26), class_="row"),
        line(scale(min(shares)), y, scale(max(shares)), y, f"track work{series}"),
        *dots,
        text(_WIDTH, y + 4, f"{best.fraction_reached:.0%}", class_="value", anchor="end"),
    )
