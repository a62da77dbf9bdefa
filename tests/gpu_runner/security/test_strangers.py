"""Who reaches a broker with keys over TCP, and who does not."""

import contextlib
import socket
import struct
import time

import pytest
import zmq

from gpu_runner import wire
from gpu_runner.broker import Broker
from gpu_runner.endpoint import dealer, present_keys, require_keys, router
from gpu_runner.errors import PoolError
from gpu_runner.security.gate import KeyGate
from gpu_runner.security.keys import Keys, load_keys, load_pair, make_pair
from gpu_runner.security.limits import Allowance
from gpu_runner.security.peer_file import PEERS
from gpu_runner.security.peers import Role
from gpu_runner.wire import MAGIC, Refusal
from tests.builders import make_environment
from tests.gpu_runner.bus_threads import PLAN, Peer
from tests.gpu_runner.executors import make_built, make_job, seen
from tests.gpu_runner.security.secured import LOOPBACK, KeyedPeer, Yard, serving, until

BRIEFLY_MS = 300


@pytest.fixture
def yard(tmp_path):
    return Yard(tmp_path)


def client(broker, folder, **changes):
    return KeyedPeer(broker.endpoint, folder, **changes)


def worker(broker, folder, **changes):
    return KeyedPeer(broker.endpoint, folder, wire.TO_WORKER, **changes)


def test_a_job_travels_between_enrolled_keys(yard):
    mine, theirs = yard.enrolled("run"), yard.enrolled("w1", Role.WORKER)
    with serving(yard) as broker, worker(broker, theirs) as w1, client(broker, mine) as run:
        w1.say_hello()
        run.send(wire.Submit(job=make_job()))
        lease = w1.receive_until(wire.Lease)
        w1.send(wire.Done(token=lease.token, outcome=make_built()))
        assert w1.receive_until(wire.Ack).is_accepted
        assert run.receive_until(wire.Result).outcome == make_built()


def test_the_largest_message_passes_sealed(yard):
    with serving(yard) as broker, client(broker, yard.enrolled("run")) as run:
        run.send_frames(MAGIC, b" " * wire.MOST_BYTES)
        assert run.receive().code is Refusal.MALFORMED


def test_a_broker_with_keys_may_listen_anywhere(yard):
    with serving(yard, "tcp://0.0.0.0:*") as broker:
        port = broker.endpoint.rpartition(":")[2]
        with KeyedPeer(f"tcp://127.0.0.1:{port}", yard.enrolled("run")) as run:
            assert run.is_heard()


def test_a_broker_without_usable_keys_does_not_start(tmp_path):
    with pytest.raises(PoolError, match="make a pair"):
        Broker("tcp://127.0.0.1:*", PLAN, keys=tmp_path)
    yard = Yard(tmp_path)
    (yard.broker / PEERS).write_text("[[peer]")
    with pytest.raises(PoolError, match="no TOML"):
        Broker("tcp://127.0.0.1:*", PLAN, keys=yard.broker)


def test_keys_work_on_a_socket_of_the_file_system(yard, tmp_path):
    with (
        serving(yard, f"ipc://{tmp_path}/bus") as broker,
        client(broker, yard.enrolled("run")) as run,
        Peer(broker.endpoint, wire.TO_CLIENT) as stranger,
    ):
        stranger.socket.setsockopt(zmq.SNDTIMEO, BRIEFLY_MS)
        assert run.is_heard()
        with pytest.raises(zmq.Again):
            stranger.send(wire.Describe())


class Stranger(KeyedPeer):
    """A DEALER that proves itself in some wrong way, or not at all."""

    def __init__(self, endpoint, keys=None, word=None):
        self.context = zmq.Context()
        if word is None:
            self.socket = dealer(self.context, endpoint, keys)
        else:
            self.socket = self.context.socket(zmq.DEALER)
            self.socket.setsockopt(zmq.IMMEDIATE, 1)
            self.socket.setsockopt(zmq.PLAIN_USERNAME, b"run")
            self.socket.setsockopt(zmq.PLAIN_PASSWORD, word)
            self.socket.connect(endpoint)
        self.socket.setsockopt(zmq.RCVTIMEO, BRIEFLY_MS)
        self.socket.setsockopt(zmq.SNDTIMEO, BRIEFLY_MS)
        self.inbox = wire.Inbox(wire.TO_CLIENT)


def strangers(yard, endpoint):
    """Everybody who must reach nothing."""
    enrolled, _ = make_pair(yard.enrolled("run"))
    unknown, _ = make_pair(yard.folder / "unknown")
    struck, _ = make_pair(yard.enrolled("old"))
    yard.revoke("old")
    broker = bytes.fromhex(yard.public)
    return {
        "NULL": Stranger(endpoint),
        "PLAIN": Stranger(endpoint, word=b"word"),
        "unknown key": Stranger(endpoint, Keys(pair=unknown, broker=broker)),
        "revoked key": Stranger(endpoint, Keys(pair=struck, broker=broker)),
        "wrong key of the broker": Stranger(
            endpoint, Keys(pair=enrolled, broker=unknown.public_bytes)
        ),
        "the broker's public key as its own": Stranger(
            endpoint,
            Keys(pair=type(unknown)(public=yard.public, secret=unknown.secret), broker=broker),
        ),
    }


def test_strangers_reach_nothing(yard):
    with serving(yard) as broker:
        found = {}
        for name, stranger in strangers(yard, broker.endpoint).items():
            with stranger:
                found[name] = stranger.is_heard()
        assert found == dict.fromkeys(found, False)
        assert len(found) == 6
        with client(broker, yard.enrolled("another")) as run:
            until(run.is_heard)


def test_a_key_that_is_enrolled_later_comes_in_without_a_restart(yard):
    folder = yard.keys("run")
    with serving(yard) as broker, client(broker, folder, patience_ms=BRIEFLY_MS) as run:
        assert not run.is_heard()
        assert yard.enrolled("run") == folder
        until(run.is_heard)


def test_a_key_that_is_revoked_is_neither_heard_nor_answered_on_its_connection(yard):
    theirs = yard.enrolled("w1", Role.WORKER)
    with (
        serving(yard) as broker,
        client(broker, yard.enrolled("run")) as run,
        worker(broker, theirs) as w1,
    ):
        w1.say_hello()
        w1.socket.setsockopt(zmq.RCVTIMEO, BRIEFLY_MS)
        yard.revoke("w1")
        until(lambda: not w1.is_heard(wire.Beat(seq=1)))
        run.send(wire.Submit(job=make_job()))
        assert isinstance(run.receive(), wire.Submitted)
        with pytest.raises(zmq.Again):
            w1.receive_until(wire.Lease)


def test_a_job_leased_to_a_key_that_is_revoked_goes_to_the_next(yard):
    first, second = yard.enrolled("w1", Role.WORKER), yard.enrolled("w2", Role.WORKER)
    with (
        serving(yard) as broker,
        client(broker, yard.enrolled("run")) as run,
        worker(broker, first) as w1,
        worker(broker, second) as w2,
    ):
        w1.say_hello()
        yard.revoke("w1")
        w1.socket.setsockopt(zmq.RCVTIMEO, BRIEFLY_MS)
        until(lambda: not w1.is_heard(wire.Beat(seq=1)))
        run.send(wire.Submit(job=make_job()))
        w2.say_hello(worker="w2", incarnation="2" * 16)
        lease = w2.receive_until(wire.Lease)
        w1.send(wire.Done(token=lease.token, outcome=make_built(compiler="forged")))
        w2.send(wire.Done(token=lease.token, outcome=make_built()))
        assert run.receive_until(wire.Result).outcome == make_built()


WRONG_ROLE = [
    (Role.CLIENT, "w1", wire.Beat(seq=1)),
    (Role.CLIENT, "w1", wire.Done(token=1, outcome=make_built())),
    (Role.CLIENT, "w1", wire.Drain()),
    (Role.WORKER, "w1", wire.Describe()),
    (Role.WORKER, "w1", wire.Submit(job=make_job())),
    (Role.WORKER, "w1", wire.Cancel(job_id="job")),
    (Role.OPERATOR, "watch", wire.Submit(job=make_job())),
    (Role.OPERATOR, "watch", wire.Bye()),
]


@pytest.mark.parametrize(("role", "name", "message"), WRONG_ROLE)
def test_a_key_of_another_role_is_told_and_has_no_effect(yard, role, name, message):
    folder = yard.enrolled(name, role)
    with serving(yard) as broker, client(broker, folder) as peer:
        peer.send(message)
        refused = peer.receive()
        assert refused.code is Refusal.FORBIDDEN
        assert repr(message.kind) in refused.message
        with client(broker, yard.enrolled("run")) as run:
            run.send(wire.Wait(job_id="job"))
            assert run.receive_until(wire.Refused).code is Refusal.UNKNOWN


def test_a_client_says_no_hello_and_a_worker_none_by_anothers_name(yard):
    mine, theirs = yard.enrolled("run"), yard.enrolled("w2", Role.WORKER)
    hello = wire.Hello(worker="w1", incarnation="1" * 16, environment=make_environment(), seq=0)
    with serving(yard) as broker, client(broker, mine) as run, worker(broker, theirs) as w2:
        for peer, said in ((run, "may not send 'hello'"), (w2, "may not say hello as 'w1'")):
            peer.send(hello)
            refused = peer.receive_until(wire.Refused)
            assert refused.code is Refusal.FORBIDDEN
            assert said in refused.message
        run.send(wire.Describe())
        assert run.receive_until(wire.Described).workers == 0


def test_a_worker_cannot_speak_for_another_by_its_routing_id(yard):
    """Routing ids are chosen by whoever connects; what was said under one stays its key's."""
    first, second = yard.enrolled("w1", Role.WORKER), yard.enrolled("w2", Role.WORKER)
    with (
        serving(yard) as broker,
        client(broker, yard.enrolled("run")) as run,
        routed(broker, first) as w1,
    ):
        w1.say_hello()
        run.send(wire.Submit(job=make_job()))
        lease = w1.receive_until(wire.Lease)
        w1.socket.close(linger=0)
        with routed(broker, second) as thief:
            thief.socket.setsockopt(zmq.RCVTIMEO, BRIEFLY_MS)
            thief.send(wire.Done(token=lease.token, outcome=make_built(compiler="forged")))
            with pytest.raises(zmq.Again):
                thief.receive()
        run.send(wire.Wait(job_id="job"))
        run.receive_until(wire.Submitted)


@contextlib.contextmanager
def routed(broker, folder):
    """A worker that chose its routing id."""
    with worker(broker, folder) as peer:
        address = peer.socket.getsockopt(zmq.LAST_ENDPOINT)
        peer.socket.disconnect(address)
        peer.socket.setsockopt(zmq.ROUTING_ID, b"chosen")
        peer.socket.connect(address)
        yield peer


def test_a_damaged_list_stops_everybody_until_it_is_mended(yard):
    folder = yard.enrolled("run")
    with serving(yard) as broker, client(broker, folder, patience_ms=BRIEFLY_MS) as run:
        until(run.is_heard)
        good = (yard.broker / PEERS).read_bytes()
        (yard.broker / PEERS).write_bytes(b"[[peer]")
        until(lambda: not run.is_heard())
        (yard.broker / PEERS).write_bytes(good)
        until(run.is_heard)


def test_a_flood_of_one_key_beyond_its_allowance_is_not_read(yard):
    with zmq.Context() as context:
        gate = KeyGate(
            context, yard.broker, allowance=Allowance(burst_messages=3, messages_per_s=0.001)
        )
        with router(context, "tcp://127.0.0.1:*", gate.pair) as bound:
            endpoint = seen(bound.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
            folder = yard.enrolled("run")
            gate.tick()
            with KeyedPeer(endpoint, folder) as run:
                for _ in range(5):
                    run.send(wire.Describe())
                got: list[list[bytes] | None] = []
                while len(got) < 5:
                    assert bound.poll(5000)
                    got.append(gate.receive(bound))
        assert [message is not None for message in got] == [True, True, True, False, False]
        assert gate.dropped["limit run"] == 2
        gate.close()


def greeting():
    """The first bytes of a ZMTP 3.1 peer that says it speaks CURVE."""
    mechanism = b"CURVE".ljust(20, b"\0")
    return b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism + b"\x00" + bytes(31)


def raw(endpoint):
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5)


def test_idle_connections_and_frames_announced_as_huge_disturb_nobody(yard):
    with (
        serving(yard) as broker,
        client(broker, yard.enrolled("run")) as run,
        contextlib.ExitStack() as held,
    ):
        for number in range(150):
            connection = held.enter_context(raw(broker.endpoint))
            if number % 3:
                connection.sendall(greeting())
            if number % 3 == 2:
                connection.recv(64)
                connection.sendall(b"\x06" + struct.pack(">Q", 1 << 40) + b"x" * 1000)
        for _ in range(20):
            assert run.is_heard()
        with client(broker, yard.enrolled("late")) as late:
            until(late.is_heard)


@pytest.mark.timed
def test_a_connection_that_says_nothing_is_closed(yard):
    with serving(yard) as broker, raw(broker.endpoint) as idle:
        begun_s = time.monotonic()
        idle.settimeout(20)
        while idle.recv(256):
            pass
        assert time.monotonic() - begun_s < 15


def test_random_bytes_are_no_handshake(yard):
    with serving(yard) as broker, client(broker, yard.enrolled("run")) as run:
        for number in range(60):
            with raw(broker.endpoint) as connection, contextlib.suppress(OSError):
                connection.sendall(bytes((number * k) % 251 for k in range(200)))
        until(run.is_heard)


def test_a_socket_of_another_kind_can_want_the_same_keys(yard):
    """Events will be published to those on the list, and to nobody else."""
    mine, unknown = load_keys(yard.enrolled("run")), load_keys(yard.keys("unknown"))
    with zmq.Context() as context, zmq.Context() as outside:
        gate = KeyGate(context, yard.broker)
        with (
            context.socket(zmq.PUB) as told,
            outside.socket(zmq.SUB) as hears,
            outside.socket(zmq.SUB) as hears_not,
            outside.socket(zmq.SUB) as proves_nothing,
        ):
            require_keys(told, gate.pair)
            told.bind(LOOPBACK)
            place = seen(told.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
            for listener, keys in ((hears, mine), (hears_not, unknown), (proves_nothing, None)):
                present_keys(listener, keys)
                listener.setsockopt(zmq.SUBSCRIBE, b"")
                listener.connect(place)
            while not hears.poll(20):
                told.send(b"event")
            assert hears.recv() == b"event"
            assert not hears_not.poll(BRIEFLY_MS)
            assert not proves_nothing.poll(0)
        gate.close()


def test_where_handshakes_are_not_answered_nobody_comes_in(yard):
    """No thread asks the list: the socket refuses everybody instead of trusting every key."""
    folder = yard.enrolled("run")
    with zmq.Context() as context, router(context, LOOPBACK, load_pair(yard.broker)) as bound:
        place = seen(bound.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
        with KeyedPeer(place, folder, patience_ms=BRIEFLY_MS) as peer:
            assert not peer.is_heard()
            assert not bound.poll(0)


def test_once_the_gate_is_closed_nobody_comes_in(yard):
    folder = yard.enrolled("run")
    with zmq.Context() as context:
        gate = KeyGate(context, yard.broker)
        with router(context, LOOPBACK, gate.pair) as bound:
            place = seen(bound.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
            with KeyedPeer(place, folder) as before:
                before.send(wire.Describe())
                assert bound.poll(5000)
                bound.recv_multipart()
            gate.close()
            with KeyedPeer(place, folder, patience_ms=BRIEFLY_MS) as after:
                assert not after.is_heard()
                assert not bound.poll(0)
