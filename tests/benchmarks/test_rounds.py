"""The arithmetic of the long run: what it makes of an event log and of /proc."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.rounds import (
    _children,
    _job_spans,
    _log,
    _memory,
    _resident_mib,
    _round,
    _samples,
    _union,
)

START = datetime(2025, 1, 1, tzinfo=UTC)
SPANS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 15)).map(lambda s: (s[0], s[0] + s[1])),
    max_size=8,
)


def event(kind: str, at_s: float, job_id: str = "job") -> dict[str, str]:
    at = (START + timedelta(seconds=at_s)).isoformat(timespec="milliseconds")
    return {"kind": kind, "at": at, "job_id": job_id}


@settings(deadline=None)
@given(SPANS)
def test_a_union_counts_each_second_once(spans):
    seconds = {second for start, stop in spans for second in range(start, stop)}
    assert _union([(float(start), float(stop)) for start, stop in spans]) == len(seconds)


@settings(deadline=None)
@given(SPANS, st.randoms())
def test_a_union_knows_no_order_and_no_repetition(spans, random):
    shuffled = spans * 2
    random.shuffle(shuffled)
    assert _union(shuffled) == _union(spans)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0.0),
        ([(1.0, 1.0)], 0.0),
        ([(0.0, 10.0), (2.0, 3.0)], 10.0),
        ([(0.0, 10.0), (2.0, 3.0), (9.0, 12.0)], 12.0),
        ([(0.0, 1.0), (1.0, 2.0)], 2.0),
        ([(5.0, 6.0), (0.0, 0.5)], 1.5),
    ],
)
def test_spans_within_and_beside_each_other(spans, seconds):
    assert _union(spans) == seconds


def test_a_job_lasts_from_its_submission_to_its_end():
    spans = _job_spans(
        [
            event("run_started", 0),
            event("job_submitted", 1, "a"),
            event("job_submitted", 2, "b"),
            event("job_finished", 4.25, "a"),
            event("attempt_finished", 5),
            event("job_finished", 7, "b"),
        ]
    )
    assert [(a - START.timestamp(), b - START.timestamp()) for a, b in spans] == [
        (1.0, 4.25),
        (2.0, 7.0),
    ]
    assert _union(spans) == 6.0


def test_a_job_without_its_other_end_is_no_span():
    assert _job_spans([event("job_submitted", 1)]) == []
    assert _job_spans([event("job_finished", 1)]) == []


def test_a_job_submitted_again_counts_from_the_later_time():
    events = [event("job_submitted", 0), event("job_submitted", 3), event("job_finished", 5)]
    assert _union(_job_spans(events)) == 2.0


def test_figures_of_a_run_come_from_its_files(tmp_path):
    lines = [
        event("job_submitted", 0, "a"),
        event("job_submitted", 1, "b"),
        event("job_finished", 4, "a"),
        event("job_finished", 8, "b"),
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "result.json").write_text(
        json.dumps({"rounds": 3, "attempts": 5, "wall_s": 10.0, "more": 1})
    )
    (tmp_path / "checkpoints.sqlite").write_bytes(bytes(3 << 20))
    figures = _log(tmp_path)
    assert figures.pop("outside_jobs_percent") == pytest.approx(20)
    assert figures == {
        "rounds": 3,
        "attempts": 5,
        "wall_s": 10.0,
        "in_jobs_s": 8.0,
        "checkpoints_mib": 3.0,
    }


def test_memory_is_compared_after_it_has_settled():
    samples = [
        (0, 50.0, 90.0),
        (9, 80.0, 70.0),
        (10, 60.0, 95.0),
        (20, 75.0, 60.0),
        (30, 61.0, 1.0),
    ]
    assert _memory(samples) == {
        "orchestrator_mib_first": 60.0,
        "orchestrator_mib_last": 61.0,
        "orchestrator_mib_most": 80.0,
        "broker_and_worker_mib_most": 95.0,
    }


def test_a_run_too_short_to_settle_has_no_first_and_last():
    figures = _memory([(0, 50.0, 90.0), (3, 55.0, 80.0)])
    assert (figures["orchestrator_mib_first"], figures["orchestrator_mib_last"]) == (0.0, 0.0)
    assert figures["orchestrator_mib_most"] == 55.0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (None, 0),
        ("", 0),
        ('{"round": 1}\n{"round": 7}\n', 7),
        ('{"round": 1}\n{"rou', 0),  # being written
    ],
)
def test_the_round_is_that_of_the_last_attempt(tmp_path, text, number):
    if text is not None:
        (tmp_path / "attempts.jsonl").write_text(text)
    assert _round(tmp_path) == number


def test_resident_memory_is_that_of_the_process():
    own = _resident_mib(os.getpid())
    assert 10 < own < 10_000
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert _resident_mib(os.getpid()) > own + 40


def test_a_process_that_is_gone_has_no_memory_and_no_children():
    gone = 1 << 22
    assert (_resident_mib(gone), _children(gone)) == (0.0, [])


@pytest.mark.timed
def test_a_run_is_sampled_until_it_ends_and_ended_when_it_is_late(tmp_path):
    command = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.pid in _children(os.getpid())
        samples = list(_samples(process, tmp_path, until=0.0))
    assert process.returncode == -15
    assert samples
    assert {number for number, _, _ in samples} == {0}
