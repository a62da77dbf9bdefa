"""What is picked up, when it takes effect, and that a kill changes nothing of it."""

import asyncio

import pytest
from langgraph.runtime import RunControl

from graph.errors import RunDamaged
from graph.events import Controlled, DecisionTaken, IncumbentChanged, Promoted
from graph.ledger import AttemptOutcome
from graph.run_files import RunFiles
from graph.steering import Steering, watched
from tests.graph.builders import make_attempt, make_decision, make_manifest
from tests.graph.test_control import make_control


@pytest.fixture
def files(tmp_path):
    made = RunFiles(tmp_path / "softmax-test")
    made.write_manifest(make_manifest())
    return made


def events(files, kind):
    return [event for event in files.events.read() if isinstance(event, kind)]


def promote(files, number: int, **changes) -> str:
    values = {
        "version": f"v{number:03}",
        "outcome": AttemptOutcome.PROMOTED,
        "claims": (make_decision(1.0 + number / 10),),
    }
    row = files.append_attempt(make_attempt(number, **{**values, **changes}))
    if row.outcome is AttemptOutcome.PROMOTED:
        files.events.append(
            Promoted(
                key=f"promoted:{row.attempt_id}",
                attempt_id=row.attempt_id,
                version=row.version,
                intervals={},
            )
        )
    return str(row.attempt_id)


# -- picking up ----------------------------------------------------------------------------------


def test_what_was_said_is_picked_up_once_and_in_order(files):
    steering = Steering(files)
    files.save_control(make_control(2, text="second"))
    files.save_control(make_control(1, text="first"))
    assert [control.text for control in steering.take()] == ["first", "second"]
    assert steering.take() == ()
    assert steering.hints == ("first", "second")
    assert len(events(files, Controlled)) == 2


def test_a_resumed_process_knows_what_was_picked_up_without_the_files(files):
    files.save_control(make_control(1, kind="veto", subject="online"))
    Steering(files).take()
    for path in (files.root / "controls").iterdir():
        path.unlink()
    again = Steering(RunFiles(files.root))
    assert again.vetoed == ("online",)
    assert again.asked == "", "a pause of an earlier process does not end this one"


def test_picked_up_again_after_a_kill_it_is_told_once(files):
    files.save_control(make_control(1))
    Steering(files).take()
    late = Steering(RunFiles(files.root))
    assert late.take() == ()
    assert len(events(files, Controlled)) == 1


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [(["hint"], ""), (["pause"], "pause"), (["cancel"], "cancel"), (["cancel", "pause"], "cancel")],
)
def test_a_cancel_outweighs_a_pause(files, kinds, asked):
    for number, kind in enumerate(kinds):
        files.save_control(make_control(number, kind=kind))
    steering = Steering(files)
    steering.take()
    assert steering.asked == asked


def test_a_control_that_cannot_be_read_is_named(files):
    path = files.root / "controls" / f"{1:020}-0123abcd.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(RunDamaged, match="0123abcd"):
        Steering(files).take()


# -- the incumbent -------------------------------------------------------------------------------


def test_without_a_word_the_measurements_name_the_incumbent(files):
    promote(files, 1)
    assert Steering(files).settled("a0001") == "a0001"
    assert Steering(files).settled("") == ""
    assert events(files, IncumbentChanged) == []


def said(files, *controls) -> Steering:
    for control in controls:
        files.save_control(control)
    steering = Steering(files)
    steering.take()
    return steering


def test_a_vetoed_incumbent_gives_way_to_the_promotion_before_it(files):
    promote(files, 1)
    promote(files, 2, recipe="online")
    steering = said(files, make_control(1, kind="veto", subject="online", text="brittle"))
    assert steering.settled("a0002") == "a0001"
    assert steering.settled("a0002") == "a0001", "also when the node runs again after a kill"
    (change,) = events(files, IncumbentChanged)
    assert (change.attempt_id, change.version) == ("a0001", "v001")
    assert change.intervals["torch eager"].speedup == 1.1
    assert "brittle" in change.because


def test_with_every_promotion_vetoed_the_baseline_serves(files):
    promote(files, 1)
    steering = said(files, make_control(1, kind="veto", subject="a0001"))
    assert steering.settled("a0001") == ""
    assert events(files, IncumbentChanged)[0].attempt_id == ""


def test_a_pin_makes_a_right_attempt_the_incumbent_until_it_is_beaten(files):
    promote(files, 1)
    promote(files, 2, outcome=AttemptOutcome.MEASURED, claims=())
    steering = said(files, make_control(1, kind="pin", subject="a0002"))
    assert steering.settled("a0001") == "a0002"
    assert steering.settled("a0001") == "a0002", "the node runs again after a kill"
    promote(files, 3)
    assert steering.settled("a0003") == "a0003"
    assert len(events(files, IncumbentChanged)) == 1


def test_a_pin_of_what_did_not_pass_every_check_is_refused_and_recorded_once(files):
    promote(files, 1)
    promote(files, 2, outcome=AttemptOutcome.REJECTED)
    steering = said(files, make_control(1, kind="pin", subject="a0002"))
    assert steering.settled("a0001") == "a0001"
    assert steering.settled("a0001") == "a0001"
    (decision,) = events(files, DecisionTaken)
    assert (decision.subject, decision.choice) == ("pin", "refused")
    assert "did not pass every check" in decision.reason


def test_a_veto_of_what_was_pinned_takes_the_pin_back(files):
    promote(files, 1)
    promote(files, 2, outcome=AttemptOutcome.MEASURED)
    steering = said(files, make_control(1, kind="pin", subject="a0002"))
    assert steering.settled("a0001") == "a0002"
    files.save_control(make_control(2, kind="veto", subject="a0002"))
    steering.take()
    assert steering.settled("a0002") == "a0001"
    assert steering.settled("a0001") == "a0001"


# -- watching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "stops"), [("pause", False), ("cancel", True)])
async def test_a_watched_run_hears_of_it_while_a_step_works(files, kind, stops):
    steering, drain, stop = Steering(files), RunControl(), asyncio.Event()
    async with watched(steering, drain, stop):
        await asyncio.sleep(0)
        files.save_control(make_control(1, kind=kind))
        async with asyncio.timeout(10):
            while not drain.drain_requested:  # noqa: ASYNC110 - a control has no event to wait for
                await asyncio.sleep(0.02)
    assert drain.drain_reason == kind
    assert stop.is_set() is stops


async def test_a_control_that_cannot_be_read_does_not_end_the_watch(files, caplog):
    folder = files.root / "controls"
    folder.mkdir()
    bad = folder / f"{1:020}-0123abcd.json"
    bad.write_text("{")
    steering, drain = Steering(files), RunControl()
    async with watched(steering, drain, asyncio.Event()):
        await asyncio.sleep(0.05)
        bad.unlink()
        files.save_control(make_control(2, kind="pause"))
        async with asyncio.timeout(10):
            while not drain.drain_requested:  # noqa: ASYNC110 - a control has no event to wait for
                await asyncio.sleep(0.02)
    assert "cannot be read" in caplog.text
