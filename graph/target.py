"""What the user writes: a Target, concrete for one kind of device. Nouns only.

`targets.py` reads the YAML and explains its errors.
"""

from typing import Literal

from pydantic import Field

from gpu_runner.candidate import Contender, Language
from gpu_runner.message import Message, Name
from gpu_runner.problem import Problem, Workload

BEST = "best"
"""As what a goal is against: every baseline, so that the strongest one decides."""


class Goal(Message):
    """What is enough. `hard` makes a run that misses it end as `plateau` or `budget_*`."""

    speedup: float = Field(default=1.1, gt=0)
    """Low end of the claim's interval must reach this."""
    against: str = "torch eager"
    """Contender name, or `best`: whichever baseline the kernel gains least over."""
    kind: Literal["hard", "trend"] = "trend"
    """`trend`: finishing the plan is enough, the goal is reported."""


class Hardware(Message):
    """Where it is measured."""

    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(default=1, ge=1)
    """Worker threads a candidate and a baseline may use; CPU only."""
    arch: str = ""
    """`sm_90a`; empty: what the runner has."""


class Scope(Message):
    """What may be tried."""

    languages: tuple[Language, ...] = (Language.CPP,)
    lanes: int = Field(default=2, ge=1, le=8)
    """Candidates a round."""


class Budget(Message):
    """Every limit is hard; None: no limit."""

    rounds: int = Field(default=84, ge=1)
    wall_s: float | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, ge=1)
    usd: float | None = Field(default=None, gt=0)
    gpu_s: float | None = Field(default=None, gt=0)
    """Seconds of check, bench and profile jobs together, whatever the device."""
    plateau_attempts: int = Field(default=12, ge=1)
    """Attempts without a promotion before a forced pivot, restart or stop."""
    least_gain: float = Field(default=0.005, ge=0)
    """What the next `plateau_attempts` attempts must promise, as a fraction; less is a plateau
    before its number of attempts is reached. 0: only the number counts."""
    usd_per_percent: float | None = Field(default=None, gt=0)
    """What one percent of speed-up is worth: a round that costs more than it promises is not
    begun. None: nobody said."""
    device_usd_per_hour: float = Field(default=0.0, ge=0)
    """Price of check, bench and profile jobs, beside what models cost."""
    stalled_reviews: int = Field(default=3, ge=2)
    """STALLED process verdicts in a row: one fewer replans, this many stop."""


class Target(Message):
    """Problem, workloads, baselines, hardware, goal, scope and budget."""

    name: Name
    problem: Problem
    workloads: tuple[Workload, ...] = Field(min_length=1)
    """Public and hidden; at least one public."""
    baselines: tuple[Contender, ...] = Field(min_length=1)
    """The first one is what the goal and the dispatcher's fallback refer to."""
    hardware: Hardware = Hardware()
    goal: Goal = Goal()
    scope: Scope = Scope()
    budget: Budget = Budget()

    @property
    def public(self) -> tuple[Workload, ...]:
        """Workloads that writers may see."""
        return tuple(w for w in self.workloads if w.visibility == "public")

    @property
    def hidden(self) -> tuple[Workload, ...]:
        """Workloads that only decide acceptance."""
        return tuple(w for w in self.workloads if w.visibility == "hidden")
