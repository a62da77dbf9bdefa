"""May the target be run at all? Asked once, before anything is planned."""

from langgraph.runtime import Runtime

from gpu_runner.jobs import Admit, Admitted, Unfit
from graph.ledger import ExitReason
from graph.services import Services
from graph.state import RunState, Update


async def admit(state: RunState, runtime: Runtime[Services]) -> Update:
    """Have the target's reference, tolerance, workloads and baselines tried by a runner."""
    services = runtime.context
    target = services.target
    async with services.stage("admit", state):
        job = Admit(
            job_id=services.job_id("admit"),
            problem=target.problem,
            timeout_s=services.jobs.admit_s,
            workloads=target.workloads,
            baselines=target.baselines,
            threads=target.hardware.threads,
            device=target.hardware.device,
        )
        outcome = await services.run(job, state, phase="final")
        if isinstance(outcome, Admitted):
            tightest = min(outcome.margins.values(), default=0.0)
            reason = (
                f"{len(outcome.margins)} trusted implementations are within the bounds (tightest "
                f"margin {tightest:.1f}x), {len(outcome.caught)} planted wrong ones were refused"
            )
            services.decide(
                "admission", "admitted", reason, at="target", evidence=(outcome.job_id,)
            )
            return Update()
        is_unfit = isinstance(outcome, Unfit)
        message = getattr(outcome, "message", f"unexpected outcome {outcome.kind}")
        if is_unfit:
            services.decide(
                "admission", "refused", message, at="target", evidence=(outcome.job_id,)
            )
        reason_ = ExitReason.UNFIT_TARGET if is_unfit else ExitReason.ERROR
        return Update(exit_reason=reason_.value, exit_message=message)
