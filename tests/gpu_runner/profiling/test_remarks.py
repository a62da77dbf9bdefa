from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.facts import Remark
from gpu_runner.profiling.remarks import MOST_REMARKS, parse_remarks

CAPTURES = Path(__file__).parents[2] / "data" / "profiling"


def of_lines(*lines):
    return parse_remarks("\n".join(lines) + "\n")


def test_naive_softmax_tells_of_the_call_and_the_carried_value():
    assert parse_remarks((CAPTURES / "naive.remarks.txt").read_text()) == (
        Remark(
            path="kernel.cpp",
            line=5,
            kind="note",
            text="loop nest containing two or more consecutive inner loops cannot be vectorized",
        ),
        Remark(
            path="kernel.cpp",
            line=9,
            kind="missed",
            text="unsupported use in stmt: a value is carried from one iteration to the next",
        ),
        Remark(
            path="kernel.cpp",
            line=11,
            kind="missed",
            text="calls expf, which has no vector form here",
        ),
        Remark(
            path="kernel.cpp",
            line=12,
            kind="vectorised",
            text="loop vectorized using 32 byte vectors",
        ),
    )


def test_vectorised_softmax_misses_nothing():
    remarks = parse_remarks((CAPTURES / "vectorised.remarks.txt").read_text())
    assert {r.kind for r in remarks} == {"vectorised", "note"}
    assert [r.line for r in remarks if r.kind == "vectorised"] == [31, 32, 34, 36, 42]
    assert all("64 byte" in r.text for r in remarks if r.kind == "vectorised")


def test_widest_vectors_of_a_line_count():
    (remark,) = of_lines(
        "k.cpp:3:1: optimized: loop vectorized using 16 byte vectors",
        "k.cpp:3:1: optimized: loop vectorized using 64 byte vectors",
        "k.cpp:3:1: optimized: loop vectorized using 32 byte vectors",
    )
    assert remark.text == "loop vectorized using 64 byte vectors"


def test_line_vectorised_in_one_copy_is_vectorised():
    (remark,) = of_lines(
        "k.cpp:3:1: missed: couldn't vectorize loop",
        "k.cpp:3:1: missed: not vectorized: control flow in loop.",
        "k.cpp:3:1: optimized: loop vectorized using 32 byte vectors",
    )
    assert remark.kind == "vectorised"


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (
            "not vectorized: control flow in loop.",
            "control flow in loop: the loop has branches that cannot become selections",
        ),
        (
            "statement clobbers memory: _5 = __builtin_tanhf (_4);",
            "calls tanhf, which has no vector form here",
        ),
        (
            "statement clobbers memory: _5 = helper (_4, 3);",
            "calls helper, which has no vector form here",
        ),
        (
            "not vectorized: number of iterations cannot be computed.",
            (
                "number of iterations cannot be computed: "
                "the trip count is unknown when the loop starts"
            ),
        ),
        (
            "not vectorized: no vectype for stmt: _4 = *_3;",
            ("no vectype for stmt: no vector size serves every statement, often because of a call"),
        ),
        ("not vectorized: some new reason.", "some new reason"),
    ],
)
def test_reason_of_a_missed_loop_is_put_in_words(reason, text):
    (remark,) = of_lines(
        "k.cpp:3:1: missed: couldn't vectorize loop", f"k.cpp:4:2: missed: {reason}"
    )
    assert remark == Remark(path="k.cpp", line=3, kind="missed", text=text)


@pytest.mark.parametrize(
    "reason", ["not vectorized: multiple nested loops.", "inner-loop count not invariant."]
)
def test_loop_around_loops_is_a_note(reason):
    (remark,) = of_lines(
        "k.cpp:3:1: missed: couldn't vectorize loop", f"k.cpp:3:1: missed: {reason}"
    )
    assert remark.kind == "note"


def test_only_the_first_reason_is_of_the_loop():
    (remark,) = of_lines(
        "k.cpp:3:1: missed: couldn't vectorize loop",
        "k.cpp:4:1: missed: not vectorized: first.",
        "k.cpp:9:1: missed: not vectorized: second.",
    )
    assert remark.text == "first"


def test_own_sources_come_before_system_headers():
    remarks = of_lines(
        "/usr/include/c++/12/bits/stl_algo.h:3:1: optimized: loop vectorized using 32 byte vectors",
        "kernel.cpp:9:1: optimized: loop vectorized using 32 byte vectors",
    )
    assert [r.line for r in remarks] == [9, 3]


def test_number_of_remarks_is_bounded():
    lines = [f"k.cpp:{n}:1: missed: couldn't vectorize loop" for n in range(1, 2 * MOST_REMARKS)]
    assert len(of_lines(*lines)) == MOST_REMARKS


@given(st.text())
def test_any_text_is_read_without_failing(text):
    parse_remarks(text)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 5),
            st.sampled_from(
                [
                    "optimized: loop vectorized using 32 byte vectors",
                    "missed: couldn't vectorize loop",
                    "missed: not vectorized: control flow in loop.",
                ]
            ),
        )
    )
)
def test_a_line_has_one_remark(said):
    remarks = of_lines(*(f"k.cpp:{line}:1: {text}" for line, text in said))
    lines = [r.line for r in remarks]
    assert lines == sorted(set(lines))
    vectorised = {line for line, text in said if "using" in text}
    assert {r.line for r in remarks if r.kind == "vectorised"} == vectorised
