"""Counts what a model costs. No clock, no library."""

from agents.roles import Spend


class Meter:
    """Adds up calls and tokens of one model."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._total = Spend()

    def add(self, *, input_tokens: int = 0, output_tokens: int = 0, usd: float = 0.0) -> None:
        """Count one call; a failed one has no tokens that anybody reported."""
        self._total = Spend(
            calls=self._total.calls + 1,
            input_tokens=self._total.input_tokens + input_tokens,
            output_tokens=self._total.output_tokens + output_tokens,
            usd=self._total.usd + usd,
        )

    @property
    def total(self) -> Spend:
        """The sum so far."""
        return self._total
