"""What every provider's model is beside a `ChatModel`: it can be surveyed, and adopts the finding.

Also the two things that all of them do alike: keep a key out of what is said, and tell a failure
that waiting cures from one that it does not.
"""

from collections.abc import Mapping
from typing import Protocol

from agents.errors import ModelBusy, ModelError, ModelRefused
from agents.model import ChatModel
from agents.providers.survey import Survey

_LONGEST_MESSAGE = 500
_SHORTEST_KEY = 4
"""A shorter one is no key, and replacing it would garble every message."""
_BUSY = frozenset({408, 409, 425, 429})
_LIMIT = 429
_FIRST_ERROR = 400
_FIRST_SERVER_ERROR = 500


class SurveyedModel(ChatModel, Protocol):
    """A model of a provider."""

    async def survey(self, *, is_thorough: bool) -> Survey:
        """Ask the server what it can do, and keep to the finding from now on.

        Args:
            is_thorough: ask for tools and schemas too, which takes two more short answers.

        Returns:
            The finding; a server that fails is told in its `fault`.
        """
        ...


def scrubbed(text: str, key: str) -> str:
    """Return a provider's words without the key, which some of them repeat; cut to a length."""
    told = text.replace(key, "(the key)") if len(key) >= _SHORTEST_KEY else text
    return told[:_LONGEST_MESSAGE]


def of_status(what: str, status: int, headers: Mapping[str, str]) -> ModelError:
    """Return our error for a status of HTTP; one below 400 broke off after it had begun well."""
    if _FIRST_ERROR <= status < _FIRST_SERVER_ERROR and status not in _BUSY:
        return ModelRefused(what)
    return ModelBusy(what, is_limit=status == _LIMIT, retry_after_s=retry_after_s(headers))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return when to come back, seconds; None where it is not said, or said as a date."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if seconds >= 0:
            return seconds
    return None
