"""What GCC said of the loops it met: `-fopt-info-vec-optimized-missed`, read into Remarks. Pure.

The compiler visits a loop many times (each inlined copy, the main loop and its remainder) and tells
the reason of a failure in the lines after it. Here a place in the source has one remark: it is
vectorised if any copy was, with the widest vectors; else missed, with the first reason; or a note
where the failure is of no interest, as for a loop around loops.
"""

import re
from collections.abc import Iterator
from typing import Literal

from gpu_runner.facts import Remark

MOST_REMARKS = 200

_LINE = re.compile(
    r"^(?P<path>[^\n:]+):(?P<line>\d+):\d+: (?P<kind>optimized|missed): (?P<text>.*)$"
)
_WIDTH = re.compile(r"loop vectorized using (?:variable length|(\d+) byte) vectors")
_CALL = re.compile(r"(?:statement clobbers memory|function calls?[^:]*): .*?([A-Za-z_]\w*) \(")
_FAILED = "couldn't vectorize loop"
_OUTER = re.compile(r"loop nest|multiple nested loops|inner-loop|outer.loop|unsupported outer")
_EXPLAINED = {
    "unsupported use in stmt": "a value is carried from one iteration to the next",
    "control flow in loop": "the loop has branches that cannot become selections",
    "number of iterations cannot be computed": "the trip count is unknown when the loop starts",
    "no vectype for stmt": "no vector size serves every statement, often because of a call",
    "possible alias": "the pointers may overlap",
    "complicated access pattern": "the memory is read in steps or out of order",
    "not enough data-refs": "too little work to share among lanes",
}
"""What GCC's words mean, by a part of its reason."""

_RANK = {"vectorised": 0, "missed": 1, "note": 2}


def parse_remarks(text: str) -> tuple[Remark, ...]:
    """Return one remark a source line, in order of path and line; at most `MOST_REMARKS`."""
    best: dict[tuple[str, int], tuple[int, int, Remark]] = {}
    for found, width in _loops(text):
        key = (found.path, found.line)
        score = (_RANK[found.kind], -width)
        if key not in best or score < best[key][:2]:
            best[key] = (*score, found)
    ordered = sorted((remark for _, _, remark in best.values()), key=_order)
    return tuple(ordered[:MOST_REMARKS])


def _order(remark: Remark) -> tuple[bool, str, int]:
    return remark.path.startswith("/"), remark.path, remark.line


def _loops(text: str) -> Iterator[tuple[Remark, int]]:
    """Yield a remark for each message about a loop, with its vector bytes."""
    failed: tuple[str, int] | None = None
    reasons: list[str] = []
    for match in filter(None, map(_LINE.match, text.splitlines())):
        path, line, said = match["path"], int(match["line"]), match["text"]
        if match["kind"] == "missed" and said != _FAILED:
            reasons.append(said)
            continue
        if failed is not None:
            yield _missed(failed, reasons), 0
        failed, reasons = None, []
        if said == _FAILED:
            failed = (path, line)
        else:
            yield _optimised(path, line, said)
    if failed is not None:
        yield _missed(failed, reasons), 0


def _optimised(path: str, line: int, said: str) -> tuple[Remark, int]:
    match = _WIDTH.search(said)
    if match is None:
        return Remark(path=path, line=line, kind="note", text=said), 0
    width = int(match.group(1) or 0)
    return Remark(path=path, line=line, kind="vectorised", text=said), width


def _missed(place: tuple[str, int], reasons: list[str]) -> Remark:
    """Return the remark of a loop that stayed scalar; only the first reason is of this loop."""
    path, line = place
    kind: Literal["missed", "note"] = "missed"
    text = _FAILED
    if reasons:
        reason = reasons[0].removeprefix("not vectorized: ").rstrip(".")
        kind = "note" if _OUTER.search(reason) else "missed"
        text = _in_words(reason)
    return Remark(path=path, line=line, kind=kind, text=text)


def _in_words(reason: str) -> str:
    call = _CALL.search(f"{reason};")
    if call:
        return f"calls {call.group(1).removeprefix('__builtin_')}, which has no vector form here"
    meaning = next((words for part, words in _EXPLAINED.items() if part in reason), None)
    # What follows the colon is the compiler's own intermediate code.
    return f"{reason.split(':', maxsplit=1)[0]}: {meaning}" if meaning else reason
