"""What roles are shown."""

import pytest

from gpu_runner.candidate import Candidate, Language, Source
from graph.ledger import AttemptOutcome
from graph.target import Hardware
from graph.view import difference, make_view, past_attempts, usable_languages
from tests.builders import make_candidate
from tests.graph.builders import (
    make_attempt,
    make_decision,
    make_environment,
    make_manifest,
    make_state,
    make_target,
)


def test_hidden_workloads_are_not_in_the_view():
    view = make_view(make_manifest(), (), make_state())
    assert [w.name for w in view.workloads] == ["small", "wide"]
    assert "odd" not in view.model_dump_json()


def test_the_view_says_where_the_run_stands():
    manifest = make_manifest(seed=7)
    view = make_view(
        manifest, (make_attempt(1),), make_state(round=3, incumbent="a0001", idle_rounds=2)
    )
    assert (view.round, view.incumbent, view.stalled_rounds, view.seed) == (3, "a0001", 2, 7)
    assert view.arch == "x86_64"
    assert make_view(manifest, (), make_state()).incumbent is None


@pytest.mark.parametrize(
    ("compiler", "usable"), [("g++ 13", (Language.CPP, Language.PYTHON)), ("", (Language.PYTHON,))]
)
def test_a_language_without_a_toolchain_is_not_offered(compiler, usable):
    wanted = (Language.CPP, Language.PYTHON)
    assert usable_languages(wanted, make_environment(compiler=compiler)) == usable


def test_speed_ups_over_the_baseline_are_comparable_between_attempts():
    first = make_attempt(
        1, outcome=AttemptOutcome.PROMOTED, feedback=make_decision(1.9, basis="feedback"),
        claims=(make_decision(2.0),),
    )  # fmt: skip
    second = make_attempt(
        2, parent="a0001", feedback=make_decision(1.5, basis="feedback", against="incumbent")
    )
    third = make_attempt(3, feedback=make_decision(1.2, basis="feedback"))
    fourth = make_attempt(4, outcome=AttemptOutcome.REJECTED)
    orphan = make_attempt(5, parent="a0009", feedback=make_decision(against="incumbent"))
    past = past_attempts((first, second, third, fourth, orphan), "torch eager")
    assert [p.vs_baseline for p in past] == [2.0, 3.0, 1.2, None, None]


def test_a_claim_against_another_baseline_is_not_taken_for_the_first():
    attempt = make_attempt(1, claims=(make_decision(9.0, against="torch compile"),))
    assert past_attempts((attempt,), "torch eager")[0].vs_baseline is None


def test_a_difference_shows_changed_lines_with_both_sides():
    old = make_candidate(text="int a;\nint b;\n")
    new = make_candidate(text="int a;\nint c;\n")
    lines = difference(old, new).splitlines()
    assert "-int b;" in lines
    assert "+int c;" in lines


def test_a_first_candidate_is_all_new():
    lines = difference(None, make_candidate(text="int a;\n")).splitlines()
    assert [line for line in lines if line.startswith("+int")] == ["+int a;"]


def test_added_and_removed_files_are_shown():
    def candidate(*paths):
        return Candidate(
            language=Language.CPP, sources=tuple(Source(path=p, text=f"// {p}") for p in paths)
        )

    text = difference(candidate("a.cpp", "b.h"), candidate("a.cpp", "c.h"))
    assert "-// b.h" in text
    assert "+// c.h" in text
    assert "a.cpp" not in text


def test_no_difference_is_empty():
    assert difference(make_candidate(), make_candidate()) == ""


def test_the_view_of_a_gpu_target_is_of_its_tier():
    target = make_target()
    gpu = target.model_copy(
        update={"hardware": target.hardware.model_copy(update={"device": "cuda", "arch": "sm_90a"})}
    )
    view = make_view(make_manifest(target=gpu), (), make_state())
    assert (view.tier, view.arch) == ("gpu", "sm_90a")


@pytest.mark.parametrize(
    ("tools", "usable"),
    [
        ("nvrtc 13.0.88, triton 3.6.0", (Language.CUDA, Language.TRITON)),
        ("nvrtc 13.0.88", (Language.CUDA,)),
        ("", (Language.CUDA,)),
    ],
)
def test_on_a_gpu_triton_is_offered_where_the_worker_has_it(tools, usable):
    environment = make_environment(arch="sm_90a", compiler=tools)
    assert usable_languages((Language.CUDA, Language.TRITON), environment) == usable


def test_on_a_gpu_the_view_says_tier_and_architecture():
    target = make_target(hardware=Hardware(device="cuda"))
    manifest = make_manifest(target=target, environment=make_environment(arch="sm_90a"))
    view = make_view(manifest, (), make_state())
    assert (view.tier, view.arch) == ("gpu", "sm_90a")
