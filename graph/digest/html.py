"""A digest as one HTML file: no script, nothing fetched, figures drawn by hand. Pure."""

import functools
import math

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from graph.digest.model import Digest, listed
from graph.report.svg import element, figure, line, text

_WIDTH, _HEIGHT = 640.0, 260.0
_LEFT, _BOTTOM, _TOP, _RIGHT = 64.0, 36.0, 16.0, 16.0
_ROW = 22.0
_LABEL = 190.0


def html(digest: Digest) -> str:
    """Return the page."""
    return _template().render(
        digest=digest,
        kernels=listed(digest),
        roofline=roofline_figure(digest),
        stalls=stall_figure(digest),
    )


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("graph.digest"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template() -> Template:
    return _environment().get_template("digest.html.j2")


def stall_figure(digest: Digest) -> Markup:
    """Return the reasons for waiting as bars; empty where they were not measured."""
    if not digest.stalls:
        return Markup("")
    height = _ROW * len(digest.stalls) + 8
    wide = _WIDTH - _LABEL - 70
    most = max(digest.stalls.values())
    parts: list[Markup] = []
    for row, (name, share) in enumerate(digest.stalls.items()):
        top = 4 + row * _ROW
        length = max(1.0, wide * share / most)
        parts += [
            text(_LABEL - 8, top + 15, name.replace("_", " "), anchor="end"),
            element("rect", x=_LABEL, y=top + 3, width=length, height=_ROW - 7, class_="bar"),
            text(_LABEL + length + 6, top + 15, f"{share:.1%}"),
        ]
    return figure(_WIDTH, height, "What warps wait for, share of their waiting", *parts)


def roofline_figure(digest: Digest) -> Markup:
    """Return where the kernel stands under bandwidth and arithmetic; empty where not measured."""
    facts = digest.facts
    bandwidth, peak = facts.peak_bytes_per_s, facts.peak_flops_per_s
    moved, rate = facts.bytes_per_s, facts.flops_per_s
    if not (bandwidth and peak and moved and rate):
        return Markup("")
    intensity, ridge = rate / moved, peak / bandwidth
    low = math.log10(min(intensity, ridge)) - 1
    high = math.log10(max(intensity, ridge)) + 1
    top = math.log10(peak) + 0.3
    bottom = min(math.log10(rate), math.log10(bandwidth * 10**low)) - 0.3

    def x(log: float) -> float:
        return _LEFT + (log - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(log: float) -> float:
        return _TOP + (top - log) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)

    knee = x(math.log10(ridge)), y(math.log10(peak))
    slope = x(low), y(math.log10(bandwidth) + low)
    here = x(math.log10(intensity)), y(math.log10(rate))
    return figure(
        _WIDTH,
        _HEIGHT,
        "Roofline: arithmetic against operations a byte of DRAM traffic",
        line(_LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, "axis"),
        line(_LEFT, _TOP, _LEFT, _HEIGHT - _BOTTOM, "axis"),
        line(*slope, *knee, "roof"),
        line(*knee, _WIDTH - _RIGHT, knee[1], "roof"),
        element("circle", cx=here[0], cy=here[1], r=5.0, class_="point"),
        text(min(here[0] + 9, _WIDTH - 120), here[1] + 4, f"{rate / 1e12:.3g} TFLOP/s"),
        text(_WIDTH - _RIGHT, knee[1] - 5, f"{peak / 1e12:.3g} TFLOP/s float32", anchor="end"),
        text(slope[0] + 6, _TOP + 12, f"{bandwidth / 1e12:.3g} TB/s DRAM"),
        text(
            (_LEFT + _WIDTH) / 2,
            _HEIGHT - 8,
            f"operations a byte ({intensity:.3g} here)",
            anchor="middle",
        ),
    )
