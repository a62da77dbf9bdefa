import pytest

from gpu_runner.candidate import Language
from gpu_runner.errors import SubjectFailed
from gpu_runner.jobs import Reason, Sanitize, Sanitized
from gpu_runner.tasks.sanitize import finding, sanitize, small
from tests.builders import SOFTMAX_CPP, make_candidate, make_problem, make_workload

BEGIN = '#include "problem.h"\nextern "C" int kp_run(const struct softmax_args* a) {\n'
COPY = "  for (int64_t i = 0; i < a->B * a->N; ++i) a->y[i] = a->x[i];\n"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("workspace")


def run(workspace, text="", *, workloads=None, **changes):
    job = Sanitize(
        job_id="r-1-sanitize",
        problem=make_problem(),
        candidate=make_candidate(text=text, **changes),
        workloads=workloads or (make_workload(),),
    )
    return sanitize(job, workspace=workspace)


def test_right_kernel_is_clean(workspace):
    outcome = run(workspace, SOFTMAX_CPP)
    assert isinstance(outcome, Sanitized)
    assert outcome.tools == ("AddressSanitizer", "UndefinedBehaviorSanitizer")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (COPY.replace("< a->B", "<= a->B"), "heap-buffer-overflow"),
        (COPY + "  a->y[0] += a->x[-1];\n", "heap-buffer-overflow"),
        (COPY + "  a->y[a->B * a->N + 2] = 0;\n", "heap-buffer-overflow"),
        (COPY + "  float* p = new float[4]; delete[] p; a->y[0] = p[1];\n", "use-after-free"),
        (COPY + "  float t[8]; a->y[0] = t[a->N - 120];\n", "index 8 out of bounds"),
        (COPY + "  int m = 2147483647; a->y[0] = m + (int)a->B;\n", "signed integer overflow"),
        (COPY + "  a->y[0] = 1 << (a->N - 90);\n", "shift exponent 38"),
        (COPY + "  a->y[0] = (int)a->N / (int)(a->B - 8);\n", "division by zero"),
    ],
)
def test_fault_is_found_and_located(workspace, body, said):
    with pytest.raises(SubjectFailed) as failure:
        run(workspace, f"{BEGIN}{body}  return 0;\n}}\n")
    assert failure.value.reason is Reason.SANITIZER_FINDING
    assert said in failure.value.message
    assert "kernel.cpp:" in failure.value.message
    assert "workload 'small'" in failure.value.message


def test_fault_of_a_hidden_shape_tells_its_category_only(workspace):
    body = COPY.replace("< a->B", "<= a->B")
    hidden = make_workload(name="odd", axes={"B": 3, "N": 31}, visibility="hidden")
    with pytest.raises(SubjectFailed) as failure:
        run(workspace, f"{BEGIN}{body}  return 0;\n}}\n", workloads=(hidden,))
    assert "hidden shape" in failure.value.message
    assert "odd" not in failure.value.message
    assert failure.value.log_tail == ""


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("return 1;", Reason.ENTRY_FAILED),
        ("__builtin_trap();", Reason.CRASHED),
    ],
)
def test_other_failures_keep_their_own_reason(workspace, end, reason):
    with pytest.raises(SubjectFailed) as failure:
        run(workspace, f"{BEGIN}{COPY}  {end}\n}}\n")
    assert failure.value.reason is reason


def test_candidate_that_does_not_compile_is_refused(workspace):
    with pytest.raises(SubjectFailed) as failure:
        run(workspace, "int x = ;\n")
    assert failure.value.reason is Reason.COMPILE_FAILED
    assert str(workspace) not in failure.value.log_tail


def test_flags_are_checked_here_too(workspace):
    with pytest.raises(SubjectFailed) as failure:
        run(workspace, SOFTMAX_CPP, flags=("-fplugin=x",))
    assert failure.value.reason is Reason.FLAG_NOT_ALLOWED


def test_python_has_no_tool(workspace):
    outcome = run(workspace, language=Language.PYTHON)
    assert (outcome.kind, outcome.cause) == ("unserved", "no_tool")


def test_smallest_workloads_are_chosen():
    sizes = (4096, 7, 1 << 14, 64, 33, 128)
    loads = [make_workload(name=f"n{n}", axes={"B": n, "N": n}) for n in sizes]
    assert [w.name for w in small(make_problem(), loads)] == ["n7", "n33", "n64", "n128"]
    assert [w.name for w in small(make_problem(), loads[:1])] == ["n4096"]


def test_silence_is_no_finding():
    assert finding("") is None
    assert finding("kernel.cpp:3: warning: unused\n") is None


def test_finding_names_tool_and_place():
    undefined = "kernel.cpp:7:12: runtime error: shift exponent 33 is too large\n    #0 0x1 in f\n"
    assert finding(undefined) == (
        "UndefinedBehaviorSanitizer: shift exponent 33 is too large at kernel.cpp:7"
    )
    assert finding("==2==ERROR: AddressSanitizer: SEGV on unknown address\n") == (
        "AddressSanitizer: SEGV"
    )
