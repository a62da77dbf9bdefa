"""Queries of the exact search benchmark: what people ask of kernel diffs, and random ones."""

import random
import re
from collections.abc import Iterator, Sequence

from knowledge_store.exact.nouns import ExactQuery


def _query(pattern: str, mode: str = "literal", *, ignore_case: bool = False) -> ExactQuery:
    return ExactQuery.model_validate(
        {"patterns": (pattern,), "mode": mode, "ignore_case": ignore_case, "timeout_s": 60}
    )


QUERIES: tuple[ExactQuery, ...] = (
    _query("no_such_token_anywhere"),
    _query("mma_v2"),
    _query("tcgen05.fence"),
    _query("__ldg"),
    _query("cp.async.bulk.tensor"),
    _query("setmaxnreg"),
    _query("griddepcontrol"),
    _query("evict_first"),
    _query("ldmatrix"),
    _query("int8_scaled_mm"),
    _query("num_warps"),
    _query("return"),
    _query("half2", "word"),
    _query("umma", ignore_case=True),
    _query(r"tcgen05\.(ld|st)", "regex"),
    _query(r"num_warps\s*=\s*8", "regex"),
    _query(r"wgmma\.mma_async\S*m64n[0-9]+k16", "regex"),
    _query(r"^\+.*__shfl_xor_sync", "regex"),
    _query(r"(hopper|blackwell).*(tma|mbarrier)", "regex"),
    _query(r"\b[0-9a-f]{16}\b", "regex"),
    _query(r"__launch_bounds__\([^)]*,\s*\d", "regex"),
    _query(r"mma\.sync\.aligned\.\S+\.f16", "regex"),
    _query(r"^-\s*#pragma unroll", "regex"),
    _query(r"TMA_[Ll]oad|tma_load", "regex", ignore_case=True),
)


def random_queries(
    lines: Sequence[bytes], count: int, rng: random.Random
) -> Iterator[tuple[ExactQuery, re.Pattern[bytes]]]:
    """Yield queries made from lines of the corpus, each with the pattern of a plain scan."""
    made = 0
    while made < count:
        line = rng.choice(lines)
        try:
            text = line.decode()
        except UnicodeDecodeError:
            continue
        if not text:
            continue
        kind = rng.choice(("literal", "literal", "word", "regex", "regex", "regex"))
        start = rng.randrange(len(text))
        piece = text[start : start + rng.randint(1, 24)]
        ignore_case = rng.random() < 0.25
        flags = re.IGNORECASE if ignore_case else 0
        pattern = piece if kind != "regex" else _expression(piece, rng)
        source = re.escape(piece.encode())
        if kind == "word":
            source = rb"(?<![0-9A-Za-z_])" + source + rb"(?![0-9A-Za-z_])"
        elif kind == "regex":
            source = pattern.encode()
        made += 1
        yield _query(pattern, kind, ignore_case=ignore_case), re.compile(source, flags)


def _expression(piece: str, rng: random.Random) -> str:
    """Return a regular expression near a piece of text: some of it made vague, some anchored."""
    parts = re.findall(r"\d+|[A-Za-z_]+|\s+|[^\sA-Za-z_\d]", piece)
    made = [_vague(part, rng) if rng.random() < 0.4 else _escaped(part) for part in parts]
    for _ in range(rng.choice((0, 0, 1))):
        made.insert(rng.randint(0, len(made)), rng.choice((".*", r"\s*", r"\S*", "", r"\b", ".?")))
    body = "".join(made)
    if rng.random() < 0.15:
        body = f"^{body}" if rng.random() < 0.5 else f"{body}$"
    if rng.random() < 0.15:
        body = f"(?:{body}|{_escaped(piece[:6])}x)"
    return body or "x"


def _escaped(part: str) -> str:
    return "".join(re.escape(letter) for letter in part)


def _vague(part: str, rng: random.Random) -> str:
    if not part.isascii():
        return _escaped(part)
    if part.isdigit():
        return rng.choice((r"\d+", "[0-9]{1,4}", r"\d*", f"(?:{part}|7)"))
    if part.isspace():
        return rng.choice((r"\s+", r"\s*", "[ \t]+"))
    if re.fullmatch(r"[A-Za-z_]+", part):
        half = len(part) // 2
        return rng.choice((r"\w+", part[:half] + r"\w*", f"[{part[0]}{part[-1]}]" + r"\w*?"))
    return rng.choice((".", r"\W", f"{_escaped(part)}?"))
