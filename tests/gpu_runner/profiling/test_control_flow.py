import random

from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.profiling.control_flow import innermost, natural_loops


def test_straight_code_has_no_loop():
    assert natural_loops(0, {0: [1], 1: [2], 2: []}) == {}


def test_block_that_jumps_to_itself_is_a_loop():
    assert natural_loops(0, {0: [1], 1: [1, 2], 2: []}) == {1: frozenset({1})}


def test_nested_loops_are_both_found_and_the_inner_one_is_innermost():
    graph = {0: [1], 1: [2, 4], 2: [2, 3], 3: [1], 4: []}
    loops = natural_loops(0, graph)
    assert loops == {1: frozenset({1, 2, 3}), 2: frozenset({2})}
    assert innermost(loops) == frozenset({2})


def test_two_ways_back_to_one_header_are_one_loop():
    graph = {0: [1], 1: [2, 3], 2: [1], 3: [1, 4], 4: []}
    assert natural_loops(0, graph) == {1: frozenset({1, 2, 3})}


def test_jump_back_into_code_that_another_path_reaches_is_no_loop():
    # Rare code moved behind the end: 0 -> 1 -> 2, and 0 -> 9 -> 1.
    assert natural_loops(0, {0: [1, 9], 1: [2], 2: [], 9: [1]}) == {}


def test_code_that_nothing_reaches_is_left_out():
    assert natural_loops(0, {0: [1], 1: [], 7: [7]}) == {}


def test_long_chain_needs_no_recursion():
    graph = {n: [n + 1] for n in range(20_000)} | {20_000: [0]}
    assert natural_loops(0, graph) == {0: frozenset(range(20_001))}


def reachable_without(graph, avoided):
    seen = set()
    waiting = [0] if avoided != 0 else []
    while waiting:
        block = waiting.pop()
        if block not in seen and block != avoided:
            seen.add(block)
            waiting += graph[block]
    return seen


@given(st.integers(2, 12), st.integers(0, 10**6))
def test_header_dominates_its_body_by_definition(count, seed):
    source = random.Random(seed)
    graph = {n: source.sample(range(count), source.randint(0, 3) % count) for n in range(count)}
    everything = reachable_without(graph, None)
    loops = natural_loops(0, graph)

    for header, body in loops.items():
        assert not body & reachable_without(graph, header)
        assert any(header in graph[block] for block in body)
    for block in everything:
        for target in graph[block]:
            if block not in reachable_without(graph, target) or target == block:
                assert block in loops[target]
