"""Reads the tables of launches that `ncu --csv` prints, wide (`--page raw`) and long. Pure.

Wide: a row of names, one of units, one for each launch. Long: a row for each metric of each launch,
by metric name or by the label of the details page. Lines around a table are passed over, several
tables may follow one another. Values come out in base units (seconds, bytes, hertz, per cent as per
cent), whatever prefix the tool chose for them, and whatever separators its locale has.
"""

import csv
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gpu_runner.device.ncu_labels import metric_of
from gpu_runner.device.ncu_numbers import Mark, mark_of, number, scale_of
from gpu_runner.errors import RunnerError

__all__ = ["CaptureUnreadable", "ProfiledLaunch", "number", "parse_raw", "read_rows", "scale_of"]

_FIRST = "ID"
_KERNEL = ("Kernel Name", "Demangled Name", "Function Name", "Name")
_LONG = ("Metric Name", "Metric Value")
_UNIT = "Metric Unit"
_SECTION = "Section Name"
_WORDS = frozenset({"Block Size", "Grid Size", "Device", "CC", "device__attribute_display_name"})
"""Cells that are kept as text."""
_DELIMITERS = ",;\t"
_BEFORE_JUDGING = 64
"""Rows that are looked at before it is settled how the table writes fractions."""
_MOST_PASSED = 3
_TIME, _NANO = "gpu__time_duration", 1e-9
_MOST_SAID = 300


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
    words: Mapping[str, str] = field(default_factory=dict)
    """Block and grid size, device, compute capability, as printed."""

    @property
    def symbol(self) -> str:
        """The kernel's name alone."""
        return symbol_of(self.kernel)

    def first(self, *names: str) -> float | None:
        """Return the reading of the first name there is one for: names change with versions."""
        return next((self.readings[name] for name in names if name in self.readings), None)


def symbol_of(kernel: str) -> str:
    """Return a kernel's name without return type and parameters.

    The list of parameters is the last bracket: a name may hold brackets of its own, as that of
    `(anonymous namespace)` does.
    """
    plain = kernel.strip()
    if plain.endswith(")"):
        depth = 0
        for position in range(len(plain) - 1, -1, -1):
            depth += {")": 1, "(": -1}.get(plain[position], 0)
            if not depth:
                plain = plain[:position] or plain
                break
    return plain.removeprefix("void ").strip()


def parse_raw(lines: Iterable[str]) -> tuple[ProfiledLaunch, ...]:
    """Return every launch of a capture, in order.

    Raises:
        CaptureUnreadable: there is no table, or it has no complete row.
    """
    passed: list[str] = []
    found: list[ProfiledLaunch] = []
    long: dict[tuple[str, str], _Long] = {}
    has_header = False
    for table in _tables(lines, passed):
        has_header = True
        if table.is_long:
            _collect(table, long)
        else:
            found += _wide(table)
    found += [launch for one in long.values() if (launch := one.launch()) is not None]
    if not found:
        words = " ".join(line.strip() for line in passed)[-_MOST_SAID:]
        said = "".join(letter if letter.isprintable() else " " for letter in words).strip()
        cut = ", or the table was cut short: it has no whole row" if has_header else ""
        raise CaptureUnreadable(f"no launch was profiled{cut}; the tool said: {said or 'nothing'}")
    return tuple(found)


def read_rows(lines: Iterable[str], delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
    """Yield each line with its cells; a line that is no whole row of cells has none.

    A stray quote among other programs' output must not swallow the rest of the table, so every
    line is read by itself.
    """
    for line in lines:
        try:
            row = next(csv.reader([line], delimiter=delimiter, strict=True), [])
        except csv.Error:
            row = []
        yield line, row


def delimiter_of(header: str) -> str:
    """Return what stands between the cells of a header line."""
    return max(_DELIMITERS, key=header.count)


@dataclass(kw_only=True)
class _Table:
    names: list[str]
    units: list[str]
    rows: Iterator[list[str]]

    @property
    def is_long(self) -> bool:
        return all(name in self.names for name in _LONG)


def _tables(lines: Iterable[str], passed: list[str]) -> Iterator[_Table]:
    """Yield each table; it must be read before the next one is asked for."""
    source = _Lines(lines)
    for line in source:
        names = _header(line)
        if not names:
            _keep(passed, line)
            continue
        units = [""] * len(names)
        yield _Table(names=names, units=units, rows=_rows(source, names, units, passed, line))


class _Lines:
    """Lines that can be given back."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._lines)

    def give_back(self, line: str) -> None:
        self._lines = itertools.chain([line], self._lines)


def _header(line: str) -> list[str]:
    """Return the names of a header line, or nothing."""
    start = line.lstrip("\ufeff \t")[:4].strip('"')
    if not start.startswith(_FIRST):
        return []
    delimiter = delimiter_of(line)
    row = next(read_rows([line.lstrip("\ufeff").rstrip("\r\n")], delimiter))[1]
    names = [cell.strip() for cell in row]
    return names if len(names) > 1 and names[0] == _FIRST else []


def _rows(
    source: _Lines, names: list[str], units: list[str], passed: list[str], header: str
) -> Iterator[list[str]]:
    """Yield whole rows until the next header; the row of units is put where it belongs."""
    delimiter = delimiter_of(header)
    is_wide = not all(name in names for name in _LONG)
    for line in source:
        if _header(line):
            source.give_back(line)
            return
        row = next(read_rows([line.rstrip("\r\n")], delimiter))[1]
        if not is_wide and len(_LONG) < len(row) <= len(names):
            row += [""] * (len(names) - len(row))  # rules fill columns that metrics leave out
        if len(row) != len(names):
            _keep(passed, line)
        elif is_wide and not row[0].strip():
            units[:] = row
        else:
            yield row


def _keep(passed: list[str], line: str) -> None:
    passed.append(line[:_MOST_SAID])
    del passed[:-_MOST_PASSED]


def _wide(table: _Table) -> Iterator[ProfiledLaunch]:
    first = list(itertools.islice(table.rows, _BEFORE_JUDGING))
    names = table.names
    kernel = next((names.index(name) for name in _KERNEL if name in names), None)
    if kernel is None:
        return
    metrics = [index for index, name in enumerate(names) if "__" in name]
    mark = mark_of(row[index] for row in first for index in metrics)
    for row in itertools.chain(first, table.rows):
        index = number(row[0])
        if index is None:
            continue
        readings: dict[str, float] = {}
        for name, unit, cell in zip(names, table.units, row, strict=True):
            value = number(_alone(cell), mark)
            if value is not None:
                readings[name] = value * _scale(name, unit)
        words = {name: row[names.index(name)] for name in _WORDS if name in names}
        yield ProfiledLaunch(index=int(index), kernel=row[kernel], readings=readings, words=words)


def _scale(metric: str, unit: str) -> float:
    """Return the scale of a metric's unit; a time that has lost its unit is in nanoseconds."""
    return _NANO if not unit and metric.startswith(_TIME) else scale_of(unit)


def _alone(cell: str) -> str:
    """Return a value without the list of its instances behind it."""
    return cell.partition(" (")[0] if cell.endswith(")") else cell


@dataclass(kw_only=True)
class _Long:
    """What is collected of one launch of a long table."""

    index: str
    kernel: str
    words: dict[str, str]
    cells: list[tuple[str, str, str]]
    mark: Mark = ""

    def launch(self) -> ProfiledLaunch | None:
        index = number(self.index)
        if index is None or not self.kernel:
            return None
        readings: dict[str, float] = {}
        for metric, unit, cell in self.cells:
            value = number(_alone(cell), self.mark)
            if value is not None:
                readings.setdefault(metric, value * _scale(metric, unit))
        return ProfiledLaunch(
            index=int(index), kernel=self.kernel, readings=readings, words=self.words
        )


def _collect(table: _Table, found: dict[tuple[str, str], _Long]) -> None:
    """Take in the rows of a long table; those of one launch need not lie together."""
    names = table.names
    kernel = next((names.index(name) for name in _KERNEL if name in names), None)
    if kernel is None:
        return
    metric, value = (names.index(name) for name in _LONG)
    unit, section, process = (
        names.index(name) if name in names else None for name in (_UNIT, _SECTION, "Process ID")
    )
    words = [(name, names.index(name)) for name in _WORDS if name in names]
    here: list[_Long] = []
    for row in table.rows:
        key = (_cell(row, process), row[0])
        one = found.get(key)
        if one is None:
            texts = {name: row[at] for name, at in words}
            one = _Long(index=row[0], kernel=row[kernel], words=texts, cells=[])
            found[key] = one
            here.append(one)
        if row[metric]:
            name = metric_of(_cell(row, section), row[metric], _cell(row, unit))
            one.cells.append((name, _cell(row, unit), row[value]))
    mark = mark_of(cell for one in here for _, _, cell in one.cells)
    for one in here:
        one.mark = mark


def _cell(row: Sequence[str], index: int | None) -> str:
    return "" if index is None else row[index]
