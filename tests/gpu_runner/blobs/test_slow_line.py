"""An upload over a slow line that the job socket shares: beats are answered all along."""

import threading

from gpu_runner import wire
from gpu_runner.blobs.client import BlobClient
from gpu_runner.blobs.messages import CHUNK_BYTES
from tests.gpu_runner import bus_threads
from tests.gpu_runner.blobs.served import serving
from tests.gpu_runner.blobs.slow_line import SlowLine
from tests.gpu_runner.blobs.worlds import bytes_of, digest_of

SIZE = 24 * CHUNK_BYTES


def port_of(server):
    return int(server.endpoint.rpartition(":")[2])


def test_a_big_artefact_on_a_slow_line_delays_no_beat(tmp_path):
    """Three credits' worth of bytes at 4 MB/s; behind them on one socket a beat would wait for
    all that was sent before it, here it waits for what is on the line."""
    (tmp_path / "file").write_bytes(bytes_of(SIZE))
    line, digests = SlowLine(4_000_000), []
    with (
        bus_threads.serving("tcp://127.0.0.1:*") as broker,
        serving(tmp_path / "blobs") as blobs,
        bus_threads.Peer(f"tcp://127.0.0.1:{line.to(port_of(broker))}") as worker,
    ):
        worker.say_hello()
        place = f"tcp://127.0.0.1:{line.to(port_of(blobs))}"

        def upload():
            with BlobClient(place) as client:
                digests.append(client.put(tmp_path / "file"))

        thread = threading.Thread(target=upload)
        thread.start()
        answered = 0
        while thread.is_alive():
            answered += 1
            worker.send(wire.Beat(seq=answered))
            assert worker.receive_until(wire.Pong).seq == answered
        thread.join()
    line.close()
    assert digests == [digest_of(bytes_of(SIZE))]
    assert answered >= 8
