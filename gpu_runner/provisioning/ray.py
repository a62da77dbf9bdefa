"""Workers on a Ray cluster: Ray finds each a machine, and another when that is lost.

No job goes by Ray. A worker is looked after by a detached actor, which Ray starts again as often as
it dies. Ray is imported when an engine is made: most installations go without this extra.
"""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from gpu_runner.errors import PoolError
from gpu_runner.provisioning.engine import Provision, Provisioned, WorkerPlan
from gpu_runner.provisioning.launcher import Launcher

NAMESPACE = "kernelpilot"
_ANSWER_S = 10.0
_STOP_S = 45.0
"""Longer than a worker is given to end."""


class RayLauncher(Launcher):
    """A launcher as an actor."""

    def __init__(self, plan: str, number: int) -> None:
        """Begin, on the machine where Ray has put it."""
        import ray  # noqa: PLC0415 - an extra

        runtime = ray.get_runtime_context()
        super().__init__(
            plan,
            number,
            where=partial(_machine_of, runtime),
            # Its place and its GPUs are free then; without this Ray would start it again.
            when_over=partial(ray.kill, runtime.current_actor, no_restart=True),
        )


class RayEngine:
    """Workers below one name on one cluster."""

    def __init__(self, plan: WorkerPlan, *, address: str = "auto") -> None:
        """Reach the cluster.

        Args:
            plan: its workspace is a folder of each machine, `gpus` are each worker's.
            address: of the cluster's head, HOST:PORT; `auto` finds one that runs here or is named
                by RAY_ADDRESS.

        Raises:
            PoolError: Ray is not installed, or no cluster is there.
        """
        try:
            import ray  # noqa: PLC0415 - see above
        except ImportError as error:
            raise PoolError("Ray is not installed; pip install 'kernelpilot[ray]'") from error
        if plan.keys and not plan.broker_key:
            raise PoolError("workers make their keys where they run; give --broker-key KEY")
        self._ray = ray
        self._plan = plan
        if not ray.is_initialized():
            try:
                ray.init(
                    address=address,
                    namespace=NAMESPACE,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    configure_logging=False,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise PoolError(
                    f"no Ray cluster is reached at {address!r}: {error}; "
                    "start one with: ray start --head"
                ) from error

    def start(self, count: int) -> Provision:
        """See that so many workers are kept running; returns before they all are."""
        plan = self._plan.model_dump_json()
        actor = self._ray.remote(RayLauncher)
        for number in range(count):
            actor.options(
                name=self._plan.name_of(number),
                namespace=NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=-1,
                num_cpus=1,
                num_gpus=self._plan.gpus,
                scheduling_strategy="SPREAD",
            ).remote(plan, number)
        return self.list()

    def list(self) -> Provision:
        """Say which workers there are; waiting are those whose launcher has no machine yet."""
        return Provision(workers=tuple(self._seen(self._names())))

    def drain(self, name: str) -> Provision:
        """Let a worker finish its job and end; returns at once.

        Raises:
            PoolError: there is no such worker, or its launcher does not answer.
        """
        self._ask(name, "drain", _ANSWER_S)
        return Provision(workers=tuple(self._seen([name])))

    def stop(self, name: str) -> Provision:
        """End a worker and give its place back; of one that waits for a machine, its place in line.

        Raises:
            PoolError: there is no such worker, or its launcher does not answer.
        """
        launcher = self._actor(name)
        if all(worker.state != "waiting" for worker in self._seen([name])):
            self._ask(name, "stop", _STOP_S)
        self._ray.kill(launcher, no_restart=True)
        return Provision(workers=(Provisioned(name=name, state="ended", place=""),))

    def close(self) -> None:
        """Leave the cluster; its workers stay."""
        self._ray.shutdown()

    def _names(self) -> Sequence[str]:
        known = self._ray.util.list_named_actors()
        prefix = f"{self._plan.pool}-"
        numbers = [name.removeprefix(prefix) for name in known if name.startswith(prefix)]
        return [prefix + number for number in sorted(filter(str.isdigit, numbers), key=int)]

    def _seen(self, names: Sequence[str]) -> Iterator[Provisioned]:
        errors = self._ray.exceptions
        asked = []
        for name in names:
            try:
                asked.append((name, self._ray.get_actor(name).seen.remote()))
            except ValueError:  # gone since it was listed
                continue
        if asked:
            refs = [ref for _, ref in asked]
            self._ray.wait(refs, num_returns=len(refs), timeout=_ANSWER_S)
        for name, ref in asked:
            try:
                worker = Provisioned.model_validate_json(self._ray.get(ref, timeout=0))
            except errors.GetTimeoutError:
                worker = Provisioned(name=name, state="waiting", place="for a machine")
            except errors.RayActorError:
                worker = Provisioned(name=name, state="ended", place="")
            yield worker

    def _actor(self, name: str) -> Any:
        try:
            return self._ray.get_actor(name)
        except ValueError as error:
            names = ", ".join(self._names()) or "none"
            raise PoolError(f"no worker {name!r} was started there; known: {names}") from error

    def _ask(self, name: str, deed: str, patience_s: float) -> None:
        errors = self._ray.exceptions
        try:
            self._ray.get(getattr(self._actor(name), deed).remote(), timeout=patience_s)
        except (errors.GetTimeoutError, errors.RayActorError) as error:
            raise PoolError(
                f"the launcher of {name} does not answer; see `ray status`, then try again"
            ) from error


def _machine_of(runtime: Any) -> str:
    import ray  # noqa: PLC0415 - an extra

    return f"{ray.util.get_node_ip_address()} (node {runtime.get_node_id()[:8]})"
