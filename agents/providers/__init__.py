"""Providers of language models, one file for each library, imported when it is used."""

from typing import Literal

from pydantic import Field

from agents.errors import ModelRefused
from agents.model import ChatModel
from gpu_runner.message import Message


class ModelPlan(Message):
    """Which model to ask, and within what limits; the key is passed beside it, never in it."""

    provider: Literal["anthropic", "openai"]
    """`openai` is any server that speaks its chat completions: set `base_url`."""
    model: str
    base_url: str = ""
    """Empty: the provider's own."""
    timeout_s: float = Field(default=300.0, gt=0)
    """Longest silence: until the first and between any two pieces of an answer."""
    retries: int = Field(default=2, ge=0)
    """Tries after the first, inside the library, which honours Retry-After."""
    most_tokens: int = Field(default=32_000, ge=1)
    """Length of one answer."""
    input_usd_per_million: float = Field(default=0.0, ge=0)
    output_usd_per_million: float = Field(default=0.0, ge=0)

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        """Return what so many tokens cost; 0 where no price was configured."""
        paid = (
            input_tokens * self.input_usd_per_million + output_tokens * self.output_usd_per_million
        )
        return paid / 1e6


def connect(plan: ModelPlan, *, key: str) -> ChatModel:
    """Return a model; nothing is sent before it is asked.

    Args:
        plan: which one.
        key: the provider's key; may be empty for servers that want none.

    Raises:
        ModelRefused: the library is not installed, or a key is missing; names what to do.
    """
    try:
        if plan.provider == "anthropic":
            from agents.providers.anthropic import AnthropicModel  # noqa: PLC0415 - 2 s to import

            return AnthropicModel(plan, key=key)
        from agents.providers.openai import OpenAIModel  # noqa: PLC0415 - 2 s to import
    except ImportError as error:
        raise ModelRefused(
            f"provider {plan.provider!r}: {error}; install it with pip install 'kernelpilot[run]'"
        ) from error
    return OpenAIModel(plan, key=key)
