"""Hypothesis crashes a broker with a database between any entry, commit and send."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gpu_runner.jobs import Unserved
from tests.gpu_runner.bus_disk import Disk
from tests.gpu_runner.bus_world import JOBS, World
from tests.gpu_runner.test_pool_world import CLIENTS, JOB, WORKERS, Bus

COUNT = st.integers(1, 4)
SETTINGS = settings(
    max_examples=75,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class DurableBus(Bus):
    """Everything that `Bus` does, and a disk that writes late or not at all before a crash."""

    def __init__(self):
        super().__init__()
        self.world = World(disk=Disk())

    @initialize()
    def open(self):
        self.world = World(disk=Disk())

    @rule(count=COUNT)
    def commit(self, count):
        self.world.commit(count)

    @rule(count=COUNT)
    def commit_and_crash_before_sending(self, count):
        self.world.disk.commit(count)
        self.world.start_broker()

    @rule(count=COUNT, delivered=st.integers(0, 3))
    def commit_send_some_and_crash(self, count, delivered):
        self.world.commit(count)
        self.world.deliver(delivered)
        self.world.start_broker()

    @rule()
    def proceed_on_disk(self):
        self.world.commit()
        self.proceed()
        self.world.commit()


TestDurableBus = DurableBus.TestCase
TestDurableBus.settings = SETTINGS


class CrashingBroker(RuleBasedStateMachine):
    """Only the broker fails: then nothing is executed twice, and nothing acknowledged is lost."""

    def __init__(self):
        super().__init__()
        self.world = World(disk=Disk())
        self.asked = set()

    @rule(client=CLIENTS, job=JOB)
    def submit(self, client, job):
        self.world.clients[client].ask(JOBS[job])
        self.asked.add(JOBS[job].job_id)

    @rule()
    def beat(self):
        for worker in self.world.workers:
            worker.beat()

    @rule(count=COUNT)
    def commit(self, count):
        self.world.commit(count)

    @rule(count=st.integers(1, 8))
    def deliver(self, count):
        self.world.deliver(count)

    @rule()
    def proceed(self):
        self.beat()
        self.world.commit()
        self.world.deliver()
        self.world.commit()

    @rule(worker=WORKERS)
    def finish(self, worker):
        if self.world.workers[worker].running:
            self.world.workers[worker].finish()

    @rule()
    def crash(self):
        self.world.start_broker()

    @rule(count=COUNT)
    def commit_and_crash_before_sending(self, count):
        self.world.disk.commit(count)
        self.world.start_broker()

    @rule()
    def pass_a_moment(self):
        self.world.pass_time(0.5)
        self.proceed()

    @invariant()
    def nothing_runs_twice(self):
        assert set(self.world.started.values()) <= {1}

    def teardown(self):
        acknowledged = {job_id for job_id in self.asked if self.world.disk.row(job_id)}
        for client in self.world.clients:
            client.wanted.clear()  # those who asked have gone
        for _ in range(40):
            self.proceed()
            for worker in self.world.workers:
                if worker.running:
                    worker.finish()
            self.world.pass_time(0.5)
        self.world.commit()
        ended = {job_id: self.world.disk.store.finished(job_id) for job_id in acknowledged}
        assert all(ended.values()), {j: self.world.pool.story(j) for j in acknowledged}
        assert not any(isinstance(e.outcome, Unserved) for e in ended.values() if e)
        self.nothing_runs_twice()
        self.world.check()


TestCrashingBroker = CrashingBroker.TestCase
TestCrashingBroker.settings = SETTINGS
