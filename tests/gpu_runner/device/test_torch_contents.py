import pytest
import torch

from gpu_runner.device.torch_contents import DeviceContents
from gpu_runner.device.torch_elements import as_float64
from gpu_runner.problem import DType, InputRule, ProfileName, Tensor
from tests.builders import make_problem, make_workload
from tests.gpu_runner.device.torch_cases import (
    filled,
    near,
    strided,
    tensors_of,
    wide_workload,
)
from tests.gpu_runner.oracle.drawn import KEY, linear_problem, linear_workload, one_input
from tests.gpu_runner.oracle.engines import FLOATS


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
