"""What several nodes need."""

from agents.replies import Plan
from gpu_runner.jobs import AnyJob, AnyOutcome
from graph.errors import LoopError
from graph.services import Services
from graph.state import RunState


def plan_in_force(services: Services, state: RunState) -> Plan:
    """Return the plan that the state names."""
    plan = services.files.reply(Plan, state["plan"])
    if plan is None:
        raise LoopError(f"the plan {state['plan']!r} is missing from {services.files.root}")
    return plan


def unexpected(job: AnyJob, outcome: AnyOutcome) -> LoopError:
    """Return the error for an outcome that is no answer to its job."""
    return LoopError(
        f"job {outcome.job_id} ({job.kind}) ended as {outcome.kind!r}; the runner speaks another "
        "version of this protocol: update it"
    )
