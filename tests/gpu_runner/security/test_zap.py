"""The handshake's decision, as a function, and its thread, which refuses rather than dies."""

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.security.peers import AllowList, Holder, Role
from gpu_runner.security.zap import DOMAIN, ENDPOINT, ZapThread, answer

KEY = bytes(range(32))
STRUCK = bytes(32)
ALLOWED = AllowList(
    peer=(
        Holder(key=KEY.hex(), role=Role.CLIENT, name="run"),
        Holder(key=STRUCK.hex(), role=Role.CLIENT, name="old", revoked=True),
    )
)


def request(*, domain=DOMAIN, mechanism=b"CURVE", credentials=(KEY,), version=b"1.0"):
    return [version, b"7", domain, b"127.0.0.1", b"", mechanism, *credentials]


def test_an_enrolled_key_is_admitted_under_its_own_name():
    assert answer(request(), ALLOWED) == [b"1.0", b"7", b"200", b"OK", KEY.hex().encode(), b""]


STRANGERS = {
    "revoked key": request(credentials=(STRUCK,)),
    "no key": request(credentials=()),
    "two keys": request(credentials=(KEY, KEY)),
    "short key": request(credentials=(KEY[:31],)),
    "long key": request(credentials=(KEY + b"\0",)),
    "key as text": request(credentials=(KEY.hex().encode(),)),
    "NULL": request(mechanism=b"NULL", credentials=()),
    "NULL with a key": request(mechanism=b"NULL"),
    "PLAIN": request(mechanism=b"PLAIN", credentials=(b"user", b"word")),
    "PLAIN with a key": request(mechanism=b"PLAIN"),
    "another domain": request(domain=b"global"),
    "no domain": request(domain=b""),
    "another version": request(version=b"2.0"),
    "nothing": [],
    "version only": [b"1.0"],
}


@pytest.mark.parametrize("asked", STRANGERS.values(), ids=STRANGERS.keys())
def test_a_stranger_is_refused_and_has_no_user_id(asked):
    version, _, code, _, user, _ = answer(asked, ALLOWED)
    assert (version, code, user) == (b"1.0", b"400", b"")


def test_a_key_that_nobody_knows_may_try_again():
    """It may be enrolled by then; the others are told to give up."""
    _, _, code, _, user, _ = answer(request(credentials=(b"\x01" * 32,)), ALLOWED)
    assert (code, user) == (b"300", b"")


@given(st.lists(st.binary(max_size=40), max_size=9))
def test_no_bytes_are_admitted_but_those_of_an_enrolled_key(asked):
    is_admitted = answer(asked, ALLOWED)[2] == b"200"
    assert not is_admitted or asked[6] == KEY


@given(st.binary(min_size=32, max_size=32))
def test_an_empty_list_admits_no_key(key):
    assert answer(request(credentials=(key,)), AllowList())[2] == b"300"


class Desk:
    """A handshake's thread and somebody who asks it, as ZeroMQ would."""

    def __init__(self):
        self.context = zmq.Context()
        self.allowed = lambda: ALLOWED
        self.zap = ZapThread(self.context, lambda: self.allowed())  # noqa: PLW0108 - `allowed` is exchanged later

    def ask(self, frames, patience_ms=5000):
        with self.context.socket(zmq.REQ) as asking:
            asking.setsockopt(zmq.LINGER, 0)
            asking.setsockopt(zmq.RCVTIMEO, patience_ms)
            asking.connect(ENDPOINT)
            asking.send_multipart(frames)
            return asking.recv_multipart()

    def close(self):
        self.zap.close()
        self.context.term()


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.close()


def test_one_thread_answers_many(desk):
    codes = [desk.ask(asked)[2] for asked in (request(), *list(STRANGERS.values())[:12], request())]
    assert codes == [b"200", *[b"400"] * 12, b"200"]
    assert desk.zap.refused == 12


def test_the_list_is_asked_each_time(desk):
    desk.allowed = AllowList
    assert desk.ask(request())[2] == b"300"
    desk.allowed = lambda: ALLOWED
    assert desk.ask(request())[2] == b"200"


@pytest.mark.parametrize(
    "failure", [ValueError, KeyError, RecursionError, MemoryError, ZeroDivisionError, TypeError]
)
def test_a_list_that_fails_refuses_and_the_next_is_served(desk, failure, caplog):
    def fails():
        raise failure("no")

    desk.allowed = fails
    assert desk.ask(request())[2:5] == [b"500", failure.__name__.encode(), b""]
    assert "could not be judged" in caplog.text
    desk.allowed = lambda: ALLOWED
    assert desk.ask(request())[2] == b"200"
    assert desk.zap.is_alive


class Unforeseen(Exception):
    pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_started_again_and_nobody_came_in_meanwhile(desk, caplog):
    def fails():
        raise Unforeseen

    desk.allowed = fails
    with pytest.raises(zmq.Again):
        desk.ask(request(), patience_ms=300)
    assert not desk.zap.is_alive
    desk.allowed = lambda: ALLOWED
    while not desk.zap.is_alive:
        desk.zap.tend()
    assert "died and is started again" in caplog.text
    assert desk.ask(request())[2] == b"200"
    assert desk.zap.restarts >= 1


def test_tending_a_living_thread_does_nothing(desk):
    desk.zap.tend()
    assert desk.zap.restarts == 0


def test_a_flood_of_refusals_fills_no_log(desk, caplog):
    for _ in range(40):
        desk.ask(request(credentials=(b"\x01" * 32,)))
    lines = [line for line in caplog.text.splitlines() if "handshake refused" in line]
    assert len(lines) == 6
    assert f"key={'01' * 32}" in lines[0]
    assert "address=127.0.0.1" in lines[0]
