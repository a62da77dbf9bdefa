"""Candidates of a target judged on a machine that cannot be reached: all jobs go out at once.

    <runs>/.batches/<name>/batch.json                what is judged
                           pending/ spool/ ...       its exchange folder
                           records/<record_id>.json  what was measured

A check does not wait for the admission nor a bench for its check, so one journey is enough; a
bench of a candidate that is wrong ends as rejected, at its first verified output.
"""

from pathlib import Path

from pydantic import ValidationError

from gpu_runner.archive_exchange import Exchange
from gpu_runner.candidate import Candidate
from gpu_runner.jobs import Admit, AnyJob, Checked, Unfit
from gpu_runner.message import JobId, Message
from gpu_runner.records import TimingPlan
from graph.archive import BATCH, Origin, batch_folder
from graph.durable import write_bytes
from graph.errors import EvaluationError, RunDamaged
from graph.evaluate import Evaluation, Trial, bench_of, check_of, judged
from graph.settings import JobSettings
from graph.target import Target


class Batch(Message):
    """What is judged, and how thoroughly."""

    name: JobId
    target: Target
    candidates: dict[str, Candidate]
    """By the names that the user gave them."""
    plan: TimingPlan
    jobs: JobSettings

    def trials(self, candidate: Candidate) -> tuple[Trial, ...]:
        """Return the comparisons of a candidate: one for each baseline."""
        return tuple(
            Trial(target=self.target, candidate=candidate, against=against, plan=self.plan)
            for against in self.target.baselines
        )

    def admission(self) -> Admit:
        """Return the job that says whether the target may be judged by at all."""
        return Admit(
            job_id=f"{self.name}-admit",
            problem=self.target.problem,
            timeout_s=self.jobs.admit_s,
            workloads=self.target.workloads,
            baselines=self.target.baselines,
            threads=self.target.hardware.threads,
        )

    def all_jobs(self) -> tuple[AnyJob, ...]:
        """Return every job of the batch."""
        jobs: list[AnyJob] = [self.admission()]
        for number, candidate in enumerate(self.candidates.values()):
            trials = self.trials(candidate)
            jobs.append(check_of(trials[0], self.jobs, self._check_id(number)))
            for rival, trial in enumerate(trials):
                jobs.append(bench_of(trial, self.jobs, self._bench_id(number, rival)))
        return tuple(jobs)

    def judge(self, exchange: Exchange, records: Path) -> "BatchVerdict":
        """Read the batch's outcomes; keep the measurement records."""
        admission = exchange.outcome(self.admission())
        if isinstance(admission, Unfit):
            raise EvaluationError(f"target {self.target.name!r} cannot judge: {admission.message}")
        found: dict[str, tuple[Evaluation, ...]] = {}
        notes: list[str] = []
        for number, (label, candidate) in enumerate(self.candidates.items()):
            judgements = []
            for rival, trial in enumerate(self.trials(candidate)):
                try:
                    judgement = self._judge(exchange, records, trial, number, rival)
                except EvaluationError as error:
                    why = str(error).partition("\n")[0]
                    notes.append(f"{label} vs {trial.against.name}: {why}")
                else:
                    judgements.append(judgement)
            found[label] = tuple(judgements)
        return BatchVerdict(evaluations=found, notes=tuple(notes))

    def _judge(
        self, exchange: Exchange, records: Path, trial: Trial, number: int, rival: int
    ) -> Evaluation:
        outcome = exchange.outcome(check_of(trial, self.jobs, self._check_id(number)))
        if isinstance(outcome, Checked):
            outcome = exchange.outcome(bench_of(trial, self.jobs, self._bench_id(number, rival)))
        if outcome is None:
            raise EvaluationError("its results have not come yet")
        return judged(trial, outcome, records)

    def _check_id(self, number: int) -> JobId:
        return f"{self.name}-c{number}-check"

    def _bench_id(self, number: int, rival: int) -> JobId:
        return f"{self.name}-c{number}-bench-{rival}"


class BatchVerdict(Message):
    """What the outcomes that are there say."""

    evaluations: dict[str, tuple[Evaluation, ...]]
    """By candidate; one for each baseline."""
    notes: tuple[str, ...]
    """What could not be judged, and why."""

    def words(self) -> str:
        """Return the verdicts as a person reads them."""
        lines = []
        for label, evaluations in self.evaluations.items():
            lines += [f"{label} vs {found.against}: {found.words()}" for found in evaluations]
        return "\n".join([*lines, *(f"not judged: {note}" for note in self.notes)])


def make_batch(batch: Batch, runs: Path) -> Origin:
    """Put the jobs of a batch into an exchange folder of its own."""
    folder = batch_folder(batch.name, runs)
    exchange = Exchange(folder)
    write_bytes(folder / BATCH, batch.model_dump_json(indent=1).encode())
    for job in batch.all_jobs():
        exchange.put(job)
    return Origin(batch.name, exchange)


def read_batch(folder: Path) -> Batch | None:
    """Return the batch of a folder; None where it holds none.

    Raises:
        RunDamaged: it cannot be read.
    """
    path = folder / BATCH
    try:
        return Batch.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        raise RunDamaged(f"{path} cannot be read; export the batch again") from error
