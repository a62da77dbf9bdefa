"""Strangers by the thousand at a broker with keys: `make flood-bus`.

Connections that say nothing, and ones that begin a handshake and announce a frame of 1 TiB. Prints
how long an enrolled client waited for answers and what the broker's memory did, before, meanwhile
and after; exit code 1 when an answer did not come.
"""

import argparse
import statistics
import struct
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from gpu_runner.endpoint import allow_many_connections
from tests.gpu_runner.security.fuzz import resident_bytes, start
from tests.gpu_runner.security.secured import KeyedPeer, Yard
from tests.gpu_runner.security.test_strangers import greeting, raw

_ASKED = 100
_ANNOUNCED = b"\x06" + struct.pack(">Q", 1 << 40) + b"x" * 4096


def waits_ms(client):
    """How long each of a hundred answers took; None when one did not come."""
    waits = []
    for _ in range(_ASKED):
        begun_s = time.monotonic()
        if not client.is_heard():
            return None
        waits.append(1000 * (time.monotonic() - begun_s))
    return sorted(waits)


def show(what, waits, pid):
    if waits is None:
        sys.stdout.write(f"{what:<12} no answer\n")
        return False
    mib = resident_bytes(pid) / 2**20
    sys.stdout.write(
        f"{what:<12} answers p50 {statistics.median(waits):.2f} ms, worst {waits[-1]:.1f} ms, "
        f"memory {mib:.0f} MiB\n"
    )
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idle", type=int, default=1500)
    parser.add_argument("--huge", type=int, default=500)
    asked = parser.parse_args()
    allow_many_connections()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opening:
        yard = Yard(Path(folder))
        mine, late = yard.enrolled("run"), yard.enrolled("late")
        process, endpoint = start(yard, Path(folder))
        opening.callback(process.wait)
        opening.callback(process.kill)
        client = opening.enter_context(KeyedPeer(endpoint, mine))
        is_good = show("before", waits_ms(client), process.pid)
        for number in range(asked.idle + asked.huge):
            stranger = opening.enter_context(raw(endpoint))
            if number >= asked.idle:
                stranger.sendall(greeting())
                stranger.sendall(_ANNOUNCED)
        is_good &= show("meanwhile", waits_ms(client), process.pid)
        newcomer = opening.enter_context(KeyedPeer(endpoint, late))
        is_good &= show("newcomer", waits_ms(newcomer), process.pid)
        time.sleep(5)
        is_good &= show("after", waits_ms(client), process.pid)
        descriptors = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        sys.stdout.write(f"descriptors of the broker after: {descriptors}\n")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
