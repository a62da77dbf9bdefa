"""What hosts are told, read back word by word."""

import json
import struct
from pathlib import Path

import pytest

from gpu_runner.host.layout import ArenaMode, lay_out
from gpu_runner.host.setup import Memory, native_setup, python_setup
from gpu_runner.languages.header import argument_words
from gpu_runner.problem import Axis, DType, Scalar, Tensor
from tests.builders import make_problem, make_workload

PROBLEM = make_problem(
    axes=(
        Axis(name="B", kind="var"),
        Axis(name="H", kind="const", value=6),
        Axis(name="D", kind="expr", expression="H // 2"),
    ),
    inputs=(
        Tensor(name="x", shape=("B", "H"), dtype=DType.FLOAT32),
        Tensor(name="w", shape=("D",), dtype=DType.INT8),
    ),
    outputs=(Tensor(name="y", shape=("B",), dtype=DType.BFLOAT16),),
    scalars=(Scalar(name="eps"), Scalar(name="count", kind="int", default=-3)),
    flops="0",
)
SMALL = make_workload(name="secret_name", axes={"B": 2}, scalars={"eps": 0.25})
LARGE = make_workload(axes={"B": 5000}, scalars={"eps": 1.5, "count": 9})


def memories(mode):
    return [
        Memory(
            layout=lay_out(PROBLEM, workload, slots=slots, mode=mode, page_bytes=4096),
            input_fd=fd,
            output_fd=fd + 1,
        )
        for workload, slots, fd in ((SMALL, 2, 10), (LARGE, 3, 20))
    ]


class Words:
    """A cursor over 64-bit words."""

    def __init__(self, content):
        self.content, self.at = content, 0

    def take(self, kinds):
        values = struct.unpack_from(f"={kinds}", self.content, self.at)
        self.at += 8 * len(values)
        return values


@pytest.mark.parametrize("mode", list(ArenaMode))
def test_native_setup_holds_segments_then_arenas(mode):
    known = memories(mode)
    words = Words(native_setup(PROBLEM, (SMALL, LARGE), known, threads=4))
    count, arenas, tensors, tail = words.take("4q")
    assert (arenas, tensors, tail) == (2, 3, 6)
    segments = [words.take("4q") for _ in range(count)]
    assert segments == [
        (m.output_fd if s.is_output else m.input_fd, s.is_output, s.file_offset, s.length)
        for m in known
        for s in m.layout.segments
    ]
    first = 0
    tails = [(2, 6, 3, 0.25, -3, 4), (5000, 6, 3, 1.5, 9, 4)]
    for memory, expected in zip(known, tails, strict=True):
        (slots,) = words.take("q")
        assert slots == len(memory.layout.inputs)
        assert words.take("3qdqq") == expected
        for slot in range(slots):
            places = (*memory.layout.inputs[slot], *memory.layout.outputs[slot])
            found = [words.take("2q") for _ in places]
            assert found == [(first + p.segment, p.offset) for p in places]
        first += len(memory.layout.segments)
    assert words.at == len(words.content)


def test_argument_block_is_the_struct_of_the_header():
    words = Words(native_setup(PROBLEM, (SMALL, LARGE), memories(ArenaMode.TIMED), threads=1))
    _, _, tensors, tail = words.take("4q")
    assert tensors + tail == argument_words(PROBLEM)


def told(**changes):
    values = {
        "threads": 2,
        "entry": Path("/kernels/candidate.py"),
        "calling": "returning",
        "unplugged_ops": ("aten::mm",),
    }
    text = python_setup(PROBLEM, (SMALL, LARGE), memories(ArenaMode.TIMED), **{**values, **changes})
    return json.loads(text)


def test_python_setup_holds_the_same_in_words():
    setup = told()
    assert setup["dtypes"] == ["float32", "int8", "bfloat16"]
    assert (setup["inputs"], setup["threads"], setup["returns"]) == (2, 2, True)
    assert (setup["entry"], setup["unplugged"]) == ("/kernels/candidate.py", ["aten::mm"])
    assert [a["shapes"] for a in setup["arenas"]] == [[[2, 6], [3], [2]], [[5000, 6], [3], [5000]]]
    assert [a["scalars"] for a in setup["arenas"]] == [[0.25, -3], [1.5, 9]]
    assert [len(a["slots"]) for a in setup["arenas"]] == [2, 3]
    indexes = {index for a in setup["arenas"] for slot in a["slots"] for index, _ in slot}
    assert indexes == {0, 1, 2, 3}
    assert [s[0] for s in setup["segments"]] == [10, 11, 20, 21]


def test_scalars_keep_their_kind():
    scalars = told()["arenas"][0]["scalars"]
    assert [type(value) for value in scalars] == [float, int]


def test_destination_passing_is_told():
    assert told(calling="destination")["returns"] is False


def test_names_of_workloads_and_tensors_are_not_told():
    known = memories(ArenaMode.TIMED)
    text = json.dumps(told())
    for word in ("secret_name", "softmax", '"x"', '"w"', '"y"', "eps", "normal", "public"):
        assert word not in text
    assert b"secret" not in native_setup(PROBLEM, (SMALL, LARGE), known, threads=1)
