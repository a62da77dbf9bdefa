"""Reads `ncu --csv --page source` line by line: where samples gather, what the code consists of.

One block a function and file: names, columns, then rows of source lines with the instructions each
was compiled to (`--print-source sass,cuda`), or of one of the two. The tool repeats an instruction
under every line that has a part in it, so instructions are told apart by address. Memory is bounded
by the number of distinct instructions and lines, not by the size of the export.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gpu_runner.device.ncu_csv import CaptureUnreadable, delimiter_of, read_rows, symbol_of
from gpu_runner.device.ncu_facts import stall_word
from gpu_runner.device.ncu_numbers import whole
from gpu_runner.device.ncu_sass import kind_of
from gpu_runner.facts import Hotspot, SassLedger

MOST_HOTSPOTS = 8
_FUNCTION = ("Function Name", "Kernel Name")
_FILE = "File Path"
_SAMPLES = (
    "# Samples",
    "Warp Stall Sampling (All Samples)",
    "Warp Stall Sampling (All Cycles)",
    "Sampling Data (All)",
    "Samples",
)
_EXECUTED = ("Instructions Executed", "# Instructions Executed")
_ADDRESS = ("Address", "PC")
_LINE = ("Line No", "Line", "#")
_STALL = "stall_"
_NOT_ISSUED = "(Not Issued)"
_NO_STALL = frozenset({"selected"})
_MOST_TEXT = 160
_MOST_FUNCTIONS = 4096
_MOST_LINES = 65536
"""Of one function; those beyond count for the ledger alone."""
_MOST_ADDRESSES = 1_000_000


@dataclass(kw_only=True)
class _Spot:
    """Samples of one line or instruction."""

    text: str
    samples: float
    path: str = ""
    line: int | None = None
    stall: str = ""


@dataclass(kw_only=True)
class _Function:
    name: str
    lines: dict[tuple[str, int], _Spot] = field(default_factory=dict)
    hottest: list[tuple[float, int, _Spot]] = field(default_factory=list)
    addresses: set[int] = field(default_factory=set)
    samples: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)
    executed: dict[str, float] = field(default_factory=dict)

    def offer(self, spot: _Spot) -> None:
        """Keep an instruction if it is among the hottest."""
        if spot.samples <= 0:
            return
        entry = (spot.samples, -len(self.addresses), spot)
        if len(self.hottest) < MOST_HOTSPOTS:
            heapq.heappush(self.hottest, entry)
        else:
            heapq.heappushpop(self.hottest, entry)


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """What the source page says of one function."""

    kernel: str
    """With its parameter types."""
    hotspots: tuple[Hotspot, ...]
    sass: SassLedger

    @property
    def symbol(self) -> str:
        """The kernel's name alone."""
        return symbol_of(self.kernel)


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """Where a block has what."""

    count: int
    line: int | None
    address: int | None
    cuda: int | None
    sass: int | None
    samples: int | None
    executed: int | None
    stalls: Mapping[str, int]


def read_source(lines: Iterable[str]) -> tuple[SourceFacts, ...]:
    """Return what the page says of each function, in the order of their first blocks.

    Raises:
        CaptureUnreadable: there is no block of a function.
    """
    functions: dict[str, _Function] = {}
    for function, path, columns, row, line in _rows(lines, functions):
        _take(function, path, columns, row, line)
    if not functions:
        raise CaptureUnreadable(
            "this is no export of the source page; write one with "
            "ncu --import REPORT --page source --csv --print-source sass,cuda"
        )
    return tuple(_facts(function) for function in functions.values())


def _rows(
    lines: Iterable[str], functions: dict[str, _Function]
) -> Iterator[tuple[_Function, str, _Columns, list[str], int | None]]:
    """Yield each row with what it belongs to; the line is that of the rows above it."""
    path = ""
    function: _Function | None = None
    columns: _Columns | None = None
    line: int | None = None
    delimiter = ","
    for text, cells in read_rows(_stripped(lines), delimiter):
        row = _again(text) if len(cells) < len(_FUNCTION) and text else cells
        if not row:
            continue
        head = row[0].strip()
        if head == _FILE:
            path, line = row[1] if len(row) > 1 else "", None
        elif head in _FUNCTION and len(row) > 1 and row[1] not in _ADDRESS + _EXECUTED:
            function, columns, line = _function(functions, row[1]), None, None
        elif function is not None and _is_header(row):
            columns, line = _columns(row), None
        elif function is not None and columns is not None and len(row) == columns.count:
            line = _line(columns, row, line)
            yield function, path, columns, row, line


def _stripped(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line.lstrip("\ufeff").rstrip("\r\n")


def _again(text: str) -> list[str]:
    """Return the cells of a line that is not separated by commas."""
    delimiter = delimiter_of(text)
    return [] if delimiter == "," else next(read_rows([text], delimiter))[1]


def _function(functions: dict[str, _Function], name: str) -> _Function:
    if name not in functions and len(functions) >= _MOST_FUNCTIONS:
        raise CaptureUnreadable(
            f"the source page has more than {_MOST_FUNCTIONS} functions; export fewer kernels"
        )
    return functions.setdefault(name, _Function(name=name))


def _is_header(row: list[str]) -> bool:
    names = {cell.strip() for cell in row}
    return "Source" in names and bool(names & {*_SAMPLES, *_EXECUTED, *_ADDRESS})


def _columns(row: list[str]) -> _Columns:
    names = [cell.strip() for cell in row]

    def at(*known: str) -> int | None:
        return next((names.index(name) for name in known if name in names), None)

    sources = [index for index, name in enumerate(names) if name == "Source"]
    address = at(*_ADDRESS)
    cuda = sass = None
    for index in sources:
        if address is not None and index == address + 1:
            sass = index
        elif cuda is None:
            cuda = index
    if address is not None and sass is None:  # `#, Address, Source` or `Source, Address`
        sass, cuda = cuda, None
    stalls = {
        stall_word(name.removeprefix(_STALL)): index
        for index, name in enumerate(names)
        if name.startswith(_STALL) and not name.endswith(_NOT_ISSUED)
    }
    return _Columns(
        count=len(names),
        line=at(*_LINE) if cuda is not None else None,
        address=address,
        cuda=cuda,
        sass=sass,
        samples=at(*_SAMPLES),
        executed=at(*_EXECUTED),
        stalls={name: index for name, index in stalls.items() if name not in _NO_STALL},
    )


def _line(columns: _Columns, row: list[str], before: int | None) -> int | None:
    if columns.line is None:
        return None
    value = whole(row[columns.line])
    return before if value is None else int(value)


def _take(
    function: _Function, path: str, columns: _Columns, row: list[str], line: int | None
) -> None:
    address = _address(row, columns)
    samples = _value(row, columns.samples)
    if address is None:
        if columns.cuda is not None and row[columns.cuda].strip() and line is not None:
            _take_line(function, path, columns, row, line, samples)
        return
    if address in function.addresses or columns.sass is None:
        return
    if len(function.addresses) < _MOST_ADDRESSES:
        function.addresses.add(address)
    text = row[columns.sass].strip()
    kind = kind_of(text)
    if not kind:
        return
    function.samples += samples
    function.kinds[kind] = function.kinds.get(kind, 0) + 1
    if columns.executed is not None:
        executed = _value(row, columns.executed)
        function.executed[kind] = function.executed.get(kind, 0.0) + executed
    stall = _stall(row, columns) if samples > 0 else ""
    function.offer(
        _Spot(text=text[:_MOST_TEXT], samples=samples, path=path, line=line, stall=stall)
    )


def _take_line(
    function: _Function, path: str, columns: _Columns, row: list[str], line: int, samples: float
) -> None:
    if samples <= 0 or columns.cuda is None:
        return
    spot = function.lines.get((path, line))
    if spot is not None:
        spot.samples = max(spot.samples, samples)
    elif len(function.lines) < _MOST_LINES:
        function.lines[path, line] = _Spot(
            text=row[columns.cuda].strip()[:_MOST_TEXT],
            samples=samples,
            path=path,
            line=line,
            stall=_stall(row, columns),
        )


def _address(row: list[str], columns: _Columns) -> int | None:
    if columns.address is None:
        return None
    text = row[columns.address].strip()
    try:
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        return None


def _value(row: list[str], index: int | None) -> float:
    return 0.0 if index is None else whole(row[index]) or 0.0


def _stall(row: list[str], columns: _Columns) -> str:
    values = {name: _value(row, index) for name, index in columns.stalls.items()}
    most = max(values.items(), key=lambda item: item[1], default=("", 0.0))
    return most[0] if most[1] > 0 else ""


def _facts(function: _Function) -> SourceFacts:
    total = function.samples or sum(spot.samples for spot in function.lines.values())
    lines = heapq.nlargest(MOST_HOTSPOTS, function.lines.values(), key=lambda spot: spot.samples)
    instructions = [spot for _, _, spot in sorted(function.hottest, reverse=True, key=_order)]
    return SourceFacts(
        kernel=function.name,
        hotspots=tuple(_hotspot(spot, total, is_line=True) for spot in lines)
        + tuple(_hotspot(spot, total, is_line=False) for spot in instructions),
        sass=SassLedger(
            total=sum(function.kinds.values()),
            kinds=dict(sorted(function.kinds.items())),
            executed=dict(sorted(function.executed.items())),
        ),
    )


def _order(entry: tuple[float, int, _Spot]) -> tuple[float, int]:
    return entry[0], entry[1]


def _hotspot(spot: _Spot, total: float, *, is_line: bool) -> Hotspot:
    place = f"{spot.path}:{spot.line}" if spot.path and spot.line is not None else spot.path
    return Hotspot(
        symbol="line" if is_line else "instruction",
        share=min(1.0, spot.samples / total) if total else 0.0,
        detail=place,
        path=spot.path,
        line=spot.line,
        text=spot.text,
        stall=spot.stall,
    )
