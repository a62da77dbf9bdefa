"""What a handshake that is only tried says."""

import socket

import pytest

from gpu_runner.errors import PoolError
from gpu_runner.security.keys import Keys, load_keys, make_pair
from gpu_runner.security.knock import Answer, knock
from tests.gpu_runner import bus_threads
from tests.gpu_runner.security.secured import Yard, serving


@pytest.fixture
def yard(tmp_path):
    return Yard(tmp_path)


def test_an_enrolled_key_is_admitted(yard):
    keys = load_keys(yard.enrolled("run"))
    with serving(yard) as broker:
        assert knock(broker.endpoint, keys) is Answer.ADMITTED


def test_a_key_that_is_not_enrolled_is_refused_and_one_that_was_is_revoked(yard):
    unknown, struck = load_keys(yard.keys("unknown")), load_keys(yard.enrolled("old"))
    yard.revoke("old")
    with serving(yard) as broker:
        assert knock(broker.endpoint, unknown) is Answer.REFUSED
        assert knock(broker.endpoint, struck) is Answer.REVOKED


def test_a_broker_with_another_key_is_not_ours(yard):
    enrolled = load_keys(yard.enrolled("run"))
    other, _ = make_pair(yard.folder / "other")
    with serving(yard) as broker:
        mistaken = Keys(pair=enrolled.pair, broker=other.public_bytes)
        assert knock(broker.endpoint, mistaken) is Answer.REFUSED


def test_a_broker_without_keys_is_not_ours_either(yard):
    with bus_threads.serving("tcp://127.0.0.1:*") as broker:
        answer = knock(broker.endpoint, load_keys(yard.keys("run")), patience_s=2.0)
    assert answer is Answer.REFUSED


def test_whatever_listens_and_says_nothing_is_refused(yard):
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        answer = knock(endpoint, load_keys(yard.keys("run")), patience_s=0.3)
    assert answer is Answer.REFUSED


def test_where_nothing_listens_there_is_nobody(yard):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    keys = load_keys(yard.keys("run"))
    assert knock(f"tcp://127.0.0.1:{port}", keys, patience_s=0.3) is Answer.NOBODY


def test_an_endpoint_that_is_none_is_an_error(yard):
    with pytest.raises(PoolError, match="cannot connect"):
        knock("nowhere", load_keys(yard.keys("run")))
