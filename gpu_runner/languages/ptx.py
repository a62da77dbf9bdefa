"""What the PTX of a candidate says: its kernels' parameters, and instructions it may not have.

A cubin is assembled by our own step from this very text, so that what is not here is not there.
Pure. Forbidden words are looked for in the raw text, comments and strings included: a lexer of our
own that differs from the assembler's could be talked into skipping code.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

ASSERT_FUNCTION = "__assertfail"

_FORBIDDEN: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"%(?:clock(?:_hi|64)?|globaltimer(?:_lo|_hi)?)\b"),
        "reads a clock; a kernel may not know how long it takes",
    ),
    (
        re.compile(r"%(?:pm[0-7](?:_64)?|gridid)\b"),
        "reads a counter of launches or events; a kernel may not tell one call from the next",
    ),
    (
        re.compile(r"\b(?:cudaLaunchDevice|cudaCDP2|cudaGetParameterBuffer|__cuda_syscall)\w*"),
        "launches from the device; list every launch in the plan",
    ),
    (re.compile(r"\bv?printf\b"), "prints; remove printf"),
    (
        re.compile(r"\b(?:malloc|free)\b"),
        "allocates on the device; ask for workspace_bytes in the plan",
    ),
    (
        re.compile(r"\b(?:trap|brkpt)\s*;"),
        "traps; use assert, or leave the kernel by return",
    ),
    (
        re.compile(r"\\\r?\n|^[ \t]*#.*$", re.MULTILINE),
        "has lines for a preprocessor in its assembly; write them out",
    ),
)
_EXTERN = re.compile(r"\.extern\s+(?=\.func\b)")
_HEADER = re.compile(r"\.(?:entry|func)\b")
_NAMED = re.compile(r"\.(?:entry|func)\s*(?:\([^)]*\))?\s*([\w$%]+)")
_ENTRY = re.compile(r"\.entry\s+([A-Za-z_$%][\w$]*)\s*(?:\(([^)]*)\))?\s*([^{]*)\{")
_TYPE = re.compile(r"\.([busf](?:8|16|32|64))\b")
_COUNT = re.compile(r"\[\s*(\d+)\s*\]")
_BOUND = re.compile(r"\.(?:max|req)ntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?")
_HINTS = {
    "prefetches": re.compile(r"\b(?:prefetchu?\.|cp\.async\.bulk\.prefetch)"),
    "cache_policies": re.compile(r"\bcreatepolicy\."),
    "evict_last": re.compile(r"\bevict_last\b"),
}
_MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One kernel as its PTX declares it."""

    name: str
    parameters: tuple[str, ...]
    """`u64`, `f32`, `b8[128]`."""
    most_threads: int
    """Of a block: the launch bound, or what every device allows."""


def entries(ptx: str) -> dict[str, Entry]:
    """Return the kernels of a module by name."""
    found: dict[str, Entry] = {}
    for match in _ENTRY.finditer(ptx):
        bound = _BOUND.search(match[3])
        threads = math.prod(int(n) for n in bound.groups() if n) if bound else _MOST_THREADS
        texts = [text for text in (match[2] or "").split(",") if text.strip()]
        found[match[1]] = Entry(
            name=match[1],
            parameters=tuple(_parameter(text) for text in texts),
            most_threads=threads,
        )
    return found


def forbidden(ptx: str) -> str | None:
    """Return what the text has and may not have, as the rest of a sentence, or None."""
    for pattern, fault in _FORBIDDEN:
        match = pattern.search(ptx)
        if match is not None:
            return f"{fault} ({match[0].strip()!r})"
    for name in _extern_functions(ptx):
        if name != ASSERT_FUNCTION:
            return f"calls {name!r}, which no source of the candidate defines"
    return None


def cache_hints(ptx: str) -> dict[str, float]:
    """Return how often each function steers the caches: `<function>.prefetches` and its like.

    Allowed, yet worth knowing: what stays in a cache between calls is not the kernel's speed.
    Only what occurs is there.
    """
    starts = [match.start() for match in _HEADER.finditer(ptx)]
    found: dict[str, float] = {}
    ends = [*starts, len(ptx)][1:]
    for start, end in zip(starts, ends, strict=True):
        text = ptx[start:end]
        name = _function_name(text)
        for kind, pattern in _HINTS.items():
            count = len(pattern.findall(text))
            if count:
                key = f"{name}.{kind}"
                found[key] = found.get(key, 0.0) + count
    return found


def _parameter(text: str) -> str:
    kind, count = _TYPE.search(text), _COUNT.search(text)
    if kind is None:
        return "b8[0]"
    return f"{kind[1]}[{count[1]}]" if count else kind[1]


def _function_name(text: str) -> str:
    """Return the name a function's header gives, behind its return parameter if it has one."""
    match = _NAMED.match(text)
    return match[1] if match else "module"


def _extern_functions(ptx: str) -> Iterator[str]:
    for match in _EXTERN.finditer(ptx):
        yield _function_name(ptx[match.end() :])
