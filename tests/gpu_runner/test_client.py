"""The client against a real broker: loss, restarts, refusals, patience."""

import asyncio
import subprocess
import sys

import pytest
import zmq

from gpu_runner import wire
from gpu_runner.client import BusClient
from gpu_runner.errors import PoolError
from gpu_runner.wire import MAGIC, MOST_BYTES
from tests.builders import make_environment
from tests.gpu_runner.bus_threads import Peer, serving
from tests.gpu_runner.executors import make_built, make_job, seen


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/bus"


@pytest.fixture
async def client(endpoint):
    client = BusClient(endpoint, patience_s=20.0)
    yield client
    await client.close()


def serve(endpoint, count):
    """A worker that answers `count` jobs; returns their ids."""
    with Peer(endpoint) as worker:
        worker.say_hello()
        ids = []
        for _ in range(count):
            lease = worker.receive_until(wire.Lease)
            ids.append(lease.job.job_id)
            outcome = make_built(lease.job.job_id)
            worker.send(wire.Done(token=lease.token, outcome=outcome))
            worker.receive_until(wire.Ack)
        return ids


async def test_many_jobs_are_in_flight_and_each_gets_its_own_outcome(endpoint, client):
    with serving(endpoint):
        runs = [asyncio.create_task(client.run(make_job(f"job-{i}"))) for i in range(20)]
        await asyncio.to_thread(serve, endpoint, 20)
        assert await asyncio.gather(*runs) == [make_built(f"job-{i}") for i in range(20)]


async def test_two_callers_of_one_job_share_it(endpoint, client):
    with serving(endpoint):
        runs = [asyncio.create_task(client.run(make_job())) for _ in range(2)]
        assert await asyncio.to_thread(serve, endpoint, 1) == ["job"]
        assert await asyncio.gather(*runs) == [make_built()] * 2


async def test_a_broker_that_comes_late_is_found(endpoint, client):
    run = asyncio.create_task(client.run(make_job()))
    await asyncio.sleep(0.2)
    with serving(endpoint):
        await asyncio.to_thread(serve, endpoint, 1)
        assert await run == make_built()


async def test_a_broker_without_durability_is_given_the_job_again(endpoint, client):
    with serving(endpoint):
        run = asyncio.create_task(client.run(make_job()))
        with Peer(endpoint) as worker:
            worker.say_hello()
            await asyncio.to_thread(worker.receive_until, wire.Lease)
    with serving(endpoint):
        await asyncio.to_thread(serve, endpoint, 1)
        assert await run == make_built()


async def test_without_a_broker_patience_ends(endpoint):
    client = BusClient(endpoint, patience_s=0.1)
    outcome = seen(await client.run(make_job()))
    with pytest.raises(PoolError, match=f"no broker answered at {endpoint}"):
        await client.environment()
    await client.close()
    assert (outcome.cause, outcome.is_retryable) == ("runner_lost", True)
    assert f"start one with: kernelpilot-runner broker --endpoint {endpoint}" in outcome.message


async def test_without_a_worker_patience_ends(endpoint):
    client = BusClient(endpoint, patience_s=1.5)
    with serving(endpoint):
        outcome = seen(await client.run(make_job()))
        with pytest.raises(PoolError, match="no worker was registered"):
            await client.environment()
    await client.close()
    assert "no worker was registered" in outcome.message


async def test_the_environment_is_awaited_until_a_worker_is_there(endpoint, client):
    with serving(endpoint):
        asked = asyncio.create_task(client.environment())
        await asyncio.sleep(0.05)
        with Peer(endpoint) as worker:
            worker.say_hello()
            assert await asked == make_environment()
            assert await client.environment() == make_environment()


async def test_cancelling_the_last_caller_cancels_the_job(endpoint, client):
    with serving(endpoint), Peer(endpoint) as worker:
        worker.say_hello()
        runs = [asyncio.create_task(client.run(make_job())) for _ in range(2)]
        await asyncio.to_thread(worker.receive_until, wire.Lease)
        for run in runs:
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
        abort = await asyncio.to_thread(worker.receive_until, wire.Abort)
        assert abort.job_id == "job"


async def test_one_id_for_two_jobs_is_refused_here_and_by_the_broker(endpoint, client):
    with serving(endpoint):
        run = asyncio.create_task(client.run(make_job()))
        await asyncio.sleep(0.1)
        with pytest.raises(PoolError, match="awaited here for another job"):
            await client.run(make_job(order="sleep 1"))
        other = BusClient(endpoint)
        with pytest.raises(PoolError, match="in use for another job"):
            await other.run(make_job(order="sleep 1"))
        await other.close()
        run.cancel()


async def test_a_job_too_large_for_the_wire_is_refused_at_once(client):
    parts = tuple({"path": f"s{i}.cpp", "text": "x" * (512 * 1024)} for i in range(40))
    job = make_job()
    candidate = type(job.candidate)(language="cpp", sources=parts)
    with pytest.raises(PoolError, match=f"larger than the job bus carries \\({MOST_BYTES}\\)"):
        await client.run(make_job().model_copy(update={"candidate": candidate}))


async def test_a_broker_of_another_protocol_ends_the_wait(endpoint, client):
    with zmq.Context() as context, context.socket(zmq.ROUTER) as stranger:
        stranger.bind(endpoint)
        run = asyncio.create_task(client.run(make_job()))
        peer, *_ = await asyncio.to_thread(stranger.recv_multipart)
        stranger.send_multipart([peer, MAGIC, b"nonsense"])
        stranger.send_multipart([peer, b"kp/9", b"{}"])
        with pytest.raises(PoolError, match="install one version"):
            await run


class PlayedBroker:
    """A ROUTER whose answers the test writes."""

    def __init__(self, endpoint):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.bind(endpoint)
        self.socket.setsockopt(zmq.RCVTIMEO, 10_000)
        self.inbox = wire.Inbox(wire.TO_BROKER)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close(linger=0)
        self.context.term()

    def receive(self):
        self.peer, *frames = self.socket.recv_multipart()
        return self.inbox.parse(frames)

    async def expect(self, kind):
        while not isinstance(message := await asyncio.to_thread(self.receive), kind):
            pass
        return message

    def send(self, message):
        self.socket.send_multipart([self.peer, *wire.encode(message)])


async def test_a_submission_that_is_not_answered_is_sent_again(endpoint, client):
    with PlayedBroker(endpoint) as broker:
        run = asyncio.create_task(client.run(make_job()))
        first = await broker.expect(wire.Submit)
        assert await broker.expect(wire.Submit) == first
        broker.send(wire.Result(outcome=make_built()))
        assert await run == make_built()


async def test_an_accepted_job_is_asked_after_without_its_content(endpoint, client):
    with PlayedBroker(endpoint) as broker:
        run = asyncio.create_task(client.run(make_job()))
        await broker.expect(wire.Submit)
        broker.send(wire.Submitted(job_id="job", state=wire.State.QUEUED, workers=1))
        assert await broker.expect(wire.Wait) == wire.Wait(job_id="job")
        broker.send(
            wire.Refused(job_id="job", code=wire.Refusal.UNKNOWN, message="submit it again")
        )
        await broker.expect(wire.Submit)
        broker.send(wire.Result(outcome=make_built()))
        broker.send(wire.Result(outcome=make_built()))
        assert await run == make_built()


async def test_an_outcome_that_comes_again_answers_no_other_job_of_that_id(endpoint, client):
    with PlayedBroker(endpoint) as broker:
        run = asyncio.create_task(client.run(make_job()))
        await broker.expect(wire.Submit)
        broker.send(wire.Result(outcome=make_built()))
        assert await run == make_built()
        broker.send(wire.Result(outcome=make_built()))
        with pytest.raises(PoolError, match="used here for another job"):
            await client.run(make_job(order="sleep 0"))
        again = asyncio.create_task(client.run(make_job()))
        assert await again == make_built()


async def test_a_client_says_whose_turn_it_takes_and_how_urgent_it_is(endpoint):
    client = BusClient(endpoint, session="run-7", priority=9)
    with PlayedBroker(endpoint) as broker:
        run = asyncio.create_task(client.run(make_job()))
        submit = await broker.expect(wire.Submit)
        assert (submit.session, submit.priority) == ("run-7", 9)
        broker.send(wire.Result(outcome=make_built()))
        assert await run == make_built()
    await client.close()


async def test_a_busy_broker_is_left_alone_for_as_long_as_it_says(endpoint, client):
    with PlayedBroker(endpoint) as broker:
        run = asyncio.create_task(client.run(make_job()))
        await broker.expect(wire.Submit)
        busy = wire.Refused(job_id="job", code=wire.Refusal.BUSY, message="full", retry_after_s=0.3)
        broker.send(busy)
        await broker.expect(wire.Submit)
        broker.send(wire.Result(outcome=make_built()))
        assert await run == make_built()


async def test_a_broker_that_cannot_read_us_ends_the_wait(endpoint, client):
    with PlayedBroker(endpoint) as broker:
        run = asyncio.create_task(client.run(make_job()))
        await broker.expect(wire.Submit)
        broker.send(wire.Refused(code=wire.Refusal.MALFORMED, message="job.kind: unknown"))
        with pytest.raises(PoolError, match=r"refuses: job\.kind: unknown"):
            await run


async def test_answers_for_jobs_nobody_awaits_are_ignored(endpoint, client):
    with PlayedBroker(endpoint) as broker:
        run = asyncio.create_task(client.run(make_job()))
        await broker.expect(wire.Submit)
        for code in wire.Refusal.CONFLICT, wire.Refusal.UNKNOWN:
            broker.send(wire.Refused(job_id="stranger", code=code, message="what?"))
        broker.send(wire.Submitted(job_id="stranger", state=wire.State.QUEUED, workers=1))
        broker.send(wire.Result(outcome=make_built("stranger")))
        broker.send(wire.Result(outcome=make_built()))
        assert await run == make_built()


async def test_an_abandoned_wait_ends_and_a_later_one_is_served(endpoint, client):
    run = asyncio.create_task(client.run(make_job()))
    await asyncio.sleep(0.05)
    client.abandon("the pool is broken")
    with pytest.raises(PoolError, match="the pool is broken"):
        await run
    with serving(endpoint):
        run = asyncio.create_task(client.run(make_job()))
        await asyncio.to_thread(serve, endpoint, 1)
        assert await run == make_built()


async def test_closing_ends_every_wait(endpoint, client):
    run = asyncio.create_task(client.run(make_job()))
    asked = asyncio.create_task(client.environment())
    await asyncio.sleep(0.05)
    await client.close()
    for waiting in (run, asked):
        with pytest.raises(PoolError, match="closed"):
            await waiting
    with pytest.raises(PoolError, match="closed"):
        await client.run(make_job())
    await client.close()


def test_the_client_imports_nothing_heavy():
    code = "import sys, gpu_runner.client; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert not loaded & {"torch", "langgraph", "chromadb", "numpy", "optuna", "anthropic"}
