"""Which model to ask, within what limits, and what it costs. Nouns only."""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from gpu_runner.message import Message

_LOOPBACK = ("http://127.", "http://localhost", "http://[::1]")


class ModelPlan(Message):
    """Which model to ask, and within what limits; the key is passed beside it, never in it."""

    provider: Literal["anthropic", "openai"]
    """`openai` is any server that speaks its chat completions: set `base_url`."""
    model: str
    base_url: str = ""
    """Empty: the provider's own."""
    key_env: str = Field(default="", pattern=r"^([A-Z][A-Z0-9_]*)?$")
    """Environment variable that holds the key; empty: the provider's usual one."""
    timeout_s: float = Field(default=300.0, gt=0)
    """Longest silence: until the first and between any two pieces of an answer."""
    answer_s: float = Field(default=3600.0, gt=0)
    """Longest answer, from request to last piece."""
    retries: int = Field(default=2, ge=0)
    """Tries after the first where the provider is busy or silent. 0: no patience at all, neither
    with limits."""
    patience_s: float = Field(default=1800.0, ge=0)
    """Longest wait for a rate limit or a quota to end, before the run pauses."""
    at_once: int = Field(default=0, ge=0)
    """Requests in flight to this endpoint at most; 1 for a server that answers one at a time, so
    that no answer is timed while it queues. 0: no limit."""
    most_tokens: int = Field(default=32_000, ge=1)
    """Length of one answer."""
    context_tokens: int = Field(default=0, ge=0)
    """Length of prompt and answer together; 0: what the server says, else no limit."""
    structured: Literal["auto", "off", "object", "schema"] = "auto"
    """How the answer's schema is enforced by the server; `auto`: as the survey at the start finds
    it. The schema is in the prompt in any case, and every reply is validated here."""
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    """More fields of the request's body: `temperature`, `reasoning_effort`..."""
    input_usd_per_million: float = Field(default=0.0, ge=0)
    output_usd_per_million: float = Field(default=0.0, ge=0)
    cached_usd_per_million: float | None = Field(default=None, ge=0)
    """Input read from the provider's cache; as other input where it is not set."""
    stored_usd_per_million: float | None = Field(default=None, ge=0)
    """Input written to the provider's cache; as other input where it is not set."""

    @model_validator(mode="after")
    def _address_holds_no_secret(self) -> Self:
        if "@" in self.base_url.partition("//")[2].partition("/")[0]:
            msg = "base_url holds a user or a password; name the key's variable in key_env"
            raise ValueError(msg)
        return self

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        return self.base_url.startswith(_LOOPBACK)

    @property
    def is_in_clear(self) -> bool:
        """Whether a key would travel unencrypted over a network."""
        return self.base_url.startswith("http://") and not self.is_local

    @property
    def is_priced(self) -> bool:
        """Whether what it costs is known: a price, or a server on this machine."""
        return self.is_local or self.input_usd_per_million + self.output_usd_per_million > 0

    def usd(
        self,
        input_tokens: int,
        output_tokens: int,
        *,
        cached_tokens: int = 0,
        stored_tokens: int = 0,
    ) -> float:
        """Return what so many tokens cost; 0 where no price was configured.

        Args:
            input_tokens: all that was read, cached and stored ones included.
            output_tokens: written.
            cached_tokens: of the input, read from the provider's cache.
            stored_tokens: of the input, written to it.
        """
        plain = self.input_usd_per_million
        cached = plain if self.cached_usd_per_million is None else self.cached_usd_per_million
        stored = plain if self.stored_usd_per_million is None else self.stored_usd_per_million
        paid = (
            max(0, input_tokens - cached_tokens - stored_tokens) * plain
            + cached_tokens * cached
            + stored_tokens * stored
            + output_tokens * self.output_usd_per_million
        )
        return paid / 1e6
