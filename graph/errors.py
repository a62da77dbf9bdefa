"""Exceptions of this package: what a user can put right, each with the remedy in its message.

GraphError
├── TargetError        a target file is missing, malformed or contradicts itself
├── SettingsError      a configuration key or value is wrong
├── RunError           a run directory cannot be used
│   ├── RunNotFound        no run of that name
│   ├── RunDamaged         a file of the run is unreadable
│   ├── RunTooNew          written by a later version
│   └── RunLocked          another process holds the run
├── ShipFailed         the standalone repository cannot be written
├── ControlRefused     what a user said to a run cannot be of it
├── EvaluationError    what `evaluate` was given cannot be evaluated
├── KernelNotFound     a profiler report has no such kernel
├── DigestUnwritten    the page of a digest cannot be written
├── RunStopped         the user cancelled; what was under way is abandoned and can be resumed
│   └── RunPaused          nobody can go on before something outside is put right; says what
├── OutOfTime          a role did not answer within what the budget leaves it
│   └── OutOfBudget        the tokens or the money of the budget are used up
└── LoopError          the state machine stopped where it must not (our fault)
"""


class GraphError(Exception):
    """Root of this package's exceptions."""


class TargetError(GraphError):
    """A target cannot be read; the message names file, key and remedy."""


class SettingsError(GraphError):
    """A setting is unknown or has a wrong value; the message names the nearest key."""


class RunError(GraphError):
    """A run directory cannot be used."""


class RunNotFound(RunError):
    """No run directory answers to the name."""


class RunDamaged(RunError):
    """A file of the run cannot be read and cannot be repaired."""


class RunTooNew(RunError):
    """The run was written by a later version of this program."""


class RunLocked(RunError):
    """Another process is working on the run."""


class ShipFailed(GraphError):
    """The standalone repository cannot be written; the message says what is missing."""


class ControlRefused(GraphError):
    """What a user said to a run cannot be of it; the message says why."""


class EvaluationError(GraphError):
    """A candidate given on the command line cannot be read."""


class KernelNotFound(GraphError):
    """A profiler report has no kernel of that name; the message lists those it has."""


class DigestUnwritten(GraphError):
    """The page of a digest cannot be written; the message names the file."""


class RunStopped(GraphError):
    """The user cancelled the run."""


class RunPaused(RunStopped):
    """The run waits for something outside to be put right; the message says what."""


class OutOfTime(GraphError):
    """A role did not answer within what the budget leaves it."""

    budget: str = "budget_wall"
    """Value of the ExitReason that says which."""


class OutOfBudget(OutOfTime):
    """Nobody may be asked any more: the tokens or the money are used up."""

    def __init__(self, budget: str) -> None:
        super().__init__(f"nobody is asked any more: {budget} is used up")
        self.budget = budget


class LoopError(GraphError):
    """The state machine ended in a state it must not end in."""
