"""Comments, blanks and layout make no new candidate; anything else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.novelty import fingerprint
from gpu_runner.candidate import Candidate, Language, Source
from tests.builders import SOFTMAX_CPP, SOFTMAX_PYTHON, make_candidate


def of(text: str, language: Language = Language.CPP, **changes) -> str:
    return fingerprint(make_candidate(text=text, language=language, **changes))


@pytest.mark.parametrize(
    "text",
    [
        "// a note\n" + SOFTMAX_CPP,
        SOFTMAX_CPP.replace("double sum = 0;", "double sum = 0; /* of the row */"),
        SOFTMAX_CPP.replace("    ", "\t"),
        SOFTMAX_CPP.replace("a->x + b * a->N", "a->x+b*a->N"),
        SOFTMAX_CPP.replace(";\n", ";\n\n"),
        SOFTMAX_CPP.replace('#include "problem.h"', '#  include   "problem.h"  // ours')
        .replace("#  include", "#include")
        .replace("  // ours", ""),
    ],
)
def test_layout_and_comments_are_not_new(text):
    assert of(text) == of(SOFTMAX_CPP)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("double sum", "float sum"),
        ("a->N;", "a->N + 1;"),
        ("std::exp(x[n] - top)", "std::exp2(x[n] - top)"),
        ("#include <cmath>", "#include <math.h>"),
        ("return 0;", "return 1;"),
    ],
)
def test_another_program_is_new(old, new):
    assert of(SOFTMAX_CPP.replace(old, new)) != of(SOFTMAX_CPP)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('auto s = "a // b";', 'auto s = "a";'),
        ('auto s = "a  b";', 'auto s = "a b";'),
        ("a = b - -c;", "a = b--c;"),
        ("#define X\nint y;", "#define X int y;"),
        ("int ab;", "int a b;"),
    ],
)
def test_what_means_something_is_kept(one, other):
    assert of(one) != of(other)


def test_python_is_compared_as_python_reads_it():
    noted = '"""A softmax."""\n# as torch has it\n' + SOFTMAX_PYTHON.replace("e = (", "e = ( ")
    assert of(noted, Language.PYTHON) == of(SOFTMAX_PYTHON, Language.PYTHON)
    other = SOFTMAX_PYTHON.replace("amax", "amin")
    assert of(other, Language.PYTHON) != of(SOFTMAX_PYTHON, Language.PYTHON)


def test_what_python_cannot_read_is_compared_by_its_lines():
    assert of("def (:\n\n", Language.PYTHON) == of("def (:   \n", Language.PYTHON)
    assert of("def (:", Language.PYTHON) != of("def [:", Language.PYTHON)


def test_flags_and_ways_of_calling_are_part_of_it():
    plain = make_candidate()
    assert fingerprint(plain) != fingerprint(plain.model_copy(update={"flags": ("-O2",)}))
    other = plain.model_copy(update={"calling": "destination"})
    assert fingerprint(plain) != fingerprint(other)


def test_the_order_of_files_is_not():
    files = (Source(path="a.h", text="int a;"), Source(path="kernel.cpp", text="int b;"))
    made = [Candidate(language=Language.CPP, sources=order) for order in (files, files[::-1])]
    assert fingerprint(made[0]) == fingerprint(made[1])


tokens = st.lists(st.sampled_from(["int", "a", "=", "1", ";", "(", ")", "+", '"s t"']), max_size=20)


@given(tokens, st.lists(st.sampled_from([" ", "\n", "  \t", " /* c */ ", " // c\n"]), min_size=20))
def test_blanks_between_the_same_words_never_matter(words, gaps):
    spread = "".join(word + gap for word, gap in zip(words, gaps, strict=False))
    assert of(spread + ";") == of(" ".join(words) + " ;")
