"""The oracle's questions and answers, on memory of the processor: the same code, another device."""

import numpy as np
import pytest
import torch

from gpu_runner.device.marks import POISONS, broken_guard, poison, unwritten
from gpu_runner.device.oracle_process import OracleHost
from gpu_runner.device.placement import place
from gpu_runner.device.tensors import SlotTensors
from gpu_runner.oracle.elements import from_float64
from gpu_runner.problem import DType, Tensor
from tests.builders import make_problem, make_workload

HALF = (Tensor(name="x", shape=("B", "N"), dtype=DType.BFLOAT16),)
HALF_OUT = (Tensor(name="y", shape=("B", "N"), dtype=DType.BFLOAT16),)


def tensors_of(problem, *, slots=3, mode="timed", axes=None):
    placement = place(
        problem, make_workload(axes=axes or {"B": 5, "N": 33}), slots=slots, mode=mode
    )
    slabs = [torch.zeros(slab.bytes, dtype=torch.uint8) for slab in placement.slabs]
    return SlotTensors(problem, placement, slabs)


def host_of(problem=None, **changes):
    problem = problem or make_problem()
    tensors = tensors_of(problem, **changes)
    return OracleHost(problem, [tensors], "cpu"), tensors


def stage(host, *, call=1, near=False, profile=None):
    host.stage({"place": 0, "call": call, "near": near, "profile": profile})


def judge(host, *, hidden=False):
    return host.judge({"place": 0, "case": "rows/timed", "hidden": hidden})


def answer_rightly(tensors):
    x = tensors.inputs["x"].double()
    tensors.outputs["y"].copy_(torch.softmax(x, -1))


@pytest.mark.parametrize("mode", ["timed", "fenced_end", "fenced_start"])
def test_right_outputs_are_right_in_every_slot(mode):
    slots = 3 if mode == "timed" else 1
    host, tensors = host_of(mode=mode, slots=slots)
    stage(host)
    host.poison({"place": 0, "index": 0})
    answer_rightly(tensors)
    found = judge(host)
    assert found["outputs"] == slots
    assert 0 < found["worst"] < 1


def test_every_slot_and_every_call_has_contents_of_its_own():
    host, tensors = host_of()
    stage(host, call=1)
    first = tensors.inputs["x"].clone()
    assert not torch.equal(first[0], first[1])
    stage(host, call=2)
    assert not torch.equal(tensors.inputs["x"], first)


def test_a_near_duplicate_differs_a_little_in_every_slot():
    host, tensors = host_of()
    stage(host)
    before = tensors.inputs["x"].clone()
    stage(host, call=2, near=True)
    changed = (tensors.inputs["x"] != before).flatten(1).sum(dim=1)
    assert changed.min() >= 1
    assert changed.max() <= 33


def test_one_wrong_element_of_the_last_slot_is_found_and_named():
    host, tensors = host_of()
    stage(host)
    answer_rightly(tensors)
    poison_free = judge_after_poison(host, tensors)
    assert poison_free["worst"] < 1
    tensors.outputs["y"][2, 4, 32] += 0.25
    found = judge(host)
    assert found["mismatch"]["index"] == [4, 32]
    assert found["unwritten"] == ""
    assert judge(host, hidden=True)["mismatch"]["index"] is None


def judge_after_poison(host, tensors):
    host.poison({"place": 0, "index": 1})
    answer_rightly(tensors)
    return judge(host)


def test_an_output_nobody_wrote_is_called_unwritten():
    host, tensors = host_of()
    stage(host)
    host.poison({"place": 0, "index": 0})
    answer_rightly(tensors)
    host.poison({"place": 0, "index": 1})
    tensors.outputs["y"][:2].copy_(torch.softmax(tensors.inputs["x"][:2].double(), -1))
    found = judge(host)
    assert found["unwritten"] == "y"


@pytest.mark.parametrize("pattern", POISONS)
@pytest.mark.parametrize("beside", ["before", "after", "far after"])
def test_a_byte_beside_an_output_is_noticed(pattern, beside):
    problem = make_problem(inputs=HALF, outputs=HALF_OUT)
    tensors = tensors_of(problem, axes={"B": 3, "N": 7})
    poison(tensors, pattern)
    assert broken_guard(tensors, problem, pattern) == ""
    spot = tensors.placement.spots[0 if beside == "before" else 2]["y"]
    at = {
        "before": spot.offset - 1,
        "after": spot.offset + spot.bytes,
        "far after": spot.offset + spot.bytes + 60_000,
    }[beside]
    tensors.slabs[spot.slab][at] ^= 1
    assert broken_guard(tensors, problem, pattern) == "y"


def test_writing_the_output_itself_breaks_no_guard():
    problem = make_problem(inputs=HALF, outputs=HALF_OUT)
    tensors = tensors_of(problem, axes={"B": 3, "N": 7})
    poison(tensors, POISONS[1])
    assert unwritten(tensors, problem, POISONS[1]) == "y"
    tensors.outputs["y"].fill_(1.0)
    assert broken_guard(tensors, problem, POISONS[1]) == ""
    assert unwritten(tensors, problem, POISONS[1]) == ""


@pytest.mark.parametrize("pattern", POISONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_poison_is_not_a_number_in_every_float_type(pattern, dtype):
    words = torch.tensor([pattern - (1 << 32) if pattern >> 31 else pattern], dtype=torch.int32)
    assert words.view(dtype).isnan().all()


def test_outputs_that_change_between_two_calls_are_told_apart_by_one_bit():
    host, tensors = host_of()
    stage(host)
    answer_rightly(tensors)
    host.keep({"place": 0})
    assert host.same({"place": 0}) == {"differs": ""}
    host.keep({"place": 0})
    tensors.outputs["y"].view(torch.int32)[1, 0, 0] ^= 1
    assert host.same({"place": 0}) == {"differs": "y"}


def test_inputs_come_from_files_and_outputs_go_to_them(tmp_path):
    problem = make_problem(inputs=HALF, outputs=HALF_OUT)
    host, tensors = host_of(problem, slots=1, axes={"B": 2, "N": 3})
    values = np.arange(6.0).reshape(2, 3)
    from_float64(values, DType.BFLOAT16).tofile(tmp_path / "x")
    host.put({"place": 0, "folder": str(tmp_path)})
    assert tensors.inputs["x"][0].tolist() == values.tolist()
    tensors.outputs["y"].fill_(2.5)
    host.get({"place": 0, "folder": str(tmp_path)})
    raw = np.fromfile(tmp_path / "y", dtype=np.uint16)
    assert raw.tolist() == from_float64(np.full(6, 2.5), DType.BFLOAT16).tolist()


def test_a_new_key_gives_new_contents_and_tells_only_its_digest():
    host, tensors = host_of()
    stage(host)
    first = tensors.inputs["x"].clone()
    digests = {host.renew({})["key_digest"] for _ in range(3)}
    assert len(digests) == 3
    assert all(len(d) == 64 for d in digests)
    stage(host)
    assert not torch.equal(tensors.inputs["x"], first)


def test_the_reference_in_own_precision_has_an_error_of_its_own():
    host, _ = host_of(axes={"B": 64, "N": 128})
    stage(host)
    rms = host.trusted_rms({"place": 0})["rms"]
    assert 0 < rms["y"] < 1e-5
