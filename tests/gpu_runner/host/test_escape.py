"""Ways out of the sandbox, tried from inside: each is refused, with namespaces and without."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_runner.host import bubblewrap, cgroup, landlock, seccomp
from gpu_runner.host.sandbox import Grants, LayerName, run
from tests.gpu_runner.executors import is_alive
from tests.gpu_runner.host import probe

PROBE = Path(probe.__file__)
ONLY_NAMESPACES_HIDE = {"see it", "read outside", "open a handle of it"}
NO_NAMESPACE: frozenset[LayerName] = frozenset({"bubblewrap"})

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the probe's numbers are x86-64's"),
    pytest.mark.skipif(not seccomp.assemble("base"), reason="needs seccomp"),
]


class Victims:
    """What a probe is told of: a process, a file, a port and a socket outside."""

    def __init__(self, folder):
        self.work = folder / "work"
        self.outside = folder / "outside"
        self.work.mkdir()
        self.outside.mkdir()
        self.secret = self.outside / "secret"
        self.secret.write_text("kept")
        self.process = subprocess.Popen(["sleep", "300"], start_new_session=True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.name = f"kernelpilot-probe-{os.getpid()}"
        self.abstract.bind(f"\0{self.name}")
        self.abstract.listen()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.server.close()
        self.abstract.close()

    def told(self):
        return {
            "pid": self.process.pid,
            "group": self.process.pid,
            "folder": str(self.outside),
            "secret": str(self.secret),
            "here": str(self.work),
            "port": self.server.getsockname()[1],
            "abstract": self.name,
        }

    def are_well(self):
        return (
            is_alive(self.process.pid)
            and self.secret.read_text() == "kept"
            and [path.name for path in self.outside.iterdir()] == ["secret"]
        )


@pytest.fixture
def victims(tmp_path):
    victims = Victims(tmp_path)
    yield victims
    victims.close()


def found_by_a_probe(victims, without, *, zygote=None, **changes):
    grants = Grants(
        **{
            "readable": (PROBE,),
            "writable": (victims.work,),
            "environment": {"PATH": "/usr/bin:/bin"},
            "may_spawn": True,
            "without": without,
            **changes,
        }
    )
    line = [sys.executable, "-I", "-B", str(PROBE), json.dumps(victims.told())]
    finished = run(line, grants, timeout_s=60, cwd=victims.work, zygote=zygote)
    assert finished.returncode == 0, finished.output
    return json.loads(finished.output)


def reached(found):
    return {name for name, outcome in found.items() if outcome == probe.REACHED}


@pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap")
@pytest.mark.parametrize("may_spawn", [True, False])
def test_no_way_leads_out(victims, may_spawn):
    found = found_by_a_probe(victims, frozenset(), may_spawn=may_spawn)
    assert reached(found) == set()
    assert len(found) == len(probe.ways(victims.told())) > 35
    assert victims.are_well()


@pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap")
@pytest.mark.parametrize("may_spawn", [True, False])
def test_no_way_leads_out_of_a_fork(victims, zygote, may_spawn):
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    found = found_by_a_probe(
        victims, frozenset(), zygote=zygote, may_spawn=may_spawn, environment=environment
    )
    assert reached(found) == set()
    assert len(found) == len(probe.ways(victims.told())) > 35
    assert victims.are_well()


@pytest.mark.skipif(landlock.version() < 6, reason="needs Landlock's scopes (Linux 6.12)")
def test_without_namespaces_the_filter_and_landlock_hold(victims):
    """It sees what its user may see, and touches nothing of it."""
    found = found_by_a_probe(victims, NO_NAMESPACE)
    assert reached(found) <= ONLY_NAMESPACES_HIDE
    assert victims.are_well()


def test_the_probe_tries_nothing_where_it_is_not_confined(victims):
    line = [sys.executable, "-I", "-B", str(PROBE), json.dumps(victims.told())]
    finished = subprocess.run(line, capture_output=True, text=True, check=False)
    assert finished.returncode == probe.NOT_CONFINED
    assert set(json.loads(finished.stdout)) == {"refused"}
    assert victims.are_well()


@pytest.mark.parametrize("without", ["seccomp", "rlimits", "cgroup", "landlock"])
@pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap")
def test_one_layer_less_lets_nothing_through_that_others_hold(victims, without):
    """The network, other processes and files outside are each held by more than one layer."""
    if without == "seccomp":
        grants = Grants(readable=(PROBE,), may_spawn=True, without=frozenset({"seccomp"}))
        line = [sys.executable, "-I", "-B", str(PROBE), json.dumps(victims.told())]
        finished = run(line, grants, timeout_s=60, cwd=victims.work)
        assert finished.returncode == probe.NOT_CONFINED
    else:
        assert reached(found_by_a_probe(victims, frozenset({without}))) == set()
    assert victims.are_well()


HOG = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        held = bytearray(80 << 20)
        held[::4096] = b"x" * len(held[::4096])
        print("held", flush=True)
        time.sleep(20)
        os._exit(0)
time.sleep(2)
"""


def limits_memory():
    group = cgroup.create(tasks=1, memory_bytes=1 << 20)
    if group is None:
        return False
    names = ("memory.max", "memory.limit_in_bytes")
    is_limited = any((folder / name).exists() for folder in group.folders for name in names)
    group.close()
    return is_limited


@pytest.mark.skipif(not limits_memory(), reason="needs the memory controller")
def test_several_processes_have_no_more_memory_than_one(tmp_path):
    """Each stays below the limit; together they do not."""
    grants = Grants(may_spawn=True, memory_bytes=200 << 20, environment={"PATH": "/usr/bin"})
    finished = run([sys.executable, "-I", "-c", HOG], grants, timeout_s=60, cwd=tmp_path)
    assert finished.output.count("held") < 4
