"""ripgrep must find the very lines that Python finds, whatever the pattern."""

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.exact import needs, ripgrep, rust
from knowledge_store.exact.dialect import Matcher
from tests.knowledge_store.exact.stores import LETTERS, diff_bytes, lines_of, plain_pattern, regular

pytestmark = pytest.mark.skipif(ripgrep.program() is None, reason="ripgrep is not installed")


def printed_by_ripgrep(pattern, text):
    command = [
        ripgrep.program(),
        "--no-config",
        "-a",
        "--no-unicode",
        "-n",
        "-N",
        "-b",
        "-e",
        pattern,
    ]
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    assert done.returncode in {0, 1}, (pattern, done.stderr)
    return {int(row.partition(b":")[0]) for row in done.stdout.split(b"\n")[:-1]}


def offsets_by_python(expression, text):
    at, found = 0, set()
    for line in lines_of(text):
        if expression.search(line):
            found.add(at)
        at += len(line) + 1
    return found


@settings(max_examples=150)
@given(regular, diff_bytes, st.booleans())
def test_both_engines_find_the_same_lines(pattern, text, folds):
    flags = re.IGNORECASE if folds else 0
    written = rust.expression(needs.parse(pattern.encode(), flags))
    if written is not None:
        wanted = offsets_by_python(re.compile(pattern.encode(), flags), text)
        assert printed_by_ripgrep(written, text) == wanted, (pattern, written)


@settings(max_examples=60)
@given(
    st.text(LETTERS, min_size=1, max_size=4),
    diff_bytes,
    st.sampled_from(["literal", "word"]),
    st.booleans(),
)
def test_literals_and_words_find_the_same_lines(pattern, text, mode, folds):
    written = Matcher(pattern, mode, ignore_case=folds).ripgrep
    assert written is not None
    wanted = offsets_by_python(plain_pattern(pattern, mode, ignore_case=folds), text)
    assert printed_by_ripgrep(written, text) == wanted


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)b", "(?!a)b", "(?<=a)b", "(?<!a)b", r"(a)\1", r"\Ba", "(?>a)", "a++", "a{3000}",
     "(?:a{60}){60}", r"a\nb", "(a)?(?(1)b|c)"],
)  # fmt: skip
def test_what_has_no_equal_is_left_to_python(pattern):
    assert rust.expression(needs.parse(pattern.encode(), 0)) is None


@pytest.mark.parametrize(
    ("pattern", "flags", "written"),
    [
        ("a.b", 0, "a.b"),
        ("ab", re.IGNORECASE, "[Aa][Bb]"),
        ("a(?i:b)c", 0, "a(?:[Bb])c"),
        ("(?i:a(?-i:b))", 0, "(?:[Aa](?:b))"),
        (r"\d", 0, "[0-9]"),
        (r"\s", 0, r"[\x09\x0b-\x0d\x20]"),
        ("[^a]", 0, r"[\x00-\x09\x0b-\x60b-\xff]"),
        ("a*?", 0, "(?:a){0,}?"),
        ("é", 0, r"\xc3\xa9"),
        (r"\Aa\Z", 0, "^a$"),
    ],
)
def test_how_patterns_are_written(pattern, flags, written):
    assert rust.expression(needs.parse(pattern.encode(), flags)) == written
