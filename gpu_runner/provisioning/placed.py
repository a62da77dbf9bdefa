"""Begins one worker and ends: `python -m gpu_runner.provisioning.placed`, asked on standard input.

The worker is then nobody's child. An engine's process that kills its children when it ends, as one
of Ray's does, would take a job along that has nothing to do with it.
"""

import os
import subprocess
import sys
from collections.abc import Mapping

from gpu_runner.errors import PoolError
from gpu_runner.message import Message
from gpu_runner.provisioning.engine import WorkerPlan
from gpu_runner.provisioning.local import LocalEngine

_PATIENCE_S = 60.0


class Placement(Message):
    """A worker that shall run here."""

    plan: WorkerPlan
    number: int


def place(placement: Placement, environment: Mapping[str, str] | None = None) -> None:
    """See that a worker runs on this machine, as nobody's child.

    Args:
        placement: which; left alone where it runs already.
        environment: its variables; by default those of this process.

    Raises:
        PoolError: it cannot be started.
    """
    command = [sys.executable, "-P", "-m", "gpu_runner.provisioning.placed"]
    try:
        done = subprocess.run(
            command,
            input=placement.model_dump_json(),
            capture_output=True,
            check=False,
            text=True,
            timeout=_PATIENCE_S,
            env=dict(os.environ if environment is None else environment),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PoolError(f"a worker could not be started: {error}") from error
    if done.returncode:
        name = placement.plan.name_of(placement.number)
        said = done.stderr.strip().rpartition("\n")[2]
        raise PoolError(f"worker {name} could not be started: {said}")


if __name__ == "__main__":
    asked = Placement.model_validate_json(sys.stdin.read())
    LocalEngine(asked.plan).keep(asked.number)
