"""The commands `blobs`, with a broker that serves them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gpu_runner.cli import app
from tests.gpu_runner.blobs.worlds import bytes_of, digest_of
from tests.gpu_runner.security.secured import Yard

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.processes


def run(*arguments):
    return CliRunner().invoke(app, ["blobs", *map(str, arguments)])


class Served:
    """A broker process with blobs; `kill` is SIGKILL."""

    def __init__(self, folder, *more):
        self.folder = folder
        self.endpoint = f"ipc://{folder}/bus"
        self.more = more
        self.start()

    def start(self):
        command = [sys.executable, "-m", "gpu_runner.cli", "broker", "--endpoint", self.endpoint]
        command += ["--blobs", str(self.folder / "blobs"), *map(str, self.more)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@pytest.fixture
def served(tmp_path):
    served = Served(tmp_path)
    yield served
    served.end(signal.SIGKILL)


def test_a_file_is_put_kept_and_fetched(tmp_path, served):
    (tmp_path / "file").write_bytes(bytes_of(1000))
    at = ("--endpoint", served.endpoint)
    put = run("put", tmp_path / "file", *at, "--json")
    digest = digest_of(bytes_of(1000))
    assert json.loads(put.output) == {"digest": digest, "size_bytes": 1000}
    assert run("put", tmp_path / "file", *at).output.strip() == digest
    got = run("get", digest, *at, "-o", tmp_path / "copy", "--json")
    assert json.loads(got.output)["size_bytes"] == 1000
    assert (tmp_path / "copy").read_bytes() == bytes_of(1000)
    assert run("keep", digest, *at).exit_code == 0
    missing = run("keep", digest, "0" * 64, *at, "--json")
    assert (missing.exit_code, json.loads(missing.output)) == (1, {"missing": ["0" * 64]})
    assert served.end(signal.SIGTERM) == 0


def test_what_is_no_digest_is_a_usage_error(tmp_path, served):
    for words in (("get", "abc", "-o", tmp_path / "x"), ("keep", "../../etc")):
        assert run(*words, "--endpoint", served.endpoint).exit_code == 2


def test_an_upload_outlives_the_brokers_that_are_killed_under_it(tmp_path, served):
    size = 48 * 1024 * 1024
    (tmp_path / "file").write_bytes(bytes_of(size))
    command = [sys.executable, "-m", "gpu_runner.cli", "blobs", "put", str(tmp_path / "file")]
    command += ["--endpoint", served.endpoint, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    sender = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    partial = tmp_path / "blobs" / "partial"
    seen = []
    for least in (1, size // 3):
        while sum(path.stat().st_size for path in partial.glob("*")) < least:
            assert sender.poll() is None
            time.sleep(0.005)
        served.end(signal.SIGKILL)
        seen.append(sum(path.stat().st_size for path in partial.glob("*")))
        served.start()
    printed, _ = sender.communicate(timeout=120)
    digest = json.loads(printed)["digest"]
    assert digest == digest_of(bytes_of(size))
    assert digest_of((tmp_path / "blobs" / "whole" / f"{digest}.local").read_bytes()) == digest
    assert 0 < seen[0] <= seen[1] <= size


def test_blobs_have_the_brokers_keys(tmp_path):
    yard = Yard(tmp_path / "keys")
    mine = yard.enrolled("run")
    served = Served(tmp_path, "--keys", yard.broker)
    (tmp_path / "file").write_bytes(bytes_of(1000))
    at = ("--endpoint", served.endpoint)
    try:
        assert run("put", tmp_path / "file", *at, "--keys", mine).exit_code == 0
        assert run("put", tmp_path / "file", *at, "--patience-s", "0.3").exit_code != 0
    finally:
        served.end(signal.SIGKILL)


def test_a_broker_whose_blobs_cannot_be_served_does_not_start(tmp_path):
    (tmp_path / "blobs").write_text("a file")
    assert Served(tmp_path).process.wait(timeout=30) == 2


def test_where_there_is_no_broker_patience_ends(tmp_path):
    done = run("keep", "0" * 64, "--endpoint", f"ipc://{tmp_path}/x", "--patience-s", "0.2")
    assert "no blob server answered" in str(done.exception)
