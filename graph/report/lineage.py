"""The figure of descent: a row an incumbent, its children without a future beside it."""

from markupsafe import Markup

from graph.ledger import Attempt, AttemptOutcome
from graph.report.story import Point, Row
from graph.report.svg import element, figure, ratio, shortened, text

_WIDTH = 1080.0
_ROW, _COLUMN = 46.0, 26.0
_LEFT, _TOP = 16.0, 24.0
_LEAVES_RIGHT = _WIDTH - 8.0
_LEAF = 13.0
_LEAVES_A_LINE = 16


def lineage_figure(rows: tuple[Row, ...], points: tuple[Point, ...]) -> Markup:
    """Return the tree: promoted attempts down the page, what was tried on each at its right."""
    speedups = {point.attempt.attempt_id: point.speedup for point in points}
    tops = _tops(rows)
    widest = max(row.depth for row in rows)
    height = tops[-1] + _height(rows[-1])
    return figure(
        _WIDTH,
        height,
        "Lineage: which attempt came from which",
        *(_edge(rows, tops, row, index) for index, row in enumerate(rows)),
        *(
            _drawn(row, tops[index], _LEFT + (widest + 1) * _COLUMN, speedups)
            for index, row in enumerate(rows)
        ),
    )


def _height(row: Row) -> float:
    lines = -(-len(row.leaves) // _LEAVES_A_LINE)
    return max(_ROW, 20 + lines * _LEAF)


def _tops(rows: tuple[Row, ...]) -> list[float]:
    tops, y = [], _TOP
    for row in rows:
        tops.append(y)
        y += _height(row)
    return tops


def _edge(rows: tuple[Row, ...], tops: list[float], row: Row, index: int) -> Markup:
    if row.parent_row is None:
        return Markup()
    x, y = _LEFT + row.depth * _COLUMN, tops[index]
    parent_x = _LEFT + rows[row.parent_row].depth * _COLUMN
    parent_y = tops[row.parent_row]
    bend = parent_y + _ROW * 0.7
    path = (
        f"M {parent_x:.1f} {parent_y:.1f} C {parent_x:.1f} {bend:.1f} {x:.1f} {parent_y:.1f} "
        f"{x:.1f} {bend:.1f} V {y:.1f}"
    )
    return element("path", d=path, class_="edge")


def _drawn(row: Row, y: float, label_x: float, speedups: dict[str, float]) -> Markup:
    x = _LEFT + row.depth * _COLUMN
    if row.attempt is None:
        node = element("circle", cx=x, cy=y, r=5.0, class_="dot start")
        label = text(label_x, y + 4, "start: the problem and its baselines", class_="tick")
        return node + label + _leaves(row.leaves, y, speedups)
    attempt = row.attempt
    is_promoted = attempt.outcome is AttemptOutcome.PROMOTED
    name = " · ".join(part for part in (attempt.version, attempt.attempt_id) if part)
    reached = speedups.get(attempt.attempt_id)
    shown = f"{name} · {ratio(reached)}" if reached is not None else name
    idea = attempt.recipe or attempt.family
    return element(
        "a",
        element("title", _says(attempt, speedups)),
        element("circle", cx=x, cy=y, r=6.0, class_="dot promoted" if is_promoted else "dot leaf"),
        text(label_x, y - 2, shown, class_="row"),
        text(label_x, y + 13, shortened(f"{idea}: {attempt.motivation}", 110), class_="tick"),
        href=f"#{attempt.attempt_id}",
    ) + _leaves(row.leaves, y, speedups)


def _says(attempt: Attempt, speedups: dict[str, float]) -> str:
    reached = speedups.get(attempt.attempt_id)
    how = ratio(reached) if reached is not None else (attempt.reason or "not measured")
    return f"{attempt.attempt_id}: {attempt.outcome}, {how}; {shortened(attempt.motivation, 160)}"


def _leaves(leaves: tuple[Attempt, ...], y: float, speedups: dict[str, float]) -> Markup:
    """Return one small mark for each attempt that led no further, in ledger order."""
    drawn = []
    for index, attempt in enumerate(leaves):
        in_line = min(len(leaves), _LEAVES_A_LINE)
        x = _LEAVES_RIGHT - (in_line - 1 - index % _LEAVES_A_LINE) * _LEAF
        at = y - 2 + (index // _LEAVES_A_LINE) * _LEAF
        if attempt.outcome is AttemptOutcome.MEASURED:
            mark = element("circle", cx=x, cy=at, r=3.5, class_="dot leaf")
        else:
            path = f"M {x - 3:.1f} {at - 3:.1f} l 6 6 m 0 -6 l -6 6"
            mark = element("path", d=path, class_=f"cross {attempt.outcome}")
        target = f"#{attempt.attempt_id}"
        drawn.append(element("a", element("title", _says(attempt, speedups)), mark, href=target))
    return Markup("").join(drawn)
