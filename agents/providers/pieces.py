"""Puts a streamed answer together, whatever a server leaves out of it. No library.

Only the last report of tokens counts: some servers send a running total with every piece, which
the client would add up.
"""

from typing import Any

from agents.model import Answer
from agents.providers.plan import ModelPlan
from agents.roles import Spend

_CUT = frozenset({"", "length", "max_tokens", "model_length", "content_filter", "error", "abort"})
"""Finish reasons of answers that are not whole; servers have many words for those that are."""


class Pieces:
    """What came of one answer so far."""

    def __init__(self) -> None:
        """Nothing came."""
        self.count = 0
        self.is_garbled = False
        """A piece came that the client could not read."""
        self._texts: list[str] = []
        self._arguments: list[str] = []
        self._reason = ""
        self._usage: dict[str, Any] = {}

    def add(self, piece: Any) -> None:
        """Add one piece: a message chunk of langchain."""
        self.count += 1
        self._texts.append(str(piece.text))
        for call in getattr(piece, "tool_call_chunks", ()):
            self._arguments.append(str(call.get("args") or ""))
        self._reason = str(piece.response_metadata.get("finish_reason") or self._reason)
        self._usage = dict(getattr(piece, "usage_metadata", None) or self._usage)

    def answer(self) -> Answer:
        """Return the answer: its text, or what a tool was called with where there is none.

        A lone surrogate is no text and becomes a question mark.
        """
        text = "".join(self._texts)
        if not text.strip():
            text = "".join(self._arguments)
        whole = text.encode("utf-8", "replace").decode()
        return Answer(text=whole, is_complete=self._reason not in _CUT and not self.is_garbled)

    def cost(self, plan: ModelPlan, share: float) -> Spend:
        """Return the cost of the answer.

        Args:
            plan: has the prices.
            share: of the prompt, that began an earlier one.
        """
        details = self._usage.get("input_token_details") or {}
        read, written = self._usage.get("input_tokens", 0), self._usage.get("output_tokens", 0)
        cached = min(read, details.get("cache_read") or 0)
        stored = min(read - cached, details.get("cache_creation") or 0)
        return Spend(
            calls=1,
            input_tokens=read,
            cached_tokens=cached,
            stored_tokens=stored,
            repeated_tokens=int(share * read),
            output_tokens=written,
            usd=plan.usd(read, written, cached_tokens=cached, stored_tokens=stored),
        )
