"""Whole runs for a GPU: the same loop, its own timing plans, and the best baseline as the bar."""

import pytest

from gpu_runner.candidate import Language
from gpu_runner.jobs import Bench
from gpu_runner.records import Environment
from graph.events import RunStarted
from graph.ledger import ExitReason
from graph.target import Goal, Hardware, Scope, Target
from tests.graph.builders import make_baseline, make_environment, make_target
from tests.graph.nodes.workshop import Workshop
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam
from tests.graph.test_loop import NEVER, budget


class GpuPool(ScenarioPool):
    """A pool whose worker is a machine with a GPU."""

    async def environment(self) -> Environment:
        return make_environment(
            machine="a large GPU", arch="sm_90a", compiler="nvrtc 13.0, triton 3.6"
        )


def gpu_target(**changes) -> Target:
    return make_target(
        **{
            "hardware": Hardware(device="cuda"),
            "goal": Goal(speedup=1.1, against="best"),
            "scope": Scope(languages=(Language.CPP,), lanes=1),
            "budget": budget(rounds=2),
            **changes,
        }
    )


async def test_a_gpu_run_is_timed_by_the_plans_of_a_gpu(run_loop, settings):
    ran = await run_loop(TableTeam(plan=NEVER), GpuPool(), gpu_target())
    plans = {job.job_id: job.plan for job in ran.pool.ran if isinstance(job, Bench)}
    assert plans
    allowed = {settings.bench.cuda.claim.token_us, settings.bench.cuda.feedback.token_us}
    assert {plan.token_us for plan in plans.values()} <= allowed
    assert {plan.width for plan in plans.values()} == {settings.bench.cuda.claim.width}


async def test_the_log_and_the_manifest_say_the_device(run_loop):
    ran = await run_loop(TableTeam(plan=NEVER), GpuPool(), gpu_target())
    started = [event for event in ran.heard if isinstance(event, RunStarted)]
    assert [event.device for event in started] == ["cuda"]
    manifest = ran.files.read_manifest()
    assert manifest.target.hardware.device == "cuda"
    assert manifest.environment.arch == "sm_90a"


@pytest.mark.parametrize(
    ("kernel_us", "fused_us", "is_met"), [(60, 90, True), (60, 62, False), (60, 55, False)]
)
async def test_the_strongest_baseline_decides_the_goal(run_loop, kernel_us, fused_us, is_met):
    target = gpu_target(
        baselines=(make_baseline(), make_baseline("fused", fused_us)),
    )
    team = TableTeam({"1.0": f"us={kernel_us}"}, plan=NEVER)
    ran = await run_loop(team, GpuPool(), target)
    assert ran.outcomes()["a0001"] == "promoted", "the first baseline is what a promotion is over"
    assert {claim.against for claim in ran.result.best} == {"torch eager", "fused"}
    assert (ran.result.exit_reason is ExitReason.GOAL_MET) is is_met


# -- what is kept for the end --------------------------------------------------------------------


@pytest.mark.parametrize(("device", "further"), [("cpu", 0), ("cuda", 2)])
def test_time_is_kept_for_baselines_that_compile_on_a_gpu(tmp_path, device, further):
    names = ("torch eager", "torch compile", "torch compile max-autotune")
    workshop = Workshop(
        tmp_path,
        target=make_target(
            hardware=Hardware(device=device),
            baselines=tuple(make_baseline(name) for name in names),
        ),
    )
    loop = workshop.services.loop
    kept_s = workshop.services.final_s(workshop.state())
    assert kept_s == loop.claim_expected_s + further * loop.compile_expected_s
