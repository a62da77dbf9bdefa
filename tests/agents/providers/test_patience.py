"""One place tries again: how long it waits, when it gives up, and who steps in."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.billing import billed
from agents.errors import ModelBusy, ModelError, ModelRefused, ModelTimeout, ModelUnavailable
from agents.model import Answer, Form, Turn
from agents.providers.patience import Patient, next_pause
from agents.providers.plan import ModelPlan
from agents.providers.survey import Survey
from agents.roles import Spend

ASKED = (Turn(role="user", text="answer"),)
LIMIT = ModelBusy("slow down", is_limit=True)


def make_plan(**changes) -> ModelPlan:
    return ModelPlan(**{"provider": "openai", "model": "m", "retries": 2, **changes})


class Said:
    """Says or raises what it was given, in order; the last one again and again."""

    provider = "p"

    def __init__(self, *answers: str | ModelError, name: str = "m") -> None:
        self.name = name
        self.answers = list(answers)
        self.asked = 0

    async def answer(self, turns: Sequence[Turn], form: Form | None = None) -> Answer:
        self.asked += 1
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await asyncio.sleep(0)
        if isinstance(said, ModelError):
            raise said
        return Answer(text=said, is_complete=True)

    def spend(self) -> Spend:
        return Spend(calls=self.asked)

    async def survey(self, *, is_thorough: bool) -> Survey:
        return Survey(provider=self.provider, model=self.name)


class Slept:
    """Sleeps no time and remembers how long it would have."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)


def patient(*models: Said, **changes) -> tuple[Patient, Slept]:
    slept = Slept()
    plan = make_plan(**changes)
    return Patient([(model, plan) for model in models], sleep=slept), slept


async def test_a_busy_server_is_tried_again_with_growing_pauses():
    model = Said(ModelBusy("a"), ModelTimeout("b"), "here")
    asked, slept = patient(model)
    assert (await asked.answer(ASKED)).text == "here"
    assert slept.pauses == [0.5, 1.0]


async def test_after_the_tries_allowed_it_is_unavailable():
    model = Said(ModelTimeout("silent"))
    asked, slept = patient(model, retries=3)
    with pytest.raises(ModelUnavailable, match="silent; given up after 4 tries and 4 s of pauses"):
        await asked.answer(ASKED)
    assert (model.asked, len(slept.pauses)) == (4, 3)


async def test_a_limit_is_waited_for_as_often_as_it_takes():
    model = Said(*[LIMIT] * 9, "here")
    asked, slept = patient(model)
    assert (await asked.answer(ASKED)).text == "here"
    assert slept.pauses == [0.5, 1, 2, 4, 8, 16, 32, 64, 128]


async def test_a_limit_that_does_not_end_ends_the_patience():
    asked, slept = patient(Said(LIMIT), patience_s=100)
    with pytest.raises(ModelUnavailable):
        await asked.answer(ASKED)
    assert sum(slept.pauses) <= 100


async def test_the_provider_says_when_to_come_back():
    asked, slept = patient(Said(ModelBusy("x", is_limit=True, retry_after_s=70.0), "here"))
    await asked.answer(ASKED)
    assert slept.pauses == [70.0]


async def test_a_refusal_is_not_tried_again():
    model = Said(ModelRefused("wrong key"))
    asked, slept = patient(model)
    with pytest.raises(ModelRefused):
        await asked.answer(ASKED)
    assert (model.asked, slept.pauses) == (1, [])


@pytest.mark.parametrize("error", [ModelBusy("x"), ModelTimeout("x"), LIMIT])
async def test_without_retries_the_error_passes_as_it_is(error):
    asked, slept = patient(Said(error), retries=0)
    with pytest.raises(type(error)):
        await asked.answer(ASKED)
    assert slept.pauses == []


@pytest.mark.parametrize("error", [ModelRefused("gone"), ModelTimeout("silent"), LIMIT])
async def test_another_model_steps_in(error):
    first, second = Said(error), Said("from the other", name="n")
    asked, _ = patient(first, second)
    assert (await asked.answer(ASKED)).text == "from the other"
    assert asked.makes == {("p", "m"), ("p", "n")}
    assert first.asked <= 3, "with another model at hand no quota is waited for"


async def test_a_model_that_failed_rests_and_is_asked_again_later():
    first, second = Said(ModelRefused("gone"), "back"), Said("other", name="n")
    asked, _ = patient(first, second)
    said = [(await asked.answer(ASKED)).text for _ in range(11)]
    assert said == ["other"] * 9 + ["back"] * 2
    assert first.asked == 3


async def test_a_model_that_rests_is_asked_where_the_other_fails_as_well():
    first, second = Said(ModelRefused("gone"), "back"), Said("other", ModelRefused("x"), name="n")
    asked, _ = patient(first, second)
    assert [(await asked.answer(ASKED)).text for _ in range(2)] == ["other", "back"]


async def test_where_all_fail_the_last_one_says_why():
    asked, _ = patient(Said(ModelRefused("one")), Said(ModelRefused("two"), name="n"))
    with pytest.raises(ModelRefused, match="two"):
        await asked.answer(ASKED)


async def test_pauses_are_on_the_bill_and_on_the_account():
    asked, _ = patient(Said(LIMIT, "here"))
    with billed() as bill:
        await asked.answer(ASKED)
    assert (bill.total.waits, bill.total.waited_s) == (1, 0.5)
    assert asked.spend() == Spend(calls=2, waits=1, waited_s=0.5)


async def test_a_gate_lets_few_through_and_nobody_sleeps_in_it():
    gate = asyncio.Semaphore(1)
    inside = 0

    class Slow(Said):
        async def answer(self, turns: Sequence[Turn], form: Form | None = None) -> Answer:
            nonlocal inside
            inside += 1
            assert inside == 1
            try:
                return await super().answer(turns, form)
            finally:
                inside -= 1

    is_answered = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await asyncio.wait_for(is_answered.wait(), 20)

    async def ask(one: Patient) -> str:
        text = (await one.answer(ASKED)).text
        is_answered.set()
        return text

    models = [Slow(LIMIT, "a"), Slow("b", name="n")]
    asked = [Patient([(model, make_plan())], gate=gate, sleep=sleep) for model in models]
    assert await asyncio.gather(*(ask(one) for one in asked)) == ["a", "b"]


errors = st.one_of(
    st.just(ModelTimeout("x")),
    st.builds(
        ModelBusy,
        st.just("x"),
        is_limit=st.booleans(),
        retry_after_s=st.none() | st.floats(0, 1e6),
    ),
)


@given(errors, st.integers(0, 6), st.floats(0, 5000), st.booleans())
def test_waiting_always_ends(error, retries, patience_s, is_last):
    plan = make_plan(retries=retries, patience_s=patience_s)
    waited, tried = 0.0, 0
    while (pause := next_pause(plan, error, tried, waited, is_last=is_last)) is not None:
        assert pause > 0
        waited, tried = waited + pause, tried + 1
        assert tried < 10_100
    if isinstance(error, ModelBusy) and error.is_limit and is_last:
        assert waited <= patience_s
    else:
        assert tried <= retries
