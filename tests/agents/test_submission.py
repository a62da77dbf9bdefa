"""Edits are applied exactly or not at all, and what is wrong with them is said."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from agents.replies import Draft
from agents.submission import SourceEdit, Submission, drafted
from gpu_runner.candidate import Candidate, Language, Launch, LaunchPlan, Source
from tests.builders import make_candidate

TEXT = "int a = 1;\n    int b = 2;\nint c = 1;\n"
PLAN = LaunchPlan(
    launches=(
        Launch(kernel="k", grid=("B", "1", "1"), block=("64", "1", "1"), arguments=("x", "y")),
    )
)


def parent(text: str = TEXT, **changes) -> Candidate:
    return make_candidate(text=text, **changes)


def edited(*edits: tuple[str, str], path: str = "kernel.cpp", of: Candidate | None = None, **more):
    made = tuple(SourceEdit(path=path, search=old, replace=new) for old, new in edits)
    return drafted(Submission(edits=made, motivation="m", **more), of or parent())


def text_of(draft: Draft | str) -> str:
    assert isinstance(draft, Draft), draft
    return draft.candidate.sources[0].text


def test_an_edit_replaces_what_stands_there_once():
    assert text_of(edited(("int b = 2;", "int b = 3;"))) == TEXT.replace("b = 2", "b = 3")


def test_edits_are_applied_in_order_each_on_the_result():
    draft = edited(("int b = 2;", "int d = 4;"), ("int d = 4;", "int e = 5;"))
    assert "int e = 5;" in text_of(draft)


def test_what_stands_twice_is_ambiguous():
    said = edited((" = 1;", " = 9;"))
    assert said == (
        "edit 1 of kernel.cpp: the text searched for stands more than once (lines 1 and 3); take "
        "more of what is around it"
    )


def test_overlapping_places_are_two_places():
    assert "more than once" in str(edited(("aa", "b"), of=parent("aaa")))


@pytest.mark.parametrize(
    ("search", "hint"),
    [
        ("int a = 1;\nint b = 2;", "lines 1 to 2 differ from it in blanks only"),
        ("int b = 3;", "the line most like its first is 2: '    int b = 2;'"),
        ("while (true) {}", "no line is like its first one"),
        ("   \n\n", "it is blank"),
    ],
)
def test_what_does_not_stand_there_is_said_with_what_is_nearest(search, hint):
    said = str(edited((search, "x")))
    assert said.startswith("edit 1 of kernel.cpp: the text searched for does not stand there; ")
    assert hint in said


def test_an_unknown_file_is_said_with_those_there_are():
    assert "files: kernel.cpp" in str(edited(("a", "b"), path="other.cpp"))


def test_an_empty_search_makes_a_new_file_and_replaces_none():
    draft = edited(("", "#define X 1\n"), path="x.h")
    assert isinstance(draft, Draft)
    assert draft.candidate.sources[1] == Source(path="x.h", text="#define X 1\n")
    assert "the file exists" in str(edited(("", "all of it")))


def test_edits_that_change_nothing_are_refused():
    assert edited(("int b", "int b")) == "the edits change nothing"


def test_without_a_source_there_is_nothing_to_edit():
    edit = SourceEdit(path="kernel.cpp", search="a", replace="b")
    said = drafted(Submission(edits=(edit,), motivation="m"), None)
    assert said == "there is no source to edit; give the whole candidate"


def test_plans_and_flags_may_change_without_any_text():
    of = parent(language=Language.CUDA, text="k", plans=(PLAN,))
    wider = PLAN.model_copy(update={"guard": "N < 9"})
    draft = edited(of=of, plans=(wider,), flags=("-O2",))
    assert isinstance(draft, Draft)
    assert (draft.candidate.plans, draft.candidate.flags) == ((wider,), ("-O2",))
    assert draft.candidate.sources == of.sources


def test_what_is_not_named_stays():
    of = parent(flags=("-O2",), plans=(PLAN,))
    draft = edited(("int b", "int bb"), of=of)
    assert isinstance(draft, Draft)
    assert (draft.candidate.flags, draft.candidate.plans) == (of.flags, of.plans)
    assert draft.candidate.language is of.language


def test_a_source_that_grows_too_long_is_said_to():
    grown = str(edited(("int b", "x" * 600_000)))
    assert grown.startswith("the edited candidate is none")


@pytest.mark.parametrize("path", ["../out.cpp", "/etc/passwd", "a//b", "", "a/../b", "~/x"])
def test_no_edit_leaves_the_candidates_folder(path):
    with pytest.raises(ValidationError):
        SourceEdit(path=path, search="", replace="x")


def test_a_submission_is_whole_or_edits_never_both_or_neither():
    edit = SourceEdit(path="kernel.cpp", search="a", replace="b")
    for values in (
        {},
        {"candidate": parent(), "edits": (edit,)},
        {"candidate": parent(), "flags": ()},
    ):
        with pytest.raises(ValidationError, match="candidate"):
            Submission(motivation="m", **values)


def test_a_whole_candidate_is_taken_as_it_is():
    draft = drafted(Submission(candidate=parent(), motivation="m", family="f"), None)
    assert draft == Draft(candidate=parent(), motivation="m", family="f")


texts = st.text(alphabet="ab\n ", min_size=1, max_size=60)


@given(texts, st.data(), st.text(alphabet="xy", max_size=5))
def test_an_edit_changes_its_place_and_nothing_else(text, data, new):
    start = data.draw(st.integers(0, len(text) - 1))
    old = text[start : data.draw(st.integers(start + 1, len(text)))]
    assume(old != new)
    draft = edited((old, new), of=parent(text))
    places = [at for at in range(len(text)) if text.startswith(old, at)]
    if len(places) == 1:
        assert text_of(draft) == text[:start] + new + text[start + len(old) :]
    else:
        assert "more than once" in str(draft)
