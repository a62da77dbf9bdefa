"""Cells of the tool's tables as numbers in base units, whatever locale wrote them. Pure.

What a tool could not measure is absent: `n/a`, `no data`, `nan` and an empty cell are no zeros.
"""

import functools
import math
import re
from collections.abc import Iterable
from typing import Literal

Mark = Literal[".", ",", ""]
"""What begins the fraction of a number; empty: the table does not tell."""

_PREFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_SCALED = re.compile(r"^([nuµμmkKMGT]?)(bytes?|seconds?|secs?|s|hz)$", re.IGNORECASE | re.ASCII)
_INTEGER = re.compile(r"^[+-]?[1-9]\d{0,2}([.,])\d{3}(?:\1\d{3})*$")
_BLANKS = re.compile("[\\s\u00a0\u202f'\u2019]")
_PLAIN = re.compile(r"^[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?$", re.IGNORECASE)
_DIGITS = re.compile(r"^[+-]?[\d.,]+$")
_ENOUGH = 1000
"""So many votes settle it: a table has tens of thousands of cells."""
_LARGEST, _SMALLEST = 1e30, 1e-30
_LONGEST = 64
"""No number is written with more characters; a longer cell is text."""


def number(text: str, mark: Mark = "") -> float | None:
    """Return a cell's number, or None where there is none; infinities are none.

    Args:
        text: the cell.
        mark: what begins fractions in this table; without it the cell is read by itself, and
            `1,234` is then a whole number but `0,124` a fraction.
    """
    if len(text) > _LONGEST:
        return None
    if mark == "." and text.isascii() and _PLAIN.match(text):  # nearly every cell
        return _sane(float(text))
    plain = _BLANKS.sub("", text)
    if mark:
        other = "," if mark == "." else "."
        plain = plain.replace(other, "").replace(",", ".")
    else:
        plain = _by_itself(plain)
    return _sane(float(plain)) if plain.isascii() and _PLAIN.match(plain) else None


def whole(text: str) -> float | None:
    """Return a cell's count: what looks like thousands in groups is, in any locale."""
    plain = _BLANKS.sub("", text) if len(text) <= _LONGEST else ""
    if _INTEGER.match(plain):
        return float(plain.replace(",", "").replace(".", ""))
    return number(plain)


def mark_of(cells: Iterable[str]) -> Mark:
    """Return what begins fractions in a table, from the cells that leave no doubt."""
    votes = {".": 0, ",": 0}
    for cell in cells:
        if len(cell) > _LONGEST or ("." not in cell and "," not in cell):
            continue
        found = _vote(_BLANKS.sub("", cell))
        if found:
            votes[found] += 1
        if votes["."] + votes[","] == _ENOUGH:
            break
    if votes["."] == votes[","]:
        return ""
    return "." if votes["."] > votes[","] else ","


@functools.cache
def scale_of(unit: str) -> float:
    """Return what a value in this unit is multiplied by to be in base units."""
    above, _, below = unit.strip().partition("/")
    return _factor(above) / _factor(below)


def _sane(value: float) -> float | None:
    """Return a value that can be multiplied and divided; none counts beyond 1e30."""
    if not math.isfinite(value) or abs(value) > _LARGEST:
        return None
    return value if abs(value) >= _SMALLEST else 0.0


def _vote(plain: str) -> Mark:
    """Return the mark that a cell proves: two kinds of marks, a leading zero, an odd group."""
    if not _DIGITS.match(plain):
        return ""
    comma, point = plain.rfind(","), plain.rfind(".")
    if comma >= 0 and point >= 0:
        return "," if comma > point else "."
    if comma < 0 and point < 0:
        return ""
    kind: Mark = "," if comma >= 0 else "."
    if plain.count(kind) > 1:
        return "." if kind == "," else ","
    return "" if _INTEGER.match(plain) else kind


def _by_itself(plain: str) -> str:
    separated = _INTEGER.match(plain)
    comma, point = plain.rfind(","), plain.rfind(".")
    if comma >= 0 and point >= 0:  # the last of them begins the fraction
        thousands = "," if comma < point else "."
        return plain.replace(thousands, "").replace(",", ".")
    if separated and (separated.group(1) == "," or plain.count(".") > 1):
        return plain.replace(separated.group(1), "")
    return plain.replace(",", ".")


def _factor(part: str) -> float:
    match = _SCALED.match(part)
    if match is None:
        return 1.0
    prefix = match.group(1).replace("µ", "u").replace("μ", "u")
    if prefix.lower() in {"n", "u"}:  # nothing large begins with these
        return _PREFIXES[prefix.lower()]
    is_milli = prefix == "m" and match.group(2)[0].lower() == "s"
    return _PREFIXES[prefix if is_milli else prefix.upper()]
