"""How nouns of the ledger read in Markdown. Pure."""

import json
from textwrap import fill
from typing import Final, Protocol

from pydantic import JsonValue

from gpu_runner.records import Decision
from graph.ledger import Attempt, AttemptOutcome

_LONGEST_IDEA: Final = 160
_DOCSTRING_COLUMNS: Final = 92


class _Estimate(Protocol):
    @property
    def speedup(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def cell(text: str) -> str:
    """Return text that fits into one cell of a Markdown table."""
    return line(text).replace("|", "\\|")


def line(text: str) -> str:
    """Return text on one line, without markup or control characters of its own."""
    plain = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return plain.replace("<", "&lt;").replace("`", "'")


def sentence(text: str) -> str:
    """Return text with a capital letter in front and a full stop behind."""
    plain = line(text)
    return f"{plain[:1].upper()}{plain[1:]}{'' if plain.endswith('.') else '.'}"


def docstring(text: str) -> str:
    """Return text as the docstring of a function: wrapped, and safe inside its quotes."""
    plain = sentence(text).replace("\\", "\\\\").replace('"', "'").replace("&lt;", "<")
    head, _, rest = plain.partition(". ")
    if not rest and len(plain) <= _DOCSTRING_COLUMNS:
        return f'"""{plain}"""'
    first = head if head.endswith(".") else f"{head}."
    paragraphs = [fill(part, _DOCSTRING_COLUMNS) for part in (first, rest) if part]
    return '"""' + "\n\n".join(paragraphs) + '\n"""'


def interval(estimate: _Estimate) -> str:
    """Return a speed-up with its interval: `1.45x [1.40, 1.50]`."""
    return f"{estimate.speedup:.3f}x [{estimate.low:.3f}, {estimate.high:.3f}]"


def micros(time_us: float) -> str:
    """Return a time with four significant digits."""
    if time_us >= 1e4:  # noqa: PLR2004 - four digits of microseconds end here
        return f"{time_us / 1e3:.4g} ms"
    return f"{time_us:.4g} us"


def decision(made: Decision) -> str:
    """Return a decision with the record it was made from."""
    return (
        f"{made.overall.verdict.value} {interval(made.overall)} against {cell(made.against)} "
        f"(`{made.record_id}`)"
    )


def idea(attempt: Attempt) -> str:
    """Return what an attempt tried, shortened."""
    named = ", ".join(f"{key}={value}" for key, value in sorted(attempt.parameters.items()))
    recipe = f"{attempt.recipe}({named}): " if attempt.recipe else ""
    text = f"{recipe}{attempt.motivation}"
    return text if len(text) <= _LONGEST_IDEA else f"{text[: _LONGEST_IDEA - 1].rstrip()}…"


def why(attempt: Attempt) -> str:
    """Return why an attempt ended where it did."""
    reason = f"{attempt.reason.value}: " if attempt.reason else ""
    stage = f" at {attempt.stage.value}" if attempt.stage else ""
    return f"{reason}{attempt.message}{stage}".strip() or "-"


def lineage_line(attempt: Attempt, best: str | None) -> str:
    """Return an attempt as one line of `lineage.jsonl`."""
    decisions = ([attempt.feedback] if attempt.feedback else []) + list(attempt.claims)
    value: dict[str, JsonValue] = {
        "attempt": attempt.attempt_id,
        "version": attempt.version,
        "parent": attempt.parent,
        "round": attempt.round,
        "candidate": attempt.candidate_digest,
        "recipe": attempt.recipe,
        "parameters": dict(attempt.parameters),
        "motivation": attempt.motivation,
        "evidence": [citation.model_dump(mode="json") for citation in attempt.provenance],
        "outcome": attempt.outcome.value,
        "reason": attempt.reason.value if attempt.reason else None,
        "selected": attempt.outcome is AttemptOutcome.PROMOTED,
        "is_best": attempt.attempt_id == best,
        "records": [made.record_id for made in decisions],
    }
    return json.dumps(value, sort_keys=True)


def cited_records(attempts: tuple[Attempt, ...]) -> set[str]:
    """Return the ids of every measurement record that a ledger of these attempts cites."""
    return {
        made.record_id
        for attempt in attempts
        for made in (*((attempt.feedback,) if attempt.feedback else ()), *attempt.claims)
    }
