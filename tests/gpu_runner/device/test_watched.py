import os
import sys
import time

import pytest

from gpu_runner.device.replay import EXIT_CUDA, EXIT_UNABLE, Replay
from gpu_runner.device.watched import (
    Ended,
    find_tool,
    refuse_failure,
    replay_command,
    run_watched,
)
from gpu_runner.errors import RunnerError, SubjectFailed
from gpu_runner.jobs import Reason
from tests.builders import make_problem, make_workload
from tests.gpu_runner.device.plans import make_plan
from tests.gpu_runner.device.tools import write_tool
from tests.gpu_runner.executors import is_alive


def python(text):
    return [sys.executable, "-c", text]


def test_streams_are_kept_apart_and_whole(tmp_path):
    text = "import sys; print('x' * 100_000); print('y', file=sys.stderr); sys.exit(5)"
    ended = run_watched(python(text), timeout_s=30, folder=tmp_path)
    assert (ended.returncode, ended.output, ended.errors) == (5, "x" * 100_000 + "\n", "y\n")


def test_bytes_that_are_no_text_are_replaced(tmp_path):
    text = "import sys; sys.stdout.buffer.write(b'a\\xffb')"
    assert run_watched(python(text), timeout_s=30, folder=tmp_path).output == "a\ufffdb"


def test_program_starts_in_its_folder_with_its_own_temporary_files(tmp_path):
    text = "import os, tempfile; print(os.getcwd(), tempfile.gettempdir())"
    said = run_watched(python(text), timeout_s=30, folder=tmp_path).output.split()
    assert said == [os.path.realpath(tmp_path), str(tmp_path)]


@pytest.mark.processes
def test_late_program_is_killed_with_its_children(tmp_path):
    text = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    ended = run_watched(python(text), timeout_s=1.5, folder=tmp_path)
    assert ended.returncode is None
    child = int(ended.output)
    give_up_s = time.monotonic() + 10
    while is_alive(child):
        assert time.monotonic() < give_up_s


def test_tool_is_found_on_path_first(tmp_path, monkeypatch):
    path = write_tool(tmp_path, "ncu", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tool("ncu") == str(path)
    assert find_tool("no-such-tool") is None


def test_command_writes_the_job_that_the_program_reads(tmp_path):
    replay = Replay(problem=make_problem(), plans=(make_plan(),), workload=make_workload())
    line = replay_command(
        replay, tmp_path / "a", folder=tmp_path, repeat=7, warmups=2, is_timed=True
    )
    job = tmp_path / line[line.index("--job") + 1]
    assert Replay.model_validate_json(job.read_bytes()) == replay
    assert line[line.index("--repeat") + 1] == "7"
    assert line[line.index("--warmups") + 1] == "2"
    assert line[-1] == "--time"
    watched = replay_command(
        replay, tmp_path / "a", folder=tmp_path, repeat=1, warmups=0, is_timed=False
    )
    assert "--time" not in watched


def test_good_end_is_nobodys_fault():
    refuse_failure(Ended(returncode=0, output="", errors=""), where="w", timeout_s=1)


@pytest.mark.parametrize(
    ("code", "errors", "reason", "said"),
    [
        (None, "", Reason.TIMED_OUT, "did not end within 9 s; workload 'w'"),
        (
            EXIT_CUDA,
            "replay: cuCtxSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS\n",
            Reason.CRASHED,
            "^cuCtxSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS; workload 'w'$",
        ),
    ],
)
def test_kernels_that_fail_are_the_candidates_fault(code, errors, reason, said):
    ended = Ended(returncode=code, output="", errors=errors)
    with pytest.raises(SubjectFailed, match=said) as failure:
        refuse_failure(ended, where="workload 'w'", timeout_s=9)
    assert failure.value.reason is reason


@pytest.mark.parametrize("code", [EXIT_UNABLE, 1, -9])
def test_program_that_fails_is_ours(code):
    ended = Ended(returncode=code, output="", errors="replay: no such file\n")
    with pytest.raises(RunnerError, match="no such file") as failure:
        refuse_failure(ended, where="w", timeout_s=9)
    assert not isinstance(failure.value, SubjectFailed)
