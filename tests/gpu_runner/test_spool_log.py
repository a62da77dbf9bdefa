"""The log of a spool: what a worker has told survives a machine that stops, one wait for many."""

import errno
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.message import digest_of
from gpu_runner.spool import Spool, write_outcome
from gpu_runner.spool_log import SpoolLog
from tests.gpu_runner.executors import make_built, make_job

DIGEST = digest_of(make_job())


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path)


def put(spool, job_id, token=7, **changes):
    outcome = make_built(job_id, **changes)
    write_outcome(spool.path(job_id), outcome, spec_digest=DIGEST, token=token, is_flushed=False)
    return outcome


def logs(spool, worker="w1"):
    return sorted(path.name for path in spool.folder.glob(f"{worker}.*.log"))


def restarted(spool, worker="w1", **changes):
    """What the next worker of this name finds, by job."""
    log = SpoolLog(spool, worker, **changes)
    log.close(patience_s=60)
    return {job_id: spool.find(job_id).outcome for job_id in spool.job_ids()}


def test_what_was_kept_comes_back_where_its_file_is_lost_or_damaged(spool):
    log = SpoolLog(spool, "w1")
    outcomes = {name: put(spool, name) for name in ("a", "b", "c", "d")}
    log.keep(["a", "b", "c"])
    log.close()
    spool.path("a").unlink()
    spool.path("b").write_bytes(b"")
    spool.path("c").write_bytes(spool.path("c").read_bytes()[:-9])
    assert restarted(spool) == outcomes
    assert len(list((spool.folder / "quarantine").iterdir())) == 2


def test_a_file_that_is_well_is_not_replaced_by_what_the_log_has_of_it(spool):
    log = SpoolLog(spool, "w1")
    put(spool, "a", seconds=1.0)
    log.keep(["a"])
    log.close()
    later = put(spool, "a", seconds=2.0)
    assert restarted(spool) == {"a": later}


def test_of_two_outcomes_of_a_job_the_last_one_comes_back(spool):
    log = SpoolLog(spool, "w1")
    put(spool, "a", seconds=1.0)
    log.keep(["a"])
    later = put(spool, "a", seconds=2.0)
    log.keep(["a"])
    log.close()
    spool.path("a").unlink()
    assert restarted(spool) == {"a": later}


def test_a_log_belongs_to_one_worker(spool):
    log, other = SpoolLog(spool, "w1"), SpoolLog(spool, "w1.2")
    put(spool, "a")
    other.keep(["a"])
    log.close()
    other.close()
    spool.path("a").unlink()
    assert restarted(spool) == {}
    assert set(restarted(spool, "w1.2")) == {"a"}


def test_jobs_without_a_file_are_passed_over(spool):
    log = SpoolLog(spool, "w1")
    log.keep(["none"])
    log.keep([])
    log.close()
    assert [(spool.folder / name).stat().st_size for name in logs(spool)] == [0]


def test_a_long_log_is_begun_anew_and_dropped_when_the_files_are_on_disk(spool):
    log = SpoolLog(spool, "w1", most_bytes=3000)
    for number in range(40):
        put(spool, f"job-{number}")
        log.keep([f"job-{number}"])
    log.close(patience_s=60)
    sizes = [(spool.folder / name).stat().st_size for name in logs(spool)]
    assert len(sizes) == 1
    assert sum(sizes) < 40 * spool.path("job-0").stat().st_size / 2
    assert len(restarted(spool)) == 40


def test_logs_that_are_left_are_replaced_by_one_that_is_empty(spool):
    log = SpoolLog(spool, "w1")
    put(spool, "a")
    log.keep(["a"])
    log.close()
    (before,) = logs(spool)
    restarted(spool)
    (after,) = logs(spool)
    assert after != before
    assert (spool.folder / after).stat().st_size == 0


@settings(max_examples=30)
@given(cut=st.integers(min_value=0, max_value=4000), noise=st.binary(max_size=30))
def test_wherever_a_log_breaks_off_all_whole_lines_come_back(cut, noise):
    """And what follows them harms nobody."""
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        log = SpoolLog(spool, "w1")
        names = [f"job-{number}" for number in range(6)]
        for name in names:
            put(spool, name)
        log.keep(names)
        log.close()
        (path,) = (spool.folder / name for name in logs(spool))
        text = path.read_bytes()[:cut]
        whole = text.count(b"\n")
        path.write_bytes(text + noise)
        for name in names:
            spool.path(name).unlink()
        assert set(names[:whole]) <= set(restarted(spool)) <= set(names[: whole + 1])


FULL = """
import resource, sys
from pathlib import Path
from gpu_runner.spool import Spool
from gpu_runner.spool_log import SpoolLog
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(Path(sys.argv[1]))
log = SpoolLog(spool, "w1")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    log.keep(["a"])
except OSError as error:
    print(error.errno)
"""


@pytest.mark.processes
def test_a_log_that_cannot_grow_says_so(tmp_path, spool):
    put(spool, "a")
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(said) == errno.EFBIG
    assert set(restarted(spool)) == {"a"}


def test_what_is_not_flushed_is_complete_all_the_same(spool):
    put(spool, "a")
    assert spool.find("a").outcome == make_built("a")
    assert [path.suffix for path in spool.folder.iterdir()] == [".json"]
