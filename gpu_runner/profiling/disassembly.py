"""What the machine code of a kernel shows without running it: vector width, FMA, calls, spills.

Counts are over the innermost loops of `kp_run` and of all it reaches inside the object (where there
is no loop, over all of that code): what is outside them runs once a row or once a call.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.errors import RunnerError
from gpu_runner.facts import Hotspot, InstructionMix
from gpu_runner.host import sandbox
from gpu_runner.languages.cpp import ENTRY_SYMBOL
from gpu_runner.profiling.assembly import (
    Function,
    Instruction,
    Loop,
    called_in_loops,
    parse_functions,
    reachable,
)

MOST_HOTSPOTS = 8
_TIMEOUT_S = 20.0
_X86 = "elf64-x86-64"

_PACKED = re.compile(
    r"v?(?:add|sub|mul|div|sqrt|min|max|addsub|hadd|hsub|dp|rcp|rsqrt|round|reduce|scalef|range)"
    r"(?:14|28|scale)?p[sdh]$"
    r"|vrndscalep[sdh]$|vrcp14p[sd]$|vrsqrt14p[sd]$|vf(?:n)?m(?:add|sub|addsub)\d{3}p[sdh]$"
    r"|v?p(?:add|sub|mul|min|max|abs|avg|sad|madd|hadd)[a-z]*$|vpdp[bw][us]{2}ds?$|vdpbf16ps$"
)
_SCALAR = re.compile(
    r"v?(?:add|sub|mul|div|sqrt|min|max|rcp|rsqrt|round)s[sdh]$"
    r"|vrndscales[sdh]$|vr(?:cp|sqrt)14s[sd]$|vf(?:n)?m(?:add|sub)\d{3}s[sdh]$"
)
_FUSED = re.compile(r"vf(?:n)?m(?:add|sub|addsub)\d{3}[ps][sdh]$|vpdp[bw][us]{2}ds?$|vdpbf16ps$")
_DIVISION = re.compile(r"v?(?:div|sqrt)[ps][sdh]$|i?div[bwlq]?$|fdiv\w*$|fsqrt$")
_GATHER = re.compile(r"vp?gather\w+$")
_NON_TEMPORAL = re.compile(r"v?movnt(?:ps|pd|dq|i|il|iq|q)$")
_STACK = re.compile(r"\(%rsp\)")
_FRAME = re.compile(r"-0x[0-9a-f]+\(%rbp\)")
_NO_ACCESS = re.compile(r"lea|nop|prefetch|push|pop")
_NO_WORK = re.compile(r"v?(?:mov(?:a|u)p[sd]|movdq[au](?:8|16|32|64)?|p?xor(?:p[sd]|[dq])?) *$")
_REGISTERS = (
    ("512", re.compile(r"%zmm")),
    ("256", re.compile(r"%ymm")),
    ("128", re.compile(r"%xmm")),
)
_SCALAR_SUFFIX = re.compile(r"(?:s[sdh]|si|sil|siq|si2s[sdh]l?)$|^v?mov[dq]$|^v?pextr|^v?pinsr")


def disassemble(shared_object: Path, *, scratch: Path) -> str:
    """Return objdump's text of an artefact's shared object, read in the sandbox.

    Args:
        shared_object: made by a compiler from untrusted sources, so not read in this process.
        scratch: an existing folder for the text, which may be megabytes.

    Raises:
        RunnerError: objdump failed; the message has its last line.
    """
    listing = scratch / "listing.txt"
    line = 'exec objdump -d -w --no-show-raw-insn "$0" > "$1"'
    finished = sandbox.run(
        ["sh", "-c", line, str(shared_object), str(listing)],
        sandbox.Grants(
            readable=(shared_object.parent,),
            writable=(scratch,),
            environment={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            may_spawn=True,
        ),
        timeout_s=_TIMEOUT_S,
        cwd=scratch,
    )
    if finished.returncode != 0:
        said = finished.output.strip().splitlines()[-1:] or [f"exit code {finished.returncode}"]
        raise RunnerError(f"objdump failed on {shared_object.name}: {said[0]}")
    return listing.read_text(errors="replace")


def is_readable(listing: str) -> bool:
    """Return whether the listing is of an architecture these patterns know."""
    return _X86 in listing[:1000]


def instruction_mix(listing: str, entry: str = ENTRY_SYMBOL) -> InstructionMix:
    """Return the counts over the innermost loops of `entry` and of what it reaches."""
    functions = reachable(parse_functions(listing), entry)
    hot = _hot(functions)
    body = hot.body
    calls = called_in_loops(functions)
    return InstructionMix(
        total=len(body),
        vector_bits=_widths(body),
        fma=_count(_FUSED, body),
        vector_arithmetic=_count(_PACKED, body),
        scalar_arithmetic=_count(_SCALAR, body),
        division=_count(_DIVISION, body),
        calls_in_loops=tuple(sorted(name for name in calls if name not in functions)),
        spills=hot.spills,
        gathers=_count(_GATHER, body),
        non_temporal_stores=_count(_NON_TEMPORAL, body),
    )


def hotspots(listing: str, entry: str = ENTRY_SYMBOL) -> tuple[Hotspot, ...]:
    """Return the innermost loops, longest first; `share` is of all their instructions."""
    functions = reachable(parse_functions(listing), entry)
    loops = _innermost(functions.values())
    total = sum(len(loop.body) for loop in loops)
    ordered = sorted(loops, key=lambda loop: -len(loop.body))[:MOST_HOTSPOTS]
    return tuple(
        Hotspot(
            symbol=f"{loop.function}+{loop.start - functions[loop.function].body[0].address:#x}",
            share=len(loop.body) / total,
            detail=_described(loop),
        )
        for loop in ordered
    )


def _described(loop: Loop) -> str:
    widths = _widths(loop.body)
    widest = max((int(bits) for bits in widths), default=0)
    calls = sorted({one.symbol or "(indirect)" for one in loop.body if one.is_call})
    parts = [
        f"{len(loop.body)} instructions",
        f"{widest}-bit vectors" if widest else "scalar",
        *(f"{_count(p, loop.body)} {what}" for p, what in _NAMED if _count(p, loop.body)),
        *([f"{spills} spills"] if (spills := _spills(loop)) else []),
        *([f"calls {', '.join(calls)}"] if calls else []),
    ]
    return ", ".join(parts)


_NAMED = ((_FUSED, "fma"), (_DIVISION, "division"), (_GATHER, "gather"))


@dataclass(frozen=True)
class _Hot:
    """The code that counts, and how much of it touches the stack."""

    body: tuple[Instruction, ...]
    spills: int


def _hot(functions: dict[str, Function]) -> _Hot:
    loops = _innermost(functions.values())
    if not loops:
        return _Hot(tuple(one for function in functions.values() for one in function.body), 0)
    # Loops that share code, as two entries into one remainder do, are counted once.
    body = {one.address: one for loop in loops for one in loop.body}
    return _Hot(tuple(body.values()), sum(map(_spills, loops)))


def _innermost(functions: Iterable[Function]) -> list[Loop]:
    return [loop for f in functions for loop in f.loops() if loop.is_innermost]


def _count(pattern: re.Pattern[str], body: Iterable[Instruction]) -> int:
    return sum(1 for one in body if pattern.match(one.mnemonic))


def _widths(body: Iterable[Instruction]) -> dict[str, int]:
    """Return vector instructions by register width; scalar ones and register copies are none."""
    counts: dict[str, int] = {}
    for one in body:
        if _SCALAR_SUFFIX.search(one.mnemonic):
            continue
        if _NO_WORK.match(one.mnemonic) and "(" not in one.operands:
            continue
        width = next((bits for bits, name in _REGISTERS if name.search(one.operands)), None)
        if width is not None:
            counts[width] = counts.get(width, 0) + 1
    return counts


def _spills(loop: Loop) -> int:
    def is_spill(one: Instruction) -> bool:
        if _NO_ACCESS.match(one.mnemonic):
            return False
        on_frame = loop.has_frame_pointer and _FRAME.search(one.operands)
        return bool(on_frame or _STACK.search(one.operands))

    return sum(map(is_spill, loop.body))
