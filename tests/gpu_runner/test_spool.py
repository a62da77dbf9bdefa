"""Outcomes on disk: complete or absent, damaged ones put aside, one worker a name."""

import errno
import json
import os
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.errors import PoolError
from gpu_runner.jobs import Unserved
from gpu_runner.message import digest_of
from gpu_runner.spool import Spool, write_file, write_outcome
from tests.gpu_runner.executors import make_built, make_job

DIGEST = digest_of(make_job())


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path)


def put(spool, outcome=None, **changes):
    outcome = outcome or make_built()
    path = spool.path(outcome.job_id)
    write_outcome(path, outcome, **{"spec_digest": DIGEST, "token": 7, **changes})
    return path


def test_what_is_written_is_found(spool):
    put(spool)
    spooled = spool.find("job")
    assert (spooled.outcome, spooled.spec_digest, spooled.token) == (make_built(), DIGEST, 7)
    assert spool.find("other") is None
    assert spool.job_ids() == ("job",)


def test_ids_are_listed_newest_last(spool):
    for number, name in enumerate(("b", "a.json", "c")):
        os.utime(put(spool, make_built(name)), (number, number))
    os.utime(put(spool, make_built("b")), (9, 9))
    assert spool.job_ids() == ("a.json", "c", "b")


def test_what_was_not_served_is_read_but_ends_nothing(spool):
    put(spool, Unserved(job_id="job", cause="no_space", message="full", is_retryable=True))
    assert spool.read("job").outcome.cause == "no_space"
    assert spool.find("job") is None


DAMAGES = {
    "empty": lambda text: b"",
    "truncated": lambda text: text[: len(text) // 2],
    "one digit changed": lambda text: text.replace(b'"seconds": 0.0', b'"seconds": 1.0'),
    "not utf-8": lambda text: b"\xff\xfe" + text,
    "of another job": lambda text: text.replace(b'"job_id": "job"', b'"job_id": "jox"'),
    "unknown fields": lambda text: json.dumps({**json.loads(text), "extra": 1}).encode(),
    "nested": lambda text: b"[" * 100_000,
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_put_aside_and_the_job_runs(spool, tmp_path, kind):
    path = put(spool)
    content = DAMAGES[kind](path.read_bytes())
    path.write_bytes(content)
    assert spool.find("job") is None
    assert not path.exists()
    (kept,) = (tmp_path / "spool" / "quarantine").iterdir()
    assert kept.read_bytes() == content
    assert spool.job_ids() == ()


@given(at=st.integers(0), byte=st.integers(0, 255))
def test_a_changed_byte_never_changes_an_outcome(tmp_path_factory, at, byte):
    spool = Spool(tmp_path_factory.mktemp("spool"))
    path = put(spool)
    text = bytearray(path.read_bytes())
    text[at % len(text)] = byte
    path.write_bytes(text)
    spooled = spool.find("job")
    assert spooled is None or spooled.outcome == make_built()


FULL = """
import resource, signal, sys
from pathlib import Path
from gpu_runner.spool import write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    write_file(Path(sys.argv[1]), b"x" * 4096)
except OSError as error:
    print(error.errno)
"""


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    write_file(target, b"old")
    run = [sys.executable, "-c", FULL, str(target)]
    assert int(subprocess.run(run, check=True, capture_output=True).stdout) == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1024


def test_one_worker_of_a_name_uses_the_spool(spool):
    lock = spool.lock("w1", patience_s=0)
    other = spool.lock("w2", patience_s=0)
    with pytest.raises(PoolError, match=r"w1\.lock is in use by process"):
        spool.lock("w1", patience_s=0)
    os.close(lock)
    os.close(spool.lock("w1", patience_s=0))
    os.close(other)


def test_a_child_that_inherited_the_lock_keeps_it(spool):
    lock = spool.lock("w1", patience_s=0)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=(lock,))
    os.close(lock)
    with pytest.raises(PoolError, match="in use"):
        spool.lock("w1", patience_s=0.05)
    child.communicate(b"\n")
    os.close(spool.lock("w1", patience_s=5))
