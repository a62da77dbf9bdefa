"""What rules see in a kernel's text, and what a remark may say of it. Pure.

Rules speak of leftovers only: what a kernel does is measured, what it means a reader has to say.
"""

import re

from agents.replies import MOST_REMARKS, Inspection, Remark
from gpu_runner.candidate import Candidate

_RULES: tuple[tuple[re.Pattern[str], Remark], ...] = tuple(
    (re.compile(pattern), Remark(lane=lane, severity=severity, path="", line=1, text=text))
    for pattern, lane, severity, text in (
        (
            # Not behind a comment's beginning.
            r"^(?:(?!//|/\*|#).)*\b(?:(?:f?printf|puts|device_print|print)\s*\(|c(?:out|err)\s*<<)",
            "blocking",
            3,
            "prints where it computes; a caller would pay for it",
        ),
        (
            r"^\s*#\s*if\s+0\b",
            "simplify",
            6,
            "text that is never compiled; take it out",
        ),
        (
            (r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b"),
            "note",
            7,
            "says of itself that it is not finished",
        ),
    )
)
_LONGEST_LINE = 4000
"""Characters of a line that rules look at."""


def inspect_by_rules(candidate: Candidate) -> Inspection:
    """Return what the rules find; the most severe first, at most `MOST_REMARKS`."""
    found: list[Remark] = []
    for source in candidate.sources:
        for number, line in enumerate(source.text.splitlines(), start=1):
            text = line[:_LONGEST_LINE]
            found += [
                rule.model_copy(update={"path": source.path, "line": number})
                for pattern, rule in _RULES
                if pattern.search(text)
            ]
    return Inspection(remarks=_first(found), summary="read by rules: leftovers only")


def with_rules(read: Inspection, candidate: Candidate) -> Inspection:
    """Return an inspection with what the rules find beside it, however a model judged that."""
    places = {(remark.path, remark.line) for remark in read.remarks}
    seen = inspect_by_rules(candidate).remarks
    new = [remark for remark in seen if (remark.path, remark.line) not in places]
    return read.model_copy(update={"remarks": _first([*read.remarks, *new])})


def misplaced(read: Inspection, candidate: Candidate) -> str | None:
    """Return which remark is about no line of the candidate; None where every one is."""
    lines = {source.path: max(1, len(source.text.splitlines())) for source in candidate.sources}
    for remark in read.remarks:
        if remark.path not in lines:
            known = ", ".join(sorted(lines))
            return f"remarks: path {remark.path[:80]!r} is no source of it; there are: {known}"
        if remark.line > lines[remark.path]:
            return f"remarks: {remark.path} has {lines[remark.path]} lines and no {remark.line}"
    return None


def actionable(read: Inspection) -> tuple[Remark, ...]:
    """Return the remarks that go back to the writer."""
    return tuple(remark for remark in read.remarks if remark.lane != "note")


def numbered(text: str) -> str:
    """Return a source with a number before each line, as remarks name them."""
    return "\n".join(f"{number:>4} {line}" for number, line in enumerate(text.splitlines(), 1))


def _first(remarks: list[Remark]) -> tuple[Remark, ...]:
    order = ("blocking", "simplify", "note")
    ranked = sorted(remarks, key=lambda one: (order.index(one.lane), one.severity))
    return tuple(ranked[:MOST_REMARKS])
