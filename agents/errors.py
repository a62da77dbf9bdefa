"""Exceptions of this package.

AgentError
├── RequestIncomplete  a sentence does not say what has to be known
├── NothingFits      no recipe covers the problem (the run ends `infeasible`)
└── ModelError       a model could not be used
    ├── ModelBusy        rate limit or overload: try again later
    ├── ModelTimeout     no answer in time: try again
    ├── ModelUnavailable busy or silent for longer than its patience: the run pauses
    ├── ModelRefused     wrong key, unknown model, context too long: do not try again
    ├── MalformedReply   the reply did not fit the schema, after every repair turn allowed
    └── Overdrawn        it did not fit, and the budget has no room for a repair
"""


class AgentError(Exception):
    """Root of this package's exceptions."""


class RequestIncomplete(AgentError):
    """A request leaves out what no rule can supply; the message lists all of it."""


class NothingFits(AgentError):
    """No recipe covers the problem; the message names what to configure."""


class ModelError(AgentError):
    """A model could not be used."""


class ModelBusy(ModelError):
    """Rate limit or overload; worth another try later."""

    def __init__(
        self, message: str, *, is_limit: bool = False, retry_after_s: float | None = None
    ) -> None:
        """Take what the provider said.

        Args:
            message: names the model and what was said.
            is_limit: a quota or a rate limit, which waiting cures, however long it takes.
            retry_after_s: when to come back, where the provider says so.
        """
        super().__init__(message)
        self.is_limit = is_limit
        self.retry_after_s = retry_after_s


class ModelTimeout(ModelError):
    """No answer in time; worth another try."""


class ModelUnavailable(ModelError):
    """Busy or silent for longer than its patience; going on later costs no round."""


class ModelRefused(ModelError):
    """The provider will not serve this request; another try would fail alike."""


class MalformedReply(ModelError):
    """The reply did not fit its schema after the allowed repair turns."""


class Overdrawn(ModelError):
    """The reply did not fit its schema, and what is left pays for no repair turn."""
