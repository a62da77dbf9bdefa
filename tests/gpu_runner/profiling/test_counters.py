import os
import signal
import subprocess
import sys
import time

import pytest

from gpu_runner.profiling.counters import Counts, counting, frozen_descendants, parse_counts

PERF = """\
1000,,cycles:u,500000,100.00,,
2500,,instructions:u,500000,100.00,2.50,insn per cycle
<not supported>,,cache-misses:u,0,100.00,,
<not counted>,,branch-misses,0,0.00,,
3,,page-faults:u,500000,100.00,,
7.25,msec,task-clock,7250000,100.00,0.9,CPUs utilized
"""


def test_counts_are_read_and_missing_ones_named():
    counts = parse_counts(PERF)
    assert counts.events == {"cycles": 1000.0, "instructions": 2500.0, "page_faults": 3.0}
    assert counts.unavailable == (
        "counters cache_misses, branch_misses: not supported by this machine",
    )


def test_refusal_is_told_in_perfs_words():
    counts = parse_counts("Error:\nNo permission to enable cycles:u event.\n")
    assert counts == Counts(events={}, unavailable=("counters: not permitted (Error:)",))
    assert parse_counts("").unavailable == ("counters: not permitted (no output)",)


def test_all_counted_leaves_nothing_unavailable():
    assert parse_counts("5,,cycles:u,1,100.00,,\n") == Counts(events={"cycles": 5.0})


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_frozen_descendant_is_found_among_the_running(sleeper):
    assert sleeper.pid not in frozen_descendants(os.getpid())
    sleeper.send_signal(signal.SIGSTOP)
    wait_until(lambda: sleeper.pid in frozen_descendants(os.getpid()))
    assert sleeper.pid not in frozen_descendants(sleeper.pid)


@pytest.mark.timed
def test_process_is_counted_or_the_reason_is_given(sleeper):
    with counting(sleeper.pid) as result:
        pass
    assert result.counts.events or result.counts.unavailable
    assert all(value >= 0 for value in result.counts.events.values())


def test_machine_without_perf_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with counting(os.getpid()) as result:
        pass
    assert result.counts.events == {}
    assert "install" in result.counts.unavailable[0]


def test_process_that_is_gone_counts_nothing(sleeper):
    sleeper.kill()
    sleeper.wait()
    with counting(sleeper.pid) as result:
        pass
    assert result.counts.events == {}
    assert result.counts.unavailable
