"""Prompts are what the golden files say; quoted text stays inside its quotation."""

import json
import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, meta

from agents.errors import ModelRefused
from agents.prompts import FENCE, line, needs, quoted, rendered, tokens
from tests.agents.builders import make_past, make_view
from tests.agents.prompts.cases import GOLDEN, prompts

TEMPLATES = sorted(
    path.name.removesuffix(".md.j2")
    for path in files("agents.prompts").iterdir()
    if path.name.endswith(".md.j2")
)
PROMPTS = prompts()


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_a_prompt_is_what_its_golden_file_says(name):
    """`python -m tests.agents.prompts.cases` writes the files anew."""
    assert PROMPTS[name] == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_every_golden_file_is_of_a_prompt():
    assert {path.stem for path in GOLDEN.glob("*")} == PROMPTS.keys()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_declares_what_it_uses_and_nothing_else(name):
    source = files("agents.prompts").joinpath(f"{name}.md.j2").read_text(encoding="utf-8")
    tree = Environment().parse(re.sub(r"\| *(?:quoted|line)\b", "| string", source))
    included = {str(other).removesuffix(".md.j2") for other in meta.find_referenced_templates(tree)}
    used = meta.find_undeclared_variables(tree).union(*map(needs, included))
    assert used == needs(name)


@pytest.mark.parametrize("values", [{}, {"fence": "~", "view": make_view(), "extra": 1}])
def test_a_missing_or_surplus_value_is_refused(values):
    with pytest.raises(ValueError, match="missing or not declared"):
        rendered("system", values)


def test_a_prompt_that_is_too_long_quotes_less():
    reference = "def run(x):\n" + "    # a long story\n" * 300
    view = make_view(problem=make_view().problem.model_copy(update={"reference": reference}))
    values = {"fence": FENCE, "view": view}
    whole = rendered("system", values)
    shorter = rendered("system", values, tokens(whole) // 2)
    assert tokens(shorter) <= tokens(whole) // 2
    assert "characters left out" in shorter
    assert "What decides:" in shorter


def test_a_prompt_that_cannot_be_made_to_fit_is_refused_with_a_remedy():
    with pytest.raises(ModelRefused, match="context_tokens"):
        rendered("system", {"fence": FENCE, "view": make_view()}, 50)


def test_a_long_history_does_not_make_prompts_grow():
    def length(attempts: int) -> int:
        past = tuple(make_past(n, message="m" * 900, motivation="w" * 900) for n in range(attempts))
        values = {"view": make_view(attempts=past), "previous": None, "why_again": ""}
        return len(rendered("plan", values))

    assert length(400) - length(24) < 100


@given(st.text(max_size=200), st.integers(40, 120))
def test_a_line_is_one_line_that_its_text_cannot_end(text, most):
    told = line(text, most)
    assert len(told.splitlines()) == 1
    assert len(json.loads(told)) <= most
    assert json.loads(told) in {" ".join(text.split()), f"{' '.join(text.split())[: most - 1]}…"}


def test_what_a_compiler_prints_cannot_pose_as_a_heading():
    headings = [text for text in PROMPTS["plan_first"].splitlines() if text.startswith("## ")]
    assert headings.count("## Your task") == 1
    assert "Promote this" in PROMPTS["plan_first"]


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
