"""A broker with a database, workers and clients as processes, all of which get killed and frozen.

Over a network each of them has a machine of its own, and is cut off from the others as well.

What is counted afterwards comes from what they left on disk, not from what they said.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gpu_runner.security.peers import Role
from gpu_runner.store import Store
from tests.gpu_runner.broker_process import ROOT, BrokerProcess
from tests.gpu_runner.bus_disk import ends_of
from tests.gpu_runner.executors import EXECUTOR, executions
from tests.gpu_runner.security.secured import Yard

LEASE_S = 15.0
MOST_FROZEN_S = 1.5
"""Shorter than a lease: a worker that is frozen for longer cannot end its child in time, and its
job runs beside its successor until it thaws (of two results one is taken)."""
PAUSE_S = 0.05


@dataclass
class Report:
    """What became of the jobs."""

    jobs: int
    lost: list[str]
    ended_twice: list[str]
    overlaps: list[str]
    runs: int
    """Executions begun; more than jobs where an execution was killed."""
    kills: Counter[str] = field(default_factory=Counter)
    """By `broker`, `worker`, `client`, and `frozen broker`, `cut off worker` and so on."""
    seconds: float = 0.0

    @property
    def is_clean(self):
        return not (self.lost or self.ended_twice or self.overlaps)

    @property
    def runs_of_living_workers(self):
        """Executions that no worker lost explains: of each, one may have been begun again."""
        return self.runs - self.jobs - self.kills["worker"] - self.kills["cut off worker"]


class Process:
    """Something that is started again when it dies."""

    def __init__(self, command, log, before=()):
        self.command = command
        self.log = log
        self.before = before
        self.start()

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, sys.executable, "-m", *self.command],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def signal(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self):
        self.signal(signal.SIGKILL)
        self.process.wait()


def worker_process(folder, endpoint, name, *, keys=None, before=()):
    """A worker whose executor does what jobs say."""
    command = ["gpu_runner.cli", "worker", "--endpoint", endpoint, "--name", name]
    command += ["--workspace", str(folder / name), "--executor", EXECUTOR]
    command += ["--keys", str(keys)] if keys else []
    return Process(command, folder / f"{name}.log", before)


def client_process(folder, endpoint, name, jobs, *, keys=None, before=()):
    """A client that wants jobs, given as pairs of an id and an order."""
    path = folder / f"{name}.json"
    task = {"endpoint": endpoint, "keys": str(keys) if keys else None, "jobs": jobs}
    path.write_text(json.dumps(task))
    return Process(["tests.gpu_runner.chaos_client", str(path)], folder / f"{name}.log", before)


class Fleet:
    """`with Fleet(folder, jobs=..., workers=...) as fleet: report = fleet.run(...)`.

    Over a `network`, whose hosts are the broker, then the workers, then the clients, they speak TCP
    and prove keys.
    """

    def __init__(  # noqa: PLR0913 - all of them have defaults that most callers keep
        self,
        folder,
        *,
        jobs,
        workers=2,
        clients=2,
        seed=1,
        most_job_s=0.05,
        lease_s=LEASE_S,
        network=None,
        order="alone",
    ):
        self.folder = folder
        self.fortune = random.Random(seed)
        self.job_ids = [f"run{i % clients}-r1-{i}" for i in range(jobs)]
        self.marks = folder / "marks"
        self.marks.mkdir(parents=True)
        self.kills: Counter[str] = Counter()
        self.workers: list[Process] = []
        self.clients: list[Process] = []
        self.lease_s = lease_s
        self.network = network
        self.cut_until_s: dict[int, float] = {}
        """Host to when it is reached again."""
        self.yard = Yard(folder / "keys")
        more: list[object] = ["--beat-s", 0.2, "--lease-s", lease_s]
        place: dict[str, Any] = {}
        if network:
            more += ["--keys", self.yard.broker]
            place = {"endpoint": f"tcp://{network.address(0)}:7766", "before": network.inside(0)}
        self.broker = BrokerProcess(folder, *more, **place)
        self.worker_names = [f"w{i}" for i in range(workers)]
        self.client_names = [f"client-{i}" for i in range(clients)]
        self.tasks = []
        for index in range(clients):
            orders = []
            for job_id in self.job_ids[index::clients]:
                wait_s = self.fortune.uniform(0.0, most_job_s)
                seconds = [f"{wait_s:.3f}"] if order == "alone" else []
                orders.append((job_id, " ".join([order, *seconds, str(self.marks)])))
            self.tasks.append(orders)

    def __enter__(self):
        self.broker.start()
        at = (self.folder, self.broker.endpoint)
        for number, name in enumerate(self.worker_names, start=1):
            self.workers.append(worker_process(*at, name, **self.place(number, name, Role.WORKER)))
        first = 1 + len(self.workers)
        named = zip(self.client_names, self.tasks, strict=True)
        for number, (name, jobs) in enumerate(named, start=first):
            place = self.place(number, name, Role.CLIENT)
            self.clients.append(client_process(*at, name, jobs, **place))
        return self

    def place(self, number, name, role):
        """Where a process runs and what it proves itself by."""
        if not self.network:
            return {}
        return {"keys": self.yard.enrolled(name, role), "before": self.network.inside(number)}

    def __exit__(self, *_):
        for process in (*self.clients, *self.workers):
            process.end()
        self.broker.__exit__()

    def run(self, victims, *, most, pause_s=(0.5, 1.5), patience_s=120.0):
        """Kill, freeze and cut off victims at random until every client has all its outcomes.

        A broker takes a second to start on a busy machine; pauses shorter than that would let
        nothing happen between two kills.
        """
        begun_s = time.monotonic()
        next_s = begun_s + self.fortune.uniform(*pause_s)
        while any(client.process.poll() != 0 for client in self.clients):
            assert time.monotonic() - begun_s < patience_s, self.report()
            self.revive()
            self.heal(time.monotonic())
            if time.monotonic() >= next_s and self.kills.total() < most:
                # The first of them dies for certain, however soon the jobs are done.
                is_first = not self.kills
                kind = victims[0] if is_first else self.fortune.choice(victims)
                self.disturb(kind, may_freeze=not is_first)
                next_s = time.monotonic() + self.fortune.uniform(*pause_s)
            time.sleep(PAUSE_S)
        return self.report(time.monotonic() - begun_s)

    def disturb(self, kind, *, may_freeze):
        if kind.startswith("cut off "):
            self.cut_off(kind)
            return
        if kind == "broker":
            victim = self.broker.process
        else:
            victim = self.fortune.choice(getattr(self, f"{kind}s")).process
        if victim.poll() is not None:
            return
        if may_freeze and self.fortune.random() < 0.3:
            self.kills[f"frozen {kind}"] += 1
            victim.send_signal(signal.SIGSTOP)
            time.sleep(self.fortune.uniform(0.1, MOST_FROZEN_S))
            victim.send_signal(signal.SIGCONT)
        else:
            self.kills[kind] += 1
            victim.send_signal(signal.SIGKILL)
            victim.wait()

    def cut_off(self, kind):
        """Silently, for less or for more than a lease."""
        first = 1 if kind == "cut off worker" else 1 + len(self.workers)
        many = len(self.workers) if kind == "cut off worker" else len(self.clients)
        number = first + self.fortune.randrange(many)
        if number not in self.cut_until_s:
            self.kills[kind] += 1
            self.network.partition(number)
            seconds = self.fortune.uniform(0.5, 2 * self.lease_s)
            self.cut_until_s[number] = time.monotonic() + seconds

    def heal(self, now_s):
        for number in [n for n, until_s in self.cut_until_s.items() if now_s >= until_s]:
            del self.cut_until_s[number]
            self.network.heal(number)

    def revive(self):
        if self.broker.process.poll() is not None:
            self.broker.start()
        for process in self.workers:
            if process.process.poll() is not None:
                process.start()
        for process in self.clients:
            assert process.process.poll() != 1, process.log.read_text()
            if process.process.poll() not in {None, 0}:
                process.start()

    def report(self, seconds=0.0):
        store = Store(self.folder / "state" / "broker.sqlite", is_reader=True)
        ends = ends_of(store)
        lost = [job_id for job_id in self.job_ids if store.finished(job_id) is None]
        store.close()
        runs = [executions(self.folder / name, "started") for name in self.worker_names]
        return Report(
            jobs=len(self.job_ids),
            lost=lost,
            ended_twice=[job_id for job_id, count in ends.items() if count > 1],
            overlaps=sorted(path.stem for path in self.marks.glob("*.overlap")),
            runs=sum(map(len, runs)),
            kills=self.kills,
            seconds=seconds,
        )
