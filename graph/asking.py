"""Where roles are asked: each question is answered once, and its cost is counted.

An answer is a file of the run before anything is concluded from it, so a node that runs again
after a kill does not pay a model twice.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from agents.billing import Bill, billed
from agents.errors import AgentError
from agents.replies import Digest, Draft, Inspection, Plan, Research, Review
from agents.roles import Spend, Team
from graph.errors import OutOfTime
from graph.events import Replied
from graph.run_files import RunFiles
from graph.waiting import until_stopped

ReplyT = TypeVar("ReplyT", Plan, Research, Draft, Digest, Review, Inspection)


class Asking:
    """Asks the team, with the run directory as memory."""

    def __init__(self, team: Team, files: RunFiles, *, reply_s: float, stop: asyncio.Event) -> None:
        """Wait `reply_s` for an answer at most; give up when `stop` is set."""
        self._team = team
        self._files = files
        self._reply_s = reply_s
        self._stop = stop
        self._counted = team.spend()
        """What the team had spent when it was last asked, less what was billed."""
        self._bills: list[Bill] = []
        self._billed = Spend()
        """Of the bills that are closed."""

    async def ask(
        self,
        kind: type[ReplyT],
        key: str,
        question: Coroutine[Any, Any, ReplyT],
        *,
        left_s: float | None,
        has_room: Callable[[Spend], bool] = lambda _: True,
        round_number: int = 0,
        attempt_id: str = "",
    ) -> ReplyT:
        """Return the answer to a question, from the run directory where it was given before.

        Args:
            kind: what is answered.
            key: names the question; sorts in order of time.
            question: a coroutine of the team; closed unawaited where the answer is known.
            left_s: what the wall budget leaves.
            has_room: told what the questions under way have cost so far: may one more call be made?
            round_number: the round that pays for it.
            attempt_id: the attempt that pays for it, if it is one's.

        Raises:
            AgentError: the team cannot answer.
            OutOfTime: no answer within the time allowed or left.
            RunStopped: the run is being cancelled.
        """
        known = self._files.reply(kind, key)
        if known is not None:
            question.close()
            return known
        allowed = self._reply_s if left_s is None else min(self._reply_s, left_s)
        started = time.monotonic()
        failure = "stopped"
        with billed(lambda: has_room(self._under_way())) as bill:
            self._bills.append(bill)
            try:
                reply = await until_stopped(question, self._stop, allowed)
                self._files.save_reply(key, reply)
                failure = ""
            except (AgentError, OutOfTime) as error:
                failure = type(error).__name__
                raise
            finally:
                self._count(
                    Replied(
                        key=f"replied:{kind.__name__.lower()}:{key}"
                        + (f":{time.time_ns()}" if failure else ""),
                        role=kind.__name__.lower(),
                        reply="" if failure else key,
                        seconds=round(time.monotonic() - started, 3),
                        failure=failure,
                        round=round_number,
                        attempt_id=attempt_id,
                    ),
                    bill,
                )
        return reply

    def _under_way(self) -> Spend:
        """Return what the questions that are not answered yet have cost."""
        return sum((bill.total for bill in self._bills), Spend())

    def _count(self, event: Replied, bill: Bill) -> None:
        """Log what a question cost, also one that was broken off: what was sent is paid for.

        What a team spent without a bill since the last count is added; lanes that overlap share
        that total rightly.
        """
        on_bills = sum((open_bill.total for open_bill in self._bills), self._billed)
        unbilled = self._team.spend() - on_bills
        cost = bill.total + (unbilled - self._counted)
        self._counted = unbilled
        self._bills.remove(bill)
        self._billed += bill.total
        if event.failure == "stopped" and not cost.calls:
            return
        self._files.events.append(
            event.model_copy(
                update={
                    "tokens": cost.input_tokens + cost.output_tokens,
                    "usd": cost.usd,
                    **{name: getattr(cost, name) for name in _TOLD},
                }
            )
        )


_TOLD = (
    "calls",
    "input_tokens",
    "cached_tokens",
    "stored_tokens",
    "repeated_tokens",
    "output_tokens",
    "waits",
    "waited_s",
)
