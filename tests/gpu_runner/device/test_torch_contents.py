import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.device.torch_contents import DeviceContents
from gpu_runner.device.torch_elements import as_float64, torch_dtype
from gpu_runner.oracle.elements import largest_finite
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import DType, InputRule, ProfileName, Tensor
from tests.builders import make_problem, make_workload
from tests.gpu_runner.device.torch_cases import (
    FLOATS,
    KEY,
    NARROW,
    filled,
    near,
    one_input,
    raw_of,
    strided,
    tensors_of,
    wide_workload,
)
from tests.gpu_runner.oracle.drawn import linear_problem, linear_workload


def moved(problem, workload, before, after) -> float:
    """By how many bounds the right answer moves."""
    oracle = Oracle(problem)
    first = oracle.expected(workload, raw_of(problem, before))
    second = oracle.expected(workload, raw_of(problem, after))
    return max(
        float((np.abs(second.outputs[n] - first.outputs[n]) / first.bounds[n]).max())
        for n in first.outputs
    )


def changed(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Which elements differ in their bits."""
    size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[before.element_size()]
    return before.view(size) != after.view(size)


def test_equal_arguments_give_equal_contents():
    problem, workload = linear_problem(), linear_workload()
    first, again = filled(problem, workload), filled(problem, workload)
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("profile", list(ProfileName))
def test_two_calls_share_nothing(profile):
    problem, workload = one_input(DType.FLOAT32), wide_workload(16, 32)
    seen = {
        filled(problem, workload, call=call, profile=profile)["x"].numpy().tobytes()
        for call in range(12)
    }
    assert len(seen) == 12


def test_two_calls_under_different_profiles_share_nothing():
    problem, workload = one_input(DType.FLOAT32), wide_workload()
    normal = filled(problem, workload, call=1)["x"]
    sparse = filled(problem, workload, call=1, profile=ProfileName.SPARSE)["x"]
    kept = sparse[sparse != 0]
    assert kept.numel() > 10
    assert not torch.isin(kept, normal).any()


def test_no_row_of_a_call_returns_in_another():
    problem, workload = one_input(DType.FLOAT32), wide_workload(64, 64)
    rows = [filled(problem, workload, call=call)["x"] for call in range(6)]
    firsts = torch.cat([r[:, 0] for r in rows])
    assert firsts.unique().numel() == firsts.numel()


def test_another_key_workload_or_problem_gives_other_contents():
    problem, workload = one_input(DType.FLOAT32), make_workload()
    first = filled(problem, workload)["x"]
    renamed = problem.model_copy(update={"name": "another"})
    others = (
        filled(problem, workload, key=bytes(16))["x"],
        filled(problem, make_workload(name="other"))["x"],
        filled(renamed, workload)["x"],
    )
    assert not any(torch.equal(first, other) for other in others)


def test_inputs_of_one_shape_differ():
    tensors = tuple(Tensor(name=n, shape=("B", "N"), dtype=DType.FLOAT32) for n in ("x", "z"))
    problem = make_problem(inputs=tensors)
    given = filled(problem, make_workload())
    assert not torch.equal(given["x"], given["z"])


def test_a_key_of_few_bytes_is_refused():
    with pytest.raises(ValueError, match="16 to 64 bytes"):
        DeviceContents(make_problem(), make_workload(), b"short", "cpu")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no tensor for the input 'x'"),
        ({"x": torch.zeros(8, 127)}, r"shape \(8, 127\).*give a contiguous tensor of shape"),
        ({"x": torch.zeros(128, 8).T}, r"strides \(1, 8\)"),
        ({"x": torch.zeros(8, 128, dtype=torch.float64)}, "float32 tensor has the torch type"),
    ],
)
def test_tensors_of_the_callers_own_must_fit(given, words):
    contents = DeviceContents(make_problem(), make_workload(), KEY, "cpu")
    with pytest.raises(ValueError, match=words):
        contents.fill(given, call=0)
    with pytest.raises(ValueError, match=words):
        contents.perturb(given, given, call=0)


@pytest.mark.parametrize("low", [-0.5, 0.0, 0.9])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_parameter_is_never_zero_or_one(dtype, low):
    problem = one_input(dtype, InputRule(input="x", role="parameter", low=low, high=1.1))
    numbers = as_float64(filled(problem, wide_workload(64, 256))["x"], dtype)
    assert not ((numbers == 0) | (numbers == 1)).any()
    assert numbers.min() >= low - 0.01
    assert numbers.max() <= 1.11


def test_a_parameter_ignores_the_profile():
    problem = one_input(DType.FLOAT32, InputRule(input="x", role="parameter", low=2, high=3))
    numbers = filled(problem, make_workload(), profile=ProfileName.ZEROS)["x"]
    assert numbers.min() >= 2


@pytest.mark.parametrize("profile", list(ProfileName))
def test_integers_stay_in_their_rules_range(profile):
    problem = one_input(DType.INT32, InputRule(input="x", low=2, high=6))
    numbers = filled(problem, make_workload(), profile=profile)["x"]
    assert numbers.min() >= 2
    assert numbers.max() <= 6


def test_integers_without_a_rule_fill_the_default_range():
    numbers = filled(one_input(DType.INT64), wide_workload(64, 512))["x"]
    assert -(1 << 15) <= numbers.min() < -30_000
    assert 30_000 < numbers.max() < 1 << 15


def test_the_single_flaw_is_in_one_activation():
    problem, workload = linear_problem(), linear_workload()
    counts = set()
    for call in range(6):
        given = filled(problem, workload, call=call, profile=ProfileName.NAN_ONE)
        counts.add(tuple(int(given[n].isnan().sum()) for n in ("x", "w", "b")))
    assert counts == {(1, 0, 0)}


def test_the_activation_with_the_flaw_changes_from_call_to_call():
    tensors = tuple(Tensor(name=n, shape=("B", "N"), dtype=DType.FLOAT32) for n in ("x", "z"))
    problem, workload = make_problem(inputs=tensors), make_workload()
    flawed = []
    for call in range(30):
        given = filled(problem, workload, call=call, profile=ProfileName.NAN_ONE)
        flawed.append([name for name, values in given.items() if values.isnan().any()])
    assert {tuple(names) for names in flawed} == {("x",), ("z",)}


@pytest.mark.parametrize("axes", [{"B": 0, "N": 4}, {"B": 4, "N": 0}])
def test_empty_inputs_are_left_alone(axes):
    problem, workload = one_input(DType.FLOAT32), make_workload(axes=axes)
    given = filled(problem, workload)
    near(problem, workload, given, call=0)
    assert given["x"].numel() == 0


def test_a_scalar_input_is_filled():
    problem = one_input(DType.FLOAT32, inputs=(Tensor(name="x", shape=(), dtype=DType.FLOAT32),))
    before = filled(problem, make_workload())
    assert before["x"].isfinite()
    assert not torch.equal(near(problem, make_workload(), before, call=1)["x"], before["x"])


# Slots -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", list(ProfileName))
def test_stacked_slots_hold_what_the_profile_says_and_differ(profile):
    problem, workload = linear_problem(), linear_workload(axes={"M": 5, "N": 7, "K": 999})
    stacked, slots = strided(problem, workload, 4)
    DeviceContents(problem, workload, KEY, "cpu").fill_stacked(stacked, call=3, profile=profile)
    for name in ("x", "w", "b"):
        assert len({slot[name].numpy().tobytes() for slot in slots}) == 4
    for slot in slots:
        assert slot["w"].min() >= -0.5
        assert not ((slot["w"] == 0) | (slot["w"] == 1)).any()
        assert slot["x"].isnan().sum() == (1 if profile is ProfileName.NAN_ONE else 0)


def test_stacked_contents_are_repeatable_and_new_in_every_call():
    problem, workload = linear_problem(), linear_workload()
    contents = DeviceContents(problem, workload, KEY, "cpu")
    given = []
    for call in (1, 1, 2):
        stacked, slots = strided(problem, workload, 3)
        contents.fill_stacked(stacked, call=call)
        given.append(torch.cat([slot["x"] for slot in slots]))
    assert torch.equal(given[0], given[1])
    assert not torch.equal(given[0], given[2])


def test_no_slot_shares_contents_with_a_single_call():
    problem, workload = linear_problem(), linear_workload()
    contents = DeviceContents(problem, workload, KEY, "cpu")
    stacked, slots = strided(problem, workload, 3)
    contents.fill_stacked(stacked, call=0)
    single = [filled(problem, workload)]
    for slot in range(3):
        into = tensors_of(problem, workload)
        contents.fill(into, call=0, slot=slot)
        single.append(into)
    seen = {given["x"].numpy().tobytes() for given in (*slots, *single)}
    assert len(seen) == 7


def test_what_lies_between_the_slots_is_not_written():
    problem, workload = one_input(DType.FLOAT32), make_workload()
    stacked, _ = strided(problem, workload, 3, gap=10)
    DeviceContents(problem, workload, KEY, "cpu").fill_stacked(stacked, call=0)
    slab = stacked["x"].as_strided((3, 1034), (1034, 1))
    assert not slab[:, 1024:].any()
    assert slab[:, :1024].all()


def test_slots_that_are_not_contiguous_are_refused():
    contents = DeviceContents(make_problem(), make_workload(), KEY, "cpu")
    with pytest.raises(ValueError, match="give a contiguous tensor"):
        contents.fill_stacked({"x": torch.zeros(2, 128, 8).transpose(1, 2)}, call=0)


def test_slots_may_lie_within_a_larger_tensor():
    problem, workload = one_input(DType.FLOAT32), make_workload()
    slab = torch.zeros(5, 8, 128)
    DeviceContents(problem, workload, KEY, "cpu").fill_stacked({"x": slab[2:4]}, call=0)
    assert not slab[[0, 1, 4]].any()
    assert slab[2:4].all()


# Near duplicates -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NARROW)
def test_a_near_duplicate_differs_in_one_element_or_one_row(dtype):
    problem, workload = one_input(dtype), make_workload()
    source = filled(problem, workload)
    kinds = set()
    for call in range(40):
        is_changed = changed(source["x"], near(problem, workload, source, call=call)["x"])
        assert is_changed.any(dim=1).sum() == 1
        count = int(is_changed.sum())
        kinds.add("element" if count == 1 else "row")
        assert count == 1 or count > 100
    assert kinds == {"element", "row"}


def test_places_of_near_duplicates_are_spread_and_repeatable():
    problem, workload = make_problem(), make_workload()
    source = filled(problem, workload)
    places = []
    for call in range(60):
        once, twice = (near(problem, workload, source, call=call)["x"] for _ in range(2))
        assert torch.equal(once, twice)
        places.append(int(changed(source["x"], once).any(dim=1).to(torch.uint8).argmax()))
    assert set(places) == set(range(8))


def test_the_source_is_not_modified_and_may_be_the_target():
    problem, workload = make_problem(), make_workload()
    source = filled(problem, workload)
    before = source["x"].clone()
    apart = near(problem, workload, source, call=3)
    assert torch.equal(source["x"], before)
    DeviceContents(problem, workload, KEY, "cpu").perturb(source, source, call=3)
    assert torch.equal(source["x"], apart["x"])


def test_only_activations_are_changed():
    problem, workload = linear_problem(), linear_workload()
    source = filled(problem, workload)
    for call in range(20):
        after = near(problem, workload, source, call=call)
        assert torch.equal(after["w"], source["w"])
        assert torch.equal(after["b"], source["b"])
        assert not torch.equal(after["x"], source["x"])


def test_parameters_are_changed_where_there_is_no_activation():
    rules = tuple(InputRule(input=n, role="parameter", low=-2, high=3) for n in ("x", "w", "b"))
    problem, workload = linear_problem(rules=rules), linear_workload()
    source = filled(problem, workload)
    seen: set[str] = set()
    for call in range(40):
        after = near(problem, workload, source, call=call)
        seen.update(n for n in source if not torch.equal(after[n], source[n]))
    assert seen == {"x", "w", "b"}


def test_inputs_with_a_single_value_are_left_alone():
    problem = one_input(DType.INT8, InputRule(input="x", low=4, high=4))
    source = filled(problem, make_workload())
    assert torch.equal(near(problem, make_workload(), source, call=1)["x"], source["x"])


@pytest.mark.parametrize("profile", list(ProfileName))
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_near_duplicate_is_never_its_source(profile, dtype):
    problem, workload = one_input(dtype), make_workload(axes={"B": 3, "N": 2})
    for call in range(20):
        source = filled(problem, workload, call=call, profile=profile)
        after = near(problem, workload, source, call=call)["x"]
        is_changed = changed(source["x"], after)
        assert 1 <= is_changed.sum() <= 2
        assert after[is_changed].isfinite().all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, "top"])
def test_rows_of_any_one_value_are_changed_to_finite_ones(dtype, value):
    problem, workload = one_input(dtype), make_workload(axes={"B": 2, "N": 3})
    number = largest_finite(dtype) if value == "top" else value
    source = {"x": torch.full((2, 3), number, dtype=torch_dtype(dtype))}
    for call in range(10):
        after = near(problem, workload, source, call=call)["x"]
        is_changed = changed(source["x"], after)
        assert is_changed.any()
        assert after[is_changed].isfinite().all()
        assert (after[is_changed] != number).all()


@settings(max_examples=40, deadline=None)
@given(
    call=st.integers(0, 10**6),
    rows=st.integers(1, 9),
    length=st.integers(2, 300),
    dtype=st.sampled_from(NARROW),
)
def test_a_near_duplicate_changes_a_softmax_far_beyond_its_bound(call, rows, length, dtype):
    tensors = [Tensor(name=n, shape=("B", "N"), dtype=dtype) for n in ("x", "y")]
    problem = make_problem(inputs=(tensors[0],), outputs=(tensors[1],))
    workload = make_workload(axes={"B": rows, "N": length})
    source = filled(problem, workload, call=call)
    after = near(problem, workload, source, call=call)
    assert moved(problem, workload, source, after) > (100 if dtype is DType.FLOAT32 else 10)


@settings(max_examples=40, deadline=None)
@given(call=st.integers(0, 10**6), inner=st.integers(1, 500))
def test_a_near_duplicate_changes_a_product_far_beyond_its_bound(call, inner):
    problem = linear_problem()
    workload = linear_workload(axes={"M": 4, "N": 6, "K": inner})
    source = filled(problem, workload, call=call)
    after = near(problem, workload, source, call=call)
    assert moved(problem, workload, source, after) > 100


@settings(max_examples=40, deadline=None)
@given(call=st.integers(0, 10**6))
def test_a_near_duplicate_crosses_the_corner_of_a_relu(call):
    """A change that stays on the flat side would not be seen."""
    problem, workload = one_input(DType.FLOAT32), make_workload()
    source = filled(problem, workload, call=call)
    assert moved(problem, workload, source, near(problem, workload, source, call=call)) > 100


@settings(max_examples=60, deadline=None)
@given(
    call=st.integers(0, 10**6),
    low=st.integers(-128, 126),
    span=st.integers(1, 255),
)
def test_a_near_duplicate_of_whole_numbers_stays_in_range_and_differs(call, low, span):
    high = min(low + span, 127)
    problem = one_input(DType.INT8, InputRule(input="x", low=low, high=high))
    workload = make_workload(axes={"B": 3, "N": 5})
    source = filled(problem, workload, call=call)
    after = near(problem, workload, source, call=call)["x"]
    assert after.min() >= low
    assert after.max() <= high
    assert int((after != source["x"]).sum()) in {1, 5}


def test_a_flipped_bool_is_a_near_duplicate():
    problem = one_input(DType.BOOL)
    source = filled(problem, make_workload())
    after = near(problem, make_workload(), source, call=1)["x"]
    assert int((after != source["x"]).sum()) in {1, 128}
