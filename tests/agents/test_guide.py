"""What writers are shown really builds and passes; the guide says what holds for the problem."""

import pytest

from agents.guide import example, example_problem, guide, limits
from gpu_runner.candidate import Language
from gpu_runner.jobs import Check, Checked
from gpu_runner.problem import ProfileName
from gpu_runner.tasks.check import check
from tests.agents.builders import make_view
from tests.builders import make_workload


@pytest.mark.parametrize("language", [Language.CPP, Language.PYTHON])
def test_the_example_passes_every_check(language, tmp_path):
    workloads = (
        make_workload(axes={"B": 8, "N": 128}),
        make_workload(name="one", axes={"B": 1, "N": 1}, visibility="hidden"),
    )
    problem = example_problem().model_copy(update={"profiles": (ProfileName.NORMAL,)})
    job = Check(
        job_id="c", problem=problem, candidate=example(language), workloads=workloads, threads=2
    )
    assert isinstance(check(job, workspace=tmp_path), Checked)


@pytest.mark.parametrize("language", list(Language))
def test_the_guide_shows_the_example_and_names_the_problem_of_the_run(language):
    text = guide(make_view(arch="sm_90a"), language)
    assert example(language).sources[0].text.strip() in text
    assert f'"{language.value}"' in text
    assert "scaled_rows" in text


def test_the_guide_is_the_same_in_every_round():
    early, late = make_view(round=1), make_view(round=9, stalled_rounds=4, incumbent="a0003")
    assert guide(early, Language.CPP) == guide(late, Language.CPP)


def test_the_header_of_the_problem_is_in_the_guide():
    assert "struct softmax_args {" in guide(make_view(), Language.CPP)


def test_a_problem_without_a_header_still_has_a_guide():
    view = make_view()
    inputs = (view.problem.inputs[0].model_copy(update={"name": "double"}),)
    problem = view.problem.model_copy(update={"inputs": inputs})
    text = guide(view.model_copy(update={"problem": problem}), Language.CPP)
    assert "is reserved" in text


@pytest.mark.parametrize(
    ("arch", "bytes_", "has_clusters"),
    [("sm_80", 166912, False), ("sm_90a", 232448, True), ("sm_100a", 232448, True)],
)
def test_limits_are_those_of_the_architecture(arch, bytes_, has_clusters):
    told = " ".join(limits(arch))
    assert f"({bytes_} bytes)" in told
    assert ("cluster" in told) is has_clusters


def test_of_an_unknown_architecture_nothing_is_made_up():
    assert len(limits("sm_77")) == 1
    assert len(limits("")) == 1
