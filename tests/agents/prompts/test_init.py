"""Quoted text stays inside its quotation."""

from hypothesis import given
from hypothesis import strategies as st

from agents.prompts import FENCE, quoted


def test_a_quotation_is_fenced_and_labelled():
    assert quoted("a\nb", 100, "python") == "~~~~ python\na\nb\n~~~~"
    assert quoted("a", 100) == "~~~~\na\n~~~~"


def test_a_long_text_keeps_its_ends_and_says_what_is_missing():
    text = quoted("a" * 600 + "b" * 600, 300)
    assert text.startswith("~~~~\n" + "a" * 200 + "\n")
    assert text.endswith("\n" + "b" * 100 + "\n~~~~")
    assert "[... 900 characters left out ...]" in text


@given(st.text(alphabet="~ ab\n", max_size=200), st.integers(10, 100))
def test_no_text_can_close_its_own_quotation(text, most):
    lines = quoted(text, most, "x").split("\n")
    assert lines[0] == f"{FENCE} x"
    assert lines[-1] == FENCE
    assert not any(line.startswith(FENCE) for line in lines[1:-1])


@given(st.text(max_size=400), st.integers(30, 100))
def test_a_quotation_is_bounded(text, most):
    assert len(quoted(text, most)) <= most + 60 + 2 * len(text.split(FENCE))
