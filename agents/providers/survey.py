"""What a server can do, found by asking it: the finding of one model, in a line. Nouns only."""

from typing import Any

from pydantic import Field

from gpu_runner.message import Message

QUESTION = 'Answer with this JSON object and nothing else: {"word": "ready"}'
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
    "additionalProperties": False,
}
TOOL = "say"
"""The one tool of the survey; it takes SCHEMA."""
TOOL_QUESTION = f"Call the tool {TOOL} with the word ready."


class Survey(Message):
    """What was found of one model; None: it was not asked, or it does not say."""

    provider: str
    model: str
    address: str = ""
    fault: str = ""
    """Why it cannot be used; empty where it can."""
    is_limited: bool = False
    """The fault is a rate limit or a quota, which a run waits for."""
    seconds: float = Field(default=0.0, ge=0)
    """Of the shortest answer."""
    is_streaming: bool | None = None
    """The answer came with a finish reason at its end."""
    has_schema: bool | None = None
    """A JSON schema sent with the request was obeyed."""
    has_tools: bool | None = None
    context_tokens: int | None = None
    is_listed: bool | None = None
    """The server names the model among those it has."""
    is_priced: bool = True

    @property
    def line(self) -> str:
        """The finding in one line."""
        where = f" at {self.address}" if self.address else ""
        if self.fault:
            return f"{self.provider} {self.model}{where}: {self.fault}"
        length = f"{self.context_tokens} tokens" if self.context_tokens else "not said"
        parts = [
            f"answers in {self.seconds:.1f} s",
            f"stream {_word(self.is_streaming)}",
            f"JSON schema {_word(self.has_schema)}",
            f"tools {_word(self.has_tools)}",
            f"context {length}",
            *(["not among the models the server lists"] if self.is_listed is False else []),
            *([] if self.is_priced else ["no price: its dollars count as 0"]),
        ]
        return f"{self.provider} {self.model}{where}: {', '.join(parts)}"


def _word(answer: bool | None) -> str:  # noqa: FBT001 - three answers of one question
    return "not asked" if answer is None else "yes" if answer else "no"
