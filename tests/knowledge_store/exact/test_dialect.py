"""What a pattern means: Python's `re` over bytes, one line at a time."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.exact.dialect import Matcher
from knowledge_store.exact.errors import PatternError
from tests.knowledge_store.exact.stores import LETTERS, expressions, plain_pattern

lines = st.text(LETTERS, max_size=20).map(str.encode)


def matches(pattern, line, mode="literal", *, ignore_case=False):
    return Matcher(pattern, mode, ignore_case=ignore_case).test(line)


@given(
    st.text(LETTERS, min_size=1, max_size=3),
    lines,
    st.sampled_from(["literal", "word"]),
    st.booleans(),
)
def test_literals_and_words_mean_their_plain_patterns(pattern, line, mode, folds):
    plain = plain_pattern(pattern, mode, ignore_case=folds)
    assert matches(pattern, line, mode, ignore_case=folds) == bool(plain.search(line))


@given(expressions, lines, st.booleans())
def test_an_expression_means_what_python_says(pattern, line, folds):
    plain = plain_pattern(pattern, "regex", ignore_case=folds)
    assert matches(pattern, line, "regex", ignore_case=folds) == bool(plain.search(line))


def test_a_word_may_begin_with_what_is_no_letter():
    assert matches(".add", b"x .add y", "word")
    assert not matches(".add", b"x.add", "word")
    assert not matches(".add", b".adds", "word")
    assert matches("add", b"xadd add", "word")


def test_classes_and_case_are_those_of_ascii():
    assert not matches(r"^\w$", "é".encode(), "regex")
    assert not matches("É", "é".encode(), ignore_case=True)
    assert matches("LDG", b"__ldg", ignore_case=True)


@pytest.mark.parametrize(
    ("pattern", "mode", "said"),
    [
        ("", "literal", "1 to 4096 characters"),
        ("x" * 5000, "literal", "1 to 4096 characters"),
        ("a\nb", "literal", "search for each line"),
        ("(", "regex", "is not a regular expression"),
        ("a{99999999999999999999}", "regex", "is not a regular expression"),
        ("(?u)a", "regex", "is not a regular expression"),
        ("[é]", "regex", "takes several bytes"),
        ("[^é]", "regex", "takes several bytes"),
        ("[à-é]", "regex", "takes several bytes"),
        ("aé+", "regex", "takes several bytes"),
        ("(é*)", "regex", "takes several bytes"),
        (r"\é{2}", "regex", "takes several bytes"),
        ("[]é]", "regex", "takes several bytes"),
        (r"[\]é]", "regex", "takes several bytes"),
        ("(?x)é +", "regex", "takes several bytes"),
        ("a(?ix: é # twice\n{2})", "regex", "takes several bytes"),
    ],
)
def test_what_is_not_of_the_dialect_is_refused_with_a_remedy(pattern, mode, said):
    with pytest.raises(PatternError, match=re.escape(said)):
        Matcher(pattern, mode, ignore_case=False)


def test_nesting_without_end_is_refused():
    with pytest.raises(PatternError):
        Matcher("(" * 2000 + ")" * 2000, "regex", ignore_case=False)


@pytest.mark.parametrize(
    "pattern", ["(?:é)+", "é", "[]a]?é", r"[\x80-\xff]+", "(é|è)", "(?x)n é # +"]
)
def test_characters_of_several_bytes_may_stand_where_they_stay_whole(pattern):
    assert matches(pattern, "né".encode(), "regex")


def test_a_pattern_that_python_warns_of_is_searched_in_silence():
    assert matches("[[a]", b"[", "regex")


def test_newlines_in_an_expression_match_no_line():
    assert not matches(r"a\nb", b"a b", "regex")
    assert matches(r"a\n?b", b"ab", "regex")


def test_a_literal_loads_nothing_that_reads_expressions():
    code = (
        "import sys; from knowledge_store.exact.dialect import Matcher;"
        "Matcher('tcgen05', 'literal', ignore_case=False);"
        "print('re' in sys.modules, 'knowledge_store.exact.needs' in sys.modules)"
    )
    paths = f"import sys; sys.path[:] = {sys.path!r};"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", paths + code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False\n"
