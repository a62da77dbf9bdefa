"""The event log."""

import json

import pytest
from pydantic import TypeAdapter

from gpu_runner.records import TimingPlan
from graph.errors import RunDamaged
from graph.event_log import EventLog
from graph.events import (
    EVENT,
    AnyEvent,
    DecisionTaken,
    Exited,
    JobSubmitted,
    StageEnded,
    StageStarted,
)
from graph.ledger import ExitReason


@pytest.fixture
def log(tmp_path):
    return EventLog(tmp_path / "events.jsonl")


def stage(number: int) -> StageStarted:
    return StageStarted(key=f"stage:{number}", stage="write", round=number)


def test_events_come_back_in_order_with_their_position_and_time(log):
    for number in range(3):
        assert log.append(stage(number))
    read = list(log.read())
    assert [event.seq for event in read] == [1, 2, 3]
    assert [event.key for event in read] == ["stage:0", "stage:1", "stage:2"]
    assert all(event.at.endswith("+00:00") for event in read)


def test_the_same_happening_is_logged_once(log):
    assert log.append(stage(1))
    assert not log.append(stage(1))
    assert len(list(log.read())) == 1


def test_a_second_process_knows_what_the_first_one_said(log, tmp_path):
    log.append(stage(1))
    second = EventLog(tmp_path / "events.jsonl")
    assert not second.append(stage(1))
    assert second.append(stage(2))
    assert [event.seq for event in second.read()] == [1, 2]


def test_a_follower_reads_on_from_where_it_was(log):
    for number in range(4):
        log.append(stage(number))
    assert [event.seq for event in log.read(after=2)] == [3, 4]


def test_a_line_torn_by_a_kill_is_dropped_by_the_next_writer(log, tmp_path):
    log.append(stage(1))
    path = tmp_path / "events.jsonl"
    with path.open("ab") as file:
        file.write(b'{"kind":"stage_st')
    assert [event.key for event in log.read()] == ["stage:1"]
    again = EventLog(path)
    assert again.append(stage(2))
    assert [event.key for event in again.read()] == ["stage:1", "stage:2"]


def test_reading_never_changes_the_file(log, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"torn')
    assert list(EventLog(path).read()) == []
    assert path.read_bytes() == b'{"torn'


def test_nothing_is_created_before_the_first_event(log, tmp_path):
    assert list(log.read()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_line_of_another_version_is_named(log, tmp_path):
    log.append(stage(1))
    path = tmp_path / "events.jsonl"
    with path.open("ab") as file:
        file.write(b'{"kind":"teleported","key":"x"}\n')
    with pytest.raises(RunDamaged, match="line 2"):
        list(log.read())


def test_events_carry_the_clock_of_the_run(log):
    log.measure_by(lambda: 12.3456)
    log.append(stage(1))
    assert next(log.read()).elapsed_s == 12.346


def test_listeners_hear_what_was_written_and_nothing_else(log):
    heard: list[AnyEvent] = []
    log.listen(heard.append)
    log.append(stage(1))
    log.append(stage(1))
    assert [(event.key, event.seq) for event in heard] == [("stage:1", 1)]


def test_an_event_is_found_whatever_else_speaks_of_its_key(log):
    odd = 'decision:"quoted" ümlaut'
    for key, reason in (("a", f'speaks of "{odd}"'), (odd, "is it"), ("b", odd)):
        log.append(DecisionTaken(key=key, subject="s", choice="c", reason=reason))
    other = EventLog(log._path)
    for one in (log, other):
        found = one.find(odd)
        assert isinstance(found, DecisionTaken)
        assert found.reason == "is it"
        assert one.find("c") is None


def test_an_event_is_found_by_its_key(log):
    plan = TimingPlan(sittings=5, most_sittings=8, most_s=1 / 3)
    event = JobSubmitted(key="j", job_id="run-1", job="bench", timeout_s=0.1 + 0.2, plan=plan)
    log.append(event)
    found = log.find("j")
    assert isinstance(found, JobSubmitted)
    assert (found.timeout_s, found.plan) == (event.timeout_s, plan)
    assert log.find("other") is None


@pytest.mark.parametrize(
    "event",
    [
        stage(1),
        StageEnded(key="k", stage="write", round=1, seconds=1.5),
        DecisionTaken(key="k", subject="plateau", choice="stop", reason="r", evidence=("a0001",)),
        Exited(key="k", exit_reason=ExitReason.GOAL_MET, message="done"),
    ],
)
def test_events_survive_the_way_to_disk_and_back(event):
    assert EVENT.validate_json(event.model_dump_json()) == event


def test_every_line_is_one_json_object_with_its_kind(log, tmp_path):
    log.append(DecisionTaken(key="k", subject="s", choice="c", reason="line\nbreak \u2028 ünïcode"))
    lines = (tmp_path / "events.jsonl").read_text().split("\n")
    assert len(lines) == 2
    assert json.loads(lines[0])["kind"] == "decision"


def test_kinds_are_unique():
    schema = TypeAdapter(AnyEvent).json_schema()
    assert len(schema["discriminator"]["mapping"]) == len(schema["oneOf"])
