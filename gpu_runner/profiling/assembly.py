"""The text of `objdump -d -w --no-show-raw-insn` (x86-64, AT&T), read into functions. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from gpu_runner.profiling.control_flow import innermost, natural_loops

_FUNCTION = re.compile(r"^[0-9a-f]+ <(?P<name>[^>]+)>:$")
_INSTRUCTION = re.compile(r"^\s+(?P<address>[0-9a-f]+):\t(?P<text>.+)$")
_TARGET = re.compile(r"^\*?(?P<address>[0-9a-f]+) <(?P<symbol>[^>+]+)(?:\+0x[0-9a-f]+)?>")
_REFERENCE = re.compile(r"# [0-9a-f]+ <(?P<symbol>[^>+]+)>")
_ENDS = ("ret", "ud2", "hlt")
_PROLOGUE_LENGTH = 12
_PREFIXES = frozenset(("lock", "rep", "repz", "repnz", "bnd", "notrack", "data16", "cs", "ds"))


@dataclass(frozen=True)
class Instruction:
    """One machine instruction."""

    address: int
    mnemonic: str
    operands: str
    target: int | None = None
    """Address a direct jump or call goes to."""
    symbol: str | None = None
    """Function a direct jump or call goes to, or whose address is taken; without `@plt`."""

    @property
    def is_call(self) -> bool:
        """Whether it comes back."""
        return self.mnemonic.startswith("call")

    @property
    def is_jump(self) -> bool:
        """Whether it may continue elsewhere, conditionally or not."""
        return self.mnemonic.startswith("j")


@dataclass(frozen=True)
class Loop:
    """The instructions of a loop, those of the loops in it included."""

    function: str
    start: int
    """Address of the header."""
    is_innermost: bool
    has_frame_pointer: bool
    """Whether `rbp` is the function's frame, so that what it points to is the stack."""
    body: tuple[Instruction, ...] = field(repr=False)


@dataclass(frozen=True)
class Function:
    """A symbol and its code."""

    name: str
    body: tuple[Instruction, ...] = field(repr=False)

    @property
    def has_frame_pointer(self) -> bool:
        """Whether the prologue makes `rbp` the frame."""
        return any(
            one.mnemonic == "mov" and one.operands == "%rsp,%rbp"
            for one in self.body[:_PROLOGUE_LENGTH]
        )

    def loops(self) -> tuple[Loop, ...]:
        """Return the loops in order of address."""
        if not self.body:
            return ()
        blocks = self._blocks()
        entry = self.body[0].address
        found = natural_loops(entry, _edges(entry, blocks))
        inner = innermost(found)
        return tuple(
            Loop(
                function=self.name,
                start=header,
                is_innermost=header in inner,
                has_frame_pointer=self.has_frame_pointer,
                body=tuple(one for block in sorted(found[header]) for one in blocks[block]),
            )
            for header in sorted(found)
        )

    def _blocks(self) -> dict[int, list[Instruction]]:
        """Return the basic blocks by the address of their first instruction."""
        own = {one.address for one in self.body}
        leaders = {one.target for one in self.body if one.is_jump and one.target in own}
        blocks: dict[int, list[Instruction]] = {}
        current: list[Instruction] = []
        for one in self.body:
            if one.address in leaders or not current:
                current = blocks.setdefault(one.address, [])
            current.append(one)
            if one.is_jump or one.mnemonic.startswith(_ENDS):
                current = []
        return blocks


def _edges(entry: int, blocks: Mapping[int, Sequence[Instruction]]) -> dict[int, list[int]]:
    """Return which blocks may follow which; a block that nothing leads to follows the entry."""
    starts = sorted(blocks)
    following = dict(pairwise(starts))
    edges: dict[int, list[int]] = {}
    for start, block in blocks.items():
        last = block[-1]
        ends_here = last.mnemonic.startswith(_ENDS) or last.mnemonic.startswith("jmp")
        target = last.target if last.is_jump else None
        edges[start] = [target] if target is not None and target in blocks else []
        if not ends_here and start in following:
            edges[start].append(following[start])
    # The targets of a jump through a table cannot be read from the code; padding is no target.
    seen = _reached(entry, edges)
    for start in starts:
        if start not in seen and not _is_padding(blocks[start]):
            edges[entry] = [*edges[entry], start]
            seen |= _reached(start, edges)
    return edges


def _reached(start: int, edges: Mapping[int, Sequence[int]]) -> set[int]:
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        block = waiting.pop()
        if block not in seen:
            seen.add(block)
            waiting += edges[block]
    return seen


def _is_padding(block: Sequence[Instruction]) -> bool:
    return all(one.mnemonic.startswith(("nop", "xchg")) for one in block)


def parse_functions(text: str) -> dict[str, Function]:
    """Return every function of a disassembly by name."""
    bodies: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        head = _FUNCTION.match(line)
        if head:
            current = bodies.setdefault(head["name"], [])
            continue
        match = _INSTRUCTION.match(line)
        if match:
            current.append(_instruction(int(match["address"], 16), match["text"]))
    return {name: Function(name, tuple(body)) for name, body in bodies.items()}


def reachable(functions: Mapping[str, Function], entry: str) -> dict[str, Function]:
    """Return `entry` and what it calls, jumps to or takes the address of, within this object."""
    found: dict[str, Function] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in found or name not in functions or name.endswith("@plt"):
            continue
        found[name] = functions[name]
        waiting += [one.symbol for one in functions[name].body if one.symbol]
    return found


def called_in_loops(functions: Mapping[str, Function]) -> dict[str, int]:
    """Return the functions called from inside a loop, in order of address, and how often each.

    A call by a function that is itself called from inside a loop counts.
    """
    calls: dict[str, int] = {}
    inside: set[str] = set()
    waiting = list(
        _calls(one for f in functions.values() for loop in f.loops() for one in loop.body)
    )
    seen: set[tuple[str, int]] = set()
    while waiting:
        one = waiting.pop(0)
        name = one.symbol or "(indirect)"
        if (name, one.address) in seen:
            continue
        seen.add((name, one.address))
        calls[name] = calls.get(name, 0) + 1
        if name in functions and name not in inside:
            inside.add(name)
            waiting += _calls(functions[name].body)
    return calls


def _calls(body: Iterable[Instruction]) -> Iterator[Instruction]:
    return (one for one in body if one.is_call)


def _instruction(address: int, text: str) -> Instruction:
    reference = _REFERENCE.search(text)
    code = text.split("#", maxsplit=1)[0].strip()
    words = code.split(maxsplit=1)
    while len(words) > 1 and words[0] in _PREFIXES:
        words = words[1].split(maxsplit=1)
    mnemonic, operands = words[0], words[1] if len(words) > 1 else ""
    symbol = _plain(reference["symbol"]) if reference else None
    target = None
    if mnemonic.startswith(("j", "call")):
        match = _TARGET.match(operands)
        if match and not operands.startswith("*"):
            target, symbol = int(match["address"], 16), _plain(match["symbol"])
    return Instruction(address, mnemonic, operands, target, symbol)


def _plain(symbol: str) -> str:
    return symbol.split("@", maxsplit=1)[0]
