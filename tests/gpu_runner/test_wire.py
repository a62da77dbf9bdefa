"""Framing, golden bytes of every message, and bytes that are no message."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_runner import operations, wire
from gpu_runner.jobs import Benched
from gpu_runner.message import digest_of
from gpu_runner.records import BenchRecord, Series, Sitting, TimingPlan
from gpu_runner.wire import MAGIC, MOST_BYTES, Inbox, Malformed, TooLarge
from tests.builders import make_environment, make_workload
from tests.gpu_runner.executors import make_built, make_job, seen

GOLDEN = Path(__file__).parents[1] / "data" / "wire"
TOKEN = (3 << 32) + 7
DIGEST = "0" * 64
HELD = wire.Held(job_id="run1-r02-a1-build", token=TOKEN, spec_digest="0" * 63 + "1")

EVENT = operations.Event(
    seq=9,
    epoch=3,
    at_s=1764000000.5,
    change=operations.Change.LEASED,
    job_id="run1-r02-a1-build",
    worker="local-0",
)

MESSAGES: list[Any] = [
    wire.Submit(job=make_job("run1-r02-a1-build")),
    wire.Wait(job_id="run1-r02-a1-build"),
    wire.Cancel(job_id="run1-r02-a1-build"),
    wire.Describe(),
    wire.Submitted(job_id="run1-r02-a1-build", state=wire.State.QUEUED, workers=1),
    wire.Refused(
        job_id="run1-r02-a1-build",
        code=wire.Refusal.BUSY,
        message="the queue is full",
        retry_after_s=1.5,
    ),
    wire.Result(outcome=make_built("run1-r02-a1-build")),
    wire.Described(environment=make_environment(), workers=1),
    wire.Hello(
        worker="local-0",
        incarnation="0123456789abcdef",
        seq=12,
        environment=make_environment(),
        running=(HELD,),
        spooled=("run1-r01-a1-build",),
    ),
    wire.Beat(seq=12, heard=11, running=(HELD,)),
    wire.Started(job_id="run1-r02-a1-build", token=TOKEN),
    wire.Done(token=TOKEN, outcome=make_built("run1-r02-a1-build")),
    wire.Drain(),
    wire.Bye(),
    wire.Welcome(seq=12, epoch=3, beat_s=0.5, lease_s=20.0, drop=(HELD,)),
    wire.Busy(retry_after_s=0.5),
    wire.Pong(seq=12),
    wire.Who(),
    wire.Lease(token=TOKEN, job=make_job("run1-r02-a1-build")),
    wire.Abort(job_id="run1-r02-a1-build", token=TOKEN),
    wire.Ack(job_id="run1-r02-a1-build", token=TOKEN, is_accepted=True),
    operations.Survey(),
    operations.Surveyed(
        epoch=3,
        last_seq=9,
        up_s=60.0,
        is_kept=True,
        unkept_messages=0,
        malformed={"body": 1},
        events="ipc:///run/kernelpilot/events",
        workers=(
            operations.WorkerState(
                worker="local-0",
                machine="test processor",
                tags=("cpu", "x86_64"),
                slots=1,
                jobs=("run1-r02-a1-build",),
                silent_s=0.25,
                is_draining=False,
                restriction="quarantined: Xid 79",
            ),
        ),
        waiting=(operations.Waiting(job="build", priority=5, jobs=2, oldest_s=1.5),),
        sessions=(operations.SessionState(session="run1", unfinished=3),),
        served=(
            operations.Served(
                job="build",
                count=4,
                wait=operations.Quantiles(p50_s=0.1, p90_s=0.2, p99_s=0.3),
                run=operations.Quantiles(p50_s=1.0, p90_s=2.0, p99_s=3.0),
                rejected_fraction=0.25,
                unserved_fraction=0.25,
                causes={"no_space": 1},
            ),
        ),
    ),
    operations.Replay(after_seq=8, limit=100),
    operations.Replayed(epoch=3, events=(EVENT,), first_seq=1, last_seq=9),
    operations.Manage(action=operations.Action.QUARANTINE, subject="local-0", reason="Xid 79"),
    operations.Managed(message="worker local-0 gets jobs again"),
    EVENT,
    operations.Beacon(epoch=3, last_seq=9),
]


ADAPTERS: tuple[Any, ...] = (
    wire.TO_BROKER,
    wire.TO_CLIENT,
    wire.TO_WORKER,
    wire.TO_OPERATOR,
    wire.TO_OBSERVER,
)


def adapter_of(message):
    for adapter in ADAPTERS:
        if not isinstance(Inbox(adapter).parse(wire.encode(message)), Malformed):
            return adapter
    raise AssertionError(message)


def test_every_message_has_a_golden_file():
    kinds = {message.kind for message in MESSAGES}
    assert kinds == {path.stem for path in GOLDEN.glob("*.json")}
    unions = wire.AnyMessage.__args__
    assert kinds == {member.model_fields["kind"].default for member in unions}


GROWN: dict[str, Any] = {
    "submit-terms": wire.Submit(
        job=make_job("run1-r02-a1-build"),
        session="run1",
        priority=9,
        deadline_s=60.0,
        need=("rack-1",),
    ),
    "hello-tags": wire.Hello(
        worker="local-0",
        incarnation="0123456789abcdef",
        seq=12,
        environment=make_environment(),
        tags=("ncu", "rack-1"),
    ),
}
"""Messages that use a field that came later; those that do not are the same bytes as ever."""


@pytest.mark.parametrize("name", GROWN)
def test_golden_bytes_of_fields_that_came_later(name):
    golden = (GOLDEN / "grown" / f"{name}.json").read_bytes().rstrip(b"\n")
    assert wire.encode(GROWN[name]) == [b"kp/1", golden]
    assert Inbox(wire.TO_BROKER).parse([b"kp/1", golden]) == GROWN[name]


def test_every_golden_body_of_a_later_field_has_its_message():
    assert {path.stem for path in (GOLDEN / "grown").glob("*.json")} == GROWN.keys()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.kind)
def test_golden_bytes_are_what_is_sent_and_what_is_understood(message):
    golden = (GOLDEN / f"{message.kind}.json").read_bytes().rstrip(b"\n")
    assert wire.encode(message) == [b"kp/1", golden]
    assert Inbox(adapter_of(message)).parse([b"kp/1", golden]) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.kind)
def test_a_message_is_understood_by_its_receivers_only(message):
    to_broker = isinstance(message, wire.ToBroker)
    assert isinstance(Inbox(wire.TO_BROKER).parse(wire.encode(message)), Malformed) != to_broker


def test_a_job_keeps_its_digest_on_the_way():
    job = make_job()
    parsed = seen(Inbox(wire.TO_BROKER).parse(wire.encode(wire.Submit(job=job))))
    assert digest_of(parsed.job) == digest_of(job)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "protocol"),
        ([b""], "protocol"),
        ([b"kp/2", b'{"kind":"describe"}'], "protocol"),
        ([b"GET / HTTP/1.1"], "protocol"),
        ([MAGIC], "frames"),
        ([MAGIC, b"{}", b"{}"], "frames"),
        ([MAGIC, b" " * (MOST_BYTES + 1)], "size"),
        ([MAGIC, b""], "body"),
        ([MAGIC, b"null"], "body"),
        ([MAGIC, b'"submit"'], "body"),
        ([MAGIC, b"{}"], "body"),
        ([MAGIC, b'{"kind":"nonsense"}'], "body"),
        ([MAGIC, b'{"kind":["describe"]}'], "body"),
        ([MAGIC, b'{"kind":"describe","extra":1}'], "body"),
        ([MAGIC, b'{"kind":"describe"'], "body"),
        ([MAGIC, b'{"kind":"\xff\xfe"}'], "body"),
        ([MAGIC, b'{"kind":"wait","job_id":"\\ud800"}'], "body"),
        ([MAGIC, b"[" * 100_000], "body"),
        ([MAGIC, b'{"kind":' * 100_000], "body"),
        ([MAGIC, b'{"kind":"beat","seq":"1"}'], "body"),
        ([MAGIC, b'{"kind":"beat","seq":1.5}'], "body"),
        ([MAGIC, b'{"kind":"beat","seq":true}'], "body"),
        ([MAGIC, b'{"kind":"beat","seq":-1}'], "body"),
        ([MAGIC, b'{"kind":"beat","seq":' + b"9" * 10_000 + b"}"], "body"),
        ([MAGIC, b'{"kind":"started","job_id":"a","token":9223372036854775808}'], "body"),
        ([MAGIC, b'{"kind":"wait","job_id":"../../etc/passwd"}'], "body"),
        ([MAGIC, b'{"kind":"cancel","job_id":""}'], "body"),
        ([MAGIC, b'{"kind":"who"}'], "body"),
    ],
)
def test_what_is_no_message_is_refused_with_its_reason(frames, reason):
    inbox = Inbox(wire.TO_BROKER)
    malformed = inbox.parse(frames)
    assert isinstance(malformed, Malformed)
    assert malformed.reason == reason
    assert len(malformed.detail) < 400
    assert inbox.refused == {reason: 1}


def test_a_foreign_protocol_is_named_with_the_remedy():
    malformed = seen(Inbox(wire.TO_BROKER).parse([b"kp/2", b"{}"]))
    assert "b'kp/2'" in malformed.detail
    assert "install one version" in malformed.detail


def test_a_refused_body_is_not_quoted():
    secret = b'{"kind":"submit","job":{"kind":"build","job_id":"a","problem":"SECRET"}}'
    assert "SECRET" not in seen(Inbox(wire.TO_BROKER).parse([MAGIC, secret])).detail


def test_infinite_durations_are_refused():
    body = b'{"kind":"busy","retry_after_s":Infinity}'
    assert isinstance(Inbox(wire.TO_WORKER).parse([MAGIC, body]), Malformed)


def test_a_message_larger_than_the_wire_is_not_encoded():
    outcome = make_built(log_tail="x" * MOST_BYTES)
    with pytest.raises(TooLarge, match="fewer workloads"):
        wire.encode(wire.Done(token=1, outcome=outcome))


def test_the_largest_legal_message_passes():
    small = len(wire.encode(wire.Done(token=1, outcome=make_built()))[1])
    done = wire.Done(token=1, outcome=make_built(log_tail="x" * (MOST_BYTES - small)))
    frames = wire.encode(done)
    assert len(frames[1]) == MOST_BYTES
    assert Inbox(wire.TO_BROKER).parse(frames) == done


def test_the_limit_holds_the_record_it_is_derived_from():
    pairs, times = 400, tuple(1234.5678901234567 + i for i in range(400))
    against = {"torch eager": DIGEST, "torch compile": DIGEST, "incumbent": DIGEST}
    workloads = tuple(make_workload(name=f"w{i}") for i in range(18))
    series = tuple(
        Series(
            workload=workload.name,
            against=name,
            slots=8,
            candidate_us=times,
            against_us=times,
            candidate_cpu_us=times,
            against_cpu_us=times,
        )
        for workload in workloads
        for name in against
    )
    sittings = tuple(
        Sitting(
            index=i,
            started_at="2026-01-01T00:00:00Z",
            key_digest=DIGEST,
            pressure_percent=0.0,
            verified_outputs=pairs,
            series=series,
        )
        for i in range(10)
    )
    record = BenchRecord(
        problem_digest=DIGEST,
        candidate_digest=DIGEST,
        against=against,
        workloads=workloads,
        plan=TimingPlan(),
        environment=make_environment(),
        sittings=sittings,
    )
    body = wire.encode(
        wire.Done(token=1, outcome=Benched(job_id="job", record=record, seconds=1.0))
    )[1]
    assert MOST_BYTES / 2 < len(body) <= MOST_BYTES


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_any_frames_give_a_message_or_a_reason(frames):
    for adapter in ADAPTERS:
        Inbox(adapter).parse(frames)
        Inbox(adapter).parse([MAGIC, *frames[:1]])


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_a_damaged_message_is_a_message_or_is_counted(data):
    message = data.draw(st.sampled_from(MESSAGES))
    body = bytearray(wire.encode(message)[1])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(len(body), start + 12)))
        body[start:end] = data.draw(st.binary(max_size=12))
    inbox = Inbox(adapter_of(message))
    parsed = inbox.parse([MAGIC, bytes(body)])
    if isinstance(parsed, Malformed):
        assert inbox.refused.total() == 1
    else:
        assert Inbox(adapter_of(parsed)).parse(wire.encode(parsed)) == parsed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(message=st.sampled_from(MESSAGES), data=st.data())
def test_a_field_of_any_type_gives_a_message_or_a_reason(message, data):
    body = json.loads(wire.encode(message)[1])
    place = body
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    Inbox(adapter_of(message)).parse([MAGIC, json.dumps(body).encode()])
