"""Which kind of device a run is measured on: as asked, as the target offers, as there is."""

import shutil
import subprocess
from typing import Final, cast, get_args

from gpu_runner.archive_pool import UNSEEN
from gpu_runner.records import Environment
from graph.errors import TargetError
from graph.settings import PoolSettings
from graph.target import Target
from graph.target_schema import Device
from graph.targets import devices_of

AUTO: Final = "auto"
_ANSWER_S = 20.0


def is_gpu(environment: Environment) -> bool:
    """Say whether a worker's machine measures on a GPU."""
    return environment.arch.startswith("sm_")


def refuse_mismatch(target: Target, environment: Environment) -> None:
    """Refuse a target for a GPU where the pool's worker has none.

    Raises:
        TargetError: says what the worker is, and what to do.
    """
    if target.hardware.device == "cuda" and not is_gpu(environment) and environment != UNSEEN:
        raise TargetError(
            f"target {target.name!r} is asked for on a GPU, and the pool's worker is "
            f"{environment.machine} ({environment.arch}): start a worker on a machine with one "
            "(`kernelpilot doctor` says what is missing there), or use --device cpu"
        )


async def choose(asked: str, target: str, pool: PoolSettings) -> Device:
    """Return the device of a run: the one asked for, or for `auto` a GPU where one can serve it.

    Args:
        asked: `auto`, `cpu` or `cuda`.
        target: name or path; `auto` takes no device that it lacks.
        pool: asked for its machine where an endpoint is set; else this machine is.

    Raises:
        TargetError: an unknown device, or a target for a GPU only where there is none.
        PoolError: the pool that is set does not answer.
    """
    for device in get_args(Device):
        if asked == device:
            return cast("Device", device)
    if asked != AUTO:
        raise TargetError(
            f"unknown device {asked!r}; known: {', '.join((AUTO, *get_args(Device)))}"
        )
    offered = devices_of(target)
    if pool.is_archive:
        if len(offered) == 1:
            return offered[0]
        raise TargetError(
            f"nobody has seen the machine that the jobs of {target!r} are carried to: name its "
            f"device, --device {' or '.join(offered)}"
        )
    if "cuda" in offered and await _has_gpu(pool):
        return "cuda"
    if "cpu" not in offered:
        where = f"the pool at {pool.endpoint}" if pool.endpoint else "this machine"
        raise TargetError(
            f"target {target!r} is for a GPU only and {where} has none that answers; "
            "`kernelpilot doctor` says what is missing"
        )
    return "cpu"


async def _has_gpu(pool: PoolSettings) -> bool:
    if not pool.endpoint:
        return bool(listed_gpus())
    from gpu_runner.client import BusClient  # noqa: PLC0415 - who is pure imports this module too

    client = BusClient(pool.endpoint, keys=pool.key_folder)
    try:
        return is_gpu(await client.environment())
    finally:
        await client.close()


def listed_gpus() -> tuple[str, ...]:
    """Return the GPUs that the driver lists here, one line each."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        listed = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return tuple(line for line in lines if line.startswith("GPU "))
