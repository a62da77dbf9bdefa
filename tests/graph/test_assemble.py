"""The graph as it is assembled."""

import pytest

from graph.assemble import assemble, recursion_limit
from graph.target import Budget
from tests.graph.builders import make_target
from tests.graph.pool import ScenarioPool
from tests.graph.teams import MALFORMED, TableTeam

EDGES = {
    ("__start__", "admit"),
    ("admit", "plan"),
    ("admit", "finish"),
    ("plan", "research"),
    ("plan", "inspect"),
    ("plan", "finish"),
    ("research", "write"),
    ("research", "inspect"),
    ("research", "finish"),
    ("write", "build"),
    ("build", "write"),
    ("build", "check"),
    ("build", "review"),
    ("check", "bench"),
    ("check", "review"),
    ("bench", "claim"),
    ("bench", "profile"),
    ("claim", "profile"),
    ("profile", "review"),
    ("review", "write"),
    ("review", "research"),
    ("review", "plan"),
    ("review", "inspect"),
    ("inspect", "write"),
    ("inspect", "autotune"),
    ("build", "finalize"),
    ("check", "finalize"),
    ("finalize", "inspect"),
    ("review", "finish"),
    ("autotune", "finish"),
    ("finish", "__end__"),
}


def test_the_drawn_graph_has_exactly_the_transitions_that_are_allowed():
    drawn = assemble(None, lanes=2, repairs=1, retries=1).get_graph()
    assert {(edge.source, edge.target) for edge in drawn.edges} == EDGES


def test_there_is_no_module_level_graph():
    first = assemble(None, lanes=2, repairs=1, retries=1)
    assert first is not assemble(None, lanes=2, repairs=1, retries=1)


@pytest.mark.parametrize(("rounds", "repairs"), [(1, 0), (84, 2), (1000, 5)])
def test_the_limit_grows_with_the_budget(rounds, repairs):
    limit = recursion_limit(Budget(rounds=rounds), repairs)
    assert limit >= rounds * (9 + 2 * repairs)
    assert limit < rounds * (9 + 2 * repairs) + 100


async def test_a_run_of_repairs_in_every_round_stays_within_the_limit(run_loop):
    drafts = {
        f"{r}.{lane}{x}": MALFORMED for r in range(9) for lane in (0, 1) for x in ("", ".repair")
    }
    target = make_target(budget=Budget(rounds=6, stalled_reviews=9))
    ran = await run_loop(TableTeam(drafts), ScenarioPool(), target)
    assert ran.result.exit_reason == "budget_rounds"
