"""On what terms a job waits: whose it is, how urgent, what it needs, whether it shares. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_runner.candidate import Language
from gpu_runner.envelope import MIDDLE_PRIORITY
from gpu_runner.jobs import Admit, AnyJob, Build

_RUN = re.compile(r"(?P<run>.+?)-(?:r\d+|admit|final|claim)(?:-|$)")
"""Ids begin with the run they belong to; then comes the round, or what is done once a run."""
_COMPILER = {Language.CUDA: "nvrtc", Language.TRITON: "triton"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a worker must offer; jobs of one demand wait in one line."""

    is_shared: bool = False
    """Whether it may run beside others of its kind. What measures or runs a kernel owns the
    device, and with it the worker."""
    need: frozenset[str] = frozenset()
    """Tags a worker must have; without such a worker the job waits."""
    wish: frozenset[str] = frozenset()
    """Tags that follow from the job: workers that have them are the only ones asked as long as
    there is one. Otherwise anybody is, and says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of one job."""

    kind: str = ""
    """Of the job; empty where only a worker knows it."""
    session: str = ""
    """Sessions take turns."""
    priority: int = MIDDLE_PRIORITY
    demand: Demand = Demand()


PLAIN = Terms()
"""Of a job of which nothing is known."""


def terms_of(
    job: AnyJob,
    *,
    session: str | None = None,
    priority: int = MIDDLE_PRIORITY,
    need: Sequence[str] = (),
) -> Terms:
    """Return the terms of a submission."""
    return Terms(
        kind=job.kind,
        session=session or session_of(job.job_id),
        priority=priority,
        demand=Demand(is_shared=isinstance(job, Build), need=frozenset(need), wish=_wishes(job)),
    )


def session_of(job_id: str) -> str:
    """Return the run a job id begins with; the id itself where it names none."""
    found = _RUN.match(job_id)
    return found["run"] if found else job_id


def _wishes(job: AnyJob) -> frozenset[str]:
    if isinstance(job, Admit):
        return frozenset({"gpu"} if job.device == "cuda" else ())
    compiler = _COMPILER.get(job.candidate.language)
    if compiler is None:
        return frozenset()
    return frozenset({compiler} if isinstance(job, Build) else {"gpu"})
