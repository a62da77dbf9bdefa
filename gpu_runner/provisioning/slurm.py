"""Workers as pilot jobs of Slurm: an element of an array each, drained before its time is over."""

from gpu_runner.errors import PoolError
from gpu_runner.provisioning.engine import Provision, WorkerPlan, Written, worker_command

_DRAIN_S = 900
"""Before the end of its time an element takes no further job; the longest bench fits in."""

_SCRIPT = """#!/bin/bash
#SBATCH --job-name={pool}
#SBATCH --array=0-{last}
#SBATCH --ntasks=1
#SBATCH --time={hours}:00:00
#SBATCH --signal=B:USR1@{drain_s}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={pool}-%a.log
{gpus}set -eu
name={pool}-$SLURM_ARRAY_TASK_ID
mkdir -p {workspace}/$name
{keys}kernelpilot-runner {worker} &
worker=$!
# USR1 comes from Slurm before the time is over, TERM from scancel: the worker knows both.
trap 'kill -USR1 $worker' USR1
trap 'kill -TERM $worker' TERM
# A signal ends `wait` too; the worker has ended when it is not there any more.
code=0
wait $worker || code=$?
while kill -0 $worker 2>/dev/null; do
  code=0
  wait $worker || code=$?
done
exit $code
"""
_KEYS = """# The pair is made where it is used; enrol the key that the log shows.
kernelpilot-runner keys new --keys {keys}/$name --broker {broker}
"""


class SlurmEngine:
    """Renders what a login node needs; nothing is run from here."""

    def __init__(self, plan: WorkerPlan, *, hours: int = 8) -> None:
        """Check the plan.

        Raises:
            PoolError: keys without the broker's.
        """
        if plan.keys and not plan.broker_key:
            raise PoolError(
                "workers make their keys where they run; give --broker-key KEY for them"
            )
        self._plan = plan
        self._hours = hours

    def start(self, count: int) -> Provision:
        """Return the script of a job array with so many elements, and how to submit it."""
        plan = self._plan
        words = worker_command(plan, "$name", workspace=f"{plan.workspace}/$name")
        keys = _KEYS.format(keys=plan.keys, broker=plan.broker_key) if plan.keys else ""
        script = _SCRIPT.format(
            pool=plan.pool,
            last=count - 1,
            hours=self._hours,
            drain_s=_DRAIN_S,
            gpus=f"#SBATCH --gres=gpu:{plan.gpus}\n" if plan.gpus else "",
            workspace=plan.workspace,
            keys=keys,
            worker=" ".join(words),
        )
        file = Written(name=f"{plan.pool}.sbatch", content=script)
        return Provision(files=(file,), commands=(f"sbatch {file.name}",))

    def list(self) -> Provision:
        """Return the command that lists the elements."""
        return _run(f'squeue --name={self._plan.pool} --format="%.18i %.9T %.20R"')

    def drain(self, name: str) -> Provision:
        """Return the command that drains one element."""
        return _run(f"scancel --signal=USR1 --batch {self._element(name)}")

    def stop(self, name: str) -> Provision:
        """Return the command that ends one element."""
        return _run(f"scancel {self._element(name)}")

    def _element(self, name: str) -> str:
        number = _number(self._plan, name)
        pool = self._plan.pool
        return f'$(squeue --name={pool} --noheader --array --format=%i | grep "_{number}$")'


def _number(plan: WorkerPlan, name: str) -> int:
    prefix, _, number = name.rpartition("-")
    if prefix != plan.pool or not number.isdigit():
        raise PoolError(f"{name!r} is no worker of {plan.pool!r}: they are {plan.name_of(0)}, ...")
    return int(number)


def _run(command: str) -> Provision:
    return Provision(commands=(command,))
