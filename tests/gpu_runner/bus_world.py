"""A world around a Pool: workers, clients, a network that loses and delays, and a clock.

The simulated worker follows `worker.py`: one slot, a spool, outcomes owed until acknowledged, and
the fence. What may never happen is asserted where it would happen.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from gpu_runner import wire
from gpu_runner.jobs import Unserved
from gpu_runner.message import digest_of
from gpu_runner.operations import Action, Manage, Managed
from gpu_runner.outbox import Outbox
from gpu_runner.outcomes import is_final
from gpu_runner.pool import Pool, PoolPlan
from gpu_runner.wire import Held, State
from tests.builders import make_environment
from tests.gpu_runner.bus_disk import Disk
from tests.gpu_runner.executors import make_built, make_job

PLAN = PoolPlan(epoch=1, beat_s=1.0, lease_s=10.0, settle_s=10.0, most_finished=1000)
FENCE_S = PLAN.lease_s - 2.5
ENVIRONMENT = make_environment()


@dataclass
class Running:
    job: Any
    token: int


@dataclass
class SimWorker:
    world: "World"
    name: str
    incarnation: int = 0
    peer: bytes = b""
    is_welcome: bool = False
    running: Any = None
    """What it executes: a Running, or None."""
    spool: dict[str, Any] = field(default_factory=dict)
    owed: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Job id to (token, digest)."""
    confirmed_s: float = 0.0
    seq: int = 0
    heard: int = 0
    beats: dict[int, float] = field(default_factory=dict)

    def send(self, message):
        self.world.to_broker(self.peer, message)

    def reconnect(self):
        self.peer = self.world.new_peer(self)

    def held(self):
        held = [Held(job_id=j, token=t, spec_digest=d) for j, (t, d) in self.owed.items()]
        if self.running:
            job = self.running.job
            held.append(
                Held(job_id=job.job_id, token=self.running.token, spec_digest=digest_of(job))
            )
        return tuple(held)

    def say_hello(self):
        self.is_welcome = False
        self.seq += 1
        self.beats = {self.seq: self.world.now_s}
        self.send(
            wire.Hello(
                worker=self.name,
                incarnation=f"{self.incarnation:016x}",
                environment=ENVIRONMENT,
                seq=self.seq,
                running=self.held(),
                spooled=tuple(self.spool),
            )
        )

    def beat(self):
        if not self.is_welcome:
            self.say_hello()
            return
        self.seq += 1
        self.beats[self.seq] = self.world.now_s
        self.send(wire.Beat(seq=self.seq, heard=self.heard, running=self.held()))
        for job_id, (token, _) in self.owed.items():
            self.send(wire.Done(token=token, outcome=self.spool[job_id]))

    def receive(self, message):
        match message:
            case wire.Welcome() if message.seq == self.seq:
                self.receive_welcome(message)
            case wire.Who():
                if self.is_welcome:
                    self.say_hello()
            case wire.Pong():
                self.confirmed_s = self.beats.pop(message.seq, self.confirmed_s)
                self.heard = message.seq
            case _:
                self.receive_about_job(message)

    def receive_welcome(self, welcome):
        self.is_welcome = True
        self.confirmed_s = self.beats.pop(welcome.seq)
        for held in welcome.drop:
            self.owed.pop(held.job_id, None)
            if self.running and self.running.token == held.token:
                self.running = None
        for job_id, (token, _) in self.owed.items():
            self.send(wire.Done(token=token, outcome=self.spool[job_id]))

    def receive_about_job(self, message):
        match message:
            case wire.Lease():
                self.receive_lease(message)
            case wire.Abort():
                self.receive_abort(message)
            case wire.Ack():
                if self.owed.get(message.job_id, (None,))[0] == message.token:
                    del self.owed[message.job_id]

    def receive_lease(self, lease):
        job = lease.job
        if job.job_id in self.spool:
            self.owe(job, lease.token)
        elif not self.is_welcome:
            return
        elif self.world.now_s >= self.confirmed_s + FENCE_S:
            self.say_hello()
        elif self.running is None:
            self.world.assert_nobody_else_runs(self, job.job_id)
            self.running = Running(job, lease.token)
            self.world.started[job.job_id] += 1
            self.send(wire.Started(job_id=job.job_id, token=lease.token))
        elif self.running.job == job:
            self.running.token = lease.token
        else:
            self.say_hello()

    def receive_abort(self, abort):
        if abort.job_id in self.owed:
            return
        if self.running and self.running.job.job_id == abort.job_id:
            self.running = None
        cancelled = Unserved(
            job_id=abort.job_id, cause="cancelled", message="killed", is_retryable=True
        )
        self.send(wire.Done(token=abort.token, outcome=cancelled))

    def owe(self, job, token):
        self.owed[job.job_id] = (token, digest_of(job))
        self.send(wire.Done(token=token, outcome=self.spool[job.job_id]))

    def finish(self):
        running, self.running = self.running, None
        self.spool[running.job.job_id] = make_built(running.job.job_id)
        self.owe(running.job, running.token)

    def crash(self):
        self.running, self.owed, self.is_welcome = None, {}, False
        self.incarnation += 1
        self.reconnect()

    def fence(self):
        if self.world.now_s >= self.confirmed_s + FENCE_S:
            self.running = None


@dataclass
class SimClient:
    world: "World"
    peer: bytes = b""
    wanted: dict[str, Any] = field(default_factory=dict)
    outcomes: dict[str, Any] = field(default_factory=dict)

    def ask(self, job):
        self.wanted[job.job_id] = job
        self.world.to_broker(self.peer, wire.Submit(job=job))

    def receive(self, message):
        if isinstance(message, wire.Result):
            self.outcomes[message.outcome.job_id] = message.outcome
        elif isinstance(message, wire.Refused):
            assert message.code is wire.Refusal.UNKNOWN
            if message.job_id in self.wanted:
                self.ask(self.wanted[message.job_id])


@dataclass
class SimOperator:
    peer: bytes = b""

    def receive(self, message):
        assert isinstance(message, Managed | wire.Refused)


class World:
    """Everything but the rules of a test."""

    def __init__(
        self, workers: int = 2, clients: int = 2, *, expected: int = 2, disk: Disk | None = None
    ) -> None:
        self.disk: Any = disk
        self.outbox = Outbox()
        self.started: Counter[str] = Counter()
        self.plan = replace(PLAN, expected_workers=expected)
        self.now_s = 0.0
        self.peers: dict[bytes, Any] = {}
        self.loses = False
        self.queued: list[tuple[bytes, Any]] = []
        self.last_token = 0
        self.terminal: dict[str, Any] = {}
        self.epoch = 0
        self.workers = [SimWorker(self, f"w{i}") for i in range(workers)]
        self.clients = [SimClient(self) for _ in range(clients)]
        self.operator = SimOperator()
        for person in self.people:
            person.peer = self.new_peer(person)
        self.start_broker()

    @property
    def people(self) -> list[Any]:
        return [*self.workers, *self.clients, self.operator]

    def new_peer(self, person) -> bytes:
        peer = len(self.peers).to_bytes(4, "big")
        self.peers[peer] = person
        return peer

    def start_broker(self):
        self.epoch += 1
        self.queued.clear()
        self.outbox = Outbox()
        plan = replace(self.plan, epoch=self.epoch)
        if self.disk is None:
            self.terminal = {}
            self.pool = Pool(plan, self.now_s)
        else:
            self.disk.crash()
            self.pool = Pool(replace(plan, settle_s=0.0), self.now_s, self.disk)
            self.pool.restore(self.disk.store.restored())
        for person in self.people:
            person.peer = self.new_peer(person)

    def to_broker(self, peer, message):
        if not self.loses:
            self.take(self.pool.receive(peer, message, self.now_s))

    def order(self, action, subject):
        self.to_broker(self.operator.peer, Manage(action=action, subject=subject))

    def take(self, sends):
        if self.disk is not None:
            batch = self.disk.write(self.pool.entries())
            sends = self.outbox.hold(sends, batch, self.disk.kept)
        self.post(sends)

    def commit(self, count: int = 10_000):
        """Let the disk write; what waited for it is sent."""
        if self.disk is not None:
            self.disk.commit(count)
            self.post(self.outbox.release(self.disk.kept))

    def post(self, sends):
        for peer, message in sends:
            self.watch(message)
            person = self.peers[peer]
            if person.peer != peer:
                self.take(self.pool.undelivered(peer, message, self.now_s))
            elif not self.loses:
                self.queued.append((peer, message))

    def watch_promises(self, message):
        """Nothing is said that is not on disk."""
        match message:
            case wire.Submitted():
                assert self.disk.row(message.job_id) is not None, "submitted before its commit"
            case wire.Lease():
                assert (message.job.job_id, message.token) in self.disk.leases
            case wire.Result() if is_final(message.outcome):
                assert self.disk.row(message.outcome.job_id)[0] == "finished"
            case wire.Ack(is_accepted=True) if self.disk.row(message.job_id)[0] != "finished":
                # What was not served may have been submitted again since.
                assert self.disk.ends().get(message.job_id, 0) == 0

    def watch(self, message):
        if self.disk is not None:
            self.watch_promises(message)
        if isinstance(message, wire.Lease):
            assert message.token > self.last_token, "tokens must grow"
            self.last_token = message.token
        elif isinstance(message, wire.Result) and is_final(message.outcome):
            job_id = message.outcome.job_id
            known = self.terminal.setdefault(job_id, message.outcome)
            assert known == message.outcome, "a job ends once"

    def deliver(self, count: int = 10_000):
        while self.queued and count:
            count -= 1
            peer, message = self.queued.pop(0)
            if self.peers[peer].peer == peer:
                self.peers[peer].receive(message)

    def pass_time(self, seconds: float):
        self.now_s += seconds
        for worker in self.workers:
            worker.fence()
        self.take(self.pool.tick(self.now_s))

    def assert_nobody_else_runs(self, worker, job_id):
        for other in self.workers:
            is_running = other.running is not None and other.running.job.job_id == job_id
            assert other is worker or not is_running, f"{job_id} runs on two workers"

    def settle(self):
        """Heal everything; every job that a client wants must end."""
        self.loses = False
        for worker in self.workers:
            self.order(Action.RELEASE, worker.name)
        for _ in range(80):
            self.commit()
            for client in self.clients:
                for job_id, job in client.wanted.items():
                    if job_id not in client.outcomes:
                        client.ask(job)
            self.commit()
            for worker in self.workers:
                worker.beat()
            self.commit()
            self.deliver()
            for worker in self.workers:
                if worker.running:
                    worker.finish()
            self.commit()
            self.deliver()
            if all(c.wanted.keys() <= c.outcomes.keys() for c in self.clients):
                return
            self.pass_time(1.0)
        stories = {j: self.pool.story(j) for c in self.clients for j in c.wanted}
        raise AssertionError(f"jobs were lost: {stories}")

    def check(self):
        """The pool's picture agrees with itself."""
        leases, book = self.pool._leases, self.pool._leases.book
        held: dict[str, str] = {}
        for member in leases.roster._members.values():
            assert len(member.held) <= member.slots
            for job_id in member.held:
                assert held.setdefault(job_id, member.name) == member.name
        for job_id, ticket in book._tickets.items():
            assert ticket.job_id == job_id
            assert (ticket.state is State.QUEUED) == (job_id in book.queue)
            assert ticket.is_live == (job_id in held)
            assert (ticket.state is State.FINISHED) == (ticket.outcome is not None)
            if ticket.is_live:
                assert ticket.owner == held[job_id]
                assert ticket.token is not None
            if ticket.state is State.FINISHED:
                assert not ticket.waiters
        queued = list(book.queue)
        assert len(set(queued)) == len(queued) == len(book.queue)
        assert set(queued) <= book._tickets.keys()
        assert len(book._finished) <= PLAN.most_finished
        if self.disk is not None:
            assert set(self.disk.ends().values()) <= {1}, "a job ended twice"
        assert book.live == sum(t.outcome is None for t in book._tickets.values())


JOBS = [make_job(f"job-{i}") for i in range(4)]
