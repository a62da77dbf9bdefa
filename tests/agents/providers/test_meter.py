"""Cost adds up, and the shared beginning of two prompts is found exactly."""

from hypothesis import given
from hypothesis import strategies as st

from agents.model import Turn
from agents.providers.meter import Meter, Prefixes, common_prefix
from agents.roles import Spend

costs = st.builds(
    Spend,
    calls=st.integers(0, 9),
    input_tokens=st.integers(0, 10**6),
    cached_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    waits=st.integers(0, 9),
)


@given(st.lists(costs, max_size=6))
def test_a_meter_is_the_sum_of_its_calls(calls):
    meter = Meter()
    for cost in calls:
        meter.add(cost)
    assert meter.total == sum(calls, Spend())


@given(costs, costs)
def test_what_came_since_is_the_difference(one, other):
    assert (one + other) - one == other


words = st.text(alphabet="ab", max_size=40)


@given(words, words)
def test_the_common_prefix_is_the_longest(one, other):
    shared = common_prefix(one, other)
    assert one[:shared] == other[:shared]
    assert one[shared : shared + 1] != other[shared : shared + 1] or shared == len(one) == len(
        other
    )


def prompt(*texts: str) -> list[Turn]:
    return [Turn(role="user", text=text) for text in texts]


def test_the_first_prompt_repeats_nothing_and_the_same_again_everything():
    prefixes = Prefixes()
    assert prefixes.share(prompt("a" * 99)) == 0.0
    assert prefixes.share(prompt("a" * 99)) == 1.0


def test_only_the_last_few_prompts_are_remembered():
    prefixes = Prefixes()
    prefixes.share(prompt("x" * 99))
    for number in range(8):
        prefixes.share(prompt(f"{number}"))
    assert prefixes.share(prompt("x" * 99)) < 0.1


def test_a_prompt_of_nothing_has_no_share():
    assert Prefixes().share([]) == 0.0
