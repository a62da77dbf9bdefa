"""A broker with a database, workers and clients as processes, all of which get killed and frozen.

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

from gpu_runner.store import Store
from tests.gpu_runner.broker_process import ROOT, BrokerProcess
from tests.gpu_runner.executors import EXECUTOR, executions

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
    """By `broker`, `worker`, `client`, and `frozen broker` and so on."""
    seconds: float = 0.0

    @property
    def is_clean(self):
        return not (self.lost or self.ended_twice or self.overlaps)

    @property
    def runs_of_living_workers(self):
        """Executions that no killed worker explains: of each, one may have been begun again."""
        return self.runs - self.jobs - self.kills["worker"]


class Process:
    """Something that is started again when it dies."""

    def __init__(self, command, log):
        self.command = command
        self.log = log
        self.start()

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
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


class Fleet:
    """`with Fleet(folder, jobs=..., workers=...) as fleet: report = fleet.run(...)`."""

    def __init__(self, folder, *, jobs, workers=2, clients=2, seed=1, most_job_s=0.05):
        self.folder = folder
        self.fortune = random.Random(seed)
        self.job_ids = [f"run{i % clients}-r1-{i}" for i in range(jobs)]
        self.marks = folder / "marks"
        self.marks.mkdir(parents=True)
        self.kills: Counter[str] = Counter()
        self.workers: list[Process] = []
        self.clients: list[Process] = []
        self.broker = BrokerProcess(folder, "--beat-s", 0.2, "--lease-s", LEASE_S)
        self.worker_names = [f"w{i}" for i in range(workers)]
        self.tasks = []
        for index in range(clients):
            path = folder / f"client-{index}.json"
            jobs_of = [
                (job_id, round(self.fortune.uniform(0.0, most_job_s), 3))
                for job_id in self.job_ids[index::clients]
            ]
            task = {"endpoint": self.broker.endpoint, "folder": str(self.marks), "jobs": jobs_of}
            path.write_text(json.dumps(task))
            self.tasks.append(path)

    def __enter__(self):
        self.broker.start()
        for name in self.worker_names:
            command = ["gpu_runner.cli", "worker", "--endpoint", self.broker.endpoint]
            command += ["--workspace", str(self.folder / name), "--name", name]
            command += ["--executor", EXECUTOR]
            self.workers.append(Process(command, self.folder / f"{name}.log"))
        for path in self.tasks:
            command = ["tests.gpu_runner.chaos_client", str(path)]
            self.clients.append(Process(command, path.with_suffix(".log")))
        return self

    def __exit__(self, *_):
        for process in (*self.clients, *self.workers):
            process.end()
        self.broker.__exit__()

    def run(self, victims, *, most, pause_s=(0.5, 1.5), patience_s=120.0):
        """Kill and freeze victims at random until every client has all its outcomes.

        A broker takes a second to start on a busy machine; pauses shorter than that would let
        nothing happen between two kills.
        """
        begun_s = time.monotonic()
        next_s = begun_s + self.fortune.uniform(*pause_s)
        while any(client.process.poll() != 0 for client in self.clients):
            assert time.monotonic() - begun_s < patience_s, self.report()
            self.revive()
            if time.monotonic() >= next_s and self.kills.total() < most:
                # The first of them dies for certain, however soon the jobs are done.
                is_first = not self.kills
                kind = victims[0] if is_first else self.fortune.choice(victims)
                self.disturb(kind, may_freeze=not is_first)
                next_s = time.monotonic() + self.fortune.uniform(*pause_s)
            time.sleep(PAUSE_S)
        return self.report(time.monotonic() - begun_s)

    def disturb(self, kind, *, may_freeze):
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
        ends = dict(
            store._db.execute(
                "SELECT job_id, count(*) FROM event WHERE change = 'finished' "
                "AND detail != 'unserved' GROUP BY job_id"
            )
        )
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
