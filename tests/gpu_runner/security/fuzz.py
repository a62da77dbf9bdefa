"""Mutated messages of enrolled keys: `make fuzz-bus MESSAGES=1000000 SEED=1`.

A broker process gets them over TCP with keys, from clients and from workers, as fast as it reads
them. Prints how many were sent, answered and refused, and what its memory did; exit code 1 when it
ended, grew by more than it may, or did not serve an honest client afterwards.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import zmq

from gpu_runner import wire
from gpu_runner.security.peers import Role
from gpu_runner.wire import MAGIC
from tests.gpu_runner.security.secured import KeyedPeer, Yard

MOST_GROWTH_BYTES = 20 * 1024 * 1024
GOLDEN = Path(__file__).parents[2] / "data" / "wire"
WARM = 20_000
"""Messages before memory is looked at for the first time; of a short run, half of them."""
_KEYS_OF_A_ROLE = 3
_DRAIN_EVERY = 16
_PAUSE_EVERY = 500
"""Messages after which the broker may catch up: what waits in sockets is no growth of its own."""
_SETTLED_S = 0.04
_ODD = (
    *("null", "true", "-1", "1e999", "NaN", "[]", "{}", '""', "18446744073709551616"),
    *('"\\ud800"', '"' + "a" * 200 + '"', "[" * 50, "0" * 30, '"\\u0000"'),
)


@dataclass(frozen=True, kw_only=True)
class Fuzzed:
    """What came of it."""

    sent: int
    answers: int
    is_alive: bool
    is_serving: bool
    growth_bytes: int
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.is_alive and self.is_serving and self.growth_bytes <= MOST_GROWTH_BYTES


def samples(kinds):
    """Golden bodies of these kinds."""
    return [(GOLDEN / f"{kind}.json").read_bytes().strip() for kind in sorted(kinds)]


def mutated(body, draw):
    """A body with one to four faults; sometimes none."""
    text = bytearray(body)
    for _ in range(draw.randrange(5)):
        at = draw.randrange(len(text) + 1)
        match draw.randrange(7):
            case 0:
                text[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del text[at : at + draw.randrange(1, 40)]
            case 2:
                text[at:at] = text[at : at + draw.randrange(1, 200)]
            case 3:
                text[at:at] = draw.randbytes(draw.randrange(1, 9))
            case 4:
                text = _with_odd_value(text, draw)
            case 5:
                text = _with_odd_key(text, draw)
            case 6:
                text = text[:at]
    return bytes(text)


def _with_odd_value(text, draw):
    colons = [i for i, byte in enumerate(text) if byte == ord(":")]
    if not colons:
        return text
    at = draw.choice(colons) + 1
    end = next((i for i in range(at, len(text)) if text[i] in b",}]"), len(text))
    return text[:at] + draw.choice(_ODD).encode() + text[end:]


def _with_odd_key(text, draw):
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(value, dict):
        return text
    value[draw.choice(["kind", "job", "extra", "worker", "token"])] = draw.choice(
        [0, None, "x", {}]
    )
    return bytearray(json.dumps(value).encode())


def frames_of(body, draw):
    """Mostly well framed."""
    match draw.randrange(40):
        case 0:
            return [draw.randbytes(4), body]
        case 1:
            return [MAGIC]
        case 2:
            return [MAGIC, body, body]
        case 3:
            return [MAGIC, *[b"x"] * 30]
    return [MAGIC, body]


def resident_bytes(pid):
    """Memory of a process that is in RAM."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if "VmRSS" in line)


class Attackers:
    """Peers with keys of both roles, who read what they are answered and withdraw their jobs."""

    def __init__(self, yard, endpoint, opening):
        self.answers = 0
        self.peers = []
        for number in range(_KEYS_OF_A_ROLE):
            for role, kinds in ((Role.CLIENT, "client"), (Role.WORKER, "worker")):
                folder = yard.enrolled(f"{kinds}-{number}", role)
                peer = opening.enter_context(KeyedPeer(endpoint, folder))
                self.peers.append((peer, samples(SAYS[role])))

    def send(self, number, draw):
        peer, bodies = self.peers[number % len(self.peers)]
        # Now and then what only the other role may say.
        body = draw.choice(bodies if draw.random() < 0.9 else EVERYTHING)
        try:
            peer.send_frames(*frames_of(mutated(body, draw), draw))
        except zmq.Again:
            return False
        if number % _DRAIN_EVERY == 0:
            self.drain(peer)
        return True

    def settle(self):
        """Wait until everything sent has been read: nothing is answered any more."""
        silent_since_s = time.monotonic()
        while time.monotonic() - silent_since_s < _SETTLED_S:
            before = self.answers
            for peer, _ in self.peers:
                self.drain(peer)
            if self.answers != before:
                silent_since_s = time.monotonic()
            time.sleep(0.01)

    def drain(self, peer):
        while peer.socket.poll(0):
            answer = peer.receive()
            self.answers += 1
            if isinstance(answer, wire.Submitted) and answer.state is wire.State.QUEUED:
                peer.send(wire.Cancel(job_id=answer.job_id))


SAYS = {
    Role.CLIENT: ("submit", "wait", "cancel", "describe"),
    Role.WORKER: ("hello", "beat", "started", "done", "drain", "bye"),
}
EVERYTHING = samples([kind for kinds in SAYS.values() for kind in kinds])


def start(yard, folder):
    """A broker process and where it listens."""
    log = (folder / "broker.log").open("wb")
    command = [sys.executable, "-m", "gpu_runner.cli", "broker", "--keys", str(yard.broker)]
    command += ["--endpoint", "tcp://127.0.0.1:*", "--settle-s", "0"]
    with log:
        process = subprocess.Popen(command, stderr=log)
    while True:
        for line in (folder / "broker.log").read_text().splitlines():
            if "endpoint=" in line:
                return process, line.partition("endpoint=")[2].strip()
        if process.poll() is not None:
            raise AssertionError((folder / "broker.log").read_text())
        time.sleep(0.05)


def fuzz(folder, messages, seed):
    """Send them; the broker is ended afterwards."""
    yard, draw = Yard(folder), random.Random(seed)
    yard.enrolled("honest")
    process, endpoint = start(yard, folder)
    begun_s, first_bytes, sent = time.monotonic(), 0, 0
    with ExitStack() as opening:
        opening.callback(process.wait)
        opening.callback(process.kill)
        attackers = Attackers(yard, endpoint, opening)
        for number in range(messages):
            if number == min(WARM, messages // 2):
                attackers.settle()
                first_bytes = resident_bytes(process.pid)
            if number % _PAUSE_EVERY == 0:
                attackers.settle()
            if not attackers.send(number, draw):
                break
            sent += 1
        attackers.settle()
        with KeyedPeer(endpoint, folder / "honest") as honest:
            is_serving = honest.is_heard()
        is_alive = process.poll() is None
        grown = resident_bytes(process.pid) - first_bytes if is_alive else 0
        return Fuzzed(
            sent=sent,
            answers=attackers.answers,
            is_alive=is_alive,
            is_serving=is_serving,
            growth_bytes=grown,
            seconds=time.monotonic() - begun_s,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("messages", type=int, nargs="?", default=1_000_000)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(Path(folder), asked.messages, asked.seed)
    sys.stdout.write(
        f"sent {found.sent} answers {found.answers} alive {found.is_alive} "
        f"serving {found.is_serving} growth {found.growth_bytes / 2**20:.1f} MiB "
        f"in {found.seconds:.0f} s\n"
    )
    return 0 if found.is_good and found.sent == asked.messages else 1


if __name__ == "__main__":
    sys.exit(main())
