"""Forks of the zygote: the same as a new interpreter wherever it matters, and gone for sure."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gpu_runner.host import bubblewrap, cgroup
from gpu_runner.host.enclosure import Enclosure
from gpu_runner.host.graft import INTERPRETER, find_zygote, script_words
from gpu_runner.host.grants import Grants
from gpu_runner.host.nursery import nursery
from gpu_runner.host.sandbox import run
from tests.gpu_runner.executors import is_alive
from tests.gpu_runner.host import inspector

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8", "A": "b"}
INSPECTOR = Path(inspector.__file__)

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap"),
    pytest.mark.skipif(cgroup.refusal() is not None, reason="needs a control group"),
]


def executed(script, zygote, *words, cwd, **changes):
    """Run a script to its end: a fork where a zygote is named."""
    grants = Grants(
        **{
            "readable": (Path(script),),
            "environment": ENVIRONMENT,
            "memory_bytes": 4 << 30,
            **changes,
        }
    )
    line = [*INTERPRETER, str(script), *words]
    return run(line, grants, timeout_s=100, cwd=cwd, zygote=zygote)


def inspected(zygote, cwd, **changes):
    found = cwd / "found.json"
    finished = executed(INSPECTOR, zygote, str(found), cwd=cwd, writable=(cwd,), **changes)
    assert finished.returncode == 0, finished.output
    return json.loads(found.read_text())


MARK = "colorsys"
"""A module that nobody else has a zygote import."""


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """A zygote that has imported next to nothing, which tells it from those of other tests."""
    folder = tmp_path_factory.mktemp("light")
    with nursery(folder, preloaded=(MARK,)):
        yield folder


@pytest.fixture
def script(tmp_path):
    """Write a script and return its path."""

    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    return write


def test_a_fork_can_tell_itself_from_a_new_interpreter_by_what_is_named_only(zygote, tmp_path):
    fresh = inspected(None, tmp_path)
    fork = inspected(zygote, tmp_path)
    again = inspected(zygote, tmp_path)
    apart, common = fork.pop("is told apart by"), fork.pop("in common")
    fresh_apart = fresh.pop("is told apart by")
    drawn = [found.pop("drawn") for found in (fresh, fork, again)]
    fresh.pop("in common")
    assert fork == fresh
    # Named: a zygote's command line, no parent that it sees and a session of its own, and pages
    # that the collector leaves alone.
    assert set(fresh_apart["modules"]) - set(apart["modules"]) == set()
    assert (apart["parent and session"], apart["collected"]) == ([0, 2, 2], False)
    assert Path(apart["command line"][3]).name == "forker.py"
    assert again["in common"] == common
    assert [len(set(kind)) for kind in zip(*drawn, strict=True)] == [3, 3, 3]


def test_forks_have_nothing_in_common_with_those_after_a_new_beginning(tmp_path, script):
    say = script("print(hash('a'), id(type))")
    with nursery(tmp_path, forks=2, preloaded=()):
        said = [executed(say, tmp_path, cwd=tmp_path).output for _ in range(4)]
    assert said[0] == said[1] != said[2] == said[3]


def test_a_random_state_that_the_zygote_has_is_not_that_of_its_forks(tmp_path, script):
    draw = script("import numpy, random; print(random.random(), numpy.random.random())")
    with nursery(tmp_path, preloaded=("random", "numpy.random")):
        said = [executed(draw, tmp_path, cwd=tmp_path).output.split() for _ in range(2)]
    assert len({*said[0], *said[1]}) == 4


def test_what_one_fork_does_no_other_one_meets(light, tmp_path, script):
    stain = """
import builtins, json, os, sys
print(hasattr(builtins, "stain"), hasattr(json, "stain"), "STAIN" in os.environ,
      os.path.exists("/tmp/stain"), "stain" in sys.modules, sys.getrecursionlimit() == 77)
builtins.stain = json.stain = sys.modules["stain"] = 1
os.environ["STAIN"] = "1"
open("/tmp/stain", "w").close()
sys.setrecursionlimit(77)
"""
    path = script(stain)
    said = {executed(path, light, cwd=tmp_path).output for _ in range(2)}
    assert said == {"False False False False False False\n"}


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("raise SystemExit", 0),
        ("raise SystemExit('said')", 1),
        ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
        ("import os; os.abort()", -signal.SIGABRT),
        ("import atexit; atexit.register(print, 'at the end')", 0),
        ("1 / 0", 1),
    ],
)
def test_it_ends_as_a_new_interpreter_does(light, tmp_path, script, text, status):
    path = script(text)
    finished = executed(path, light, cwd=tmp_path)
    assert finished.returncode == status
    assert "forker.py" not in finished.output
    if "said" in text:
        assert finished.output == "said\n"
    if "atexit" in text:
        assert finished.output == "at the end\n"
    if "/" in text:
        assert finished.output.splitlines()[-1] == "ZeroDivisionError: division by zero"
        assert f'File "{path}", line 1' in finished.output


def test_nothing_that_a_fork_has_started_outlives_it(light, tmp_path, script):
    daemons = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(300)
        os._exit(0)
time.sleep(0.2)
ours = [name for name in os.listdir("/proc") if name.isdigit() and int(name) > 2]
print(len([1 for pid in ours if "S" in open(f"/proc/{pid}/stat").read()]), "of us")
"""
    executed(script("pass"), light, cwd=tmp_path)  # what it prepares stays
    before = forks()
    finished = executed(script(daemons), light, cwd=tmp_path, may_spawn=True)
    assert finished.output == "5 of us\n"
    give_up_s = time.monotonic() + 5  # who told how it ended has only to exit
    while forks() - before and time.monotonic() < give_up_s:
        time.sleep(0.01)
    assert forks() - before == set()


def forks():
    """The processes with this zygote's command line, which every fork of it has."""
    found = set()
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes()
            if b"forker.py" in words and MARK.encode() in words:
                found.add(folder.name)
    return found


def test_one_that_takes_too_long_is_killed(light, tmp_path, script):
    path = script("import time; print('here', flush=True); time.sleep(300)")
    grants = Grants(readable=(path,), environment=ENVIRONMENT)
    line = [*INTERPRETER, str(path)]
    finished = run(line, grants, timeout_s=1, cwd=tmp_path, zygote=light)
    assert (finished.returncode, finished.output) == (None, "here\n")


HOLDER = """
import os, sys, time
from pathlib import Path
from gpu_runner.host.enclosure import Enclosure
from gpu_runner.host.graft import INTERPRETER
from gpu_runner.host.grants import Grants
folder, script = Path(sys.argv[1]), sys.argv[2]
grants = Grants(readable=(Path(script),), environment={"OMP_NUM_THREADS": "1"})
null = os.open(os.devnull, os.O_RDWR)
made = Enclosure([*INTERPRETER, script], grants, stdin=null, output=null, zygote=folder)
print(*made.pids(), made.first_pid, flush=True)
time.sleep(300)
"""


def test_with_its_supervisor_it_dies_and_the_zygote_does_not(light, tmp_path, script):
    path = script("import time; time.sleep(300)")
    command = [sys.executable, "-c", HOLDER, str(light), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        pids = [int(word) for word in holder.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        holder.kill()
    give_up_s = time.monotonic() + 20
    while any(is_alive(pid) for pid in pids) and time.monotonic() < give_up_s:
        time.sleep(0.01)
    assert [pid for pid in pids if is_alive(pid)] == []
    assert executed(script("print('well')"), light, cwd=tmp_path).output == "well\n"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"spaces": 3}', b'{"spaces": ["pid"]}'])
def test_a_request_that_makes_no_sense_costs_nothing(light, tmp_path, script, content):
    connection = find_zygote(light)
    assert connection is not None
    with connection:
        connection.sendall(content) if content else None
        connection.shutdown(1)
        connection.settimeout(60)
        assert connection.recv(100) == b""
    assert executed(script("print('well')"), light, cwd=tmp_path).output == "well\n"


def test_what_cannot_be_confined_does_not_run_and_a_new_interpreter_does(
    light, tmp_path, script, caplog
):
    finished = executed(script("def"), light, cwd=tmp_path)
    assert finished.returncode == 1
    assert finished.output.splitlines()[-1] == "SyntaxError: invalid syntax"
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "a new interpreter instead of a fork"
    ]


def test_whatever_is_no_script_with_one_thread_is_not_forked():
    assert script_words([*INTERPRETER, "a.py", "b"], Grants(environment=ENVIRONMENT)) == (
        "a.py",
        "b",
    )
    many = Grants(environment={**ENVIRONMENT, "OMP_NUM_THREADS": "2"})
    assert script_words([*INTERPRETER, "a.py"], many) is None
    assert script_words([*INTERPRETER, "a.py"], Grants()) is None
    assert script_words([sys.executable, "a.py"], Grants(environment=ENVIRONMENT)) is None
    assert script_words(["/bin/true"], Grants(environment=ENVIRONMENT)) is None


def test_a_folder_without_a_zygote_is_no_error(tmp_path, script):
    path = script("import sys; print('torch' in sys.modules)")
    assert executed(path, tmp_path, cwd=tmp_path).output == "False\n"
    assert executed(path, tmp_path / "missing", cwd=tmp_path).output == "False\n"


def test_a_fork_may_use_only_the_processors_it_is_given(light, tmp_path, script):
    path = script("import os; print(sorted(os.sched_getaffinity(0)))")
    (cpu, *_) = sorted(os.sched_getaffinity(0))
    output = os.memfd_create("output")
    null = os.open(os.devnull, os.O_RDONLY)
    grants = Grants(readable=(path,), environment=ENVIRONMENT)
    line = [*INTERPRETER, str(path)]
    made = Enclosure(line, grants, stdin=null, output=output, cpus=frozenset({cpu}), zygote=light)
    assert made.wait(60) == 0
    made.close()
    assert os.pread(output, 100, 0).decode() == f"[{cpu}]\n"
    os.close(output)
    os.close(null)
