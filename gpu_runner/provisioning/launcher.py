"""What keeps one worker running on whatever machine it is put on; as an actor it is placed by Ray.

Its worker is no child of it and goes on when it dies: the next launcher of the name finds the
worker by its note, or starts one where there is none. Of Ray it knows which variables are Ray's.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping

from gpu_runner.errors import PoolError
from gpu_runner.provisioning.engine import Provisioned, WorkerPlan
from gpu_runner.provisioning.local import LocalEngine
from gpu_runner.provisioning.placed import Placement, place

logger = logging.getLogger(__name__)

_LOOK_S = 2.0
_LONGEST_PAUSE_S = 60.0
_NOT_PASSED_ON = ("OMP_NUM_THREADS",)
"""Set by Ray for its own tasks; it would change how many threads a baseline has."""


class Launcher:
    """Keeps a worker running until it is told to drain or to stop it."""

    def __init__(
        self,
        plan: str,
        number: int,
        *,
        where: Callable[[], str] = str,
        when_over: Callable[[], None] | None = None,
    ) -> None:
        """Begin.

        Args:
            plan: a WorkerPlan as JSON.
            number: of the worker.
            where: names this machine.
            when_over: called once a drained worker has ended.
        """
        parsed = WorkerPlan.model_validate_json(plan)
        # Which devices a worker sees is what Ray has put into the variables.
        self._placement = Placement(plan=parsed.model_copy(update={"gpus": 0}), number=number)
        self._name = parsed.name_of(number)
        self._engine = LocalEngine(self._placement.plan)
        self._where = where
        self._when_over = when_over
        self._lock = threading.Lock()
        self._is_wanted = True
        self._is_closed = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._watch, name="launcher", daemon=True)
        self._thread.start()

    def seen(self) -> str:
        """Return the worker as a Provisioned in JSON; of one that cannot be started it says why."""
        with self._lock:
            running = self._running()
        at = self._where()
        return Provisioned(
            name=self._name,
            state="running" if running else "ended",
            place=" on ".join(filter(None, (running or self._trouble, at))),
        ).model_dump_json()

    def drain(self) -> None:
        """Let the worker finish its job and end; it is not started again."""
        with self._lock:
            self._is_wanted = False
            if self._running():
                self._engine.drain(self._name)

    def stop(self) -> None:
        """End the worker; it is not started again."""
        with self._lock:
            self._is_wanted = False
            if self._running():
                self._engine.stop(self._name)
        self.close()

    def close(self) -> None:
        """Look after the worker no longer; it goes on."""
        self._is_closed.set()

    def _watch(self) -> None:
        pause_s = 0.0
        while not self._is_closed.wait(pause_s):
            with self._lock:
                is_running = bool(self._running())
                is_over = not (self._is_wanted or is_running)
                if self._is_wanted and not is_running:
                    self._start()
            if is_over:
                if self._when_over is not None:
                    self._when_over()
                return
            pause_s = min(_LONGEST_PAUSE_S, 2 * max(pause_s, _LOOK_S)) if self._trouble else _LOOK_S

    def _start(self) -> None:
        try:
            place(self._placement, own_variables(os.environ))
        except PoolError as error:
            self._trouble = str(error)
            logger.warning("not started, tried again later: %s", error)
        else:
            self._trouble = ""

    def _running(self) -> str:
        for worker in self._engine.list().workers:
            if worker.name == self._name and worker.state == "running":
                return worker.place
        return ""


def own_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a worker gets: all but those that Ray has set for itself."""
    return {
        name: value
        for name, value in variables.items()
        if not (name.startswith("RAY_") or name in _NOT_PASSED_ON)
    }
