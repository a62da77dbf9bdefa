"""Runs the replay program under a tool, within a time limit, with nothing left afterwards."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.device.replay import EXIT_CUDA, RANGE, Replay
from gpu_runner.errors import RunnerError, SubjectFailed
from gpu_runner.jobs import Reason

_TOOL_FOLDERS = (Path("/usr/local/cuda/bin"), Path("/opt/cuda/bin"))
_JOB_FILE = "replay.json"
_LEAST_TIMEOUT_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a watched program ended."""

    returncode: int | None
    """None: it ran out of time and was killed."""
    output: str
    """What it and the tool wrote to stdout, whole."""
    errors: str
    """What they wrote to stderr."""


def find_tool(name: str) -> str | None:
    """Return the path of a tool of the CUDA toolkit, also where PATH does not have it."""
    places = os.pathsep.join(map(str, _TOOL_FOLDERS))
    return shutil.which(name) or shutil.which(name, path=places)


def replay_command(
    replay: Replay, artefact: Path, *, folder: Path, repeat: int, warmups: int, is_timed: bool
) -> list[str]:
    """Write the job file and return the program's command line."""
    job = folder / _JOB_FILE
    job.write_text(replay.model_dump_json())
    return [
        # -P: a file in the current directory must not stand in for a module.
        *(sys.executable, "-P", "-m", "gpu_runner.device.replay"),
        *("--artefact", str(artefact), "--job", str(job), "--range", RANGE),
        *("--repeat", str(repeat), "--warmups", str(warmups)),
        *(["--time"] if is_timed else []),
    ]


def run_watched(argv: Sequence[str], *, timeout_s: float, folder: Path) -> Ended:
    """Run a command to its end; its whole process group is dead when this returns.

    Args:
        argv: tool and program.
        timeout_s: wall clock until it is killed.
        folder: where it starts and keeps its temporary files; tools lock theirs for one user.
    """
    with (folder / "stdout").open("w+b") as output, (folder / "stderr").open("w+b") as errors:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        returncode: int | None
        try:
            returncode = process.wait(max(timeout_s, _LEAST_TIMEOUT_S))
        except subprocess.TimeoutExpired:
            returncode = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Ended(returncode=returncode, output=texts[0], errors=texts[1])


def refuse_failure(ended: Ended, *, where: str, timeout_s: float) -> None:
    """Say whose fault it was that a replay did not end well.

    Raises:
        SubjectFailed: the candidate's kernels failed, or did not end.
        RunnerError: the program or the tool is broken.
    """
    said = (ended.errors.strip() or ended.output.strip())[-500:]
    if ended.returncode is None:
        msg = f"the kernels did not end within {timeout_s:.0f} s; {where}"
        raise SubjectFailed(Reason.TIMED_OUT, msg)
    if ended.returncode == EXIT_CUDA:
        raise SubjectFailed(Reason.CRASHED, f"{said.removeprefix('replay: ')}; {where}")
    if ended.returncode != 0:
        raise RunnerError(f"replay ended with {ended.returncode}: {said}; {where}")
