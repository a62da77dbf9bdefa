"""Patterns: what a line must hold, said in the ways that the engines need.

A pattern means what Python's `re` means by it as bytes, tried on one line without its newline. That
is the definition; `Matcher.test` is it. From the same syntax tree come three weaker or equal forms:
literals that a matching line must hold (for the index and to find lines quickly), the pattern for
ripgrep (or None where its engine has no equal), and the widest line on which backtracking stays
bounded. Loaded by one-shot searches: literals need none of what reads regular expressions.
"""

from __future__ import annotations

from knowledge_store.exact.errors import PatternError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

    from knowledge_store.exact import needs

_LONGEST = 4096
WORD = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
"""Bytes of words: a word has none beside it."""


class Matcher:
    """One pattern, ready to judge lines."""

    __slots__ = (
        "clauses",
        "expression",
        "folds",
        "is_nullable",
        "is_word",
        "literal",
        "most_width",
        "ripgrep",
    )

    def __init__(self, text: str, mode: str, *, ignore_case: bool) -> None:
        """Read a pattern.

        Raises:
            PatternError: it is empty, too long, crosses lines or is not of the dialect.
        """
        if not text or len(text) > _LONGEST:
            raise PatternError(f"a pattern has 1 to {_LONGEST} characters, this one {len(text)}")
        self.folds = ignore_case
        self.is_nullable = False
        self.is_word = mode == "word"
        self.literal: bytes | None = None
        self.expression: re.Pattern[bytes] | None = None
        self.clauses: needs.Clauses
        self.most_width: float = float("inf")
        self.ripgrep: str | None
        if mode == "regex":
            self._read_expression(text)
            return
        if "\n" in text:
            raise PatternError("lines are searched one by one: search for each line of the pattern")
        literal = text.encode("utf-8", "surrogateescape")
        self.literal = literal.lower() if ignore_case else literal
        self.clauses = (frozenset({self.literal}),)
        self.ripgrep = _for_ripgrep(literal, ignore_case=ignore_case, is_word=self.is_word)

    def test(self, line: bytes) -> bool:
        """Say whether a line matches: the definition that every engine must meet."""
        if self.expression is not None:
            return self.expression.search(line) is not None
        literal = self.literal
        assert literal is not None
        text = line.lower() if self.folds else line
        if not self.is_word:
            return literal in text
        at = text.find(literal)
        while at >= 0:
            before, after = text[at - 1 : at] if at else b"", text[at + len(literal) :][:1]
            if not (before and before[0] in WORD) and not (after and after[0] in WORD):
                return True
            at = text.find(literal, at + 1)
        return False

    def _read_expression(self, text: str) -> None:
        import re  # noqa: PLC0415 - literals need none of these
        import warnings  # noqa: PLC0415 - same

        from knowledge_store.exact import needs, rust  # noqa: PLC0415 - same

        source = text.encode("utf-8", "surrogateescape")
        flags = re.IGNORECASE if self.folds else 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.expression = re.compile(source, flags)
                tree = needs.parse(source, flags)
        except (re.error, OverflowError, RecursionError, ValueError) as error:
            raise PatternError(f"pattern {text!r} is not a regular expression: {error}") from error
        if not text.isascii():
            _refuse_torn(text)
        self.folds = needs.ignores_case(tree)
        self.clauses = needs.clauses_of(tree, folds=self.folds)
        self.most_width = needs.most_width(tree)
        self.is_nullable = needs.is_nullable(tree)
        self.ripgrep = rust.expression(tree)


def byte_pattern(byte: int) -> str:
    """Return a byte as ripgrep reads it outside and inside of classes."""
    character = chr(byte)
    return character if character.isascii() and character.isalnum() else f"\\x{byte:02x}"


def _for_ripgrep(text: bytes, *, ignore_case: bool, is_word: bool) -> str:
    """Return the pattern of a literal, on its own or with no word character beside it."""
    body = "".join(map(byte_pattern, text))
    if ignore_case:
        body = f"(?i:{body})"
    if is_word:
        start = r"\b" if text[0] in WORD else r"\b{start-half}"
        end = r"\b" if text[-1] in WORD else r"\b{end-half}"
        body = f"{start}{body}{end}"
    return body


def _is_wide(letter: str) -> bool:
    """Say whether a character takes several bytes; one that stands for a raw byte takes one."""
    return not letter.isascii() and not "\udc80" <= letter <= "\udcff"


def _is_verbose(text: str) -> bool:
    """Say whether some part of a pattern may be read with re.VERBOSE, where blanks mean nothing."""
    import re  # noqa: PLC0415 - literals need none of these

    return re.search(r"\(\?[A-Za-z]*x", text) is not None


def _past_blanks(text: str, at: int) -> int:
    """Return where blanks and comments that begin at a place end."""
    import re  # noqa: PLC0415 - literals need none of these

    blanks = re.compile(r"(?:\s|#[^\n]*(?:\n|$))*").match(text, at)
    return blanks.end() if blanks else at


def _refuse_torn(text: str) -> None:
    """Refuse classes and repeats of a character of several bytes, which bytes would tear apart.

    Raises:
        PatternError: there is one.
    """
    is_verbose = _is_verbose(text)
    is_in_class = False
    at = 0
    while at < len(text):
        letter = text[at]
        after = text[_past_blanks(text, at + 1) if is_verbose else at + 1 :][:1]
        if letter == "\\":
            at += 2 if text[at + 1 : at + 2].isascii() else 1
            continue
        if letter == "[" and not is_in_class:
            is_in_class = True
            # A bracket right at the beginning of a class is a member of it.
            at += 2 if text.startswith("[^", at) else 1
            at += text.startswith("]", at)
            continue
        if letter == "]":
            is_in_class = False
        elif _is_wide(letter) and (is_in_class or after in {"*", "+", "?", "{"}):
            raise PatternError(
                f"{letter!r} takes several bytes: write a group such as (?:{letter}) in place of "
                "a class or a repeat of it"
            )
        at += 1
