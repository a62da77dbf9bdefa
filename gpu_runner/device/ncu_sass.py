"""What kind of instruction a line of machine code is, and what changed between two kernels. Pure.

Source of the opcodes: the instruction tables of the CUDA binary utilities, Maxwell to Blackwell.
"""

import re

from gpu_runner.facts import SassLedger

_WIDTH = re.compile(r"\.(?:U|S)?(8|16|32|64|128|256)\b")
_GUARD = re.compile(r"^@!?U?P\w+\s+")
_OPCODE = re.compile(r"^[A-Z][A-Z0-9_]*")
_MEMORY = {
    "LDG": "load_global",
    "LD": "load_global",
    "STG": "store_global",
    "ST": "store_global",
    "LDS": "load_shared",
    "STS": "store_shared",
    "LDSM": "load_matrix",
    "STSM": "store_matrix",
    "LDL": "local_load",
    "STL": "local_store",
    "LDGSTS": "copy_async",
    "UBLKCP": "copy_bulk",
    "UTMALDG": "tma_load",
    "UTMASTG": "tma_store",
    "UTMAREDG": "tma_reduce",
}
_DEFAULT_BITS = "32"
_SIZED = frozenset({"load_global", "store_global", "load_shared", "store_shared"})
_PLAIN = {
    "HMMA": "mma_hmma",
    "IMMA": "mma_imma",
    "DMMA": "mma_dmma",
    "BMMA": "mma_bmma",
    "QMMA": "mma_qmma",
    "OMMA": "mma_omma",
    "HGMMA": "mma_hgmma",
    "IGMMA": "mma_igmma",
    "QGMMA": "mma_qgmma",
    "BGMMA": "mma_bgmma",
    "UTCHMMA": "mma_tcgen05",
    "UTCIMMA": "mma_tcgen05",
    "UTCQMMA": "mma_tcgen05",
    "UTCOMMA": "mma_tcgen05",
    "F2F": "convert",
    "F2I": "convert",
    "I2F": "convert",
    "I2I": "convert",
    "I2FP": "convert",
    "F2FP": "convert",
    "F2IP": "convert",
    "FRND": "convert",
    "FFMA": "float32",
    "FADD": "float32",
    "FMUL": "float32",
    "FFMA2": "float32",
    "FADD2": "float32",
    "FMUL2": "float32",
    "DFMA": "float64",
    "DADD": "float64",
    "DMUL": "float64",
    "HFMA2": "half",
    "HADD2": "half",
    "HMUL2": "half",
    "MUFU": "special",
    "IMAD": "integer",
    "IADD": "integer",
    "IADD3": "integer",
    "LEA": "integer",
    "LOP3": "integer",
    "SHF": "integer",
    "ISETP": "integer",
    "BAR": "barrier",
    "WARPSYNC": "barrier",
    "SYNCS": "barrier",
    "MEMBAR": "fence",
    "FENCE": "fence",
    "ATOM": "atomic_global",
    "ATOMG": "atomic_global",
    "RED": "atomic_global",
    "REDG": "atomic_global",
    "ATOMS": "atomic_shared",
    "SHFL": "shuffle",
    "REDUX": "shuffle",
    "BRA": "branch",
    "BRX": "branch",
    "BSSY": "branch",
    "BSYNC": "branch",
    "CALL": "call",
}
_REGISTER_MOVE = "IMAD.MOV"


def kind_of(instruction: str) -> str:
    """Return the kind of an instruction, `other` for what no kind is kept of, empty for no code."""
    text = _GUARD.sub("", instruction.strip())
    opcode = _OPCODE.match(text)
    if opcode is None:
        return ""
    name = opcode.group()
    memory = _MEMORY.get(name)
    if memory is not None:
        if memory not in _SIZED:
            return memory
        words = text.split(maxsplit=1)[0]
        width = _WIDTH.search(words)
        return f"{memory}_{width.group(1) if width else _DEFAULT_BITS}"
    if text.startswith(_REGISTER_MOVE):
        return "other"
    return _PLAIN.get(name, "other")


def differences(before: SassLedger, after: SassLedger) -> tuple[str, ...]:
    """Say which kinds of instructions became more or fewer; how often they ran where counted."""
    found = [_change("instructions", before.total, after.total)]
    names = sorted({*before.kinds, *after.kinds} - {"other"})
    found += [_change(n, before.kinds.get(n, 0), after.kinds.get(n, 0)) for n in names]
    return tuple(text for text in found if text)


def _change(name: str, old: int, new: int) -> str:
    if old == new:
        return ""
    if not old:
        return f"{name}: {new} new"
    return f"{name}: {old} -> {new}" if new else f"{name}: {old} gone"
