"""Task-acceptance pairs, strategy and language; asked again when the rules say replan."""

from langgraph.runtime import Runtime

from agents.contexts import PlanContext
from agents.errors import NothingFits
from agents.replies import OpenQuestion, Plan
from graph.errors import OutOfTime
from graph.ledger import ExitReason
from graph.services import Services
from graph.state import RunState, Update
from graph.tracker import KEPT, kept


async def plan(state: RunState, runtime: Runtime[Services]) -> Update:
    """Ask the planner; where nothing fits the problem the run is infeasible."""
    services = runtime.context
    key = f"r{state['round']:03}"
    async with services.stage("plan", state):
        previous = services.files.reply(Plan, state["plan"]) if state["plan"] else None
        view = services.view(state)
        if not view.languages:
            return _infeasible(
                f"none of the languages in scope ({', '.join(services.target.scope.languages)}) "
                "has a toolchain on the runner; `kernelpilot doctor` says what to install"
            )
        context = PlanContext(view=view, previous=previous, why_again=state["why_again"])
        try:
            made = await services.ask(Plan, key, services.team.plan(context), state)
        except NothingFits as error:
            return _infeasible(str(error))
        except OutOfTime as error:
            return Update(exit_reason=ExitReason(error.budget).value, exit_message=str(error))
        key, made = _kept(services, key, made)
        services.decide(
            "plan", made.language.value, f"{made.reason}; {made.language_reason}", at=key
        )
        for number, asked in enumerate(made.open_questions, start=1):
            services.decide(
                "question",
                asked.default,
                headless(asked, services.manifest.run_id),
                at=f"{key}.{number}",
            )
        return Update(plan=key)


def headless(asked: OpenQuestion, run_id: str) -> str:
    """Return what stands in the log about a question that nobody is there to answer."""
    options = " or ".join(asked.options)
    return (
        f"{asked.question} ({options}): nobody is asked during a run, so the planner's default "
        f"holds: {asked.reason}; `kernelpilot hint {run_id} ...` says otherwise"
    )


def _kept(services: Services, key: str, made: Plan) -> tuple[str, Plan]:
    """Return a plan with the first one's criteria, under a key of its own where that changes it."""
    first = next(iter(services.files.replies(Plan).values()))
    plan, changes = kept(first, made)
    if not changes:
        return key, made
    services.decide("criteria", "kept", "; ".join(changes), at=key)
    services.files.save_reply(f"{key}{KEPT}", plan)
    return f"{key}{KEPT}", plan


def _infeasible(message: str) -> Update:
    return Update(exit_reason=ExitReason.INFEASIBLE.value, exit_message=message)
