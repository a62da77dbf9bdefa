"""The Python host as whole subjects."""

import os
import socket
import struct
from contextlib import suppress

import numpy as np
import pytest
import torch

from gpu_runner.errors import SubjectFailed
from gpu_runner.host import python_host
from gpu_runner.host.arena import Arena, ArenaMode
from gpu_runner.host.subject import Subject
from gpu_runner.jobs import Reason
from gpu_runner.problem import Axis, DType, Scalar, Tensor
from tests.builders import SOFTMAX_PYTHON, make_problem, make_workload
from tests.gpu_runner.host.kernels import POISON, make_plan, write_module
from tests.gpu_runner.host.serving import ONLY_PROTOCOL


def serve(artefact, problem, workload, *, fill=None, mode=ArenaMode.TIMED, calls=1, **changes):
    """Return outputs of the last call and the log."""
    with Arena(problem, workload, slots=2, mode=mode) as arena:
        rng = np.random.default_rng(0)
        for tensor in problem.inputs:
            view = arena.input(1, tensor.name)
            view[...] = rng.integers(1, 5, view.shape) if fill is None else fill
        with Subject(make_plan(artefact, arena, **changes)) as subject:
            subject.wait_ready()
            for _ in range(calls):
                arena.poison([1], POISON)
                subject.call(0, 1, 1)
            outputs = {t.name: arena.output(1, t.name).copy() for t in problem.outputs}
            assert arena.unwritten([1], POISON) is None
            assert arena.broken_guard([1]) is None
            subject.refuse_movement()
            return outputs, subject.close()


MANY = """
import torch
import warnings
warnings.simplefilter("error")

def run(x, w, i, s, alpha, shift, y, total):
    assert (x.dtype, w.dtype, i.dtype) == (torch.bfloat16, torch.float16, torch.int8)
    assert s.shape == () and isinstance(alpha, float) and isinstance(shift, int)
    assert torch.get_num_threads() == 1 and not torch.is_grad_enabled()
    y.copy_((x.float() * w.float() * alpha + i.float() + shift).to(torch.bfloat16))
    total.copy_(s + x.float().sum())
"""


@pytest.mark.processes
def test_every_kind_of_argument_arrives_in_order(tmp_path):
    problem = make_problem(
        axes=(Axis(name="B", kind="var"), Axis(name="N", kind="const", value=8)),
        inputs=(
            Tensor(name="x", shape=("B", "N"), dtype=DType.BFLOAT16),
            Tensor(name="w", shape=("N",), dtype=DType.FLOAT16),
            Tensor(name="i", shape=("B", "N"), dtype=DType.INT8),
            Tensor(name="s", shape=(), dtype=DType.FLOAT32),
        ),
        outputs=(
            Tensor(name="y", shape=("B", "N"), dtype=DType.BFLOAT16),
            Tensor(name="total", shape=(), dtype=DType.FLOAT32),
        ),
        scalars=(Scalar(name="alpha"), Scalar(name="shift", kind="int")),
        flops="0",
    )
    workload = make_workload(axes={"B": 3}, scalars={"alpha": 0.5, "shift": 4})
    artefact = write_module(tmp_path / "a", MANY, calling="destination")
    with Arena(problem, workload, slots=1, mode=ArenaMode.FENCED_END) as arena:
        arena.input(0, "x")[...] = 0x4000  # 2 in bfloat16
        arena.input(0, "w")[...] = 3
        arena.input(0, "i")[...] = -2
        arena.input(0, "s")[...] = 10
        with Subject(make_plan(artefact, arena)) as subject:
            subject.wait_ready()
            arena.poison([0], POISON)
            subject.call(0, 0, 1)
            assert subject.close() == ""
        assert (arena.output(0, "y") == 0x40A0).all()  # 5 in bfloat16
        assert arena.output(0, "total") == 58


@pytest.mark.processes
@pytest.mark.parametrize("without", [frozenset(), ONLY_PROTOCOL], ids=["all", "bare"])
def test_returning_module_is_served(tmp_path, zygote, without):
    artefact = write_module(tmp_path / "a", SOFTMAX_PYTHON)
    outputs, log = serve(
        artefact, make_problem(), make_workload(), calls=3, without=without, zygote=zygote
    )
    np.testing.assert_allclose(outputs["y"].sum(-1), 1, rtol=1e-5)
    assert log == ""


SECRETIVE = """
import gc
import os
import subprocess
import sys
import torch

SEEN = [*os.environ, *os.environ.values(), *sys.argv]
assert "KERNELPILOT_SECRET" not in os.environ
assert os.environ["CAND_BUILD_DIR"].endswith("build"), os.environ
try:
    subprocess.run(["true"])
except PermissionError:
    pass
else:
    raise AssertionError("a process was started")
import socket
try:
    socket.socket()
except PermissionError:
    pass
else:
    raise AssertionError("a socket was made")
try:
    open(os.path.join(os.path.dirname(__file__), "planted"), "w")
except OSError:
    pass
else:
    raise AssertionError("the artefact can be written")

def run(x):
    frame = sys._getframe(1)
    while frame is not None:
        SEEN.append(frame.f_code.co_name)
        tensors = [v for v in frame.f_locals.values() if isinstance(v, torch.Tensor)]
        assert all(t is x or (t.flatten()[:1].view(torch.int32) == 0xFFC0DEAD - 2**32).all()
                   for t in tensors)
        frame = frame.f_back
    words = ("time", "timing", "bench", "perf", "latency", "measure", "profile")
    assert not [s for s in SEEN if any(w in s.lower() for w in words)], SEEN
    assert not [f for f in map(int, os.listdir("/proc/self/fd"))
                if f > 3 and "memfd" in os.readlink(f"/proc/self/fd/{f}")]
    return x + 0
"""


@pytest.mark.processes
@pytest.mark.parametrize("is_forked", [False, True], ids=["new", "forked"])
def test_candidate_sees_nothing_and_can_do_nothing(tmp_path, monkeypatch, zygote, is_forked):
    monkeypatch.setenv("KERNELPILOT_SECRET", "a key")
    artefact = write_module(tmp_path / "a", SECRETIVE)
    origin = zygote if is_forked else None
    outputs, _ = serve(artefact, make_problem(), make_workload(), fill=3.0, zygote=origin)
    assert (outputs["y"] == 3).all()


def answers_of(act):
    """Run `act(channel)` in a fork of this process; return what it sent and its status."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.send(struct.pack("=8sIIII", b"12345678", 0, 0, 1, 0))
    ours.shutdown(socket.SHUT_WR)
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        status = 99
        try:
            act(theirs.fileno())
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            os._exit(status)
    theirs.close()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    answers = []
    with ours:
        while True:
            # An end that closes with a token unread resets ours: once, and before its answers.
            with suppress(ConnectionResetError):
                answer = ours.recv(64)
                if not answer:
                    break
                answers.append(answer)
    return answers, status


def serving(run):
    output = torch.zeros(2)
    arenas: list[list[python_host.Slot]] = [[((torch.ones(2),), (output,))]]
    return lambda channel: python_host.serve(channel, run, arenas, returns=True)


def raising(error):
    def run(x):
        raise error

    return run


@pytest.mark.processes
@pytest.mark.parametrize(
    ("run", "answers", "status"),
    [
        (lambda x: x, [b"12345678"], 99),
        (raising(KeyError("gone")), [b"\x02"], 1),
        (raising(MemoryError()), [b"\x02"], 1),
        (lambda x: x[:1], [b"\x03"], 1),
        (lambda x: None, [b"\x03"], 1),
        (raising(SystemExit(0)), [], 0),
        (lambda x: os._exit(0), [], 0),
    ],
)
def test_answer_tells_success_from_every_failure(run, answers, status):
    assert answers_of(serving(run)) == (answers, status)


@pytest.mark.processes
@pytest.mark.parametrize(
    "text", ["import nothing_like_it", "runs = 1", "def run(x) return x", "raise ValueError"]
)
def test_module_that_cannot_be_loaded_has_its_code(tmp_path, text):
    path = tmp_path / "candidate.py"
    path.write_text(text)
    assert answers_of(lambda channel: python_host.load(channel, path)) == ([b"\x01"], 1)


@pytest.mark.processes
def test_module_finds_its_neighbours_and_no_arguments(tmp_path):
    (tmp_path / "neighbour.py").write_text("VALUE = 5")
    path = tmp_path / "candidate.py"
    path.write_text(
        "import sys\nfrom neighbour import VALUE\ndef run(x):\n    return VALUE, sys.argv"
    )

    def act(channel):
        value, words = python_host.load(channel, path)(1)
        os._exit(value if words == [""] else 98)

    assert answers_of(act) == ([], 5)


FORGING = """
import os
import sys

def run(x):
    os.write(sys._getframe(1).f_locals["channel"], bytes(8))
    return x
"""
FAILURES = {
    "raises": ("def run(x):\n    raise KeyError('gone')", Reason.ENTRY_FAILED, "KeyError: 'gone'"),
    "writes input": ("def run(x):\n    return x.zero_()", Reason.CRASHED, "SIGSEGV"),
    "forges": (FORGING, Reason.PROTOCOL_VIOLATED, "token's number"),
}


@pytest.mark.processes
@pytest.mark.parametrize("name", FAILURES)
def test_failure_has_its_reason(tmp_path, zygote, name):
    text, reason, said = FAILURES[name]
    artefact = write_module(tmp_path / "a", text)
    with pytest.raises(SubjectFailed) as caught:
        serve(artefact, make_problem(), make_workload(), zygote=zygote)
    assert caught.value.reason is reason
    assert said in caught.value.message


@pytest.mark.processes
def test_unplugged_subject_shows_a_library_call(tmp_path, zygote):
    artefact = write_module(
        tmp_path / "a", "import torch\ndef run(x):\n    return torch.softmax(x, -1)"
    )
    outputs, _ = serve(
        artefact,
        make_problem(),
        make_workload(),
        unplugged_ops=("aten::_softmax",),
        zygote=zygote,
    )
    assert np.isnan(outputs["y"]).all()


TRUSTED = """
import os
import subprocess

BUILT = subprocess.run(["g++", "--version"], capture_output=True).returncode
with open(os.environ["TORCHINDUCTOR_CACHE_DIR"] + "/kept", "w") as file:
    file.write("kept")

def run(x):
    assert BUILT == 0
    return x + 1
"""


@pytest.mark.processes
def test_trusted_baseline_may_compile_and_keep_what_it_compiled(tmp_path, zygote):
    artefact = write_module(tmp_path / "a", TRUSTED, is_trusted=True)
    (tmp_path / "a" / "inductor").mkdir()
    outputs, _ = serve(
        artefact, make_problem(), make_workload(), fill=1.0, is_trusted=True, zygote=zygote
    )
    assert (outputs["y"] == 2).all()
    assert (tmp_path / "a" / "inductor" / "kept").read_text() == "kept"
