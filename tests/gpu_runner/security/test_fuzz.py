"""A short run of what `make fuzz-bus` does for a million messages."""

import random

import pytest

from tests.gpu_runner.security.fuzz import EVERYTHING, MOST_GROWTH_BYTES, fuzz, mutated


@pytest.mark.processes
def test_mutated_messages_of_enrolled_keys_end_nothing(tmp_path):
    found = fuzz(tmp_path, 3_000, seed=7)
    assert (found.sent, found.is_alive, found.is_serving) == (3_000, True, True)
    assert found.answers > 1_000
    assert found.growth_bytes <= MOST_GROWTH_BYTES


def test_the_mutations_hit_and_miss():
    draw = random.Random(3)
    body = EVERYTHING[0]
    made = {mutated(body, draw) for _ in range(200)}
    assert body in made
    assert len(made) > 100
