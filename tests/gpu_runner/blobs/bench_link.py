"""What an upload over a slow line does to heartbeats: `make bench-link`.

Prints the longest time between two answered beats, with nothing else on the line, during an upload
on the blobs' own socket, and with the same bytes on the job socket. Everything is sealed by keys.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import zmq

from gpu_runner import wire
from gpu_runner.blobs.client import BlobClient
from gpu_runner.security.peers import Role
from gpu_runner.wire import MAGIC
from tests.gpu_runner.blobs.served import serving as blobs_served
from tests.gpu_runner.blobs.slow_line import SlowLine
from tests.gpu_runner.blobs.worlds import bytes_of
from tests.gpu_runner.security.secured import KeyedPeer, Yard, serving

_BEAT_S = 0.25
_MIB = 1 << 20


class Beating:
    """A worker that beats four times a second while something else happens."""

    def __init__(self, port, folder):
        self.worker = KeyedPeer(f"tcp://127.0.0.1:{port}", folder, wire.TO_WORKER)
        self.worker.say_hello()
        self.seq = 0

    def longest_gap_s(self, other, burden=b""):
        """Beat until `other` has ended; `burden` goes before each beat, on the same socket."""
        begun = threading.Thread(target=other)
        begun.start()
        heard_s, longest_s = time.monotonic(), 0.0
        while begun.is_alive():
            self.seq += 1
            if burden:
                self.worker.send_frames(MAGIC, burden)
            self.worker.send(wire.Beat(seq=self.seq))
            while not self.is_answered():
                pass
            longest_s = max(longest_s, time.monotonic() - heard_s)
            heard_s = time.monotonic()
            time.sleep(_BEAT_S)
        return longest_s

    def is_answered(self):
        self.worker.socket.setsockopt(zmq.RCVTIMEO, 120_000)
        answer = self.worker.receive()
        return isinstance(answer, wire.Pong) and answer.seq == self.seq


def port_of(endpoint):
    return int(endpoint.rpartition(":")[2])


def measured(folder, size, bytes_per_s):
    """Name, longest gap in seconds and seconds, of each case."""
    yard = Yard(folder)
    worker, run = yard.enrolled("w1", Role.WORKER), yard.enrolled("run")
    (folder / "file").write_bytes(bytes_of(size))
    line = SlowLine(bytes_per_s)
    with serving(yard) as broker, blobs_served(folder / "blobs", keys=yard.broker) as blobs:
        beating = Beating(line.to(port_of(broker.endpoint)), worker)
        place = f"tcp://127.0.0.1:{line.to(port_of(blobs.endpoint))}"

        def upload():
            with BlobClient(place, keys=run) as client:
                client.put(folder / "file")

        burden = b" " * min(size, wire.MOST_BYTES)
        cases = (
            ("nothing else", lambda: time.sleep(5), b""),
            ("own socket, credit 8", upload, b""),
            (f"{len(burden) // _MIB} MiB on the job socket", lambda: time.sleep(5), burden),
        )
        for name, other, burdened in cases:
            begun_s = time.monotonic()
            gap_s = beating.longest_gap_s(other, burdened)
            yield name, gap_s, time.monotonic() - begun_s
        beating.worker.__exit__()
    line.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the upload")
    parser.add_argument("--mb-per-s", type=float, default=25.0, help="of the line")
    asked = parser.parse_args()
    sys.stdout.write(f"{'beside the beats':<28}{'longest gap s':>14}{'seconds':>10}\n")
    with tempfile.TemporaryDirectory() as folder:
        for name, gap_s, seconds in measured(
            Path(folder), asked.mib * _MIB, asked.mb_per_s * 1_000_000
        ):
            sys.stdout.write(f"{name:<28}{gap_s:>14.2f}{seconds:>10.1f}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
