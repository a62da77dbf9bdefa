"""Judges one candidate outside of any run: check, then bench against one contender."""

import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field

from gpu_runner.candidate import Candidate, Contender
from gpu_runner.client import JobPool
from gpu_runner.decision import decide
from gpu_runner.jobs import AnyOutcome, Bench, Benched, Check, Checked, Rejected, Unfit, Unserved
from gpu_runner.message import Message
from gpu_runner.records import BenchRecord, Comparison, TimingPlan, Verdict
from graph.durable import write_bytes
from graph.errors import EvaluationError
from graph.explain import nearest
from graph.settings import JobSettings
from graph.target import Target


class Evaluation(Message):
    """What `evaluate` prints."""

    target: str
    against: str
    candidate_digest: str
    verdict: Verdict
    reason: str
    """A rejection's reason, or the basis of the verdict."""
    message: str = ""
    stage: str = ""
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    sittings: int = 0
    workloads: dict[str, Comparison] = Field(default_factory=dict)
    noise: tuple[str, ...] = ()
    record_id: str = ""

    def words(self) -> str:
        """Return the verdict, the speed-up over W and of each workload, as a person reads them."""
        lines = [f"{self.verdict.value}: {self.reason}"]
        if self.message:
            lines.append(f"  {self.message}")
        if self.speedup is not None:
            lines.append(
                f"  {self.speedup:.3f}x [{self.low:.3f}, {self.high:.3f}] vs {self.against}"
            )
        lines += [
            f"  {name:24} {found.verdict.value:9} {found.speedup:.3f}x "
            f"[{found.low:.3f}, {found.high:.3f}] "
            f"{found.candidate_us:.1f} us vs {found.against_us:.1f} us"
            for name, found in self.workloads.items()
        ]
        lines += [f"  note: {noise}" for noise in self.noise]
        return "\n".join(lines)


def contender_of(target: Target, name: str) -> Contender:
    """Return the baseline of a name; the first one where none is named.

    Raises:
        EvaluationError: the target has no such baseline.
    """
    if not name:
        return target.baselines[0]
    for baseline in target.baselines:
        if baseline.name == name:
            return baseline
    names = [baseline.name for baseline in target.baselines]
    raise EvaluationError(f"no baseline {name!r}{nearest(name, names)}")


class Trial(Message):
    """Who is judged, against whom, and how thoroughly."""

    target: Target
    candidate: Candidate
    against: Contender
    plan: TimingPlan
    is_claim: bool = True
    """Decide as a claim (five sittings or more), else as feedback."""


async def evaluate(
    trial: Trial, pool: JobPool, jobs: JobSettings, records: Path | None = None
) -> Evaluation:
    """Check a candidate over public and hidden workloads, then time it.

    Args:
        trial: what is judged.
        pool: where the jobs run.
        jobs: their timeouts.
        records: where to keep the measurement record; None keeps none.

    Raises:
        EvaluationError: our side could not serve a job.
    """
    token = secrets.token_hex(4)
    outcome = await pool.run(check_of(trial, jobs, f"evaluate-{token}-check"))
    if isinstance(outcome, Checked):
        outcome = await pool.run(bench_of(trial, jobs, f"evaluate-{token}-bench"))
    return judged(trial, outcome, records)


def check_of(trial: Trial, jobs: JobSettings, job_id: str) -> Check:
    """Return the job that says whether a trial's candidate is right."""
    return Check(
        job_id=job_id,
        problem=trial.target.problem,
        timeout_s=jobs.check_s,
        candidate=trial.candidate,
        workloads=trial.target.workloads,
        threads=trial.target.hardware.threads,
    )


def bench_of(trial: Trial, jobs: JobSettings, job_id: str) -> Bench:
    """Return the job that times a trial."""
    return Bench(
        job_id=job_id,
        problem=trial.target.problem,
        timeout_s=jobs.claim_s,
        candidate=trial.candidate,
        against=(trial.against,),
        workloads=trial.target.public,
        hidden=trial.target.hidden,
        plan=trial.plan.model_copy(update={"threads": trial.target.hardware.threads}),
    )


def judged(trial: Trial, outcome: AnyOutcome, records: Path | None = None) -> Evaluation:
    """Return what a trial's last outcome says: of its bench, or of a check that it failed.

    Args:
        trial: what was judged.
        outcome: of the job that ended it.
        records: where to keep the measurement record; None keeps none.

    Raises:
        EvaluationError: our side could not serve the job.
    """
    target, candidate, against = trial.target, trial.candidate, trial.against
    match outcome:
        case Benched():
            if records is not None:
                path = records / f"{outcome.record.record_id}.json"
                write_bytes(path, outcome.record.model_dump_json(indent=1).encode())
            return _measured(trial, outcome.record)
        case Rejected():
            return Evaluation(
                target=target.name,
                against=against.name,
                candidate_digest=candidate.digest,
                verdict=Verdict.REJECTED,
                reason=outcome.reason.value,
                message=outcome.message,
                stage=outcome.stage.value,
            )
        case Unserved():
            raise EvaluationError(
                f"the runner could not serve the job ({outcome.cause}): {outcome.message}"
            )
        case Unfit():
            raise EvaluationError(f"target {target.name!r} cannot judge: {outcome.message}")
        case _:
            raise EvaluationError(f"unexpected outcome {outcome.kind!r} of {outcome.job_id}")


def _measured(trial: Trial, record: BenchRecord) -> Evaluation:
    basis: Literal["claim", "feedback"] = "claim" if trial.is_claim else "feedback"
    decision = decide(record, trial.against.name, basis=basis)
    overall = decision.overall
    return Evaluation(
        target=trial.target.name,
        against=decision.against,
        candidate_digest=trial.candidate.digest,
        verdict=overall.verdict,
        reason=f"{basis} of {decision.sittings} sittings, margin {decision.margin:.0%}",
        speedup=overall.speedup,
        low=overall.low,
        high=overall.high,
        sittings=decision.sittings,
        workloads=dict(decision.workloads),
        noise=decision.noise,
        record_id=decision.record_id,
    )
