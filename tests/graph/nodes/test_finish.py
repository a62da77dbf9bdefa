"""The end of a run: fresh claims, and how they decide what it says of itself."""

import pytest

from gpu_runner.jobs import AnyJob, AnyOutcome, Build, Built, BuiltFile, Unserved
from graph.ledger import AttemptOutcome, ExitReason, Regime, Tuning
from graph.nodes.finish import finish
from graph.target import Budget, Goal
from tests.graph.builders import make_attempt, make_record, make_target
from tests.graph.device_run import cuda_softmax
from tests.graph.pool import ScenarioPool
from tests.graph.report.page import Page

ENDED = {"exit_reason": "plan_complete", "exit_message": "every criterion is met", "round": 3}


async def finished(workshop, **changes):
    update = await finish(workshop.state(**{**ENDED, **changes}), workshop.runtime)
    result = workshop.files.result()
    assert result is not None
    assert update == {
        "is_done": True,
        "exit_reason": result.exit_reason.value,
        "exit_message": result.message,
    }
    return result


async def test_the_kernel_is_measured_afresh_against_every_baseline(workshop):
    workshop.promoted(1, "us=50")
    result = await finished(workshop, incumbent="a0001")
    assert [claim.against for claim in result.best] == ["torch eager", "torch compile"]
    assert [job.job_id[-10:] for job in workshop.benches()] == ["final-0-t0", "final-1-t0"]
    assert [[w.name for w in job.hidden] for job in workshop.benches()] == [["odd"], []]
    assert all(job.plan.sittings >= 5 for job in workshop.benches())
    assert (result.best_attempt, result.rounds, result.attempts) == ("a0001", 2, 1)


async def test_what_the_final_claims_say_is_a_decision_with_its_records(workshop):
    workshop.promoted(1, "us=50")
    result = await finished(workshop, incumbent="a0001")
    (decision,) = workshop.decisions("final")
    assert decision.choice == "a0001"
    assert decision.evidence == tuple(claim.record_id for claim in result.best)
    assert decision.reason.startswith("FASTER than torch eager: 2.0")
    assert all(workshop.files.record(name) for name in decision.evidence)


async def test_without_a_kernel_nothing_is_measured(workshop):
    result = await finished(workshop, exit_reason="plateau", exit_message="nothing was faster")
    assert workshop.ran() == []
    assert (result.best_attempt, result.best, result.repository) == (None, (), "")
    assert result.exit_reason is ExitReason.PLATEAU
    assert "Nothing was faster." in Page((workshop.files.root / "report.html").read_text()).text


@pytest.mark.parametrize(
    ("us", "kind", "stopped", "expected", "words"),
    [
        (50, "trend", "plan_complete", "goal_met", "the goal is met; the search ended because"),
        (50, "hard", "budget_rounds", "goal_met", "the goal is met; the search ended because"),
        (50, "trend", "goal_met", "goal_met", "every criterion is met"),
        (99, "trend", "goal_met", "plan_complete", "does not confirm the goal of 1.5x"),
        (99, "hard", "goal_met", "plateau", "does not confirm the goal of 1.5x"),
        (99, "trend", "budget_wall", "budget_wall", "every criterion is met"),
    ],
)
async def test_the_fresh_claim_decides_whether_the_goal_is_met(
    make_workshop, us, kind, stopped, expected, words
):
    workshop = make_workshop(target=make_target(goal=Goal(speedup=1.5, kind=kind)))
    workshop.promoted(1, f"us={us}", 3.0)
    result = await finished(workshop, incumbent="a0001", exit_reason=stopped)
    assert result.exit_reason.value == expected
    assert words in result.message


async def test_a_baseline_that_cannot_be_measured_is_said_and_costs_no_other_claim(workshop):
    workshop.promoted(1, "us=50")
    workshop.files.save_outcome(
        Unserved(
            job_id="softmax-test-final-1-t0",
            cause="runner_lost",
            message="the worker was lost",
            is_retryable=False,
        )
    )
    result = await finished(workshop, incumbent="a0001")
    assert [claim.against for claim in result.best] == ["torch eager"]
    assert "no final claim against torch compile: the worker was lost" in result.message
    assert [d.choice for d in workshop.decisions("final")] == ["none", "a0001"]


async def test_a_run_out_of_time_ends_without_a_claim_and_says_so(make_workshop):
    workshop = make_workshop(target=make_target(budget=Budget(rounds=3, wall_s=60)))
    workshop.promoted(1, "us=50")
    workshop.clock.now_s = 59.0
    result = await finished(workshop, incumbent="a0001", exit_reason="budget_wall")
    assert workshop.ran() == []
    assert result.best == ()
    assert result.best_attempt == "a0001"
    assert result.exit_reason is ExitReason.BUDGET_WALL
    assert result.message.count("the budget leaves no time for this job") == 2


async def test_an_end_that_is_made_again_says_the_same(workshop):
    workshop.promoted(1, "us=50")
    first = await finished(workshop, incumbent="a0001")
    measured = len(workshop.ran())
    again = await finished(workshop, incumbent="a0001")
    assert len(workshop.ran()) == measured
    assert (again.best, again.message) == (first.best, first.message)


CUBIN = b"\x7fELF of a kernel"


class DevicePool(ScenarioPool):
    """Hands device code over, as a runner with a GPU does."""

    async def run(self, job: AnyJob) -> AnyOutcome:
        outcome = await super().run(job)
        if isinstance(job, Build) and job.returns_files and isinstance(outcome, Built):
            files = (BuiltFile.of("kernel.cubin", CUBIN), BuiltFile.of("kernels.json", b"{}"))
            return outcome.model_copy(update={"files": files})
        return outcome


def with_a_cuda_kernel(workshop):
    """Promote one kernel in CUDA C++ beside one in C++; the former serves everything."""
    workshop.promoted(1, "us=50", claims=())
    digest = workshop.files.save_candidate(cuda_softmax("// us=40\nx"))
    workshop.files.append_attempt(
        make_attempt(
            2,
            version="v002",
            language="cuda",
            candidate_digest=digest,
            outcome=AttemptOutcome.PROMOTED,
        )
    )
    record = workshop.files.save_record(make_record(40.0, {"torch eager": 100.0}))
    regime = Regime(
        guard="1", attempt_id="a0002", workloads=("small",), record_ids=(record,), reason="best"
    )
    workshop.files.save_tuning(
        Tuning(points=(), regimes=(regime,), is_trivial=True, reason="v002 is best")
    )
    return workshop


def builds(workshop) -> list[Build]:
    return [job for job in workshop.ran() if isinstance(job, Build)]


async def test_device_code_of_promoted_kernels_gets_into_the_repository(make_workshop):
    workshop = with_a_cuda_kernel(make_workshop(pool=DevicePool()))
    result = await finished(workshop, incumbent="a0002")
    assert [(job.job_id, job.returns_files) for job in builds(workshop)] == [
        ("softmax-test-ship-a0002-t0", True)
    ]
    kernels = workshop.files.root / "repo" / "src" / "softmax" / "kernels"
    assert result.repository == str(workshop.files.root / "repo")
    assert (kernels / "v002" / "sm_90a" / "kernel.cubin").read_bytes() == CUBIN
    assert (kernels / "v001" / "kernel.cpp").is_file()
    assert workshop.decisions("ship") == []


async def test_device_code_is_asked_for_before_the_claims_and_once(make_workshop):
    workshop = with_a_cuda_kernel(make_workshop(pool=DevicePool()))
    await finished(workshop, incumbent="a0002")
    assert [job.kind for job in workshop.ran()] == ["build", "bench", "bench"]
    await finished(workshop, incumbent="a0002")
    assert len(builds(workshop)) == 1


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (
            Unserved(
                job_id="softmax-test-ship-a0002-t0",
                cause="no_tool",
                message="nvcc is missing",
                is_retryable=False,
            ),
            "nvcc is missing",
        ),
        (
            Built(
                job_id="softmax-test-ship-a0002-t0",
                artefact_digest="0" * 64,
                compiler="nvrtc 13.0",
                seconds=0.1,
                is_cached=True,
                files_withheld="the device code has 9000000 bytes",
            ),
            "the device code has 9000000 bytes",
        ),
    ],
)
async def test_a_kernel_whose_device_code_is_not_handed_over_is_shipped_as_sources(
    workshop, outcome, why
):
    with_a_cuda_kernel(workshop).files.save_outcome(outcome)
    await finished(workshop, incumbent="a0002")
    kernels = workshop.files.root / "repo" / "src" / "softmax" / "kernels"
    assert (kernels / "v002" / "kernel.cu").is_file()
    assert not list(kernels.rglob("*.cubin"))
    (decision,) = workshop.decisions("ship")
    assert decision.choice == "sources only"
    assert decision.reason.endswith(f"to be compiled where it is used: {why}")


async def test_kernels_for_a_processor_are_not_built_again(workshop):
    workshop.promoted(1, "us=50")
    await finished(workshop, incumbent="a0001")
    assert builds(workshop) == []
