"""Where a user's word to a run is put: a file for the process that works on it, or settled here.

Pause and cancel of a run that nobody works on are settled at once, under the run's lock.
"""

import secrets
import time
from datetime import UTC, datetime

from gpu_runner.message import Message
from graph import control
from graph.control import LONGEST_TEXT, Control, ControlKind
from graph.ending import broken_off
from graph.errors import ControlRefused
from graph.events import Controlled, Exited, RunStarted
from graph.ledger import OPEN_ENDINGS, ExitReason
from graph.lock import holder, locked
from graph.routing import ATTEMPT_NAME
from graph.run_files import RunFiles

_ENDS = {"pause": ExitReason.PAUSED, "cancel": ExitReason.CANCELLED}


class Said(Message):
    """What came of saying something."""

    run_id: str
    control: Control
    is_settled: bool
    """False: a process picks it up at the run's next step, or when the run is resumed."""
    message: str


def say(files: RunFiles, kind: ControlKind, *, subject: str = "", text: str = "") -> Said:
    """Say something to a run, whether somebody works on it or not.

    Args:
        files: of the run.
        kind: what is said.
        subject: of a veto or a pin.
        text: the hint, or the reason.

    Raises:
        ControlRefused: the run has ended, or what was said cannot be of it; says why.
        RunError: the directory holds no run, or another process took it up meanwhile.
    """
    run_id = files.read_manifest().run_id
    _refuse(files, kind, subject, text)
    said = Control(
        control_id=f"{time.time_ns():020}-{secrets.token_hex(4)}",
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        kind=kind,
        subject=subject,
        text=text,
    )
    pid = holder(files.root)
    if pid is None and kind in _ENDS:
        message = _settle(files, said)
        return Said(run_id=run_id, control=said, is_settled=True, message=message)
    files.save_control(said)
    when = (
        f"process {pid} picks it up at its next step"
        if pid
        else f"nobody works on the run; `kernelpilot resume {run_id}` picks it up"
    )
    return Said(run_id=run_id, control=said, is_settled=False, message=f"{said.words()}: {when}")


def waiting(files: RunFiles) -> tuple[Control, ...]:
    """Return what was said and not picked up yet, oldest first."""
    taken = {e.control.control_id for e in files.events.read() if isinstance(e, Controlled)}
    return files.controls(without=taken)


def _refuse(files: RunFiles, kind: ControlKind, subject: str, text: str) -> None:
    result = files.result()
    if result is not None and result.exit_reason not in OPEN_ENDINGS and not holder(files.root):
        raise ControlRefused(
            f"the run {files.root.name} has ended ({result.exit_reason.value}); nothing that is "
            "said to it changes anything: start another run"
        )
    if len(text) > LONGEST_TEXT:
        raise ControlRefused(
            f"the text has {len(text)} characters; the roles are shown {LONGEST_TEXT} at most"
        )
    if kind == "hint" and not text.strip():
        raise ControlRefused('the hint is empty; write it as one argument: hint RUN "..."')
    rows = files.attempts()
    if kind == "pin":
        refusal = control.pin_refusal(rows, subject, _vetoed(files))
        if refusal:
            right = [
                row.attempt_id for row in rows if not control.pin_refusal(rows, row.attempt_id, ())
            ]
            known = f"; these did: {', '.join(right[-_MOST_NAMED:])}" if right else ""
            raise ControlRefused(f"{refusal}{known}")
    if kind == "veto":
        known_ids = {row.attempt_id for row in rows}
        if ATTEMPT_NAME.fullmatch(subject) and subject not in known_ids:
            raise ControlRefused(
                f"{subject} has no row in the ledger of {files.root.name}; the last one is "
                f"{max(known_ids, default='not written yet')}"
            )
        if not subject.strip():
            raise ControlRefused("name what is not wanted: an attempt, a family or a recipe")


_MOST_NAMED = 12


def _vetoed(files: RunFiles) -> tuple[str, ...]:
    return control.vetoed(files.controls())


def _settle(files: RunFiles, said: Control) -> str:
    """Write down the end of a run that nobody works on."""
    with locked(files.root):
        reason = _ENDS[said.kind]
        result = broken_off(files, reason, f"{reason.value} by the user{_because(said)}")
        files.save_control(said)
        events = files.events
        sessions = sum(isinstance(event, RunStarted) for event in events.read())
        effect = "nobody worked on the run; it stays where it stopped"
        events.append(Controlled(key=f"control:{said.control_id}", control=said, effect=effect))
        files.save_result(result)
        events.append(
            Exited(
                key=f"exit:{sessions}:{said.control_id}", exit_reason=reason, message=result.message
            )
        )
        return result.message


def _because(said: Control) -> str:
    return f": {said.text}" if said.text else ""
