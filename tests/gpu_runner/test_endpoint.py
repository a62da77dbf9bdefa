"""Addresses and socket options."""

import subprocess
import sys

import pytest
import zmq

from gpu_runner.endpoint import check_endpoint, dealer, router
from gpu_runner.errors import PoolError
from gpu_runner.wire import MOST_BYTES


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


def address_of(socket):
    return socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()


@pytest.mark.parametrize(
    "endpoint", ["ipc:///tmp/x", "tcp://127.0.0.1:1", "tcp://[::1]:*", "tcp://localhost:7766"]
)
def test_loopback_endpoints_are_accepted(endpoint):
    assert check_endpoint(endpoint) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://0.0.0.0:7766", "tcp://192.168.1.5:7766", "tcp://*:7766", "tcp://example.org:7766"],
)
def test_an_open_address_is_refused_with_the_way_round(endpoint):
    with pytest.raises(PoolError, match=r"not loopback and peers are not .*ssh tunnel"):
        check_endpoint(endpoint)


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:7766", "tcp://*:7766", "tcp://127.0.0.1:1"])
def test_with_keys_every_address_is_allowed(endpoint):
    assert check_endpoint(endpoint, has_keys=True) == endpoint


@pytest.mark.parametrize("endpoint", ["udp://0.0.0.0:1", "ipc://", "tcp://0.0.0.0"])
def test_keys_make_no_endpoint_of_what_is_none(endpoint):
    with pytest.raises(PoolError, match="neither"):
        check_endpoint(endpoint, has_keys=True)


def test_descriptors_are_as_many_as_the_system_allows():
    code = (
        "import resource as r\n"
        "from gpu_runner.endpoint import allow_many_connections\n"
        "hard = r.getrlimit(r.RLIMIT_NOFILE)[1]\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, hard))\n"
        "allow_many_connections()\n"
        "print(r.getrlimit(r.RLIMIT_NOFILE) == (hard, hard))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize(
    "endpoint", ["", "bus", "udp://127.0.0.1:1", "ipc://", "tcp://127.0.0.1", "tcp://127.0.0.1:x"]
)
def test_an_endpoint_that_is_none_is_named(endpoint):
    with pytest.raises(PoolError, match=r"neither ipc://PATH nor tcp://127\.0\.0\.1:PORT"):
        check_endpoint(endpoint)


def test_a_socket_path_may_have_107_bytes_and_no_more():
    longest = "/tmp/" + "x" * 102
    assert check_endpoint(f"ipc://{longest}")
    with pytest.raises(PoolError, match="longer than 107 bytes; set TMPDIR=/tmp"):
        check_endpoint(f"ipc://{longest}x")
    with pytest.raises(PoolError, match="longer than 107 bytes"):
        check_endpoint(f"ipc:///tmp/{'ü' * 60}")


@pytest.mark.parametrize("endpoint", ["ipc", "tcp"])
def test_frames_are_limited_and_nothing_lingers(context, tmp_path, endpoint):
    address = f"ipc://{tmp_path}/bus" if endpoint == "ipc" else "tcp://127.0.0.1:*"
    with router(context, address) as bound:
        assert bound.getsockopt(zmq.MAXMSGSIZE) == MOST_BYTES
        assert bound.getsockopt(zmq.LINGER) == 0
        pings = bound.getsockopt(zmq.HEARTBEAT_IVL)
        assert (pings != 0) == (endpoint == "tcp")  # pings would wake a machine that measures
        address = address_of(bound)
        with dealer(context, address) as connected:
            assert connected.getsockopt(zmq.MAXMSGSIZE) == MOST_BYTES
            assert connected.getsockopt(zmq.LINGER) == 0


def test_a_message_to_nobody_is_an_error_and_not_silence(context, tmp_path):
    with router(context, f"ipc://{tmp_path}/bus") as bound:
        with pytest.raises(zmq.ZMQError) as raised:
            bound.send_multipart([b"nobody", b"x"], zmq.NOBLOCK)
        assert raised.value.errno == zmq.EHOSTUNREACH


def test_nothing_is_queued_for_a_broker_that_is_away(context, tmp_path):
    endpoint = f"ipc://{tmp_path}/bus"
    with dealer(context, endpoint) as connected:
        with pytest.raises(zmq.Again):
            connected.send(b"stale", zmq.NOBLOCK)
        with router(context, endpoint) as bound:
            connected.setsockopt(zmq.SNDTIMEO, 10_000)
            connected.send(b"fresh")
            bound.setsockopt(zmq.RCVTIMEO, 10_000)
            assert bound.recv_multipart()[1:] == [b"fresh"]


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://", "smoke://signals"])
def test_a_connection_to_nonsense_is_refused(context, endpoint):
    with pytest.raises(PoolError, match="cannot connect to"):
        dealer(context, endpoint)


def test_an_address_in_use_is_said(context):
    with router(context, "tcp://127.0.0.1:*") as bound:
        address = address_of(bound)
        with pytest.raises(PoolError, match="is another broker there"):
            router(context, address)
