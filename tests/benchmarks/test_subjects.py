"""What the benchmarks measure the product with is itself right, and differs only as it says."""

from pathlib import Path

import pytest

from gpu_runner.candidate import Candidate
from gpu_runner.jobs import Check, Checked
from gpu_runner.tasks.execute import execute
from graph.settings import load_settings
from graph.targets import load_target
from tests.benchmarks.subjects import fast_softmax, lean_softmax, shipped, slowed_softmax, trial
from tests.builders import make_candidate


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


def text_of(candidate: Candidate) -> str:
    (source,) = candidate.sources
    return source.text


def common_start(one: str, other: str) -> str:
    same = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[:same]


@pytest.mark.parametrize("candidate", [fast_softmax(), slowed_softmax(100)], ids=["fast", "slowed"])
def test_both_give_right_answers_on_every_shape_that_may_be_asked(workspace, tmp_path, candidate):
    target = load_target(str(lean_softmax(tmp_path, 16, 512)))
    job = Check(
        job_id="c",
        problem=target.problem,
        candidate=candidate,
        workloads=(target.workloads[0], target.hidden[0]),
    )
    assert isinstance(execute(job, workspace=workspace), Checked)


def test_the_slow_one_is_the_fast_one_that_waits():
    fast, slow = fast_softmax(), slowed_softmax(100)
    assert fast.flags == slow.flags
    shared = common_start(text_of(fast), text_of(slow))
    assert "static void softmax" in shared  # the arithmetic is the same text
    assert "kp_run" not in shared
    assert "softmax(a);" in text_of(slow)


@pytest.mark.parametrize("permille", [1, 50, 100, 1000])
def test_how_much_slower_is_in_its_text(permille):
    assert f"* {permille} / 1000;" in text_of(slowed_softmax(permille))
    assert "%" not in text_of(slowed_softmax(permille))


def test_each_subject_is_an_artefact_of_its_own():
    candidates = [fast_softmax(), *(slowed_softmax(n) for n in (50, 100)), make_candidate()]
    assert len({candidate.digest for candidate in candidates}) == len(candidates)
    assert fast_softmax().digest == fast_softmax().digest


@pytest.mark.parametrize(("rows", "columns"), [(64, 1024), (1, 7)])
def test_the_lean_target_is_the_shipped_one_with_fewer_shapes(tmp_path, rows, columns):
    lean, full = load_target(str(lean_softmax(tmp_path, rows, columns))), shipped("softmax")
    assert [(w.name, w.axes) for w in lean.public] == [("only", {"B": rows, "N": columns})]
    assert lean.hidden == full.hidden[:3]
    assert lean.problem == full.problem
    assert lean.baselines == full.baselines


def test_a_trial_is_a_claim_against_whom_it_says():
    settings, target = load_settings(), shipped("softmax")
    against_baseline = trial(target, fast_softmax(), None, settings)
    assert against_baseline.against == target.baselines[0]
    assert against_baseline.plan == settings.bench.claim
    against_itself = trial(target, fast_softmax(), fast_softmax(), settings)
    assert against_itself.against.candidate == against_itself.candidate
    assert not against_itself.against.is_trusted
