"""Inline SVG without a library: escaped elements, scales and ticks. Knows nothing of runs.

Colours and type come from the page's style sheet by class, so that one figure serves light and
dark. Coordinates are pixels of the figure's own view box.
"""

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

Child = str | Markup


def element(name: str, *children: Child, **attributes: str | float | None) -> Markup:
    """Return one element; text and attribute values are escaped, `Markup` children are not.

    Attribute names are written as Python words: `stroke_width`, `class_`. None leaves one out.
    """
    parts = [Markup("<") + name]
    for key, value in attributes.items():
        if value is None:
            continue
        shown = value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
        parts.append(Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), shown))
    parts.append(Markup(">"))
    parts.extend(escape(child) for child in children)
    parts.append(Markup("</") + name + Markup(">"))
    return Markup("").join(parts)


def figure(width: float, height: float, label: str, *children: Child) -> Markup:
    """Return the `<svg>` of a figure, named for those who do not see it."""
    return element(
        "svg",
        element("title", label),
        *children,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=label,
        style=f"--natural:{width:.0f}px",
    )


def text(x: float, y: float, content: str, *, class_: str = "", anchor: str = "start") -> Markup:
    """Return a text element; `anchor` is `start`, `middle` or `end`."""
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def shortened(content: str, most: int) -> str:
    """Return the text on one line, cut with an ellipsis to at most `most` characters."""
    flat = " ".join(content.split())
    return flat if len(flat) <= most else flat[: most - 1].rstrip() + "…"


@dataclass(frozen=True, kw_only=True)
class LogScale:
    """Map values above zero to pixels, equal ratios to equal lengths."""

    low: float
    high: float
    start: float
    """Pixel of `low`."""
    end: float
    """Pixel of `high`."""

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; outside values are drawn at the edge."""
        inside = min(max(value, self.low), self.high)
        share = math.log(inside / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values inside the scale: the coarsest series that has at least four."""
        for steps in _SERIES:
            found = _series(steps, self.low, self.high)
            if len(found) >= _ENOUGH_TICKS:
                stride = math.ceil(len(found) / _MOST_TICKS)
                return found[::stride]
        return _even(self.low, self.high)


_SERIES = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
_ENOUGH_TICKS = 4
_MOST_TICKS = 8


def _series(steps: tuple[float, ...], low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (step * 10.0**decade for decade in decades for step in steps)
    return [value for value in values if low <= value <= high]


def _even(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = size * next(factor for factor in (1, 2, 5, 10) if factor * size >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_scale(values: list[float], start: float, end: float, room: float = 1.08) -> LogScale:
    """Return a scale over the values above zero with some room at both ends."""
    known = [value for value in values if value > 0 and math.isfinite(value)] or [1.0]
    low, high = min(known) / room, max(known) * room
    return LogScale(low=low, high=high, start=start, end=end)


def ratio(value: float) -> str:
    """Return a speed-up as it is written everywhere: `2.31×`."""
    return f"{value:.2f}×" if value < 100 else f"{value:,.0f}×"  # noqa: PLR2004 - three digits say enough


def tick_label(value: float) -> str:
    """Return an axis label without needless digits: `1.25`, `40`, `2k`, `30G`."""
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:.3g}"


def micros(value: float) -> str:
    """Return a time of a call with three or four digits and its unit."""
    if value < 10:  # noqa: PLR2004 - below it two decimals keep three digits
        return f"{value:.2f} µs"
    return f"{value:.1f} µs" if value < 1000 else f"{value:,.0f} µs"  # noqa: PLR2004 - same
