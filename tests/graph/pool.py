"""A deterministic pool: the text of a candidate says how its jobs end.

Directives in the first source of a candidate, anywhere in it:
    us=80            what one call takes (baselines carry theirs as well)
    build=fail       the compiler refuses it
    check=fail       it is wrong
    bench=fail       it answers stale results when timed
    lost=N           its first N jobs of every kind come back unserved and retryable
"""

import asyncio
import re
from collections import Counter
from pathlib import Path

from gpu_runner.candidate import Candidate
from gpu_runner.facts import Facts, Roofline
from gpu_runner.jobs import (
    Admit,
    AnyJob,
    AnyOutcome,
    Bench,
    Benched,
    Build,
    Built,
    Check,
    Checked,
    Profile,
    Profiled,
    Reason,
    Rejected,
    Sanitize,
    Sanitized,
    Stage,
    Unfit,
    Unserved,
)
from gpu_runner.records import Environment
from tests.graph.builders import DIGEST, make_admitted, make_environment, make_record


class ScenarioPool:
    """Implements `JobPool`; remembers every job that it was really given.

    A bench says that it took `side_s` for each side of each sitting, whatever it took.
    """

    def __init__(self, *, unfit: str = "", delay_s: float = 0.0, side_s: float = 0.01) -> None:
        self.unfit = unfit
        self.side_s = side_s
        self.delay_s = delay_s
        self.ran: list[AnyJob] = []
        self.is_closed = False
        self._lost: Counter[str] = Counter()

    async def run(self, job: AnyJob) -> AnyOutcome:
        await asyncio.sleep(self.delay_s)
        self.ran.append(job)
        if isinstance(job, Admit):
            if self.unfit:
                return Unfit(job_id=job.job_id, message=self.unfit)
            return make_admitted(job.job_id)
        lost = int(_value(job.candidate, "lost") or 0)
        base = job.job_id.rpartition("-")[0]
        if self._lost[base] < lost:
            self._lost[base] += 1
            return Unserved(
                job_id=job.job_id, cause="runner_lost", message="worker gone", is_retryable=True
            )
        outcome = _outcome(job)
        if isinstance(outcome, Benched):
            sides = len(outcome.record.sittings) * (1 + len(outcome.record.against))
            return outcome.model_copy(update={"seconds": sides * self.side_s})
        return outcome

    async def environment(self) -> Environment:
        return make_environment()

    async def close(self) -> None:
        self.is_closed = True


def execute(job: AnyJob, workspace: Path) -> AnyOutcome:
    """Answer a job in a worker's child: the executor `tests.graph.pool:execute`."""
    return asyncio.run(ScenarioPool().run(job))


def _outcome(job: AnyJob) -> AnyOutcome:  # noqa: PLR0911 - one return a kind of job
    match job:
        case Build():
            if _value(job.candidate, "build") == "fail":
                return _rejected(job, Stage.BUILD, Reason.COMPILE_FAILED, "error: expected ';'")
            return Built(
                job_id=job.job_id,
                artefact_digest=DIGEST,
                compiler="g++",
                seconds=0.1,
                is_cached=False,
            )
        case Check():
            if _value(job.candidate, "check") == "fail":
                return _rejected(job, Stage.CHECK, Reason.WRONG_RESULT, "printed by the candidate")
            return Checked(job_id=job.job_id, cases=9, worst_error=0.2, rms_ratio=1.0, seconds=0.2)
        case Bench():
            return _benched(job)
        case Profile():
            return Profiled(job_id=job.job_id, facts=_facts(job), seconds=0.1)
        case Sanitize():
            return Sanitized(job_id=job.job_id, tools=("asan",), seconds=0.1)
        case _:
            raise AssertionError(job.kind)


def _benched(job: Bench) -> AnyOutcome:
    if _value(job.candidate, "bench") == "fail":
        return _rejected(job, Stage.BENCH, Reason.STALE_RESULT, "")
    record = make_record(
        float(_value(job.candidate, "us") or 100.0),
        {side.name: float(_value(side.candidate, "us") or 100.0) for side in job.against},
        sittings=job.plan.sittings,
        workloads=job.workloads,
        plan=job.plan,
        candidate_digest=job.candidate.digest,
    )
    return Benched(job_id=job.job_id, record=record, seconds=0.3)


def _facts(job: Profile) -> Facts:
    roofs = tuple(
        Roofline(
            workload=workload.name,
            time_us=float(_value(job.candidate, "us") or 100.0),
            required_bytes=4096,
            required_flops=8192.0,
            bandwidth_bytes_per_s=1e10,
            peak_flops_per_s=1e10,
            floor_us=40.0,
            fraction_reached=40.0 / float(_value(job.candidate, "us") or 100.0),
            bound="memory",
        )
        for workload in job.workloads
    )
    return Facts(tier="cpu", roofline=roofs)


def _rejected(job: AnyJob, stage: Stage, reason: Reason, log: str) -> Rejected:
    return Rejected(
        job_id=job.job_id, stage=stage, reason=reason, message=f"{stage.value} failed", log_tail=log
    )


def _value(candidate: Candidate, name: str) -> str:
    found = re.search(rf"\b{name}=([\w.]+)", candidate.sources[0].text)
    return found[1] if found else ""
