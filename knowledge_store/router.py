"""Which search a query wants: lines that hold a string, or pull requests about a subject. Pure."""

import re
import warnings
from dataclasses import dataclass
from typing import Literal

Route = Literal["literal", "word", "regex", "meaning"]

_QUOTED = re.compile(r'"(?P<double>[^"]+)"|`(?P<tick>[^`]+)`')
_SLASHED = re.compile(r"/(?P<pattern>.+)/")
_LOOKS_REGEX = re.compile(
    r"\\[bBdDsSwW.()\[\]{}|*+?^$]|\.[*+]|\[[^\]\s]+\][*+?{]|\(\?|[\w)]\|[\w(]|^\^|\$$"
)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_JOINED = re.compile(r"[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)+(?:\(\))?|[A-Za-z_]\w*\(\)?")


@dataclass(frozen=True, slots=True)
class Routed:
    """A query as its route takes it."""

    route: Route
    pattern: str
    why: str


def route(query: str) -> Routed:
    """Choose a route: quoted, slashed, a regular expression, one identifier; else by meaning."""
    text = query.strip()
    quoted = _QUOTED.fullmatch(text)
    if quoted:
        return Routed("literal", quoted["double"] or quoted["tick"], "quoted: exactly this text")
    slashed = _SLASHED.fullmatch(text)
    if slashed:
        return Routed("regex", slashed["pattern"], "between slashes: a regular expression")
    if " " not in text and is_identifier(text):
        return Routed("word", text, "one identifier: whole words first")
    if " " not in text and _JOINED.fullmatch(text):
        return Routed("literal", text, "a name with its qualifiers: exactly this text")
    if _LOOKS_REGEX.search(text) and _compiles(text):
        return Routed("regex", text, "written as a regular expression")
    return Routed("meaning", text, "a question: words and vectors")


def require_text(query: str) -> None:
    """Refuse what nothing can be asked with: a query of blanks, or one of bytes that are no text.

    Raises:
        ValueError: it says what to do instead.
    """
    if not query.strip():
        raise ValueError("the query is empty; name words, an identifier or a pattern")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the query {query!r} is no UTF-8; `kernelpilot-grep` finds bytes of any kind"
        ) from error


def is_identifier(text: str) -> bool:
    """Tell whether a text is a name from code rather than a word of English."""
    if not _IDENTIFIER.fullmatch(text):
        return False
    has_inner_capital = any(char.isupper() for char in text[1:]) and any(map(str.islower, text))
    return "_" in text or has_inner_capital or any(char.isdigit() for char in text)


def _compiles(pattern: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of a `[[`, which means itself so far
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True
