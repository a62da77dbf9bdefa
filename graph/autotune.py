"""From a performance map to regimes: which promoted variant serves which shapes. Pure.

Regimes are an ordered list of guards over axes; the first that holds serves the call, the last one
always holds. There are as few of them as the measurements force: two shapes are told apart only
where no single variant is good enough on both. A variant is good enough on a workload unless the
best one beats it beyond doubt there: their intervals are disjoint by the decision's margin. The
baseline is a variant whose speed-up is exactly 1, so it serves where every kernel is SLOWER.

Crossovers lie at the geometric mean of the two neighbouring shapes that were measured. A shape
that was not measured is served as the measured shapes on its side of the crossovers are; a shape
that a kernel's own guard excludes is served by the baseline, whatever the regime (`dispatcher`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gpu_runner.expression import evaluate
from gpu_runner.problem import Workload
from graph.ledger import MapPoint, Regime, Tuning
from graph.regimes import Shape, shortest_split

BASELINE: Final = "baseline"
MARGIN: Final = 0.05
"""What the decision rule asks on a busy processor, the widest it knows."""
MOST_REGRET: Final = 0.02
"""Beyond this the tuning says why it is not lower."""


def tune(
    points: tuple[MapPoint, ...],
    workloads: tuple[Workload, ...],
    promoted: tuple[str, ...],
    *,
    margin: float = MARGIN,
) -> Tuning:
    """Turn the performance map into regimes.

    Args:
        points: speed-ups over the first baseline; of several for one cell the last counts. A
            variant without a cell on a workload may not serve it by choice.
        workloads: W; hidden ones and ones without any cell take no part in the decision.
        promoted: attempts that may serve, best first: the order settles ties.
        margin: how far two intervals have to be apart before shapes are told apart.
    """
    table = _Map(points, promoted, margin)
    measured = [w for w in workloads if w.visibility == "public" and table.variants(w.name)]
    if not measured:
        reason = "no promoted variant was measured on W: the baseline serves every shape"
        return Tuning(points=points, regimes=(), is_trivial=True, reason=reason)
    shapes = _shapes(measured, table)
    split = shortest_split(shapes, (*promoted, BASELINE))
    groups = [
        (
            piece.guard,
            piece.variant,
            tuple(n for i in sorted(piece.shapes) for n in shapes[i].names),
        )
        for piece in split.pieces
    ]
    serving = tuple(dict.fromkeys(variant for _, variant, _ in groups))
    regimes = tuple(
        Regime(
            guard=guard,
            attempt_id=variant,
            workloads=names,
            record_ids=table.records(names),
            reason=table.explain(variant, names, serving),
        )
        for guard, variant, names in groups
    )
    regret = _regret(regimes, measured, table)
    torn = tuple(name for shape in shapes if not shape.good for name in shape.names)
    return Tuning(
        points=points,
        regimes=regimes,
        is_trivial=len(regimes) == 1,
        reason=_reason(regimes, torn, regret, margin),
        regret=regret,
    )


def regime_for(regimes: Sequence[Regime], sizes: Mapping[str, int]) -> Regime | None:
    """Return the regime that serves these sizes; None where there are no regimes."""
    return next((regime for regime in regimes if evaluate(regime.guard, sizes)), None)


@dataclass(frozen=True)
class _Cell:
    speedup: float
    low: float
    high: float
    record_id: str = ""

    def __str__(self) -> str:
        return f"{self.speedup:.2f}x [{self.low:.2f}, {self.high:.2f}]"


_UNITY: Final = _Cell(1.0, 1.0, 1.0)


class _Map:
    """The performance map of the variants that may serve, the baseline among them."""

    def __init__(self, points: Sequence[MapPoint], promoted: Sequence[str], margin: float) -> None:
        self._margin = margin
        self._rows: dict[str, dict[str, _Cell]] = {}
        for p in points:
            if p.attempt_id in promoted:
                cell = _Cell(p.speedup, p.low, p.high, p.record_id)
                self._rows.setdefault(p.workload, {})[p.attempt_id] = cell

    def variants(self, workload: str) -> tuple[str, ...]:
        """Return the variants with a cell on a workload; empty where it was not measured."""
        return tuple(self._rows.get(workload, ()))

    def cells(self, workload: str) -> dict[str, _Cell]:
        """Return a workload's cells, the baseline's first."""
        return {BASELINE: _UNITY, **self._rows[workload]}

    def good(self, workload: str) -> frozenset[str]:
        """Return the variants that the best one does not beat beyond doubt."""
        cells = self.cells(workload)
        best = max(cells.values(), key=lambda cell: cell.speedup)
        return frozenset(
            name
            for name, cell in cells.items()
            if cell is best or cell.high * (1 + self._margin) >= best.low
        )

    def records(self, workloads: Sequence[str]) -> tuple[str, ...]:
        """Return the records that a choice on these workloads rests on."""
        ids = (cell.record_id for name in workloads for cell in self._rows[name].values())
        return tuple(dict.fromkeys(ids))

    def explain(self, variant: str, workloads: Sequence[str], serving: Sequence[str]) -> str:
        """Say what a regime's variant reaches, and what keeps the other regimes' out."""
        if variant == BASELINE:
            told = [f"no kernel is faster than the baseline on {', '.join(workloads)}"]
        else:
            reached = (f"{self._rows[name][variant]} on {name}" for name in workloads)
            told = [f"{variant} reaches {', '.join(reached)}"]
        for other in serving:
            worse = [name for name in workloads if other not in self.good(name)]
            if other != variant and worse:
                told.append(f"{other} is slower beyond doubt on {', '.join(worse)}")
        return "; ".join(told)


def _shapes(measured: Sequence[Workload], table: _Map) -> tuple[Shape, ...]:
    """Group workloads by their axes: no guard can tell two contents of one shape apart."""
    total = sum(w.weight for w in measured)
    groups: dict[tuple[tuple[str, int], ...], list[Workload]] = {}
    for workload in measured:
        groups.setdefault(tuple(sorted(workload.axes.items())), []).append(workload)
    shapes = []
    for axes, group in groups.items():
        weight = sum(w.weight for w in group)
        rows = [table.cells(w.name) for w in group]
        logs = {
            name: sum(
                w.weight * math.log(row[name].speedup) for w, row in zip(group, rows, strict=True)
            )
            / weight
            for name in rows[0]
            if all(name in row for row in rows)
        }
        good = frozenset(logs).intersection(*(table.good(w.name) for w in group))
        names = tuple(w.name for w in group)
        shapes.append(Shape(dict(axes), names, weight / total, logs, good))
    return tuple(shapes)


def _regret(regimes: Sequence[Regime], measured: Sequence[Workload], table: _Map) -> float:
    """Return the weighted geometric loss against the best variant of each workload; 0 is none."""
    loss = 0.0
    for workload in measured:
        cells = table.cells(workload.name)
        serving = next(r.attempt_id for r in regimes if workload.name in r.workloads)
        best = max(cell.speedup for cell in cells.values())
        loss += workload.weight * math.log(best / cells[serving].speedup)
    return math.expm1(loss / sum(w.weight for w in measured))


def _reason(regimes: Sequence[Regime], torn: Sequence[str], regret: float, margin: float) -> str:
    count = sum(len(regime.workloads) for regime in regimes)
    if len(regimes) > 1:
        told = (
            f"{len(regimes)} regimes: on {count} measured workloads no variant stays within "
            f"{margin:.0%} of the best everywhere"
        )
    elif regimes[0].attempt_id == BASELINE:
        told = f"trivial dispatcher: no promoted variant is faster on the {count} workloads"
    else:
        told = (
            f"trivial dispatcher: {regimes[0].attempt_id} is the best variant, or not told apart "
            f"from the best, on each of the {count} measured workloads"
        )
    if torn:
        told += f"; a guard sees sizes only, and contents of one shape disagree: {', '.join(torn)}"
    elif regret > MOST_REGRET:
        told += (
            f"; the regret of {regret:.1%} is within the noise: the intervals of the variants "
            f"that look better overlap with the chosen ones by the margin of {margin:.0%}"
        )
    return told
