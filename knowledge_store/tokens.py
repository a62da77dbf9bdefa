"""Words of prose and code in one vocabulary: what ranking compares.

`deep_gemm`, `DeepGemm` and `deep-gemm` all give `deepgemm deep gemm`, so that a sentence about a
kernel meets the identifiers of its diff. Stemming is left to the index's analyser.
"""

import re
from collections.abc import Iterable

VERSION = 1
"""Of the rules below; an index made under another one is rebuilt."""

_TOKEN = re.compile(r"[^\W_]\w*(?:-[^\W\d_]\w*)*")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+[0-9]*|[A-Z]+[0-9]*|[0-9]+|[^\W_A-Za-z0-9]+")
_NUMBERED = re.compile(r"([a-z]{4,})[0-9]+")
_LONGEST = 64
_LONGEST_NUMBER = 6
_REMEMBERED = 400_000
# Function words of English, among them those that are keywords of the languages searched: a word
# that most chunks hold says nothing, and costs the longest postings.
STOP_WORDS = frozenset(
    (  # noqa: SIM905 - a list of words reads as one
        "a an and are as at be been but by can could did do does for from had has have "
        "how i if in into is it its of on or our so than that the their them then there "
        "these they this to was we were what when where which while who why will with "
        "would you your should not no return const auto void int def self else"
    ).split()
)
_known: dict[str, str] = {}


def words(text: str) -> str:
    """Return the index terms of a text, lower-case, separated by spaces, in order and repeated."""
    return " ".join(filter(None, map(_terms, _TOKEN.findall(text))))


def distinct(texts: Iterable[str]) -> str:
    """Return every token of some texts once, as it is spelt, in order, separated by spaces."""
    return " ".join(dict.fromkeys(token for text in texts for token in _TOKEN.findall(text)))


def _terms(token: str) -> str:
    """Return the terms of one token; most tokens of a corpus come again, so they are kept."""
    terms = _known.get(token)
    if terms is None:
        terms = " ".join(_split(token))
        if len(_known) < _REMEMBERED:
            _known[token] = terms
    return terms


def _split(token: str) -> list[str]:
    if token[:2] in {"0x", "0X"}:
        return []
    parts = [part.lower() for part in _PART.findall(token)]
    if len(parts) == 1:
        return _kept(parts[0])
    whole = "".join(parts)
    terms = [whole] if len(whole) <= _LONGEST and not whole.isdigit() else []
    for part in parts:
        terms.extend(_kept(part))
    return terms


def _kept(word: str) -> list[str]:
    """Return a word, and its letters alone where a number follows them: `llama4` is a llama."""
    if len(word) == 1 or len(word) > _LONGEST or word in STOP_WORDS:
        return []
    if word.isdigit():
        return [word] if len(word) <= _LONGEST_NUMBER else []
    numbered = _NUMBERED.fullmatch(word)
    return [word, numbered[1]] if numbered else [word]
