"""The Python host: its parts in this process."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_runner.host import python_host
from gpu_runner.problem import DType


def deliver(result, *outputs):
    python_host.deliver(result, outputs)


def test_returned_tensor_is_copied():
    output = torch.zeros(2, 3)
    deliver(torch.ones(2, 3), output)
    assert output.eq(1).all()


def test_returned_views_are_copied_element_by_element():
    output = torch.zeros(3, 2)
    deliver(torch.arange(6.0).reshape(2, 3).t(), output)
    assert output.tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("container", [tuple, list])
def test_several_outputs_are_copied_in_order(container):
    first, second = torch.zeros(2), torch.zeros(3, dtype=torch.int32)
    deliver(container([torch.ones(2), torch.full((3,), 7, dtype=torch.int32)]), first, second)
    assert (first.tolist(), second.tolist()) == ([1, 1], [7, 7, 7])


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (torch.ones(3, 2), "expected torch.float32"),
        (torch.ones(6), "expected torch.float32"),
        (torch.ones(1, 1), "expected torch.float32"),
        (torch.ones(2, 3, dtype=torch.float64), "torch.float64"),
        (np.ones((2, 3), np.float32), "a ndarray, not a tensor"),
        (None, "a NoneType, not a tensor"),
        ((torch.ones(2, 3), torch.ones(2, 3)), "2 values for 1 outputs"),
        ((), "0 values for 1 outputs"),
    ],
)
def test_other_results_are_misshapen(result, said):
    with pytest.raises(python_host.Misshapen, match=said):
        deliver(result, torch.zeros(2, 3))


def test_lazy_subclass_gives_what_it_holds():
    class Lazy(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            raise AssertionError("computed after the fact")

    output = torch.zeros(2)
    deliver(torch.full((2,), 5.0).as_subclass(Lazy), output)
    assert output.tolist() == [5, 5]


def test_instance_overrides_are_not_called():
    value = torch.ones(2)
    vars(value).update(to=None, clone=None, copy_=None)
    output = torch.zeros(2)
    deliver(value, output)
    assert output.tolist() == [1, 1]


def test_result_that_needs_gradients_is_copied():
    output = torch.zeros(2)
    with torch.no_grad():
        deliver(torch.ones(2, requires_grad=True), output)
    assert output.tolist() == [1, 1]
    assert not output.requires_grad


@pytest.mark.parametrize("dtype", [d.value for d in DType])
def test_tensors_lie_over_given_memory(dtype):
    kind = getattr(torch, dtype)
    memory = (ctypes.c_char * (6 * kind.itemsize))()
    tensor = python_host.tensor_at(ctypes.addressof(memory), kind, [2, 3])
    tensor.fill_(1)
    assert (tensor.dtype, list(tensor.shape)) == (kind, [2, 3])
    assert bytes(memory) == bytes(torch.ones(6, dtype=kind).view(torch.uint8).tolist())


@pytest.mark.parametrize("shape", [[0], [0, 5], [3, 0, 2]])
def test_empty_tensors_need_no_memory(shape):
    assert list(python_host.tensor_at(0, torch.float32, shape).shape) == shape


def test_zero_dimensional_tensor_is_one_element():
    memory = (ctypes.c_char * 4)()
    tensor = python_host.tensor_at(ctypes.addressof(memory), torch.float32, [])
    assert tensor.shape == ()


def test_segment_is_mapped_between_two_pages():
    page = os.sysconf("SC_PAGE_SIZE")
    fd = os.memfd_create("segment")
    os.write(fd, b"a" * page + b"b" * page)
    address = python_host.map_segment(fd, 1, page, page)
    os.close(fd)
    assert ctypes.string_at(address, 1) == b"b"
    maps = Path("/proc/self/maps").read_text().splitlines()
    ranges = {line.split()[0]: line.split()[1] for line in maps}
    assert ranges[f"{address:x}-{address + page:x}"] == "rw-s"
    assert any(name.endswith(f"-{address:x}") for name, kind in ranges.items() if kind == "---p")
    assert any(name.startswith(f"{address + page:x}-") for name in ranges)


def test_mapping_that_fails_is_an_error():
    with pytest.raises(OSError, match="Bad file descriptor"):
        python_host.map_segment(-1, 0, 0, 4096)


def test_names_of_the_host_do_not_tell_why_it_is_called():
    """Candidates look at callers' names: nothing in them says measurement."""
    words = ("tim", "bench", "perf", "latency", "measure", "profile", "check", "verif")
    names = [n for n in vars(python_host) if callable(getattr(python_host, n))]
    assert [n for n in names if any(w in n.lower() for w in words)] == []


UNPLUGGED = """
import sys
sys.path.insert(0, {root!r})
import torch
from gpu_runner.host import python_host
names = ["aten::_softmax", "aten::silu", "aten::native_layer_norm", "aten::argmax"]
names += ["aten::gelu", "aten::addmm", "aten::mm", "aten::linear", "aten::rms_norm"]
names += ["aten::_int_mm"]
kept = python_host.unplug(names)
x = torch.randn(4, 8)
out = torch.empty(4, 8)
torch.softmax(x, -1, out=out)
inplace = x.clone()
torch.nn.functional.silu(inplace, inplace=True)
for t in (
    torch.softmax(x, -1),
    torch.nn.functional.softmax(x, 0),
    torch._softmax(x, 1, False),
    getattr(x, "softmax")(-1),
    torch.nn.Softmax(dim=-1)(x),
    out,
    torch.nn.functional.silu(x),
    torch.ops.aten.silu.out(x, out=torch.empty(0)),
    inplace,
    torch.nn.functional.layer_norm(x, (8,)),
    torch.nn.functional.layer_norm(x.to(torch.bfloat16), (8,)),
):
    assert t.shape == x.shape and t.isnan().all(), t
w = torch.randn(8, 8)
whole = torch.ones(32, 32, dtype=torch.int8)
for t in (
    torch.nn.functional.gelu(x, approximate="tanh"),
    torch.nn.functional.gelu(x),
    torch.nn.functional.rms_norm(x, (8,)),
    torch.nn.functional.linear(x, w, w[0]),
    torch.addmm(w[0], x, w),
    torch.matmul(x, w),
    x @ w,
):
    assert t.shape == x.shape and t.isnan().all(), t
assert (torch._int_mm(whole, whole) == torch.iinfo(torch.int32).min).all()
assert (x.argmax(-1) == torch.iinfo(torch.int64).min).all()
e = (x - x.amax(-1, keepdim=True)).exp()
assert (e / e.sum(-1, keepdim=True)).isfinite().all()
try:
    python_host.unplug(["aten::no_such_operator"])
except ValueError as error:
    print(error)
"""


def test_unplugged_operators_give_nan_by_every_way():
    root = str(Path(__file__).parents[3])
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", UNPLUGGED.format(root=root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stderr == ""
    assert "has no operator 'aten::no_such_operator'" in finished.stdout
