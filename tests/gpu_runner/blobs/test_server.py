"""Blobs over sockets: servers that come and go, keys, and the job bus beside them."""

import threading

import pytest
import zmq

from gpu_runner import wire
from gpu_runner.blobs.client import BlobClient, digest_of_file
from gpu_runner.blobs.messages import CHUNK_BYTES, MAGIC, BlobError, Code, parse_answer
from gpu_runner.blobs.server import BlobServer, blob_endpoint, blobs_beside
from gpu_runner.blobs.store import StorePlan
from gpu_runner.endpoint import dealer
from gpu_runner.errors import PoolError
from gpu_runner.security.peers import Role
from tests.gpu_runner import bus_threads
from tests.gpu_runner.blobs.served import serving
from tests.gpu_runner.blobs.worlds import bytes_of, digest_of
from tests.gpu_runner.executors import seen
from tests.gpu_runner.security.secured import Yard

SIZE = 3 * CHUNK_BYTES + 5


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes_of(SIZE))
    return path


def client(server, **changes):
    return BlobClient(server.endpoint, **{"patience_s": 10.0, "retry_s": 0.1, **changes})


def test_a_file_travels_to_the_server_and_back(tmp_path, file):
    with serving(tmp_path / "blobs") as server, client(server) as blobs:
        digest = blobs.put(file)
        assert digest == digest_of(file.read_bytes())
        assert blobs.has(digest)
        blobs.get(digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"blobs", "file", "copy"}


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES])
def test_files_of_any_size_travel(tmp_path, size):
    (tmp_path / "file").write_bytes(bytes_of(size))
    with serving(tmp_path / "blobs") as server, client(server) as blobs:
        blobs.get(blobs.put(tmp_path / "file"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == bytes_of(size)


def test_a_server_that_ends_under_way_is_waited_for(tmp_path, file):
    """It ends after every chunk or so; the same call goes on with each of its successors."""
    endpoint = f"ipc://{tmp_path}/blobs.socket"
    file.write_bytes(bytes_of(30 * CHUNK_BYTES))
    done = []

    def send():
        with BlobClient(endpoint, patience_s=30.0, retry_s=0.05) as blobs:
            done.append(blobs.put(file))

    thread = threading.Thread(target=send)
    thread.start()
    while not done:
        with serving(tmp_path / "blobs", endpoint):
            thread.join(timeout=0.03)
    thread.join()
    assert done == [digest_of(file.read_bytes())]
    with serving(tmp_path / "blobs", endpoint), BlobClient(endpoint) as blobs:
        blobs.get(done[0], tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()


def test_a_fetch_goes_on_with_what_is_here(tmp_path, file):
    content = file.read_bytes()
    digest = digest_of(content)
    part = tmp_path / f"copy.{digest[:16]}.part"
    part.write_bytes(content[: 2 * CHUNK_BYTES])
    with serving(tmp_path / "blobs") as server, client(server) as blobs:
        blobs.put(file)
        blobs.get(digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert not part.exists()


def test_a_blob_that_is_not_there_is_an_error_and_leaves_no_file(tmp_path):
    with (
        serving(tmp_path / "blobs") as server,
        client(server) as blobs,
        pytest.raises(BlobError, match="nobody has put it"),
    ):
        blobs.get("0" * 64, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_cannot_be_read_or_written_is_named(tmp_path, file):
    with serving(tmp_path / "blobs") as server, client(server) as blobs:
        with pytest.raises(BlobError, match=r"cannot read .*none"):
            blobs.put(tmp_path / "none")
        with pytest.raises(BlobError, match=r"cannot write .*nowhere"):
            blobs.get(blobs.put(file), tmp_path / "nowhere" / "copy")


def test_a_quota_is_said_to_the_sender(tmp_path, file):
    plan = StorePlan(quota_bytes=SIZE - 1)
    with (
        serving(tmp_path / "blobs", plan=plan) as server,
        client(server) as blobs,
        pytest.raises(BlobError, match=r"refused \(quota\): 'local' may hold"),
    ):
        blobs.put(file)


def test_what_is_in_use_is_kept_and_what_is_missing_named(tmp_path, file):
    absent = [f"{n:064x}" for n in range(1200)]
    with serving(tmp_path / "blobs") as server, client(server) as blobs:
        digest = blobs.put(file)
        assert blobs.keep([digest, *absent]) == tuple(absent)
        assert blobs.keep([]) == ()


def test_where_nobody_serves_patience_ends(tmp_path, file):
    with BlobClient(f"ipc://{tmp_path}/none", patience_s=0.2, retry_s=0.05) as blobs:
        for call in (lambda: blobs.put(file), lambda: blobs.has("0" * 64)):
            with pytest.raises(BlobError, match=r"for 0\.2 s; start the broker with --blobs"):
                call()


def test_a_broker_is_no_blob_server(tmp_path):
    endpoint = f"ipc://{tmp_path}/bus"
    with (
        bus_threads.serving(endpoint),
        BlobClient(endpoint, patience_s=5) as blobs,
        pytest.raises(BlobError, match="no blob server of this version"),
    ):
        blobs.has("0" * 64)


def test_what_is_no_request_is_answered_and_the_next_one_served(tmp_path):
    with serving(tmp_path / "blobs") as server, zmq.Context() as context:
        with dealer(context, server.endpoint) as peer:
            peer.setsockopt(zmq.RCVTIMEO, 10_000)
            for frames in ([MAGIC, b"\xff"], [b"kp/1", b"{}"], [MAGIC, b"{}", b"x"]):
                peer.send_multipart(frames)
                answer, _ = seen(parse_answer(peer.recv_multipart()))
                assert (answer.rid, answer.code) == (0, Code.MALFORMED)
        with client(server) as blobs:
            assert not blobs.has("0" * 64)


class TestKeys:
    @pytest.fixture
    def yard(self, tmp_path):
        return Yard(tmp_path / "keys")

    def test_enrolled_clients_and_workers_share_blobs(self, tmp_path, yard, file):
        run, worker = yard.enrolled("run"), yard.enrolled("w1", Role.WORKER)
        with serving(tmp_path / "blobs", keys=yard.broker) as server:
            with client(server, keys=run) as blobs:
                digest = blobs.put(file)
            with client(server, keys=worker) as blobs:
                blobs.get(digest, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == file.read_bytes()
        assert (tmp_path / "blobs" / "whole" / f"{digest}.run").exists()

    def test_strangers_and_revoked_keys_reach_nothing(self, tmp_path, yard, file):
        unknown, struck = yard.keys("unknown"), yard.enrolled("old")
        yard.revoke("old")
        with serving(tmp_path / "blobs", keys=yard.broker) as server:
            for folder in (None, unknown, struck):
                with (
                    client(server, keys=folder, patience_s=0.3) as blobs,
                    pytest.raises(BlobError, match="enrol this key"),
                ):
                    blobs.put(file)
        assert list((tmp_path / "blobs" / "partial").iterdir()) == []
        assert list((tmp_path / "blobs" / "whole").iterdir()) == []

    def test_an_operator_may_look_and_neither_put_nor_get(self, tmp_path, yard, file):
        watch = yard.enrolled("watch", Role.OPERATOR)
        with (
            serving(tmp_path / "blobs", keys=yard.broker) as server,
            client(server, keys=watch) as blobs,
        ):
            assert not blobs.has("0" * 64)
            for call in (lambda: blobs.put(file), lambda: blobs.keep(["0" * 64])):
                with pytest.raises(BlobError, match="role operator"):
                    call()

    def test_a_quota_is_each_names_own(self, tmp_path, yard, file):
        plan = StorePlan(quota_bytes=SIZE)
        with serving(tmp_path / "blobs", plan=plan, keys=yard.broker) as server:
            for name in ("a", "b"):
                file.write_bytes(bytes_of(SIZE, name))
                with client(server, keys=yard.enrolled(name)) as blobs:
                    blobs.put(file)

    def test_without_keys_no_other_address_is_served(self, tmp_path):
        with pytest.raises(PoolError, match="not loopback"):
            BlobServer("tcp://0.0.0.0:*", tmp_path)


@pytest.mark.parametrize(
    ("broker", "blobs"),
    [
        ("tcp://127.0.0.1:7766", "tcp://127.0.0.1:7767"),
        ("tcp://[::1]:1", "tcp://[::1]:2"),
        ("ipc:///run/bus", "ipc:///run/bus.blobs"),
    ],
)
def test_blobs_are_next_to_the_broker(broker, blobs):
    assert blob_endpoint(broker) == blobs


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "tcp://127.0.0.1", "udp://a:1"])
def test_an_endpoint_without_a_port_has_no_next_one(endpoint):
    with pytest.raises(PoolError, match="has none"):
        blob_endpoint(endpoint)


def test_a_folder_that_cannot_be_used_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PoolError, match="cannot keep blobs"):
        BlobServer("tcp://127.0.0.1:*", tmp_path / "file" / "blobs")


def test_an_upload_goes_on_while_the_bus_answers(tmp_path, file):
    """Blobs and jobs share no socket: a beat sent during an upload is answered before its end."""
    file.write_bytes(bytes_of(32 * CHUNK_BYTES))
    endpoint = f"ipc://{tmp_path}/bus"
    sent = threading.Event()

    def send():
        with BlobClient(blob_endpoint(endpoint)) as blobs:
            blobs.put(file)
        sent.set()

    with (
        bus_threads.serving(endpoint),
        bus_threads.Peer(endpoint) as worker,
        blobs_beside(endpoint, tmp_path / "blobs"),
    ):
        worker.say_hello()
        thread = threading.Thread(target=send)
        thread.start()
        answered = 0
        while not sent.is_set():
            answered += 1
            worker.send(wire.Beat(seq=answered))
            assert worker.receive_until(wire.Pong).seq == answered
        thread.join()
    assert answered > 3


def test_without_a_folder_there_is_nothing_beside(tmp_path):
    with blobs_beside("tcp://127.0.0.1:*", None):
        pass


def test_digests_of_files_are_their_contents(tmp_path, file):
    assert digest_of_file(file) == (digest_of(file.read_bytes()), SIZE)
