"""Budgets are hard within a question too: a model that needs repairs overshoots by one reply."""

import pytest

from graph.events import Replied
from graph.ledger import ExitReason
from tests.agents.model_server import ModelServer, Say, model_server
from tests.graph.builders import make_target
from tests.graph.model_run import Roles, make_models, role_of
from tests.graph.test_loop import NEVER, budget

REPLY = 500
"""Tokens of one reply here, prompt and answer together."""


@pytest.fixture(scope="module")
def running():
    with model_server() as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.forget()
    return running


def priced(roles: Roles):
    """The same answers, each of a known number of tokens."""

    def reply(request):
        return Say(text=roles(request).text, read=REPLY - 7, written=7)

    return reply


def spent(ran) -> tuple[int, float]:
    events = [event for event in ran.files.events.read() if isinstance(event, Replied)]
    return sum(event.tokens for event in events), sum(event.usd for event in events)


@pytest.mark.parametrize(("silent", "replies"), [("planner", 1), ("writer", 3), ("reviewer", 7)])
async def test_a_question_with_repairs_overshoots_tokens_by_one_reply(
    server, run_loop, silent, replies
):
    roles = Roles(
        **{"planner": lambda _: NEVER.model_dump_json(), silent: lambda _: "let us talk about it"}
    )
    server.reply = priced(roles)
    tokens = replies * REPLY - 1
    target = make_target(budget=budget(rounds=9, tokens=tokens))
    ran = await run_loop(make_models(server, repairs=8), target=target)
    assert ran.result.exit_reason is ExitReason.BUDGET_TOKENS
    assert spent(ran)[0] == ran.result.tokens <= tokens + REPLY
    assert len(server.requests) * REPLY == ran.result.tokens, "nothing was asked off the books"
    assert any(role_of(request) == silent for request in server.requests)


@pytest.mark.long
async def test_money_ends_a_question_as_tokens_do(server, run_loop):
    server.reply = priced(Roles(planner=lambda _: "let us talk about it"))
    price = REPLY * 1e-6
    target = make_target(budget=budget(rounds=9, usd=2.5 * price))
    team = make_models(server, repairs=8, output_usd_per_million=1.0)
    ran = await run_loop(team, target=target)
    assert ran.result.exit_reason is ExitReason.BUDGET_USD
    assert spent(ran)[1] == pytest.approx(3 * price)
    assert len(server.requests) == 3


@pytest.mark.long
async def test_a_question_without_a_budget_has_all_its_repairs(server, run_loop):
    server.reply = priced(Roles(planner=lambda _: "let us talk about it"))
    ran = await run_loop(make_models(server, repairs=4))
    assert ran.result.exit_reason is ExitReason.ERROR
    assert len(server.requests) == 5
