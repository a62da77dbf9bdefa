"""Evidence before a lineage, and again when the run pivots or the review asks for it."""

import asyncio

from langgraph.runtime import Runtime

from agents.contexts import ResearchContext
from agents.errors import NothingFits
from agents.replies import Digest, Research
from graph.errors import OutOfTime
from graph.ledger import ExitReason
from graph.library import ROUTES
from graph.nodes.common import plan_in_force
from graph.services import Services
from graph.state import RunState, Update


async def research(state: RunState, runtime: Runtime[Services]) -> Update:
    """Ask the researcher, with the last digest's question."""
    services = runtime.context
    key = f"r{state['round']:03}"
    async with services.stage("research", state):
        digest = services.files.reply(Digest, state["digest"]) if state["digest"] else None
        query = " ".join(
            part for part in (state["why_again"], digest.query if digest else "") if part
        )
        found = await asyncio.to_thread(
            services.library.evidence,
            query.strip() or _first_question(services),
            services.files.root / ROUTES,
        )
        told = f"{len(found.passages)} passages" if found.passages else "none"
        services.decide("evidence", told, "; ".join(found.searched), at=key)
        context = ResearchContext(
            view=services.view(state),
            plan=plan_in_force(services, state),
            query=query,
            evidence=found.passages,
            searched=found.searched,
        )
        try:
            await services.ask(Research, key, services.team.research(context), state)
        except NothingFits as error:
            return Update(exit_reason=ExitReason.INFEASIBLE.value, exit_message=str(error))
        except OutOfTime as error:
            return Update(exit_reason=ExitReason(error.budget).value, exit_message=str(error))
        return Update(research=key, why_again="")


def _first_question(services: Services) -> str:
    """Return what to ask before anything was measured: the operation and where it is to run."""
    target = services.target
    return f"{target.name.replace('_', ' ')} kernel {services.manifest.environment.arch}"
