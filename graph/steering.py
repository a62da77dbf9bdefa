"""Picks up what users said to a run, and keeps it for the nodes.

A control that was picked up is an event, so a resumed run knows it without the file. Vetoes and
pins change the incumbent between rounds only: within one, everything is compared with the same.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from langgraph.runtime import RunControl

from graph import control
from graph.control import Control
from graph.errors import GraphError
from graph.events import Controlled, DecisionTaken, IncumbentChanged, Promoted
from graph.ledger import Attempt
from graph.run_files import RunFiles

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
Asked = Literal["", "pause", "cancel"]

_EFFECTS = {
    "pause": "the run stops after the step at hand",
    "cancel": "the run stops at once",
    "hint": "every role is shown it from now on",
    "veto": "nothing of it is written or promoted from now on",
    "pin": "it becomes the incumbent when the round at hand is over, if it passed every check",
}


class Steering:
    """What was said to one run so far."""

    def __init__(self, files: RunFiles) -> None:
        """Read what earlier processes picked up."""
        self._files = files
        self._taken = [e.control for e in files.events.read() if isinstance(e, Controlled)]
        self._known = {control.control_id for control in self._taken}
        self.asked: Asked = ""
        """How this process is to end, where a user said so."""

    @property
    def hints(self) -> tuple[str, ...]:
        """What the roles are told."""
        return control.hints(self._taken)

    @property
    def vetoed(self) -> tuple[str, ...]:
        """Attempts, families and recipes that are not wanted."""
        return control.vetoed(self._taken)

    def take(self) -> tuple[Control, ...]:
        """Pick up what is new, log it, and return it.

        Raises:
            RunDamaged: a control cannot be read; names the file.
        """
        new = self._files.controls(without=self._known)
        for one in new:
            told = Controlled(
                key=f"control:{one.control_id}", control=one, effect=_EFFECTS[one.kind]
            )
            self._files.events.append(told)
            self._known.add(one.control_id)
            self._taken.append(one)
            if one.kind in {"pause", "cancel"} and self.asked != "cancel":
                self.asked = "cancel" if one.kind == "cancel" else "pause"
        return new

    def settled(self, incumbent: str) -> str:
        """Return the incumbent as vetoes and pins leave it; what changes it is logged once.

        Asked between rounds. A pin holds until a claim beats the pinned attempt.

        Args:
            incumbent: attempt id, as the measurements left it; empty: none.
        """
        self.take()
        rows = self._files.attempts()
        for one in self._taken:
            if one.kind == "pin":
                incumbent = self._pinned(one, incumbent, rows)
            elif one.kind == "veto":
                incumbent = self._unless_vetoed(one, incumbent, rows)
        return incumbent

    def _pinned(self, pin: Control, incumbent: str, rows: tuple[Attempt, ...]) -> str:
        earlier = self._files.events.find(f"incumbent:{pin.control_id}")
        if earlier is not None:
            beaten = any(isinstance(e, Promoted) for e in self._files.events.read(earlier.seq))
            return incumbent if beaten else pin.subject
        refusal = control.pin_refusal(rows, pin.subject, self.vetoed)
        if refusal:
            self._files.events.append(
                DecisionTaken(
                    key=f"decision:pin:{pin.control_id}",
                    subject="pin",
                    choice="refused",
                    reason=refusal,
                )
            )
            return incumbent
        self._change(f"incumbent:{pin.control_id}", pin, pin.subject, rows)
        return pin.subject

    def _unless_vetoed(self, veto: Control, incumbent: str, rows: tuple[Attempt, ...]) -> str:
        row = next((row for row in rows if row.attempt_id == incumbent), None)
        if row is None or not control.veto_on_row((veto.subject,), row):
            return incumbent
        instead = control.fallback(rows, self.vetoed)
        self._change(f"incumbent:{veto.control_id}:{incumbent}", veto, instead, rows)
        return instead

    def _change(self, key: str, why: Control, incumbent: str, rows: tuple[Attempt, ...]) -> None:
        row = next((row for row in rows if row.attempt_id == incumbent), None)
        self._files.events.append(
            IncumbentChanged.of(row, key=key, because=f"the user's {why.words()}")
        )


@asynccontextmanager
async def watched(
    steering: Steering, drain: RunControl, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Look for controls while the block runs: a pause ends it between two steps, a cancel now."""

    async def watch() -> None:
        while True:
            try:
                steering.take()
            except (GraphError, OSError) as error:
                # The next step meets it as well, and there it ends the run with the message.
                logger.warning("controls cannot be read: %s", error)
            if steering.asked:
                drain.request_drain(steering.asked)
            if steering.asked == "cancel":
                stop.set()
            await asyncio.sleep(LOOK_EVERY_S)

    watching = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
