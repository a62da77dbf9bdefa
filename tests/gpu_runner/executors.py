"""An executor that does what a job's source text says, and builders of such jobs.

Named as `tests.gpu_runner.executors:obey`; it runs in real children of real workers.
"""

import asyncio
import ctypes
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_runner.device.health import DeviceUnhealthy, unserved
from gpu_runner.errors import ToolchainMissing
from gpu_runner.jobs import Build, Built, Check, Reason, Rejected, Stage, Unfit
from tests.builders import make_candidate, make_problem, make_workload

EXECUTOR = "tests.gpu_runner.executors:obey"


def make_job(job_id: str = "job", order: str = "answer", **changes) -> Build:
    """A build job whose source text is an order to `obey`."""
    candidate = make_candidate(text=order)
    return Build(job_id=job_id, problem=make_problem(), candidate=candidate, **changes)


def make_check(job_id: str = "job", order: str = "answer", **changes) -> Check:
    """The same as a check, which owns its worker."""
    job = make_job(job_id, order)
    values = {"problem": job.problem, "candidate": job.candidate, "workloads": (make_workload(),)}
    return Check(job_id=job_id, **{**values, **changes})


def make_built(job_id: str = "job", **changes) -> Built:
    """What `obey` answers."""
    values = {"artefact_digest": "a" * 64, "compiler": "none", "seconds": 0.0, "is_cached": False}
    return Built(**{"job_id": job_id, **values, **changes})


def seen(value: object) -> Any:
    """A value whose class the test expects; a wrong one fails where its fields are read."""
    return value


async def until(is_true, *, patience_s=20.0):
    """Wait for a condition; a test that waits in vain fails here."""
    give_up_s = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < give_up_s, "waited in vain"
        await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def executions(workspace: Path, event: str = "finished") -> list[str]:
    """Job ids of the log's lines of one event, in order."""
    path = workspace / "executions.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry["job_id"] for entry in map(json.loads, lines) if entry["event"] == event]


def obey(job, workspace: Path):
    word, _, rest = job.candidate.sources[0].text.partition(" ")
    return ORDERS[word](job, workspace, rest)


PREPARED_BY: list[int] = []


def prepare() -> None:
    PREPARED_BY.append(os.getpid())


def tell_prepared(job, workspace, rest):
    """Answer with the pids of the processes that prepared this one, as a compiler's name."""
    return make_built(job.job_id, compiler=f"prepared by {PREPARED_BY}")


def answer(job, workspace, rest):
    return make_built(job.job_id)


def sleep(job, workspace, rest):
    time.sleep(float(rest))
    return make_built(job.job_id)


def await_file(job, workspace, rest):
    """Until the file named is in the workspace."""
    while not (workspace / rest).exists():
        time.sleep(0.01)
    return make_built(job.job_id)


def sleep_alone(job, workspace, rest):
    """Sleep, and leave a mark in a folder if another execution of the job sleeps at the time."""
    seconds, folder = rest.split(" ", 1)
    with (Path(folder) / f"{job.job_id}.alone").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            (Path(folder) / f"{job.job_id}.overlap").touch()
        time.sleep(float(seconds))
    return make_built(job.job_id)


def hold_alone(job, workspace, rest):
    """The same until the folder has a file of the workspace's name."""
    folder = Path(rest)
    with (folder / f"{job.job_id}.alone").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            (folder / f"{job.job_id}.overlap").touch()
        while not (folder / workspace.name).exists():
            time.sleep(0.02)
    return make_built(job.job_id)


def raise_error(job, workspace, rest):
    raise KeyError(rest)


def leave(job, workspace, rest):
    os.write(1, b"last words")
    os._exit(int(rest))


def crash(job, workspace, rest):
    ctypes.string_at(0)


def hang(job, workspace, rest):
    """Deaf to SIGTERM, with a grandchild in a session of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return fork(job, workspace, rest)


def fork(job, workspace, rest):
    """Leave a daemon; its pid goes to the file `daemon`."""
    code = "import time; time.sleep(600)"
    daemon = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    draft = workspace / "daemon.tmp"
    draft.write_text(str(daemon.pid))
    draft.replace(workspace / "daemon")
    time.sleep(float(rest or 600))
    return make_built(job.job_id)


def fill_disk(job, workspace, rest):
    raise OSError(errno.ENOSPC, "No space left on device", str(workspace / "cache"))


def exhaust_memory(job, workspace, rest):
    raise MemoryError


def miss_tool(job, workspace, rest):
    raise ToolchainMissing("g++ is not installed; apt-get install g++")


def mistake(job, workspace, rest):
    return make_built("another-job")


def say_much(job, workspace, rest):
    return make_built(job.job_id, log_tail="x" * int(rest))


def surrogate(job, workspace, rest):
    raise OSError(errno.EIO, "bad name", "\udcff")


def tell_variable(job, workspace, rest):
    return make_built(job.job_id, compiler=os.environ.get(rest, "(unset)"))


def reject(job, workspace, rest):
    return Rejected(
        job_id=job.job_id,
        stage=Stage.BUILD,
        reason=Reason.COMPILE_FAILED,
        message="a semicolon is missing",
        log_tail="line 3",
    )


def find_unfit(job, workspace, rest):
    return Unfit(job_id=job.job_id, message="the reference raises")


def once_killed(job, workspace, rest):
    """Die of SIGKILL the first time."""
    mark = workspace / f"{job.job_id}.mark"
    if not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return make_built(job.job_id)


def find_unhealthy(job, workspace, rest):
    return unserved(job.job_id, DeviceUnhealthy("device GPU-0 is out of service: Xid 79"))


ORDERS = {
    "answer": answer,
    "sleep": sleep,
    "await": await_file,
    "alone": sleep_alone,
    "hold": hold_alone,
    "raise": raise_error,
    "leave": leave,
    "crash": crash,
    "hang": hang,
    "fork": fork,
    "full": fill_disk,
    "memory": exhaust_memory,
    "tool": miss_tool,
    "mistake": mistake,
    "much": say_much,
    "surrogate": surrogate,
    "once-killed": once_killed,
    "reject": reject,
    "unfit": find_unfit,
    "unhealthy": find_unhealthy,
    "variable": tell_variable,
    "prepared": tell_prepared,
}
