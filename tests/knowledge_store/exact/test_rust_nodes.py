"""Each node of the syntax tree, as ripgrep is given it, finds the lines that Python finds."""

import os
import random
import re

import pytest

from knowledge_store.exact import needs, ripgrep, rust
from knowledge_store.exact.dialect import Matcher, byte_pattern
from tests.knowledge_store.exact.stores import lines_of

pytestmark = pytest.mark.skipif(ripgrep.program() is None, reason="ripgrep is not installed")

_RNG = random.Random(7)
_WORDS = [b"a", b"A", b"ab", b"aB1", b"b", b"_", b"1", b" ", b"\t", b"\r", b"\x00", b"\x0b",
          b"\x1c", b"\x7f", b"\x85", b"\xa0", b"\xe9", b"\xc3\xa9", b"\xff", b"-", b"]", b"^",
          b"\\", b".", b":", b"[Omitted long matching line]"]  # fmt: skip
LINES = (
    [b"", b"a", b":", b"\r", b"9:"]
    + [bytes((byte,)) for byte in range(256) if byte != 10]
    + [b"x%cy" % byte for byte in range(256) if byte != 10]
    + [b"".join(_RNG.choices(_WORDS, k=_RNG.randint(1, 7))) for _ in range(400)]
)
TEXT = b"\n".join(LINES) + b"\n"

NODES = {
    "literal": ["a", r"\.", r"\x00", r"\xff", r"\\", "]", "-", "é", ":", r"\r", r"\x85"],
    "not literal": ["[^a]", r"[^\x00]", r"x[^\xe9]y", r"^[^:]$", r"[^\n]"],
    "any": [".", "^.$", "^..$", "x.y", "(?s)x.y"],
    "class": ["[ab]", "[a-f1]", r"[\]\\^-]", "[]^-]", r"[\x80-\xff]", r"^[^\x00-\x7f]$", "[+--]"],
    "category": [r"^\d$", r"^\D$", r"^\s$", r"^\S$", r"^\w$", r"^\W$", r"x\sy", r"^[\W\d]$",
                 r"^[^\S ]$", r"[^\w\s]"],
    "place": ["^a", "a$", r"\Aa", r"a\Z", "^$", r"\bab\b", r"\b1", r"a\b", "a^b", "a$b", "(?m)^b$",
              r"^\b", r"\b$", "(?:^|b)a", "a(?:$|b)"],
    "group": ["(a)", "(?:ab)", "(?P<n>a)b", "(a(b(1)))", "()", "a()b", "(?#said)a"],
    "branch": ["a|b", "ab|1_|^$", "(?:a|)b", "(?:|a)$", "^(?:a|ab)(?:b|B1)$", "a(?:1|_|é)"],
    "repeat": ["a*", "^a+$", "^a?b?$", "^a{2}$", "^(?:ab){2,}", "^.{3,5}$", "^a{0}b$", "a{0,0}",
               "(?:a*)*1", "(?:ab|_)+$", "(?:^a)*b", "(?:){3}a", "^(?:a?){3}$"],
    "lazy": ["a*?b", "^a+?$", "^.{1,3}?$", "x.??y", "(?:ab)*?_"],
    "flags": ["(?i)ab", "(?i:a)b", "a(?i:B)1", "(?i:a(?-i:B))", "(?i)[^a]$", "(?i)[A-B]1",
              "(?i)^[^a-z]$", "(?i:é)", "(?x) a b # said", "(?i)[@-B]$", "(?s-i:a)"],
}  # fmt: skip


@pytest.fixture(scope="module")
def descriptor(tmp_path_factory):
    path = tmp_path_factory.mktemp("nodes") / "text"
    path.write_bytes(TEXT)
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


@pytest.mark.parametrize(
    ("pattern", "folds"),
    [(pattern, folds) for patterns in NODES.values() for pattern in patterns for folds in (0, 1)],
)
def test_a_node_finds_what_python_finds(descriptor, pattern, folds):
    matcher = Matcher(pattern, "regex", ignore_case=bool(folds))
    assert matcher.ripgrep is not None
    expression = re.compile(pattern.encode(), re.IGNORECASE if folds else 0)
    wanted = [number for number, line in enumerate(LINES) if expression.search(line)]
    found = ripgrep.search([descriptor], [matcher], 20)
    assert found is not None, matcher.ripgrep
    assert [*found[0]] == wanted, matcher.ripgrep


def test_the_lines_tell_the_nodes_apart():
    """Every node but those that match all or nothing splits the lines, or it would test nothing."""
    assert lines_of(TEXT) == LINES
    trivial = 0
    patterns = [pattern for own in NODES.values() for pattern in own]
    for pattern in patterns:
        hits = sum(bool(re.search(pattern.encode(), line)) for line in LINES)
        trivial += hits in {0, len(LINES)}
    assert trivial <= len(patterns) // 8


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])
def test_a_mark_of_byte_order_is_bytes_like_others(tmp_path, mark):
    text = mark + b"ab\nab\n"
    (tmp_path / "text").write_bytes(text)
    opened = os.open(tmp_path / "text", os.O_RDONLY)
    try:
        for pattern, wanted in (("^ab", [1]), ("ab", [0, 1]), (r"^[\x80-\xff]+ab", [0])):
            matcher = Matcher(pattern, "regex", ignore_case=False)
            assert ripgrep.search([opened], [matcher], 20) == [wanted], pattern
    finally:
        os.close(opened)


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [("a{2000}", True), ("a{2001}", False), ("(?:a{40}){50}", True), ("(?:a{40}){51}", False),
     ("a{1,2001}", False), ("a{2001,}", False), ("a{2000,}", True), ("(?:a{0,2000})*", True)],
)  # fmt: skip
def test_repeats_are_written_out_up_to_a_bound(pattern, fits):
    assert (rust.expression(needs.parse(pattern.encode(), 0)) is not None) is fits


@pytest.mark.parametrize(
    ("pattern", "written"),
    [
        ("[a-z]", "[a-z]"), ("[az]", "[az]"), ("[ab]", "[a-b]"), (r"[^\n]", "."),
        ("[-a]", r"[\x2da]"), ("a|bc", "(?:a|bc)"), ("(?i)1", "1"), ("a{2,3}?", "(?:a){2,3}?"),
        ("a{2,}", "(?:a){2,}"), ("(?P<n>a)", "(?:a)"), (r"\bx", r"\bx"), (r"\$", r"\x24"),
    ],
)  # fmt: skip
def test_how_nodes_are_written(pattern, written):
    assert rust.expression(needs.parse(pattern.encode(), 0)) == written


def test_a_class_of_no_byte_has_no_equal():
    assert rust.expression(needs.parse(rb"a[^\x00-\xff]", 0)) is None
    assert rust.expression(needs.parse(rb"[\n]", 0)) is None


def test_every_byte_is_written_so_that_it_is_itself():
    for byte in range(256):
        expression = re.compile(byte_pattern(byte).encode())
        assert [at for at in range(256) if expression.fullmatch(bytes((at,)))] == [byte]
        assert byte_pattern(byte).isascii()


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize(
    "literal", ["a", "A b", ":", "é", "[Omitted long matching line]", "\x00", "^", "a$", r"\d"]
)
def test_literals_and_words_find_what_the_definition_says(descriptor, literal, folds):
    for mode in ("literal", "word"):
        matcher = Matcher(literal, mode, ignore_case=folds)
        found = ripgrep.search([descriptor], [matcher], 20)
        assert found is not None
        assert [*found[0]] == [number for number, line in enumerate(LINES) if matcher.test(line)]


def test_any_of_several_patterns_is_one_pattern(descriptor):
    matchers = [
        Matcher(text, mode, ignore_case=False)
        for text, mode in (("a|b$", "regex"), ("_", "word"), ("é", "literal"), ("^", "literal"))
    ]
    wanted = [n for n, line in enumerate(LINES) if any(m.test(line) for m in matchers)]
    found = ripgrep.search([descriptor, descriptor], matchers, 20)
    assert found is not None
    assert [*found[0]] == wanted
    assert ripgrep.pattern_of([*matchers, Matcher("(?=a)", "regex", ignore_case=False)]) is None
