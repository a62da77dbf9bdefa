from pathlib import Path

import pytest

from gpu_runner.candidate import Candidate, Language
from gpu_runner.errors import SubjectFailed
from gpu_runner.jobs import Check, Checked, Reason
from gpu_runner.problem import Problem, ProfileName, Workload
from gpu_runner.tasks.check import check
from tests.builders import SOFTMAX_CPP, make_candidate, make_problem, make_workload
from tests.gpu_runner.nursing import shared

PROFILES = (ProfileName.NORMAL, ProfileName.LARGE, ProfileName.ONE_HOT)
WORKLOADS = (
    make_workload(),
    make_workload(name="rows", axes={"B": 64, "N": 256}),
    make_workload(name="odd", axes={"B": 3, "N": 33}, visibility="hidden"),
    make_workload(name="single", axes={"B": 1, "N": 1}, visibility="hidden"),
)
STALE = SOFTMAX_CPP.replace(
    'extern "C" int kp_run(const struct softmax_args* a) {',
    """#include <vector>
static std::vector<float> kept;
extern "C" int kp_run(const struct softmax_args* a) {
    if (a->N == 256 && !kept.empty()) {
        for (int64_t n = 0; n < a->B * a->N; ++n) a->y[n] = kept[n];
        return 0;
    }""",
).replace(
    "    return 0;\n}\n",
    "    if (a->N == 256) kept.assign(a->y, a->y + a->B * a->N);\n    return 0;\n}\n",
)


def make_check(candidate: Candidate, **changes) -> Check:
    problem: Problem = make_problem(profiles=PROFILES)
    workloads: tuple[Workload, ...] = WORKLOADS
    values = {"job_id": "c", "problem": problem, "candidate": candidate, "workloads": workloads}
    return Check(**{**values, **changes})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, zygote: Path) -> Path:
    return shared(zygote, tmp_path_factory.mktemp("workspace"))


def refused(candidate: Candidate, workspace: Path, **changes) -> SubjectFailed:
    with pytest.raises(SubjectFailed) as caught:
        check(make_check(candidate, **changes), workspace=workspace)
    return caught.value


def test_a_right_kernel_passes_every_shape_profile_fence_and_repeat(workspace):
    checked = check(make_check(make_candidate()), workspace=workspace)
    assert isinstance(checked, Checked)
    # 2 public: 4 fresh and 4 near duplicates, 2 profiles; 2 hidden: both, 2 profiles; 2 x 4 fenced.
    assert checked.cases == 2 * (8 + 2) + 2 * (2 + 2) + 8
    assert 0.0 < checked.worst_error < 1.0
    assert 0.0 < checked.rms_ratio <= 3.0


def test_a_right_python_candidate_passes_without_the_library(workspace):
    candidate = make_candidate(language=Language.PYTHON)
    assert check(make_check(candidate), workspace=workspace).cases == 36


def test_the_library_under_another_name_is_a_library_call(workspace):
    text = "import torch\n\n\ndef run(x):\n    return getattr(torch, 'soft' + 'max')(x, -1)\n"
    failure = refused(make_candidate(language=Language.PYTHON, text=text), workspace)
    assert failure.reason is Reason.LIBRARY_CALL
    assert "aten::_softmax" in failure.message


def test_looking_whether_the_library_is_there_does_not_help(workspace):
    text = """
import torch

_is_there = bool(torch.softmax(torch.zeros(1, 2), -1).isfinite().all())


def run(x):
    if _is_there:
        return torch.softmax(x, -1)
    e = (x - x.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)
"""
    candidate = make_candidate(language=Language.PYTHON, text=text)
    # It is never there, so what is checked, and timed, is the candidate's own kernel.
    assert check(make_check(candidate), workspace=workspace).cases == 36


def test_a_kept_result_is_stale_or_wrong_and_never_right(workspace):
    failure = refused(make_candidate(text=STALE), workspace)
    assert failure.reason in {Reason.STALE_RESULT, Reason.WRONG_RESULT}


def test_a_wrong_public_result_shows_its_first_element(workspace):
    text = SOFTMAX_CPP.replace("y[n] / sum", "y[n] / (sum * 1.01)")
    failure = refused(make_candidate(text=text), workspace, workloads=WORKLOADS[:1])
    assert failure.reason in {Reason.WRONG_RESULT, Reason.STALE_RESULT}
    problem = make_problem(profiles=(ProfileName.NORMAL,))
    again = refused(make_candidate(text=text), workspace, problem=problem)
    assert again.reason in {Reason.WRONG_RESULT, Reason.STALE_RESULT}


def test_a_wrong_hidden_shape_shows_nothing_but_its_category(workspace):
    text = SOFTMAX_CPP.replace("return 0;", "if (a->N == 33) a->y[5] *= 1.5f;\n    return 0;")
    failure = refused(make_candidate(text=text), workspace)
    assert (failure.reason, failure.message) == (
        Reason.WRONG_RESULT,
        "hidden shape: the result is wrong",
    )


def test_two_answers_to_one_question_are_refused(workspace):
    text = SOFTMAX_CPP.replace(
        "return 0;",
        "static int turn; if (++turn % 2) a->y[0] = std::nextafter(a->y[0], 0.0f);\n    return 0;",
    )
    failure = refused(make_candidate(text=text), workspace)
    assert failure.reason is Reason.NOT_DETERMINISTIC


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a->y[a->B * a->N] = 0;", {Reason.GUARD_OVERWRITTEN, Reason.CRASHED}),
        ("a->y[-1] = 0;", {Reason.GUARD_OVERWRITTEN, Reason.CRASHED}),
        ("const_cast<float*>(a->x)[0] = 0;", {Reason.CRASHED}),
        ("volatile float sink = a->x[a->B * a->N]; (void)sink;", {Reason.CRASHED}),
        ("return 7;", {Reason.ENTRY_FAILED}),
        ("__builtin_trap();", {Reason.CRASHED}),
    ],
)
def test_a_kernel_stays_within_its_memory_and_returns(workspace, line, reason):
    text = SOFTMAX_CPP.replace("return 0;", f"{line}\n    return 0;")
    assert refused(make_candidate(text=text), workspace).reason in reason


def test_an_output_left_alone_is_not_taken_for_a_result(workspace):
    text = SOFTMAX_CPP.replace("++n) y[n] = static_cast", "++n) if (n != 7) y[n] = static_cast")
    text = text.replace("sum += y[n] = std::exp", "sum += std::exp").replace(
        "static_cast<float>(y[n] / sum)", "static_cast<float>(std::exp(x[n] - top) / sum)"
    )
    assert refused(make_candidate(text=text), workspace).reason is Reason.OUTPUT_NOT_WRITTEN


def test_a_noisy_kernel_is_imprecise_though_within_every_bound(workspace):
    problem = make_problem(profiles=(ProfileName.NORMAL,), reference=SOFT_BOUND, library_ops=())
    text = SOFTMAX_CPP.replace(
        "static_cast<float>(y[n] / sum)",
        "static_cast<float>(y[n] / sum) * (n % 2 ? 1.0001f : 0.9999f)",
    )
    failure = refused(make_candidate(text=text), workspace, problem=problem)
    assert failure.reason is Reason.IMPRECISE
    assert "times that of a plain implementation" in failure.message


SOFT_BOUND = """
import numpy as np


def run(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def bound(x, expected):
    return 1e-3 * expected + 1e-37
"""
