"""Admit, check and bench on a device, as a worker's child runs them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_runner.candidate import Candidate, Contender, Language, Launch, LaunchPlan, Source, Value
from gpu_runner.decision import decide
from gpu_runner.device.machine import identities
from gpu_runner.device.nursery import zygote
from gpu_runner.jobs import Admit, Admitted, Bench, Benched, Check, Checked, Reason, Rejected
from gpu_runner.records import TimingPlan, Verdict
from gpu_runner.tasks.execute import execute
from graph.targets import load_target

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.processes,
    pytest.mark.skipif(not identities(), reason="no CUDA device"),
]

TARGET = load_target("softmax", "cuda")
FEEDBACK = TimingPlan(pairs=20, most_pairs=40, most_s=0.5, warmup_s=0.1, width=0.02)
ROWS = r"""
#include "problem.h"

STATE

extern "C" __global__ void rows(const kp_bf16* x, kp_bf16* y, int n) {
  const kp_bf16* in = x + static_cast<int64_t>(blockIdx.x) * n;
  kp_bf16* out = y + static_cast<int64_t>(blockIdx.x) * n;
  __shared__ float part[8];
  float top = __int_as_float(0xff800000);
  for (int i = threadIdx.x; i < n; i += 256) top = fmaxf(top, kp_bf16_to_float(in[i]));
  for (int s = 16; s; s >>= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, s));
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = top;
  __syncthreads();
  top = part[0];
  for (int i = 1; i < 8; ++i) top = fmaxf(top, part[i]);
  __syncthreads();
  float sum = 0;
  for (int i = threadIdx.x; i < n; i += 256) sum += expf(kp_bf16_to_float(in[i]) - top);
  for (int s = 16; s; s >>= 1) sum += __shfl_xor_sync(~0u, sum, s);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < 8; ++i) sum += part[i];
  for (int i = threadIdx.x; i < n BEYOND; i += 256)
    out[i] = kp_float_to_bf16(expf(kp_bf16_to_float(in[i]) - top) / sum);
  AFTER
}
"""


def softmax(*, beyond="", after="", state="") -> Candidate:
    """Return a plain softmax, right unless something is added to it."""
    text = ROWS.replace("BEYOND", beyond).replace("AFTER", after).replace("STATE", state)
    launch = Launch(
        kernel="rows",
        grid=("B", "1", "1"),
        block=("256", "1", "1"),
        arguments=("x", "y", Value(value="N", type="i32")),
    )
    return Candidate(
        language=Language.CUDA,
        sources=(Source(path="kernel.cu", text=text),),
        plans=(LaunchPlan(launches=(launch,)),),
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("device")
    with zygote(folder):
        yield folder


def checked(candidate, workspace):
    job = Check(
        job_id="c",
        problem=TARGET.problem,
        candidate=candidate,
        workloads=TARGET.workloads,
    )
    return execute(job, workspace=workspace)


def benched(candidate, against, workspace, **changes):
    values = {
        "job_id": "b",
        "problem": TARGET.problem,
        "candidate": candidate,
        "against": against,
        "workloads": TARGET.public,
        "hidden": TARGET.hidden,
        "plan": FEEDBACK,
        "timeout_s": 300,
    }
    outcome = execute(Bench(**{**values, **changes}), workspace=workspace)
    assert isinstance(outcome, Benched), outcome
    return outcome.record


def test_a_right_kernel_is_right_on_every_case(workspace):
    outcome = checked(softmax(), workspace)
    assert isinstance(outcome, Checked), outcome
    assert outcome.cases > 100
    assert 0 < outcome.worst_error < 1
    assert outcome.rms_ratio < TARGET.problem.tolerance.rms_factor


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"beyond": "+ 8"}, {Reason.GUARD_OVERWRITTEN, Reason.CRASHED}),
        ({"beyond": "- 1"}, {Reason.OUTPUT_NOT_WRITTEN, Reason.WRONG_RESULT}),
        ({"after": "const_cast<kp_bf16*>(in)[0] = out[0];"}, {Reason.CRASHED}),
        ({"after": "if (n == 8192 && threadIdx.x == 0) out[7] = out[8];"}, {Reason.WRONG_RESULT}),
        ({"after": "while (blockIdx.x == 0) __nanosleep(100);"}, {Reason.TIMED_OUT}),
        (
            {
                "state": "__device__ int calls;",
                "after": "if (atomicAdd(&calls, 1) == 0) out[0] = kp_float_to_bf16(2.0f);",
            },
            {Reason.WRONG_RESULT},
        ),
    ],
    ids=["writes beyond", "leaves one out", "writes an input", "wrong", "spins", "keeps state"],
)
def test_a_kernel_that_does_wrong_is_told_how_and_the_next_one_is_served(
    changes, reasons, workspace
):
    outcome = checked(softmax(**changes), workspace)
    assert isinstance(outcome, Rejected), outcome
    assert outcome.reason in reasons
    assert isinstance(checked(softmax(), workspace), Checked)


def test_identical_code_is_the_same(workspace):
    other = Contender(name="same", candidate=softmax())
    decision = decide(benched(softmax(), (other,), workspace), "same", basis="feedback")
    assert decision.overall.verdict is Verdict.SAME
    assert decision.overall.speedup == pytest.approx(1.0, abs=0.01)


def test_a_record_says_what_was_verified_and_on_what(workspace):
    record = benched(softmax(), TARGET.baselines[:1], workspace, workloads=TARGET.public[:2])
    assert record.environment.arch.startswith("sm_")
    (sitting,) = record.sittings
    tokens = sum(len(series.candidate_us) * series.slots for series in sitting.series)
    assert sitting.verified_outputs > tokens
    assert all(us > 0 for series in sitting.series for us in series.against_us)


def test_a_shipped_target_is_admitted_by_its_baseline_on_the_device(workspace):
    job = Admit(
        job_id="a",
        problem=TARGET.problem,
        workloads=TARGET.workloads,
        baselines=TARGET.baselines[:1],
        device="cuda",
        timeout_s=300,
    )
    outcome = execute(job, workspace=workspace)
    assert isinstance(outcome, Admitted), outcome
    assert outcome.margins[TARGET.baselines[0].name] > 1
