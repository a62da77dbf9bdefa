"""Control groups, where this host allows them."""

import subprocess
import sys
import time

import pytest

from gpu_runner.host import cgroup

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(cgroup.refusal() is not None, reason="no control group can be made"),
]


def create(**limits) -> cgroup.Group:
    made = cgroup.create(**limits)
    assert made is not None
    return made


@pytest.fixture
def group():
    made = create(tasks=20, memory_bytes=256 << 20)
    yield made
    made.close()


def sleeping():
    return subprocess.Popen(["sleep", "60"])


def test_processes_inside_are_listed(group):
    assert group.pids() == set()
    with sleeping() as process:
        group.add(process.pid)
        assert group.pids() == {process.pid}
        process.kill()


def test_closing_kills_what_is_inside_and_removes_the_group(group):
    processes = [sleeping() for _ in range(3)]
    for process in processes:
        group.add(process.pid)
    group.close()
    assert [process.wait(5) for process in processes] == [-9, -9, -9]
    assert not any(folder.exists() for folder in group.folders)
    group.close()


def test_children_are_born_inside(group):
    text = "import subprocess; input(); subprocess.run(['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE) as parent:
        group.add(parent.pid)
        into = parent.stdin
        assert into is not None
        into.write(b"\n")
        into.flush()
        deadline = time.monotonic() + 5
        while len(group.pids()) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(group.pids()) == 2
        group.close()
        assert parent.wait(5) == -9


def test_limits_are_written_where_the_host_counts(group):
    written = {
        (folder / name).read_text().strip()
        for folder in group.folders
        for name in ("pids.max", "memory.max", "memory.limit_in_bytes")
        if (folder / name).exists()
    }
    assert written <= {"20", str(256 << 20), "max"}
    assert written - {"max"}


def test_groups_have_names_of_their_own(group):
    other = create(tasks=1)
    assert set(other.folders).isdisjoint(group.folders)
    other.close()


def test_process_that_is_gone_cannot_be_added(group):
    with sleeping() as process:
        process.kill()
    with pytest.raises(OSError, match="No such process"):
        group.add(process.pid)


def test_empty_groups_of_the_dead_are_swept_and_those_of_the_living_kept(group):
    with sleeping() as dead:
        dead.kill()
    left = [home / f"kp-{dead.pid}-0" for home in cgroup._homes()]
    for folder in left:
        folder.mkdir()
    cgroup._sweep.cache_clear()
    create(tasks=1).close()
    assert not any(folder.exists() for folder in left)
    assert all(folder.exists() for folder in group.folders)
