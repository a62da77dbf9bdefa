"""Hypothesis explores a pool, workers, clients and a bad network for a broken promise."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpu_runner import wire
from gpu_runner.operations import Action
from tests.gpu_runner.bus_world import JOBS, World

WORKERS = st.integers(0, 1)
CLIENTS = st.integers(0, 1)
JOB = st.integers(0, len(JOBS) - 1)


class Bus(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.world = World()

    @initialize(expected=st.sampled_from([0, 2]))
    def open(self, expected):
        self.world = World(expected=expected)

    @rule(client=CLIENTS, job=JOB)
    def submit(self, client, job):
        self.world.clients[client].ask(JOBS[job])

    @rule(client=CLIENTS, job=JOB)
    def cancel(self, client, job):
        sender = self.world.clients[client]
        self.world.to_broker(sender.peer, wire.Cancel(job_id=JOBS[job].job_id))

    @rule(job=JOB)
    def requeue(self, job):
        self.world.order(Action.REQUEUE, JOBS[job].job_id)

    @rule(worker=WORKERS, action=st.sampled_from([Action.DRAIN, Action.QUARANTINE]))
    def restrict(self, worker, action):
        self.world.order(action, self.world.workers[worker].name)

    @rule(worker=WORKERS)
    def release(self, worker):
        self.world.order(Action.RELEASE, self.world.workers[worker].name)

    @rule(count=st.integers(1, 6))
    def deliver(self, count):
        self.world.deliver(count)

    @rule()
    def proceed(self):
        for worker in self.world.workers:
            worker.beat()
        self.world.deliver()

    @rule(client=CLIENTS, job=JOB)
    def submit_to_working_pool(self, client, job):
        self.proceed()
        self.world.clients[client].ask(JOBS[job])

    @rule(worker=WORKERS)
    def beat(self, worker):
        self.world.workers[worker].beat()

    @rule(worker=WORKERS)
    def finish(self, worker):
        if self.world.workers[worker].running:
            self.world.workers[worker].finish()

    @rule(worker=WORKERS)
    def crash_worker(self, worker):
        self.world.workers[worker].crash()

    @rule(worker=WORKERS)
    def reconnect_worker(self, worker):
        self.world.workers[worker].reconnect()

    @rule(client=CLIENTS)
    def reconnect_client(self, client):
        self.world.clients[client].peer = self.world.new_peer(self.world.clients[client])

    @rule()
    def restart_broker(self):
        self.world.start_broker()

    @rule()
    def lose_messages(self):
        self.world.loses = True

    @precondition(lambda self: self.world.loses)
    @rule()
    def deliver_again(self):
        self.world.loses = False

    @precondition(lambda self: self.world.queued)
    @rule(data=st.data())
    def lose_one(self, data):
        last = len(self.world.queued) - 1
        self.world.queued.pop(last - data.draw(st.integers(0, last)))

    @rule(seconds=st.sampled_from([0.1, 0.9, 2.6, 5.0, 10.0]))
    def pass_time(self, seconds):
        self.world.pass_time(seconds)

    @rule(worker=WORKERS)
    def lose_sight_of(self, worker):
        for _ in range(6):
            self.world.workers[1 - worker].beat()
            self.world.deliver()
            self.world.pass_time(2.0)

    @invariant()
    def picture_is_whole(self):
        self.world.check()

    def teardown(self):
        self.world.settle()
        self.world.check()


TestBus = Bus.TestCase
TestBus.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
