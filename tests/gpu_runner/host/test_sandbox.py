"""Commands in the sandbox, with every layer and without some."""

import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from gpu_runner.host import bubblewrap, cgroup, landlock
from gpu_runner.host.sandbox import Grants, LayerName, active_layers, probe, run, wrap

pytestmark = pytest.mark.processes

ALL: frozenset[LayerName] = frozenset()
NO_NAMESPACE = frozenset({"bubblewrap"})
BARE = frozenset({"bubblewrap", "landlock", "seccomp", "cgroup", "rlimits"})
EVERYWHERE = pytest.mark.parametrize(
    "without", [ALL, NO_NAMESPACE, BARE], ids=["all", "no namespace", "bare"]
)
needs_bubblewrap = pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap")
needs_landlock = pytest.mark.skipif(landlock.version() == 0, reason="needs Landlock")
PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


def shell(text, folder, *, timeout_s=20.0, stdin=b"", **changes):
    grants = Grants(**{"environment": PATH, "may_spawn": True, **changes})
    return run(["sh", "-c", text], grants, timeout_s=timeout_s, cwd=folder, stdin=stdin)


def python(text, folder, *, timeout_s=20.0, **changes):
    grants = Grants(**{"environment": PATH, "may_spawn": True, **changes})
    return run([sys.executable, "-I", "-c", text], grants, timeout_s=timeout_s, cwd=folder)


def is_running(marker):
    """Whether any process has this word on its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if marker.encode() in words:
                return True
    return False


def descriptors():
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@EVERYWHERE
def test_output_and_status_come_back(tmp_path, without):
    finished = shell("echo out; echo err >&2; exit 3", tmp_path, without=without)
    assert (finished.returncode, finished.output) == (3, "out\nerr\n")
    assert finished.seconds > 0


@EVERYWHERE
def test_signal_is_a_negative_status(tmp_path, without):
    assert shell("kill -SEGV $$", tmp_path, without=without).returncode == -11


@EVERYWHERE
def test_input_of_any_size_is_read(tmp_path, without):
    finished = shell("wc -c", tmp_path, stdin=b"x" * 300_000, without=without)
    assert finished.output.strip() == "300000"


@EVERYWHERE
def test_last_8_kib_of_output_are_kept(tmp_path, without):
    finished = shell("yes abcdefg 2>&- | head -c 400000; printf end", tmp_path, without=without)
    assert finished.returncode == 0
    assert len(finished.output) == 8192
    assert finished.output.endswith("abcdefg\nend")


def test_output_that_is_not_text_is_decoded_with_replacement(tmp_path):
    assert shell(r"printf '\377ok'", tmp_path).output == "\N{REPLACEMENT CHARACTER}ok"


@EVERYWHERE
def test_time_limit_kills(tmp_path, without):
    finished = shell("echo begun; sleep 60", tmp_path, timeout_s=0.5, without=without)
    assert (finished.returncode, finished.output) == (None, "begun\n")
    assert finished.seconds < 10


@EVERYWHERE
def test_command_that_ignores_signals_is_killed(tmp_path, without):
    text = "trap '' TERM INT HUP; while :; do sleep 1; done"
    assert shell(text, tmp_path, timeout_s=0.4, without=without).returncode is None


@EVERYWHERE
@pytest.mark.parametrize("timeout_s", [20.0, 0.5])
def test_nothing_survives(tmp_path, without, timeout_s):
    """Daemons that left session and group, with output closed or held open."""
    marker = f"0.{time.time_ns() % 10**9:09d}7"
    loop = f"while :; do sleep {marker}; done"
    rest = "sleep 30" if timeout_s < 1 else "true"
    text = f"setsid sh -c '{loop}' & (setsid setsid sh -c '{loop}' >/dev/null 2>&1 &) ; {rest}"
    finished = shell(text, tmp_path, timeout_s=timeout_s, without=without)
    assert (finished.returncode is None) == (timeout_s < 1)
    assert not is_running(marker)


@EVERYWHERE
def test_command_that_is_missing_says_so(tmp_path, without):
    grants = Grants(environment=PATH, may_spawn=True, without=without)
    finished = run(["no-such-command"], grants, timeout_s=20, cwd=tmp_path)
    assert finished.returncode not in (0, None)
    assert "no-such-command" in finished.output


@EVERYWHERE
def test_environment_is_exactly_what_is_granted(tmp_path, monkeypatch, without):
    monkeypatch.setenv("API_KEY", "secret")
    environment = {**PATH, "GIVEN": "a b\nc"}
    text = "import os, json; print(json.dumps(sorted(set(os.environ) - {'PWD', 'LC_CTYPE'})))"
    finished = python(text, tmp_path, environment=environment, without=without)
    assert finished.output.strip() == '["GIVEN", "PATH"]'
    value = python("import os; print(os.environ['GIVEN'])", tmp_path, environment=environment)
    assert value.output == "a b\nc\n"


@EVERYWHERE
def test_command_starts_in_its_folder(tmp_path, without):
    assert shell("pwd", tmp_path, without=without).output.strip() == str(tmp_path)


@EVERYWHERE
def test_granted_folder_can_be_written(tmp_path, without):
    finished = shell("echo made > here", tmp_path, writable=(tmp_path,), without=without)
    assert finished.returncode == 0
    assert (tmp_path / "here").read_text() == "made\n"


@pytest.mark.parametrize(
    "without",
    [
        pytest.param(ALL, marks=needs_bubblewrap),
        pytest.param(NO_NAMESPACE, marks=needs_landlock),
    ],
)
def test_other_folders_cannot_be_written(tmp_path, without):
    work, other = tmp_path / "work", tmp_path / "other"
    work.mkdir()
    other.mkdir()
    (other / "kept").write_text("kept")
    text = f"echo x > {work}/a; rm {other}/kept; echo x >> {other}/kept; mkdir {other}/d; exit 0"
    finished = shell(text, work, readable=(other,), writable=(), without=without)
    assert finished.returncode == 0
    assert list(work.iterdir()) == []
    assert [(p.name, p.read_text()) for p in other.iterdir()] == [("kept", "kept")]


@needs_landlock
def test_bare_device_files_can_be_written(tmp_path):
    assert shell("echo x > /dev/null", tmp_path, without=NO_NAMESPACE).returncode == 0


@needs_bubblewrap
def test_only_granted_folders_are_there(tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "file").write_text("x")
    work = tmp_path / "work"
    work.mkdir()
    text = f"cat {hidden}/file; ls /home /etc/passwd; exit 0"
    output = shell(text, work).output
    assert output.count("No such file") == 3
    assert shell(f"cat {hidden}/file", work, readable=(hidden,)).output == "x"


@needs_bubblewrap
def test_writable_folder_inside_a_readable_one(tmp_path):
    (tmp_path / "inner").mkdir()
    finished = shell(
        "echo x > inner/a; echo x > b",
        tmp_path,
        readable=(tmp_path,),
        writable=(tmp_path / "inner",),
    )
    assert finished.returncode != 0
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "inner"]


@needs_bubblewrap
def test_own_processes_are_all_there_is(tmp_path):
    text = "import os; print(len([p for p in os.listdir('/proc') if p.isdigit()]), os.getpid())"
    count, pid = python(text, tmp_path).output.split()
    assert int(count) <= 2
    assert int(pid) <= 3


SOCKETS = """
import socket, sys
for family in (socket.AF_INET, socket.AF_INET6):
    try:
        made = socket.socket(family)
        made.settimeout(2)
        made.connect(("127.0.0.1" if family == socket.AF_INET else "::1", {port}))
        print("connected")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize("without", [ALL, frozenset({"seccomp"}), NO_NAMESPACE])
def test_network_is_off(tmp_path, without):
    """By namespace or by filter, whichever is left: a listening port is out of reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        output = python(SOCKETS.format(port=port), tmp_path, without=without).output
    assert len(output.split()) == 2
    assert "connected" not in output


@pytest.mark.skipif(cgroup.refusal() is not None, reason="needs a control group")
def test_fork_bomb_ends(tmp_path):
    text = """
import os
import time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except OSError:
    print(made < 600)
"""
    assert python(text, tmp_path).output.strip() == "True"


@pytest.mark.parametrize("without", [ALL, frozenset({"cgroup"})])
def test_memory_is_limited(tmp_path, without):
    text = (
        "import mmap\nb = bytearray(600 << 20)\nb[::4096] = b'x' * len(b[::4096])\nprint('had it')"
    )
    limited = python(text, tmp_path, memory_bytes=200 << 20, without=without)
    assert limited.returncode != 0
    assert "had it" not in limited.output
    assert python(text, tmp_path, memory_bytes=900 << 20, without=without).output == "had it\n"


@EVERYWHERE
def test_process_without_leave_to_spawn_cannot(tmp_path, without):
    finished = python(
        "import os\nif os.fork() == 0: os._exit(0)\nprint('forked')",
        tmp_path,
        may_spawn=False,
        without=without,
    )
    assert ("forked" in finished.output) == ("seccomp" in without)


@pytest.mark.parametrize("without", [ALL, NO_NAMESPACE])
def test_process_has_no_new_privileges_and_no_capabilities(tmp_path, without):
    text = "print(open('/proc/self/status').read())"
    status = dict(
        line.split(":\t", 1)
        for line in python(text, tmp_path, without=without).output.splitlines()
        if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == 0
    assert status["Seccomp"] == "2"


def test_core_dumps_are_off(tmp_path):
    text = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    assert python(text, tmp_path).output.strip() == "(0, 0)"


def test_descriptors_are_kept_only_when_granted(tmp_path):
    kept, lost = os.memfd_create("kept"), os.memfd_create("lost")
    os.set_inheritable(lost, True)  # noqa: FBT003 - the library's signature
    os.write(kept, b"seen")
    text = (
        f"import os; print(os.pread({kept}, 9, 0)); print(os.path.exists('/proc/self/fd/{lost}'))"
    )
    output = python(text, tmp_path, descriptors=(kept,)).output
    os.close(kept)
    os.close(lost)
    assert output.split() == ["b'seen'", "False"]


def test_supervisors_processors_are_kept(tmp_path):
    before = os.sched_getaffinity(0)
    shell("true", tmp_path)
    assert os.sched_getaffinity(0) == before


def test_no_descriptor_is_left_behind(tmp_path):
    shell("true", tmp_path)
    before = descriptors()
    for without in (ALL, NO_NAMESPACE):
        shell("exit 1", tmp_path, without=without)
        shell("sleep 9", tmp_path, timeout_s=0.1, without=without)
    assert descriptors() == before


def test_commands_may_run_side_by_side(tmp_path):
    results = {}

    def work(number):
        results[number] = shell(f"sleep 0.1; echo {number}", tmp_path).output

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n" for number in range(4)}


def test_wrap_is_the_command_itself_without_bubblewrap():
    argv = ["cc", "-c", "a.c"]
    assert wrap(argv, Grants(without=frozenset({"bubblewrap"}))) == argv


@needs_bubblewrap
def test_wrap_ends_with_the_command():
    argv = ["cc", "-c", "a.c"]
    grants = Grants(readable=(Path("/data"),), writable=(Path("/out"),), environment={"A": "b"})
    line = wrap(argv, grants)
    assert Path(line[0]).name == "bwrap"
    assert line[-4:] == ["--", *argv]
    joined = " ".join(line)
    for part in ("--unshare-net", "--clearenv", "--cap-drop ALL", "--die-with-parent"):
        assert part in joined
    assert "--ro-bind-try /data /data" in joined
    assert "--bind /out /out" in joined
    assert "--setenv A b" in joined


def test_probe_names_every_layer_once_with_a_reason():
    layers = probe()
    names = [layer.name for layer in layers]
    assert len(set(names)) == len(names)
    assert {"bubblewrap", "user", "seccomp", "cgroup", "rlimits"} <= set(names)
    assert all(layer.detail for layer in layers)
    assert active_layers() == tuple(layer.name for layer in layers if layer.is_active)
