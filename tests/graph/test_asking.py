"""Each question is answered once, and its cost is counted."""

import asyncio

import pytest

from agents.billing import charge
from agents.contexts import PlanContext
from agents.errors import ModelBusy
from agents.replies import Plan
from agents.roles import Spend
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


class Billed(TableTeam):
    """Has an account of its own, from which every call is billed, as models have."""

    def __init__(self) -> None:
        super().__init__()
        self.total = Spend()

    def spend(self) -> Spend:
        return self.total

    def pay(self, cost: Spend) -> None:
        self.total += cost
        charge(cost)

    async def call(self, *costs: Spend, pause_s: float = 0.0) -> Plan:
        for cost in costs:
            self.pay(cost)
            await asyncio.sleep(pause_s)
        return make_plan()


async def test_a_bill_says_what_one_answer_cost_and_who_pays(files):
    cost = Spend(
        calls=1,
        input_tokens=100,
        cached_tokens=60,
        stored_tokens=20,
        repeated_tokens=50,
        output_tokens=7,
        usd=0.25,
        waits=1,
        waited_s=3.0,
    )
    team = Billed()
    question = team.call(cost, cost)
    await make_asking(team, files).ask(
        Plan, "r002", question, left_s=None, round_number=2, attempt_id="a0003"
    )
    (event,) = replied(files)
    assert (event.round, event.attempt_id, event.calls, event.tokens) == (2, "a0003", 2, 214)
    assert (event.input_tokens, event.cached_tokens, event.stored_tokens) == (200, 120, 40)
    assert (event.repeated_tokens, event.output_tokens, event.usd) == (100, 14, 0.5)
    assert (event.waits, event.waited_s) == (2, 6.0)


async def test_answers_that_overlap_are_billed_each_for_itself(files):
    team = Billed()
    asking = make_asking(team, files)
    tokens = {"r001": 1, "r002": 10, "r003": 100}
    costs = {key: Spend(calls=1, output_tokens=number) for key, number in tokens.items()}
    await asyncio.gather(
        *(
            asking.ask(Plan, key, team.call(cost, cost, pause_s=0.01), left_s=None)
            for key, cost in costs.items()
        )
    )
    assert {event.reply: event.tokens for event in replied(files)} == {
        key: 2 * number for key, number in tokens.items()
    }


async def test_what_was_sent_before_a_stop_is_paid_for(files):
    stop = asyncio.Event()

    team = Billed()

    async def ask() -> Plan:
        team.pay(Spend(calls=1, input_tokens=9))
        stop.set()
        await asyncio.sleep(60)
        return make_plan()

    with pytest.raises(RunStopped):
        await make_asking(team, files, stop).ask(Plan, "r001", ask(), left_s=None)
    (event,) = replied(files)
    assert (event.failure, event.tokens, event.reply) == ("stopped", 9, "")


async def test_a_question_that_asked_nobody_pays_for_nobody(files):
    team = Billed()
    asking = make_asking(team, files)
    questions = {
        "r001": team.call(Spend(calls=1, output_tokens=100), pause_s=0.05),
        "r002": team.call(),
        "r003": team.call(Spend(calls=1, output_tokens=7), pause_s=0.01),
    }
    await asyncio.gather(
        *(asking.ask(Plan, key, question, left_s=None) for key, question in questions.items())
    )
    assert {event.reply: event.tokens for event in replied(files)} == {
        "r001": 100,
        "r002": 0,
        "r003": 7,
    }
