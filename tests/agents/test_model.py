"""Replies are found in whatever a model says around them, and repaired a few times at most."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.billing import billed
from agents.errors import MalformedReply, ModelBusy, Overdrawn
from agents.model import Answer, Form, Turn, ask, json_objects, read_reply
from agents.roles import Spend
from gpu_runner.message import Message

ASKED = (Turn(role="user", text="answer"),)


class Reply(Message):
    colour: str
    count: int = 0


class Recorded:
    """Says what it was given, in order, and keeps what it was asked."""

    name = "m"
    provider = "p"

    def __init__(self, *answers: str | Answer | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[list[Turn]] = []

    async def answer(self, turns: Sequence[Turn], form: Form | None = None) -> Answer:
        self.asked.append(list(turns))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Answer) else Answer(text=answer, is_complete=True)

    def spend(self) -> Spend:
        return Spend(calls=len(self.asked))


@pytest.mark.parametrize(
    "text",
    [
        '{"colour": "red"}',
        'Here you are:\n```json\n{"colour": "red"}\n```\nAnything else?',
        '```\n{"colour": "red"}\n```',
        '<think>{"colour": "blue"} no, </think>{"colour": "red"}',
        '<thinking>maybe {"colour"</thinking>\n\n{"colour": "red", "count": 0}',
        'I first thought of {"hue": 3}, but {"colour": "red", "count": 0} is better.',
        '```json\n{"colour": "draft of it", }\n```\n```json\n{"colour": "red"}\n```',
        '{"colour": "red"} trailing { brace',
        'int main() { return 0; }\n{"colour": "red"}',
    ],
)
async def test_a_reply_is_found_in_what_surrounds_it(text):
    model = Recorded(text)
    assert await ask(model, Reply, ASKED) == Reply(colour="red")
    assert len(model.asked) == 1


async def test_a_malformed_reply_is_sent_back_with_what_is_wrong_with_it():
    model = Recorded('{"color": "red"}', '{"colour": "red"}')
    assert await ask(model, Reply, ASKED) == Reply(colour="red")
    echoed, complaint = model.asked[1][1:]
    assert echoed == Turn(role="assistant", text='{"color": "red"}')
    assert complaint.role == "user"
    assert "colour: Field required" in complaint.text
    assert "color: Extra inputs are not permitted" in complaint.text


@pytest.mark.parametrize("room", [0, 1, 2])
async def test_a_repair_is_asked_for_only_where_the_bill_has_room(room):
    model = Recorded("no", "no", '{"colour": "red"}')
    with billed(lambda: len(model.asked) <= room):
        if room == 2:
            assert await ask(model, Reply, ASKED) == Reply(colour="red")
        else:
            with pytest.raises(Overdrawn, match=f"after {room + 1} replies"):
                await ask(model, Reply, ASKED)
    assert len(model.asked) == room + 1


async def test_a_first_question_is_asked_whatever_its_bill_says():
    with billed(lambda: False):
        assert await ask(Recorded('{"colour": "red"}'), Reply, ASKED) == Reply(colour="red")


async def test_repairs_are_bounded_and_the_last_fault_is_told():
    model = Recorded("no", "no", '{"colour": 3}', '{"colour": "red"}')
    with pytest.raises(MalformedReply, match="p m: no Reply after 2 repairs: colour: Input should"):
        await ask(model, Reply, ASKED, repairs=2)
    assert len(model.asked) == 3


async def test_without_repairs_one_fault_ends_it():
    with pytest.raises(MalformedReply, match="holds no JSON object"):
        await ask(Recorded("no"), Reply, ASKED, repairs=0)


async def test_an_objection_is_a_fault_like_any_other():
    model = Recorded('{"colour": "red"}', '{"colour": "blue"}')
    objection = {"red": "red is taken"}.get
    assert (
        await ask(model, Reply, ASKED, objection=lambda r: objection(r.colour))
    ).colour == "blue"
    assert "red is taken" in model.asked[1][-1].text


async def test_a_reply_that_was_cut_off_is_called_so():
    cut = Answer(text='{"colour": "re', is_complete=False)
    model = Recorded(cut, '{"colour": "red"}')
    await ask(model, Reply, ASKED)
    assert "cut off" in model.asked[1][-1].text


async def test_a_whole_object_counts_even_if_the_rest_was_cut_off():
    answer = Answer(text='{"colour": "red"} and then I', is_complete=False)
    assert read_reply(Reply, answer) == Reply(colour="red")


async def test_what_the_provider_raises_passes_through_unrepaired():
    model = Recorded(ModelBusy("later"))
    with pytest.raises(ModelBusy, match="later"):
        await ask(model, Reply, ASKED)
    assert len(model.asked) == 1


async def test_a_long_reply_is_echoed_by_its_end_only():
    model = Recorded("x" * 50_000, '{"colour": "red"}')
    await ask(model, Reply, ASKED)
    assert len(model.asked[1][1].text) == 6000


def test_many_faults_are_summed_up():
    answer = Answer(text=json.dumps({f"extra{i}": 1 for i in range(20)}), is_complete=True)
    fault = read_reply(Reply, answer)
    assert isinstance(fault, str)
    assert fault.endswith("; and 13 more")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=6), JSON), st.sampled_from(["", "So: ", "```json\n", "Ok\n"])
)
def test_any_object_survives_its_surroundings(value, before):
    after = "\n```" if before.startswith("```") else " That is it."
    text = before + json.dumps(value, ensure_ascii=True) + after
    if "```" not in json.dumps(value) and "think" not in text:
        assert next(iter(json_objects(text))) == value


@given(st.text(max_size=300))
def test_any_text_can_be_searched(text):
    assert all(isinstance(value, dict) for value in json_objects(text))


def test_line_breaks_inside_strings_are_forgiven():
    answer = Answer(text='{"colour": "int main() {\n\treturn 0;\n}"}', is_complete=True)
    assert read_reply(Reply, answer) == Reply(colour="int main() {\n\treturn 0;\n}")


def test_deep_nesting_is_no_crash():
    assert not any(True for _ in json_objects('{"a":' * 20_000))
