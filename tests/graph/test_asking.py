"""Each question is answered once, and its cost is counted."""

import asyncio

import pytest

from agents.contexts import PlanContext
from agents.errors import ModelBusy
from agents.replies import Plan
from graph.asking import Asking
from graph.errors import OutOfTime, RunStopped
from graph.events import Replied
from graph.run_files import RunFiles
from graph.view import make_view
from tests.graph.builders import make_manifest, make_plan, make_state
from tests.graph.teams import TableTeam

CONTEXT = PlanContext(view=make_view(make_manifest(), (), make_state()))


@pytest.fixture
def files(tmp_path):
    return RunFiles(tmp_path)


def make_asking(team, files, stop=None, reply_s: float = 60.0) -> Asking:
    return Asking(team, files, reply_s=reply_s, stop=stop or asyncio.Event())


def replied(files) -> list[Replied]:
    return [event for event in files.events.read() if isinstance(event, Replied)]


async def test_an_answer_is_kept_and_not_asked_for_again(files):
    team = TableTeam(tokens=10)
    asking = make_asking(team, files)
    first = await asking.ask(Plan, "r001", team.plan(CONTEXT), left_s=None)
    again = await asking.ask(Plan, "r001", team.plan(CONTEXT), left_s=None)
    assert again == first == files.reply(Plan, "r001")
    assert len(team.asked) == 1


async def test_a_resumed_process_does_not_pay_again(files):
    team = TableTeam()
    files.save_reply("r001", make_plan(strategy="paid for"))
    asking = make_asking(team, RunFiles(files.root))
    found = await asking.ask(Plan, "r001", team.plan(CONTEXT), left_s=None)
    assert found.strategy == "paid for"
    assert team.asked == []
    assert replied(files) == []


async def test_the_cost_of_overlapping_answers_adds_up(files):
    team = TableTeam(tokens=10)
    asking = make_asking(team, files)
    await asyncio.gather(
        *(asking.ask(Plan, f"r00{n}", team.plan(CONTEXT), left_s=None) for n in range(3))
    )
    assert sum(event.tokens for event in replied(files)) == 30


async def test_cost_before_this_process_is_not_counted_again(files):
    team = TableTeam(tokens=10)
    await team.plan(CONTEXT)
    asking = make_asking(team, files)
    await asking.ask(Plan, "r001", team.plan(CONTEXT), left_s=None)
    assert [event.tokens for event in replied(files)] == [10]


async def test_a_failed_answer_costs_as_well_and_is_not_kept(files):
    team = TableTeam(tokens=10)

    async def fail() -> Plan:
        await team.plan(CONTEXT)
        raise ModelBusy("overloaded")

    with pytest.raises(ModelBusy):
        await make_asking(team, files).ask(Plan, "r001", fail(), left_s=None)
    (event,) = replied(files)
    assert (event.tokens, event.failure, event.reply) == (10, "ModelBusy", "")
    assert files.reply(Plan, "r001") is None


async def slow() -> Plan:
    await asyncio.sleep(60)
    return make_plan()


@pytest.mark.parametrize(("reply_s", "left_s"), [(0.01, None), (60.0, 0.01), (0.01, 60.0)])
async def test_an_answer_has_to_come_within_what_is_allowed_and_left(files, reply_s, left_s):
    with pytest.raises(OutOfTime):
        await make_asking(TableTeam(), files, reply_s=reply_s).ask(
            Plan, "r001", slow(), left_s=left_s
        )
    assert [event.failure for event in replied(files)] == ["OutOfTime"]


async def test_a_stop_ends_the_waiting(files):
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(RunStopped):
        await make_asking(TableTeam(), files, stop).ask(Plan, "r001", slow(), left_s=None)
