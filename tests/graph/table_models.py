"""Language models that answer from a table, in this process: the same prompt, the same answer.

They drive the real team: its prompts, its reading of replies, its bills. What is answered follows
from the prompt alone, so a run that was killed and goes on hears what it would have heard.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from agents.billing import charge
from agents.model import Answer, Form, Turn
from agents.roles import Spend
from agents.team import ModelTeam
from gpu_runner.message import Message
from tests.graph.builders import (
    make_digest,
    make_draft,
    make_inspection,
    make_plan,
    make_research,
    make_review,
)

TOKENS = Spend(calls=1, input_tokens=90, output_tokens=10, usd=1e-4)
"""Of every reply."""
INSPECTOR = "inspector"
"""The reviewer, asked about the final kernel."""
Reply = Message | str


class TableModel:
    """Implements `ChatModel`."""

    provider = "table"

    def __init__(
        self,
        name: str,
        table: Mapping[str, Reply],
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take the answers.

        Args:
            name: of the model.
            table: by role and place, `writer 2.0` (round and lane, from 0), or by role alone.
            note: told the place of every question.
        """
        self.name = name
        self._table = table
        self._note = note
        self._spend = Spend()

    async def answer(self, turns: Sequence[Turn], form: Form | None = None) -> Answer:
        """Answer by the table; a role that is not in it says what it usually does."""
        prompt = "\n".join(turn.text for turn in turns)
        place = place_of(prompt)
        self._spend += TOKENS
        charge(TOKENS)
        self._note(place)
        role = place.partition(" ")[0]
        reply = self._table.get(place) or self._table.get(role) or _usual(place)
        text = reply if isinstance(reply, str) else reply.model_dump_json()
        return Answer(text=text, is_complete=True)

    def spend(self) -> Spend:
        """Return the cost so far."""
        return self._spend


def place_of(prompt: str) -> str:
    """Return who is asked about what: `reviewer 3`, `writer 3.1`, a mend's `writer 3.0 mend`."""
    role = _found(r"You are the (\w+)\.", prompt)
    number = _found(r"\(round (\d+)", prompt) or "1"
    if role == "reviewer" and "## The final kernel" in prompt:
        role = INSPECTOR
    if role != "writer":
        return f"{role} {number}"
    lane = int(_found(r"\(lane (\d+) of", prompt) or 1) - 1
    mend = " mend" if "## Mend the final kernel" in prompt else ""
    repair = " repair" if "## Repair this attempt" in prompt else ""
    return f"writer {number}.{lane}{mend}{repair}"


def table_team(
    table: Mapping[str, Reply], note: Callable[[str], None] = lambda _: None, repairs: int = 1
) -> ModelTeam:
    """Return a team of two such models: one works, the other reviews."""
    return ModelTeam(
        TableModel("worker", table, note), TableModel("judge", table, note), repairs=repairs
    )


def draft_of(text: str) -> Message:
    """Return a draft whose text tells the scenario pool how its jobs end."""
    return make_draft(f"#pragma {text}\n", family="", recipe="")


def _usual(place: str) -> Message:
    role = place.partition(" ")[0]
    if role == "writer":
        return draft_of(f"us=100 in {place}")
    made: dict[str, Message] = {
        "planner": make_plan(),
        "researcher": make_research(),
        "profiler": make_digest(),
        "reviewer": make_review(),
        INSPECTOR: make_inspection(),
    }
    return made[role]


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""
