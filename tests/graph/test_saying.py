"""Speaking to a run that works, that stands still, and that has ended."""

import json

import pytest
from typer.testing import CliRunner

from graph import cli
from graph.errors import ControlRefused, RunNotFound
from graph.ledger import AttemptOutcome, ExitReason, RunResult
from graph.lock import locked
from graph.run_files import RunFiles
from graph.saying import say, waiting
from graph.status import status_of
from tests.graph.builders import make_attempt, make_manifest


@pytest.fixture
def files(tmp_path):
    made = RunFiles(tmp_path / "runs" / "softmax-test")
    made.write_manifest(make_manifest())
    made.append_attempt(make_attempt(1, version="v001"))
    made.append_attempt(make_attempt(2, outcome=AttemptOutcome.REJECTED))
    return made


def ended(files, reason: ExitReason) -> None:
    files.save_result(
        RunResult(
            run_id="r", exit_reason=reason, message="m", rounds=1, attempts=1, wall_s=1, job_s=1
        )
    )


@pytest.mark.parametrize("kind", ["hint", "pause", "cancel"])
def test_a_run_that_is_worked_on_is_told_by_a_file_alone(files, kind):
    before = list(files.events.read())
    with locked(files.root):
        said = say(files, kind, text="the loads are strided")
        assert not said.is_settled
        assert "at its next step" in said.message
        assert waiting(files) == (said.control,)
        assert list(files.events.read()) == before, "the process that works writes the log"
        assert f"{kind}: the loads are strided (waiting)" in status_of(files).controls


def test_what_is_said_to_a_stopped_run_waits_for_its_resumption(files):
    said = say(files, "hint", text="try online")
    assert "`kernelpilot resume softmax-test` picks it up" in said.message
    assert [control.text for control in waiting(files)] == ["try online"]


@pytest.mark.parametrize(
    ("kind", "reason"), [("pause", ExitReason.PAUSED), ("cancel", ExitReason.CANCELLED)]
)
def test_a_stopped_run_is_settled_at_once(files, kind, reason):
    said = say(files, kind, text="enough for today")
    assert said.is_settled
    result = files.result()
    assert result is not None
    assert (result.exit_reason, result.attempts) == (reason, 2)
    assert "enough for today" in result.message
    assert "resume" in result.message
    assert waiting(files) == ()
    assert [event.kind for event in files.events.read()] == ["controlled", "exit"]
    assert status_of(files).state == reason.value


@pytest.mark.parametrize("kind", ["hint", "pause", "cancel"])
def test_nothing_is_said_to_a_run_that_has_ended(files, kind):
    ended(files, ExitReason.GOAL_MET)
    with pytest.raises(ControlRefused, match="has ended \\(goal_met\\)"):
        say(files, kind, text="more")
    assert waiting(files) == ()


@pytest.mark.parametrize(
    "reason",
    [ExitReason.CANCELLED, ExitReason.PAUSED, ExitReason.ERROR, ExitReason.WAITING],
)
def test_a_run_that_can_be_taken_up_again_can_be_spoken_to(files, reason):
    ended(files, reason)
    assert say(files, "hint", text="more").control.text == "more"


@pytest.mark.parametrize(
    ("kind", "subject", "text", "why"),
    [
        ("hint", "", "  ", "empty"),
        ("hint", "", "x" * 2001, "2000"),
        ("veto", "a0009", "", "no row in the ledger"),
        ("veto", " ", "", "name what is not wanted"),
        ("pin", "a0009", "", "no row"),
        ("pin", "a0002", "", "did not pass every check.*these did: a0001"),
    ],
)
def test_what_cannot_be_of_the_run_is_refused_with_the_reason(files, kind, subject, text, why):
    with pytest.raises(ControlRefused, match=why):
        say(files, kind, subject=subject, text=text)
    assert not (files.root / "controls").exists()


def test_a_pin_of_what_is_vetoed_is_refused(files):
    say(files, "veto", subject="a0001")
    with pytest.raises(ControlRefused, match="veto of a0001"):
        say(files, "pin", subject="a0001")


def test_things_said_at_once_are_all_kept(files):
    for number in range(20):
        say(files, "hint", text=f"hint {number}")
    assert [c.text for c in waiting(files)] == [f"hint {number}" for number in range(20)]


def test_a_directory_without_a_run_cannot_be_spoken_to(tmp_path):
    with pytest.raises(RunNotFound):
        say(RunFiles(tmp_path / "none"), "pause")


@pytest.mark.parametrize(
    ("arguments", "kind", "subject", "text"),
    [
        (("hint", "softmax", "try online"), "hint", "", "try online"),
        (("veto", "softmax", "row/online", "--because", "odd"), "veto", "row/online", "odd"),
        (("pin", "softmax", "a0001"), "pin", "a0001", ""),
        (("pause", "latest"), "pause", "", ""),
        (("cancel", "latest", "--because", "enough"), "cancel", "", "enough"),
    ],
)
def test_every_command_answers_with_one_json_object(files, arguments, kind, subject, text):
    setting = ("--set", f"run.directory={files.root.parent}")
    shown = CliRunner().invoke(cli.app, [*arguments, *setting, "--json"])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert told["run_id"] == "softmax-test"
    assert {key: told["control"][key] for key in ("kind", "subject", "text")} == {
        "kind": kind,
        "subject": subject,
        "text": text,
    }
