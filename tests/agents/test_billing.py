"""A call is on the bill of the question it was made for, and on no other."""

import asyncio

from agents.billing import billed, charge, has_room
from agents.roles import Spend


def call(tokens: int = 1) -> Spend:
    return Spend(calls=1, input_tokens=tokens)


def test_without_a_bill_nothing_is_charged():
    charge(call())
    with billed() as bill:
        assert bill.total == Spend()


def test_a_bill_ends_with_its_question():
    with billed() as bill:
        charge(call(5))
    charge(call(7))
    assert bill.total == call(5)


def test_an_inner_question_pays_for_itself():
    with billed() as outer:
        charge(call(1))
        with billed() as inner:
            charge(call(2))
        charge(call(3))
    assert (outer.total.input_tokens, inner.total.input_tokens) == (4, 2)


async def test_questions_that_overlap_pay_each_for_its_own():
    async def ask(tokens: int) -> Spend:
        with billed() as bill:
            for _ in range(3):
                await asyncio.sleep(0)
                # In a task of its own, as a question that may be cancelled is.
                await asyncio.create_task(_call(tokens))
        return bill.total

    totals = await asyncio.gather(*(ask(number) for number in (1, 10, 100)))
    assert [total.input_tokens for total in totals] == [3, 30, 300]


async def _call(tokens: int) -> None:
    charge(call(tokens))


def test_a_question_asks_its_own_bill_for_room():
    assert has_room(), "without a bill there is always room"
    with billed():
        assert has_room()
        with billed(lambda: False):
            assert not has_room()
        assert has_room()


def test_room_may_run_out_while_a_question_is_asked():
    with billed(lambda: bill.total.input_tokens < 8) as bill:
        charge(call(5))
        assert has_room()
        charge(call(5))
        assert not has_room()
