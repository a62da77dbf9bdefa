"""A sample of `make fuzz-replies`: malformed replies end in a bounded way and never in a lie."""

import random

import pytest

from agents.model import Answer, read_reply
from agents.replies import Review
from tests.benchmarks.fuzz_replies import REPAIRS, fuzz, malformed
from tests.benchmarks.reply_cases import CASES, DECOY


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.role)
async def test_a_role_ends_well_whatever_is_said(case):
    tally = await fuzz(case, 10, seed=7)
    assert tally.asked == 10
    assert tally.calls <= 10 * (1 + REPAIRS)
    assert 0 < tally.accepted < 10, "the sample holds replies of both kinds"


def test_the_same_seed_says_the_same():
    said = [malformed(CASES[0], random.Random(5)) for _ in range(2)]
    assert said[0] == said[1]


RIGHT = '{"verdict": "ADVANCED", "criteria": [], "advice": "go on"}'
OTHER = f'{{"verdict": "REGRESSED", "criteria": [], "advice": "{DECOY}"}}'


@pytest.mark.parametrize(
    ("text", "is_complete", "said"),
    [
        (f"{RIGHT}\n{OTHER}", True, "different objects that fit"),
        (f"```json\n{RIGHT}\n```\n```json\n{OTHER}\n```", True, "different objects that fit"),
        (f"{OTHER}\nNo: {RIGHT[:-1]},}}", True, "after the object that fits another one begins"),
        (f"First {OTHER} but then ```json\n{{Infinity\n```", True, "another one begins"),
        (f"{OTHER}\nMine: {RIGHT[:30]}", False, "cut off"),
        (f"{OTHER}\nMine: {{", False, "cut off"),
        (f"{OTHER} {RIGHT}" * 600, True, "different objects that fit"),
        (f"{RIGHT} " * 600 + OTHER, True, "another one begins"),
        (RIGHT + " " * 1_000_000, True, "1000058 characters"),
        (RIGHT.replace("{", '{"verdict": "STALLED", '), True, "given twice"),
        (RIGHT.replace("go on", "go\\ud800"), True, "half a character"),
        ('{"verdict": "ADVANCED", "criteria": [], "advice": "go" on"}', True, "Expecting"),
    ],
)
def test_what_contradicts_itself_is_sent_back_with_the_reason(text, is_complete, said):
    found = read_reply(Review, Answer(text=text, is_complete=is_complete))
    assert isinstance(found, str)
    assert said in found


@pytest.mark.parametrize(
    "text",
    [
        f"{RIGHT}\n{RIGHT}",
        f"<think>{OTHER}</think>{RIGHT}",
        f"{OTHER}</think>\n{RIGHT}",
        f"<think>a</think> so <think>{OTHER}</think> {RIGHT}",
        RIGHT.replace("go on", "```\\n{}\\n``` <think>"),
        f"{RIGHT}\nuse {{braces}} sparingly",
    ],
)
def test_what_does_not_contradict_itself_is_taken(text):
    found = read_reply(Review, Answer(text=text, is_complete=True))
    assert isinstance(found, Review)
    assert found.verdict == "ADVANCED"
