"""The commands `keys`, and programs that use what they make."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gpu_runner.cli import app
from gpu_runner.client import BusClient
from gpu_runner.errors import PoolError
from gpu_runner.host import bubblewrap
from gpu_runner.security.keys import PUBLIC, SECRET
from tests.gpu_runner.executors import EXECUTOR, make_built, make_job, seen
from tests.gpu_runner.security.secured import Yard, serving

ROOT = Path(__file__).parents[2]
KEY = "ab" * 32


def run(*arguments):
    return CliRunner().invoke(app, ["keys", *map(str, arguments)])


def said(*arguments):
    """What a command prints as JSON; it must succeed."""
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_new_makes_a_pair_once_and_prints_the_public_half(tmp_path):
    first = said("new", "--keys", tmp_path / "k")
    again = said("new", "--keys", tmp_path / "k", "--broker", KEY)
    assert first["is_new"]
    assert not again["is_new"]
    assert first["public"] == again["public"] == (tmp_path / "k" / PUBLIC).read_text().strip()
    assert run("new", "--keys", tmp_path / "k").output.strip() == first["public"]


def test_no_command_prints_a_secret(tmp_path):
    printed = ""
    for words in (
        ("new", "--broker", KEY),
        ("enroll", KEY, "--role", "client", "--name", "run"),
        ("list",),
        ("revoke", "run"),
        ("list",),
    ):
        for form in ((), ("--json",)):
            printed += run(*words, "--keys", tmp_path, *form).output
    secret = (tmp_path / SECRET).read_text().strip()
    assert len(secret) == 64
    assert secret not in printed


def test_a_key_is_enrolled_listed_and_revoked(tmp_path):
    who = {"key": KEY, "role": "worker", "name": "gpu-1", "revoked": False}
    enrolled = ("enroll", KEY, "--role", "worker", "--name", "gpu-1", "--keys", tmp_path)
    assert said(*enrolled) == who
    assert said("list", "--keys", tmp_path) == [who]
    assert "admitted" in run("list", "--keys", tmp_path).output
    assert said("revoke", "gpu-1", "--keys", tmp_path) == [{**who, "revoked": True}]
    assert said("list", "--keys", tmp_path) == [{**who, "revoked": True}]
    assert "revoked" in run("list", "--keys", tmp_path).output


def test_an_empty_list_says_so(tmp_path):
    assert said("list", "--keys", tmp_path) == []
    assert run("list", "--keys", tmp_path).output == "nobody is enrolled\n"


@pytest.mark.parametrize(
    "words",
    [
        ("enroll", "abc", "--role", "client", "--name", "run"),
        ("enroll", KEY, "--role", "king", "--name", "run"),
        ("enroll", KEY, "--role", "client", "--name", "Not Allowed"),
        ("revoke", "nobody"),
        ("new", "--broker", "abc"),
    ],
)
def test_what_cannot_be_done_fails_and_changes_no_list(tmp_path, words):
    assert run(*words, "--keys", tmp_path).exit_code != 0
    assert said("list", "--keys", tmp_path) == []


def check(endpoint, folder):
    done = run("check", "--endpoint", endpoint, "--keys", folder, "--json")
    return done.exit_code, json.loads(done.output)["answer"]


def test_check_says_what_a_handshake_came_to(tmp_path):
    yard = Yard(tmp_path)
    old = yard.enrolled("old")
    yard.revoke("old")
    with serving(yard) as broker:
        assert check(broker.endpoint, yard.enrolled("run")) == (0, "admitted")
        assert check(broker.endpoint, yard.keys("other")) == (1, "refused")
        assert check(broker.endpoint, old) == (1, "revoked")
        words = run("check", "--endpoint", broker.endpoint, "--keys", yard.keys("other")).output
        assert f"keys enroll {(tmp_path / 'other' / PUBLIC).read_text().strip()}" in words


def command(*arguments, **changes):
    line = [sys.executable, "-m", "gpu_runner.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True, **changes)


def shown_by(pid):
    """What anybody may read of a process's start."""
    return b"".join(Path(f"/proc/{pid}/{what}").read_bytes() for what in ("cmdline", "environ"))


@pytest.mark.processes
@pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap")
async def test_a_job_is_run_by_a_worker_with_keys_and_no_process_shows_them(tmp_path):
    yard = Yard(tmp_path)
    mine, theirs = yard.enrolled("run"), yard.enrolled("w1", "worker")
    with serving(yard) as broker:
        started = command(
            *("worker", "--endpoint", broker.endpoint, "--workspace", tmp_path / "work"),
            *("--name", "w1", "--keys", theirs, "--executor", EXECUTOR),
        )
        client = BusClient(broker.endpoint, keys=mine, patience_s=60)
        try:
            assert await client.run(make_job()) == make_built()
            shown = shown_by(started.pid)
        finally:
            await client.close()
            started.send_signal(signal.SIGTERM)
            log = started.communicate(timeout=30)[1]
    secrets = [(folder / SECRET).read_text().strip() for folder in (mine, theirs, yard.broker)]
    assert not any(secret in log or secret.encode() in shown for secret in secrets)
    assert started.returncode == 0


@pytest.mark.processes
def test_a_worker_under_another_name_ends_and_says_why(tmp_path):
    yard = Yard(tmp_path)
    with serving(yard) as broker:
        started = command(
            *("worker", "--endpoint", broker.endpoint, "--workspace", tmp_path / "work"),
            *("--name", "w2", "--keys", yard.enrolled("w1", "worker"), "--executor", EXECUTOR),
        )
        log = started.communicate(timeout=60)[1]
    assert started.returncode == 3
    assert "the key of worker 'w1' may not say hello as 'w2'" in log


@pytest.mark.processes
def test_a_worker_whose_keys_a_candidate_could_read_does_not_start(tmp_path):
    yard = Yard(tmp_path)
    (tmp_path / "work").mkdir()
    keys = yard.keys("work/keys")
    started = command(
        *("worker", "--endpoint", "tcp://127.0.0.1:9", "--workspace", tmp_path / "work"),
        *("--name", "w1", "--keys", keys, "--executor", EXECUTOR),
    )
    log = started.communicate(timeout=60)[1]
    assert started.returncode == 3
    assert "a candidate could read the keys" in log


async def test_a_client_with_a_workers_key_is_told(tmp_path):
    yard = Yard(tmp_path)
    folder = yard.enrolled("w1", "worker")
    with serving(yard) as broker:
        client = BusClient(broker.endpoint, keys=folder)
        with pytest.raises(PoolError, match="role worker"):
            await client.run(make_job())
        await client.close()


async def test_a_client_whose_key_is_not_enrolled_is_told_how_to_see(tmp_path):
    yard = Yard(tmp_path)
    with serving(yard) as broker:
        client = BusClient(broker.endpoint, keys=yard.keys("run"), patience_s=0.2)
        outcome = seen(await client.run(make_job()))
        await client.close()
    assert f"keys check --endpoint {broker_name(outcome.message)}" in outcome.message
    assert outcome.cause == "runner_lost"


def broker_name(message):
    """The endpoint that a message names."""
    return message.split("no broker answered at ")[1].split(" for ")[0]


def test_a_client_without_usable_keys_does_not_connect(tmp_path):
    with pytest.raises(PoolError, match="make a pair"):
        BusClient("tcp://127.0.0.1:9", keys=tmp_path)
