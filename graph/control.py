"""What a user says to a run that is under way: pause, hint, veto, pin, cancel. Pure.

Nobody has to say anything. A control is a file of the run directory, so it can be given while the
run works and while it is stopped; the run picks it up at its next step and logs what came of it.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from gpu_runner.message import Message
from graph.ledger import Attempt, AttemptOutcome

ControlKind = Literal["pause", "hint", "veto", "pin", "cancel"]
LONGEST_TEXT = 2000
MOST_HINTS = 8
"""The last ones are shown to the roles; more would crowd out the facts."""


class Control(Message):
    """One thing that was said."""

    control_id: str = Field(pattern=r"^[0-9]{20}-[0-9a-f]{8}$")
    """Nanoseconds since 1970 and a random part: names the file and sorts in order of time."""
    at: str
    """UTC, ISO 8601."""
    kind: ControlKind
    subject: str = ""
    """Of a veto: attempt id, family, recipe or `family/recipe`; of a pin: attempt id."""
    text: str = Field(default="", max_length=LONGEST_TEXT)
    """The hint, or the reason."""

    def words(self) -> str:
        """Return it as a user would read it: `veto of a0003: it reads the clock`."""
        head = f"{self.kind} of {self.subject}" if self.subject else self.kind
        return f"{head}: {self.text}" if self.text else head


def hints(taken: Iterable[Control]) -> tuple[str, ...]:
    """Return what the roles are told, the latest last."""
    return tuple(control.text for control in taken if control.kind == "hint")[-MOST_HINTS:]


def vetoed(taken: Iterable[Control]) -> tuple[str, ...]:
    """Return the subjects of the vetoes, each once."""
    return tuple(dict.fromkeys(c.subject for c in taken if c.kind == "veto"))


def veto_on(
    subjects: Iterable[str], *, attempt_id: str = "", family: str = "", recipe: str = ""
) -> str:
    """Return the vetoed subject that an attempt or a draft falls under; empty where none."""
    names = {attempt_id, family, recipe, f"{family}/{recipe}"} - {"", "/"}
    return next((subject for subject in subjects if subject in names), "")


def veto_on_row(subjects: Iterable[str], row: Attempt) -> str:
    """Return the vetoed subject that a row of the ledger falls under; empty where none."""
    return veto_on(subjects, attempt_id=row.attempt_id, family=row.family, recipe=row.recipe)


def pin_refusal(rows: Iterable[Attempt], subject: str, subjects: Iterable[str]) -> str:
    """Return why an attempt cannot be made the incumbent; empty where it can.

    A pin chooses among what is known to be right; it makes nothing right.

    Args:
        rows: of the ledger.
        subject: attempt id.
        subjects: what is vetoed.
    """
    row = next((row for row in rows if row.attempt_id == subject), None)
    if row is None:
        return f"{subject} has no row in the ledger"
    if not row.version or row.outcome not in _RIGHT:
        return f"{subject} did not pass every check: it was {row.outcome.value}"
    veto = veto_on_row(subjects, row)
    return f"{subject} falls under the veto of {veto}" if veto else ""


_RIGHT = {AttemptOutcome.PROMOTED, AttemptOutcome.MEASURED}


def fallback(rows: Iterable[Attempt], subjects: Iterable[str]) -> str:
    """Return the last promoted attempt that no veto covers; empty where there is none."""
    listed = tuple(subjects)
    promoted = [row for row in rows if row.outcome is AttemptOutcome.PROMOTED]
    left = [row.attempt_id for row in promoted if not veto_on_row(listed, row)]
    return left[-1] if left else ""
