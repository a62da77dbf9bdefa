"""Whole runs with language models at the loopback server: cost, keys, slow servers, bad replies."""

import asyncio
import logging
from typing import Any

import pytest

from agents.errors import ModelUnavailable
from graph.events import Replied
from graph.ledger import ExitReason
from graph.settings import load_settings
from graph.wiring import model_team
from tests.agents.model_server import ModelServer, Say, model_server
from tests.graph.builders import make_target
from tests.graph.model_run import KEY, Roles, make_models, role_of
from tests.graph.test_loop import NEVER, budget


@pytest.fixture(scope="module")
def running():
    with model_server() as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.forget()
    running.reply = Roles()
    return running


def replied(ran) -> list[Replied]:
    return [event for event in ran.files.events.read() if isinstance(event, Replied)]


async def test_a_run_of_models_reaches_its_goal_and_says_what_each_answer_cost(server, run_loop):
    ran = await run_loop(make_models(server))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert {role_of(request) for request in server.requests} >= {
        "planner",
        "researcher",
        "writer",
        "reviewer",
    }
    events = replied(ran)
    assert all(event.calls == 1 and event.tokens == 18 for event in events)
    assert {event.attempt_id for event in events if event.role == "draft"} == {"a0001", "a0002"}
    assert all(event.round == 1 for event in events)
    assert sum(event.usd for event in events) == pytest.approx(11e-6 * len(events))
    judged = {r["model"] for r in server.requests if role_of(r) == "reviewer"}
    assert judged == {"judge"}


async def test_most_of_what_is_asked_began_an_earlier_prompt(server, run_loop):
    server.reply = Roles(planner=lambda _: NEVER.model_dump_json())
    target = make_target(budget=budget(rounds=3))
    ran = await run_loop(make_models(server), target=target)
    drafts = [event for event in replied(ran) if event.role == "draft"]
    later = drafts[2:]
    share = sum(e.repeated_tokens for e in later) / sum(e.input_tokens for e in later)
    assert share > 0.5


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_key_is_in_no_file_prompt_or_log(server, run_loop, provider, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    echoes = iter([Say(status=500, style="echo_key")] * 2)
    roles = Roles()
    server.reply = lambda request: next(echoes, None) or roles(request)
    changes: dict[str, Any] = {"retries": 3, "key_env": "OPENAI_API_KEY"}
    if provider == "anthropic":
        changes |= {"provider": "anthropic", "base_url": server.url}
    ran = await run_loop(make_models(server, **changes))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert KEY in str(server.headers), "the key was sent where it belongs"
    assert KEY not in str(server.requests)
    files = [path for path in ran.files.root.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path.name for path in files if KEY.encode() in path.read_bytes()] == []
    own = [r.getMessage() for r in caplog.records if r.name.startswith(("agents", "graph"))]
    assert any("(the key)" in text for text in own)
    assert not any(KEY in text for text in own)


async def test_a_key_that_is_refused_ends_the_run_without_being_told(server, run_loop):
    server.reply = lambda _: Say(status=401, style="echo_key")
    ran = await run_loop(make_models(server))
    assert ran.result.exit_reason is ExitReason.ERROR
    assert "(the key)" in ran.result.message
    assert not [
        p for p in ran.files.root.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()
    ]


async def test_a_server_that_answers_slowly_and_one_at_a_time_serves_two_lanes(server, run_loop):
    server.is_one_at_a_time = True
    roles = Roles()

    def slow(request):
        said = roles(request)
        return Say(text=said.text, silence_s=0.25)

    server.reply = slow
    # Two lanes in a queue would take longer than the silence that is allowed.
    ran = await run_loop(make_models(server, at_once=1, timeout_s=0.45))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert server.most_at_once == 1
    assert ran.outcomes() == {"a0001": "promoted", "a0002": "measured"}


async def test_any_slow_server_can_be_named_on_the_command_line(server, run_loop):
    """One model behind one address: it writes, rules review, and one lane waits for the other."""
    server.is_one_at_a_time = True
    roles = Roles()
    server.reply = lambda request: Say(text=roles(request).text, silence_s=0.3)
    settings = load_settings(
        (),
        [
            "models.default.provider=openai",
            f"models.default.base_url={server.url}/v1",
            "models.default.model=local",
            "models.default.at_once=1",
            "models.default.timeout_s=0.6",
            "models.default.retries=0",
        ],
    )
    ran = await run_loop(model_team(settings.models, environment={}), chosen=settings)
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert server.most_at_once == 1
    assert {request["model"] for request in server.requests} == {"local"}
    assert {role_of(request) for request in server.requests} == {"planner", "researcher", "writer",
                                                                 "profiler"}  # fmt: skip
    waited = [event.seconds for event in replied(ran) if event.role == "draft"]
    assert max(waited) > 0.55, "the second lane queues, and is not called silent"


async def test_a_quota_costs_time_and_no_round(server, run_loop):
    roles = Roles()
    refused: list[object] = []

    def limited(request):
        if role_of(request) == "writer" and len(refused) < 3:
            refused.append(request)
            return Say(status=429, headers={"Retry-After": "0"})
        return roles(request)

    server.reply = limited
    ran = await run_loop(make_models(server, retries=1))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert ran.result.rounds == 1
    drafts = [event for event in replied(ran) if event.role == "draft"]
    assert sum(event.waits for event in drafts) == 3
    assert sum(event.waited_s for event in drafts) > 1.0
    assert ran.decisions("repair") == []


async def test_a_quota_that_does_not_end_pauses_the_run_which_then_goes_on(server, run_loop):
    roles = Roles()
    server.reply = lambda r: Say(status=429) if role_of(r) == "writer" else roles(r)
    ran = await run_loop(make_models(server, retries=1, patience_s=0.6))
    assert ran.result.exit_reason is ExitReason.PAUSED
    assert "resume" in ran.result.message
    assert ModelUnavailable.__name__ in {event.failure for event in replied(ran)}
    writers = [r for r in server.requests if role_of(r) == "writer"]
    assert len(writers) <= 2 * 2, "one place tries again, and the graph does not begin it anew"
    asked = len(server.requests)
    server.reply = roles
    again = await run_loop(make_models(server))
    assert again.result.exit_reason is ExitReason.GOAL_MET
    assert "planner" not in {role_of(request) for request in server.requests[asked:]}


async def test_another_model_steps_in_and_the_reviewer_stays_independent(server, run_loop):
    roles = Roles()
    server.reply = lambda r: Say(status=404) if r["model"] == "worker" else roles(r)
    ran = await run_loop(make_models(server, steps_in={"model": "spare"}))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    answered = {(role_of(r), r["model"]) for r in server.requests if r["model"] != "worker"}
    assert ("writer", "spare") in answered
    assert {model for role, model in answered if role == "reviewer"} == {"judge"}
    assert sum(r["model"] == "worker" for r in server.requests) < len(server.requests) / 2


async def test_a_writer_that_never_fits_is_asked_a_bounded_number_of_times(server, run_loop):
    server.reply = Roles(writer=lambda _: "I would rather talk about it.")
    settings = load_settings((), ["loop.repairs=1"])
    target = make_target(budget=budget(rounds=2, stalled_reviews=9))
    ran = await run_loop(make_models(server), target=target, chosen=settings)
    assert ran.result.exit_reason is ExitReason.BUDGET_ROUNDS
    writers = [r for r in server.requests if role_of(r) == "writer"]
    # Two rounds, two lanes, a repair of each, and each asked twice.
    assert len(writers) == 2 * 2 * 2 * 2
    assert ran.outcomes() == {}


async def test_why_a_reply_was_not_used_reaches_the_next_one(server, run_loop):
    told = []

    def write(prompt: str) -> str:
        told.append(prompt)
        return "no" if len(told) <= 4 else roles.draft()

    roles = Roles(writer=write)
    server.reply = roles
    ran = await run_loop(make_models(server))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert ran.result.rounds == 1, "a reply that cannot be read costs no round"
    assert any("Why your last reply was not used" in prompt for prompt in told)


async def test_what_does_not_compile_goes_back_with_the_compilers_words(server, run_loop):
    told = []

    def write(prompt: str) -> str:
        told.append(prompt)
        return roles.draft("build=fail" if len(told) <= 2 else "us=60")

    roles = Roles(writer=write)
    server.reply = roles
    ran = await run_loop(make_models(server))
    assert ran.result.rounds == 1, "a repair costs no round"
    assert sorted(ran.outcomes().values()) == ["measured", "promoted", "rejected", "rejected"]
    repaired = [prompt for prompt in told if "Repair this attempt" in prompt]
    assert len(repaired) == 2
    assert all("error: expected ';'" in prompt for prompt in repaired)


async def test_a_repair_of_an_earlier_attempt_in_other_words_is_not_built(server, run_loop):
    again = []

    def write(prompt: str) -> str:
        again.append(prompt)
        if len(again) <= 2:
            return roles.draft("us=90")
        text = f"/* {len(again)} */ int   draft_1 ;\n"
        return roles.draft().replace(f"// us=60\\nint draft_{roles.drafts};\\n", text)

    roles = Roles(writer=write, planner=lambda _: NEVER.model_dump_json())
    server.reply = roles
    target = make_target(budget=budget(rounds=2, stalled_reviews=9))
    ran = await run_loop(make_models(server), target=target)
    assert len(ran.outcomes()) == 2
    assert [job for job in ran.jobs() if "-r002-" in job and "build" in job] == []
    assert any("again but for comments and blanks" in str(r["messages"]) for r in server.requests)


async def test_a_stop_breaks_off_a_slow_answer_at_once(server):
    server.reply = lambda _: Say(text="late", silence_s=30)
    team = make_models(server)
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(team.survey(is_thorough=False), 0.3)
    assert asyncio.get_running_loop().time() - began < 10
