"""Reads `ncu --csv --page raw`: one row of names, one of units, one for each launch. Pure.

What a tool could not measure is absent: `n/a`, `no data`, `nan` and an empty cell are no zeros.
Values come out in base units (seconds, bytes, hertz, per cent as per cent), whatever prefix the
tool chose for them, and whatever separators its locale has.
"""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gpu_runner.errors import RunnerError

_FIRST = "ID"
_PREFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_SCALED = re.compile(r"^([numKMGT]?)(bytes?|seconds?|secs?|s|hz)$", re.IGNORECASE)
_INTEGER = re.compile(r"^[+-]?[1-9]\d{0,2}([.,])\d{3}(?:\1\d{3})*$")
_BLANKS = re.compile("[\\s\u00a0\u202f'\u2019]")
_PLAIN = re.compile(r"^[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?$", re.IGNORECASE)


class CaptureUnreadable(RunnerError):
    """There is no table of launches in what the tool said; the message has its last words."""


@dataclass(frozen=True, kw_only=True)
class ProfiledLaunch:
    """One launch as the tool saw it."""

    index: int
    kernel: str
    """With its parameter types, as C++ shows it."""
    readings: Mapping[str, float]
    """Metric to value in base units; what was not measured has no entry."""

    @property
    def symbol(self) -> str:
        """The kernel's name alone."""
        return self.kernel.partition("(")[0].removeprefix("void ").strip()

    def first(self, *names: str) -> float | None:
        """Return the reading of the first name there is one for: names change with versions."""
        return next((self.readings[name] for name in names if name in self.readings), None)


def parse_raw(lines: Iterable[str]) -> tuple[ProfiledLaunch, ...]:
    """Return every launch of a capture, in order; lines around the table are passed over.

    Raises:
        CaptureUnreadable: there is no table, or it has no complete row.
    """
    found: list[ProfiledLaunch] = []
    passed: list[str] = []
    try:
        for row in _launch_rows(lines, passed):
            launch = _launch(*row)
            if launch is not None:
                found.append(launch)
    except csv.Error as error:
        raise CaptureUnreadable(f"the table of launches is damaged: {error}") from error
    if not found:
        said = " ".join(line.strip() for line in passed[-3:])[-300:]
        raise CaptureUnreadable(f"no launch was profiled; the tool said: {said or 'nothing'}")
    return tuple(found)


def number(text: str) -> float | None:
    """Return a cell's number, or None where there is none; infinities are none."""
    plain = _BLANKS.sub("", text)
    separated = _INTEGER.match(plain)
    comma, point = plain.rfind(","), plain.rfind(".")
    if comma >= 0 and point >= 0:  # the last of them begins the fraction
        thousands = "," if comma < point else "."
        plain = plain.replace(thousands, "").replace(",", ".")
    elif separated and (separated.group(1) == "," or plain.count(".") > 1):
        plain = plain.replace(separated.group(1), "")
    elif comma >= 0:
        plain = plain.replace(",", ".")
    value = float(plain) if _PLAIN.match(plain) else math.nan
    return value if math.isfinite(value) else None


def scale_of(unit: str) -> float:
    """Return what a value in this unit is multiplied by to be in base units."""
    above, _, below = unit.strip().partition("/")
    return _factor(above) / _factor(below)


def _factor(part: str) -> float:
    match = _SCALED.match(part)
    if match is None:
        return 1.0
    prefix = match.group(1)
    is_small = prefix in {"n", "u", "m"} and match.group(2)[0].lower() == "s"
    return _PREFIXES[prefix if is_small else prefix.upper()]


def _launch_rows(
    lines: Iterable[str], passed: list[str]
) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Yield (names, units, cells) of each complete row; keep the other lines in `passed`."""
    names: list[str] = []
    units: list[str] = []
    for line in lines:
        row = next(csv.reader([line]), [])
        if len(row) > 1 and row[0].strip() == _FIRST:
            names, units = [cell.strip() for cell in row], [""] * len(row)
        elif not names or len(row) != len(names):
            passed.append(line)
        elif not row[0].strip():
            units = row
        else:
            yield names, units, row


def _launch(names: list[str], units: list[str], cells: list[str]) -> ProfiledLaunch | None:
    index = number(cells[0])
    if index is None or "Kernel Name" not in names:
        return None
    readings: dict[str, float] = {}
    for name, unit, cell in zip(names, units, cells, strict=True):
        value = number(cell)
        if value is not None:
            readings[name] = value * scale_of(unit)
    kernel = cells[names.index("Kernel Name")]
    return ProfiledLaunch(index=int(index), kernel=kernel, readings=readings)
