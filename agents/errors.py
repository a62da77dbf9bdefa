"""Exceptions of this package.

AgentError
├── RequestIncomplete  a sentence does not say what has to be known
├── NothingFits      no recipe covers the problem (the run ends `infeasible`)
└── ModelError       a model could not be used
    ├── ModelBusy        rate limit or overload: try again later
    ├── ModelTimeout     no answer in time: try again
    ├── ModelRefused     wrong key, unknown model, context too long: do not try again
    └── MalformedReply   the reply did not fit the schema, after every repair turn allowed
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


class ModelTimeout(ModelError):
    """No answer in time; worth another try."""


class ModelRefused(ModelError):
    """The provider will not serve this request; another try would fail alike."""


class MalformedReply(ModelError):
    """The reply did not fit its schema after the allowed repair turns."""
