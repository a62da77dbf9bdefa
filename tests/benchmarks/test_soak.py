"""The long run in short, and that each bound can be broken."""

import pytest

from agents.model import Turn
from tests.benchmarks.soak import ScriptedModel, faults, run

GOOD = {
    "resident_mib_third": 120.0,
    "resident_mib_last": 121.0,
    "checkpoints_mib": 0.1,
    "prompt_growth": 1.01,
    "spend_growth": 1.0,
}


async def test_a_few_rounds_cost_alike_and_leave_little(tmp_path):
    found = await run(9, tmp_path)
    assert found["rounds"] == 9
    assert found["usd"] > 0
    assert found["longest_prompt"] > 1000
    assert found["spend_growth"] < 1.2
    assert found["checkpoints_mib"] < 1


def test_figures_within_the_bounds_are_no_fault():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("resident_mib_last", 200.0, "memory grew"),
        ("checkpoints_mib", 51.0, "checkpoints take"),
        ("prompt_growth", 1.5, "prompts grew"),
        ("spend_growth", 2.0, "spend grew"),
    ],
)
def test_what_grows_is_named(name, value, words):
    (fault,) = faults({**GOOD, name: value})
    assert words in fault


async def test_a_scripted_model_is_priced_by_what_it_reads_and_writes():
    model = ScriptedModel("one")
    question = Turn(role="user", text="You are the planner. (round 3)" + "x" * 4000)
    answer = await model.answer([question])
    assert answer.is_complete
    assert model.prompts == {"planner": [len(question.text)]}
    assert model.spend().input_tokens == len(question.text) // 4
    assert model.spend().usd == pytest.approx(
        3e-6 * (model.spend().input_tokens + model.spend().output_tokens)
    )
