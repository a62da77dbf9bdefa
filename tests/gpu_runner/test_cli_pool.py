"""The commands of whoever runs a pool."""

import json
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gpu_runner import wire
from gpu_runner.cli import app
from gpu_runner.keeping import StoreKeeper
from gpu_runner.operations import Surveyed
from tests.gpu_runner.broker_process import ROOT, BrokerProcess
from tests.gpu_runner.bus_threads import Peer, serving
from tests.gpu_runner.executors import make_built, make_job


@pytest.fixture
def endpoint(tmp_path):
    """A broker with a worker that has served one job, holds one and lets one wait."""
    endpoint = f"ipc://{tmp_path}/bus"
    with serving(endpoint, keeper=StoreKeeper(tmp_path, 1)), Peer(endpoint) as worker:
        worker.say_hello()
        with Peer(endpoint, wire.TO_CLIENT) as client:
            for name in ("run-r1-a", "run-r1-b", "run-r1-c"):
                client.send(wire.Submit(job=make_job(name)))
                client.receive()
            lease = worker.receive_until(wire.Lease)
            done = wire.Done(token=lease.token, outcome=make_built(lease.job.job_id))
            worker.send(done)
            worker.receive_until(wire.Ack)
            worker.receive_until(wire.Lease)
        yield endpoint


def run(*arguments, code=0):
    shown = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return shown.stdout


def test_the_state_is_told_in_words_and_as_json(endpoint):
    words = run("status", "--endpoint", endpoint)
    assert "w1: 1 of 1 slots" in words
    assert "build of priority 5: 1, the oldest for" in words
    assert "run: 2" in words
    assert "last 1 of build: waited" in words
    assert "0.0% rejected, 0.0% unserved" in words
    state = Surveyed.model_validate_json(run("status", "--endpoint", endpoint, "--json"))
    assert [worker.jobs for worker in state.workers] == [("run-r1-b",)]


def test_what_happened_is_told_in_order(endpoint):
    lines = run("events", "--endpoint", endpoint).splitlines()
    assert [line.split()[2] for line in lines][:4] == ["joined", "submitted", "leased", "submitted"]
    assert "job=run-r1-a worker=w1" in lines[2]
    last = int(lines[-1].split()[0])
    told = run("events", "--endpoint", endpoint, "--after", last - 1, "--json").splitlines()
    assert [json.loads(line)["seq"] for line in told] == [last]


def test_a_snapshot_comes_before_what_follows_it(endpoint):
    (line,) = run("events", "--endpoint", endpoint, "--snapshot", "--json").splitlines()
    assert json.loads(line)["kind"] == "surveyed"


def test_a_worker_is_drained_shown_and_released(endpoint):
    assert "w1 gets no further job" in run("drain", "w1", "--endpoint", endpoint)
    assert "[drained]" in run("status", "--endpoint", endpoint)
    said = run("quarantine", "w1", "--endpoint", endpoint, "--reason", "Xid 79", "--json")
    assert "w1 gets no further job" in json.loads(said)["message"]
    assert "[quarantined: Xid 79]" in run("status", "--endpoint", endpoint)
    assert "gets jobs again" in run("release", "w1", "--endpoint", endpoint)
    assert "[" not in run("status", "--endpoint", endpoint)


def test_a_job_is_queued_again(endpoint):
    said = run("requeue", "run-r1-b", "--endpoint", endpoint)
    assert said == "job run-r1-b is queued again as soon as worker w1 has killed it\n"


def test_a_name_that_cannot_be_one_is_a_mistake_in_the_command(endpoint):
    run("drain", "No Worker", "--endpoint", endpoint, code=2)


@pytest.mark.processes
def test_events_are_followed_until_the_command_is_interrupted(tmp_path):
    with BrokerProcess(tmp_path, "--events", f"ipc://{tmp_path}/events") as broker:
        command = [sys.executable, "-m", "gpu_runner.cli", "events", "--follow", "--json"]
        with subprocess.Popen(
            [*command, "--endpoint", broker.endpoint],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        ) as following:
            assert following.stdout is not None
            with Peer(broker.endpoint, wire.TO_CLIENT) as client:
                for name in ("a", "b"):
                    client.send(wire.Submit(job=make_job(name)))
                    client.receive()
                    event = json.loads(following.stdout.readline())
                    assert (event["kind"], event["change"]) == ("event", "submitted")
                    assert event["job_id"] == name
                broker.kill()
                broker.start()
                client.send(wire.Submit(job=make_job("c")))
                event = json.loads(following.stdout.readline())
                assert (event["seq"], event["epoch"], event["job_id"]) == (3, 2, "c")
            following.send_signal(signal.SIGINT)
            assert following.wait(20) == 0


def test_history_that_was_pruned_is_said(tmp_path):
    keeper = StoreKeeper(tmp_path, 1)
    endpoint = f"ipc://{tmp_path}/bus"
    with serving(endpoint, keeper=keeper), Peer(endpoint, wire.TO_CLIENT) as client:
        for name in ("a", "b"):
            client.send(wire.Submit(job=make_job(name)))
            client.receive()
    keeper = StoreKeeper(tmp_path, 1)
    keeper._store.prune(most_events=1, finished_before_s=0.0)
    with serving(endpoint, keeper=keeper):
        words = run("events", "--endpoint", endpoint).splitlines()
        lines = run("events", "--endpoint", endpoint, "--json").splitlines()
    assert words[0] == "history pruned: of the events after 0, 2 is the first"
    assert json.loads(lines[0]) == {"kind": "pruned", "after_seq": 0, "first_seq": 2}
