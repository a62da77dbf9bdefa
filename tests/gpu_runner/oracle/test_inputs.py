import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.oracle.inputs import Inputs, Place, rows_of, stand_ins
from gpu_runner.problem import DType, InputRule, ProfileName, Tensor
from tests.builders import make_problem, make_workload
from tests.gpu_runner.oracle.drawn import KEY, linear_problem, linear_workload, one_input


def inputs_of(problem=None, workload=None, *, key: bytes = KEY) -> Inputs:
    return Inputs(problem or linear_problem(), workload or linear_workload(), key)


def places_of(inputs: Inputs, count: int = 200) -> list[Place]:
    generator = np.random.default_rng(7)
    places = [inputs.place(generator) for _ in range(count)]
    return [place for place in places if place is not None]


def test_a_key_of_few_bytes_is_refused():
    with pytest.raises(ValueError, match="16 to 64 bytes"):
        inputs_of(key=b"short")


def test_shapes_and_elements_are_those_of_the_workload():
    inputs = inputs_of()
    assert inputs.shapes == {"x": (5, 33), "w": (7, 33), "b": (7,)}
    assert inputs.elements == 5 * 33 + 7 * 33 + 7
    assert inputs.profile is ProfileName.NORMAL


def test_the_secret_is_of_the_key_the_problem_and_the_workload():
    digests = {
        inputs.secret.digest("a")
        for inputs in (
            inputs_of(),
            inputs_of(key=bytes(16)),
            inputs_of(linear_problem(name="another")),
            inputs_of(workload=linear_workload(name="another")),
        )
    }
    assert len(digests) == 4
    assert inputs_of().secret.digest("a") in digests


def test_extreme_rows_are_of_the_problems_own_profiles():
    profiles = (ProfileName.NORMAL, ProfileName.ZEROS, ProfileName.OFFSET, ProfileName.NAN_ONE)
    inputs = inputs_of(linear_problem(profiles=profiles))
    assert set(inputs.row_kinds) == {ProfileName.OFFSET, ProfileName.ZEROS}


def test_only_a_rule_makes_a_parameter():
    inputs = inputs_of(linear_problem(rules=(InputRule(input="w", role="parameter", high=3),)))
    assert [inputs.is_parameter(tensor) for tensor in inputs.tensors] == [False, True, False]
    assert inputs.rule(inputs.tensors[1]).high == 3


def test_a_parameter_of_integers_is_drawn_as_the_normal_profile():
    rules = (InputRule(input="w", role="parameter", low=0, high=3),)
    inputs = inputs_of(linear_problem(DType.INT8, rules=rules))
    x, w, _ = inputs.tensors
    assert inputs.integer_profile(x, ProfileName.ZEROS) is ProfileName.ZEROS
    assert inputs.integer_profile(w, ProfileName.ZEROS) is ProfileName.NORMAL


@pytest.mark.parametrize(
    ("dtype", "rules", "bounds"),
    [
        (DType.INT8, (), (-128, 127)),
        (DType.INT64, (), (-32768, 32767)),
        (DType.INT8, (InputRule(input="x", low=2.5, high=9.5),), (3, 9)),
        (DType.INT8, (InputRule(input="x", low=-9.5, high=-2.5),), (-9, -3)),
        (DType.BOOL, (InputRule(input="x", low=5, high=9),), (0, 1)),
    ],
)
def test_integers_lie_within_the_rule_and_bools_ignore_it(dtype, rules, bounds):
    inputs = inputs_of(one_input(dtype, *rules), make_workload())
    assert inputs.bounds(inputs.tensors[0]) == bounds


def test_every_float_activation_is_flawed_in_some_call_and_no_parameter_in_any():
    rules = (InputRule(input="w", role="parameter"),)
    inputs = inputs_of(linear_problem(rules=rules))
    assert {inputs.flawed(call) for call in range(30)} == {"x", "b"}
    assert inputs.flawed("stacked", 3) == inputs_of(linear_problem(rules=rules)).flawed(
        "stacked", 3
    )


def test_nothing_is_flawed_where_all_is_whole():
    assert inputs_of(linear_problem(DType.INT8, rules=())).flawed(1) == ""


def test_places_are_elements_and_rows_of_activations_wherever_they_lie():
    places = places_of(inputs_of())
    assert {place.tensor.name for place in places} == {"x"}
    assert {place.row for place in places} == set(range(5))
    assert {place.at for place in places} == set(range(33))
    widths = [len(range(*place.where.indices(33))) for place in places]
    assert set(widths) == {1, 33}
    assert 60 < widths.count(1) < 140
    assert all(place.at in range(*place.where.indices(33)) for place in places)


def test_the_only_element_of_a_row_is_an_element():
    places = places_of(inputs_of(one_input(DType.FLOAT32), make_workload(axes={"B": 4, "N": 1})))
    assert {(place.at, place.where.stop) for place in places} == {(0, 1)}


def test_parameters_are_perturbed_where_no_activation_can_be():
    rules = (
        InputRule(input="x", low=4, high=4),
        InputRule(input="w", role="parameter", low=0, high=9),
        InputRule(input="b", role="parameter", low=2, high=2),
    )
    places = places_of(inputs_of(linear_problem(DType.INT8, rules=rules)))
    assert {place.tensor.name for place in places} == {"w"}


@pytest.mark.parametrize("axes", [{"B": 0, "N": 4}, {"B": 4, "N": 0}])
def test_there_is_no_place_in_an_empty_input(axes):
    assert places_of(inputs_of(one_input(DType.FLOAT32), make_workload(axes=axes))) == []


def test_an_input_without_axes_is_one_row_of_one():
    scalar = Tensor(name="x", shape=(), dtype=DType.FLOAT32)
    places = places_of(inputs_of(make_problem(inputs=(scalar,)), make_workload()))
    assert {(place.row, place.at) for place in places} == {(0, 0)}


@given(st.lists(st.integers(0, 9), max_size=4).map(tuple))
def test_rows_hold_every_element_once(shape):
    rows, length = rows_of(shape)
    assert rows * length == math.prod(shape)
    assert length == (shape[-1] if shape else 1)


@given(low=st.floats(-100, 100), span=st.floats(0.01, 100))
def test_stand_ins_lie_inside_the_range_and_apart(low, span):
    found = stand_ins(InputRule(input="x", low=low, high=low + span))
    assert len(set(found)) == 3
    assert all(low < number < low + span for number in found)
