"""A run that could have been: every kind of attempt, two promotions' worth of evidence and more.

Written through `RunFiles` like a real one; measurement records hold a few pairs that fit.
"""

import random
from pathlib import Path

from agents.replies import (
    CriterionStatus,
    Finding,
    Movement,
    Review,
)
from gpu_runner.candidate import Candidate, Language, Source
from gpu_runner.facts import Facts, Roofline
from gpu_runner.jobs import Admitted, Mismatch, Reason, Stage
from gpu_runner.problem import Problem, Workload
from gpu_runner.records import (
    BenchRecord,
    Decision,
    Series,
    Sitting,
    TimingPlan,
)
from graph.events import BudgetRead, DecisionTaken, ProfileRead, StageEnded
from graph.ledger import (
    Attempt,
    AttemptOutcome,
    ExitReason,
    MapPoint,
    Regime,
    RunResult,
    Tuning,
)
from graph.run_files import RunFiles
from tests.graph.synthetic_target import (
    COMPILED,
    EAGER,
    comparison,
    digest,
    make_manifest,
    make_plan,
    make_research,
)

IDEAS = (
    ("three_pass", "Three passes over a row, each a plain loop the compiler can vectorise."),
    ("online", "Fold maximum and sum into one pass so a row is read twice instead of three times."),
    ("poly_exp", "Replace expf calls by a degree-5 polynomial so that the hot loop has no call."),
    ("unroll", "Four independent accumulators hide the latency of the dependent add."),
    ("fast_math", "Let the compiler reorder the reduction; the bound has room for it."),
    ("stream_store", "Non-temporal stores keep the output out of the cache for large rows."),
    ("block_rows", "Blocks of rows share the exponent constants in registers."),
)


class SyntheticRun:
    """Write a run step by step; `finish` ends it."""

    def __init__(self, root: Path, *, seed: int = 1) -> None:
        self.files = RunFiles(root)
        self.manifest = make_manifest()
        self.random = random.Random(seed)
        self.files.write_manifest(self.manifest)
        self.attempts: list[Attempt] = []
        self.incumbent: Attempt | None = None
        self.speedup = 1.0

    @property
    def problem(self) -> Problem:
        return self.manifest.target.problem

    @property
    def workloads(self) -> tuple[Workload, ...]:
        return self.manifest.target.public

    def candidate(self, text: str = "") -> Candidate:
        source = text or f'// attempt {len(self.attempts)}\n#include "problem.h"\n'
        return Candidate(language=Language.CPP, sources=(Source(path="kernel.cpp", text=source),))

    def decision(
        self, candidate: Candidate, against: str, speedup: float, sittings: int
    ) -> Decision:
        """Save a record that fits, and decide by it."""
        each = {w.name: speedup * self.random.uniform(0.8, 1.25) for w in self.workloads}
        record = BenchRecord(
            problem_digest=digest("problem"),
            candidate_digest=candidate.digest,
            against={against: digest(against)},
            workloads=self.workloads,
            plan=TimingPlan(sittings=sittings),
            environment=self.manifest.environment,
            sittings=tuple(self.sitting(n, against, each) for n in range(sittings)),
        )
        spread = 0.05 if sittings == 1 else 0.025
        return Decision(
            against=against,
            record_id=self.files.save_record(record),
            basis="feedback" if sittings == 1 else "claim",
            sittings=sittings,
            clock="cpu",
            margin=0.05,
            confidence=0.995,
            overall=comparison(speedup, spread, self.against_us(against) / speedup),
            workloads={n: comparison(s, 2 * spread, 90.0 / s) for n, s in each.items()},
        )

    def against_us(self, against: str) -> float:
        """What a call of the contender takes: the slowest is torch eager."""
        return {EAGER: 84.0, COMPILED: 52.0}.get(against, 84.0 / self.speedup)

    def sitting(self, index: int, against: str, speedups: dict[str, float]) -> Sitting:
        series = []
        for name, speedup in speedups.items():
            mine = tuple(self.random.uniform(40, 42) for _ in range(4))
            theirs = tuple(value * speedup for value in mine)
            series.append(
                Series(
                    workload=name,
                    against=against,
                    slots=8,
                    candidate_us=mine,
                    against_us=theirs,
                    candidate_cpu_us=mine,
                    against_cpu_us=theirs,
                )
            )
        return Sitting(
            index=index,
            started_at="2030-01-02T03:05:00Z",
            key_digest=digest(f"{index}{self.random.random()}"),
            pressure_percent=4.0,
            verified_outputs=192,
            series=tuple(series),
        )

    def attempt(self, **changes) -> Attempt:
        """Append a row with what every attempt has."""
        number = len(self.attempts) + 1
        recipe, motivation = IDEAS[number % len(IDEAS)]
        candidate = changes.pop("candidate", None) or self.candidate()
        self.files.save_candidate(candidate)
        row = Attempt(
            **{
                "attempt_id": f"a{number:04d}",
                "round": (number + 1) // 2,
                "lane": number % 2,
                "parent": self.incumbent.attempt_id if self.incumbent else None,
                "candidate_digest": candidate.digest,
                "language": "cpp",
                "family": "row_reduction",
                "recipe": recipe,
                "parameters": {"unroll": 4, "vector_bits": 512},
                "motivation": motivation,
                "expected": Movement(metric="speedup", direction="up", factor=1.2),
                "job_ids": (f"run-r{number:03d}-build", f"run-r{number:03d}-check"),
                "seconds": {"build": 1.1, "check": 3.2},
                **changes,
            }
        )
        self.attempts.append(self.files.append_attempt(row))
        return row

    def rejected(self, reason: Reason = Reason.WRONG_RESULT, **changes) -> Attempt:
        mismatch = Mismatch(
            case="wide/normal", output="y", index=(3, 77), actual="0.0132", expected="0.0041"
        )
        return self.attempt(
            **{
                "outcome": AttemptOutcome.REJECTED,
                "stage": Stage.CHECK,
                "reason": reason,
                "message": "output y differs from the float64 oracle; rescale the partial sum",
                "mismatch": mismatch,
                **changes,
            }
        )

    def measured(self, gain: float = 0.97, **changes) -> Attempt:
        candidate = self.candidate()
        against = "incumbent" if self.incumbent else EAGER
        return self.attempt(
            candidate=candidate,
            outcome=AttemptOutcome.MEASURED,
            version="",
            feedback=self.decision(candidate, against, gain, 1),
            **changes,
        )

    def promoted(self, gain: float = 1.3, **changes) -> Attempt:
        candidate = self.candidate()
        against = "incumbent" if self.incumbent else EAGER
        feedback = self.decision(candidate, against, gain * 1.02, 1)
        self.speedup *= gain
        versions = sum(a.outcome is AttemptOutcome.PROMOTED for a in self.attempts)
        row = self.attempt(
            candidate=candidate,
            outcome=AttemptOutcome.PROMOTED,
            version=f"v{versions + 1:03d}",
            feedback=feedback,
            claims=(
                self.decision(candidate, EAGER, self.speedup, 6),
                self.decision(candidate, COMPILED, self.speedup * 0.62, 6),
            ),
            **changes,
        )
        self.incumbent = row
        self.files.save_facts(row.attempt_id, self.facts(0.16 * self.speedup))
        return row

    def facts(self, share: float) -> Facts:
        rows = []
        for index, workload in enumerate(self.workloads):
            needed = self.problem.required_bytes(workload)
            flops = self.problem.required_flops(workload)
            width, peak = (42e9, 61e9) if needed < 2**20 else (11.5e9, 61e9)
            floor = max(needed / width, flops / peak) * 1e6
            reached = min(share * (0.75 + 0.1 * index), 0.96)
            rows.append(
                Roofline(
                    workload=workload.name,
                    time_us=floor / reached,
                    required_bytes=needed,
                    required_flops=flops,
                    bandwidth_bytes_per_s=width,
                    peak_flops_per_s=peak,
                    floor_us=floor,
                    fraction_reached=reached,
                    bound="memory",
                )
            )
        return Facts(tier="cpu", roofline=tuple(rows))

    def replies(self) -> None:
        """Save a plan, a research digest and a review that cite the ledger."""
        evidence = tuple(d.record_id for d in (self.incumbent.claims if self.incumbent else ()))
        ids = (*evidence, *(a.attempt_id for a in self.attempts[:1]))
        review = Review(
            verdict="ADVANCED",
            criteria=(
                CriterionStatus(criterion_id="ac1", status="MET", evidence=ids),
                CriterionStatus(criterion_id="ac2", status="PARTIAL", evidence=("run-admit",)),
            ),
            findings=(Finding(lane="queued", severity=3, text="Small rows leave lanes idle."),),
        )
        self.files.save_reply("r000", make_plan())
        self.files.save_reply("r000", make_research())
        self.files.save_reply("r009", review)

    def log(self) -> None:
        """Write events of every kind that the report reads."""
        events = self.files.events
        for stage, seconds in (("bench", 171.0), ("check", 52.0), ("build", 21.5), ("write", 0.9)):
            events.append(StageEnded(key=f"end-{stage}", stage=stage, round=1, seconds=seconds))
        for row in self.attempts:
            if row.outcome is AttemptOutcome.PROMOTED:
                events.append(
                    ProfileRead(
                        key=f"profile-{row.attempt_id}",
                        attempt_id=row.attempt_id,
                        trigger="promotion",
                        bottleneck="calls_in_loop",
                        next_edit="Inline a polynomial for expf in the second loop.",
                    )
                )
        self.files.save_outcome(
            Admitted(
                job_id="run-admit",
                margins={"torch eager": 9.9},
                caught=("zeros", "lower precision"),
                environment=self.manifest.environment,
            )
        )
        events.append(
            DecisionTaken(
                key="admission",
                subject="admission",
                choice="admitted",
                reason="Three trusted implementations pass with margin; all planted faults caught.",
                evidence=("run-admit",),
            )
        )
        events.append(
            BudgetRead(
                key="budget",
                round=self.attempts[-1].round if self.attempts else 0,
                rounds_left=4,
                wall_left_s=61.0,
                tokens_left=None,
                usd_left=None,
                job_left_s=None,
                job_s=240.0,
            )
        )

    def tuning(self) -> Tuning:
        """Two regimes over the promoted attempts, saved."""
        variants = [a for a in self.attempts if a.outcome is AttemptOutcome.PROMOTED][-2:]
        found = [
            MapPoint(
                workload=w.name,
                attempt_id=v.attempt_id,
                speedup=v.claims[0].workloads[w.name].speedup,
                low=v.claims[0].workloads[w.name].low,
                high=v.claims[0].workloads[w.name].high,
                candidate_us=v.claims[0].workloads[w.name].candidate_us,
                record_id=v.claims[0].record_id,
            )
            for v in variants
            for w in self.workloads
        ]
        names = [w.name for w in self.workloads]
        regimes = (
            Regime(
                guard="N <= 512",
                attempt_id=variants[0].attempt_id,
                workloads=tuple(names[2:5]),
                record_ids=(variants[0].claims[0].record_id,),
                reason="Short rows: the version without the second accumulator starts faster.",
            ),
            Regime(
                guard="1",
                attempt_id=variants[-1].attempt_id,
                workloads=(*names[:2], names[5]),
                record_ids=(variants[-1].claims[0].record_id,),
                reason="Everything else.",
            ),
        )
        tuning = Tuning(
            points=tuple(found),
            regimes=regimes,
            is_trivial=False,
            reason="Two variants win in different regions of W; the crossover is at N = 512.",
            regret=0.006,
        )
        self.files.save_tuning(tuning)
        return tuning

    def finish(self, reason: ExitReason = ExitReason.PLAN_COMPLETE) -> RunResult:
        """Claim the final kernel against both baselines, and end."""
        best = self.incumbent
        claims: tuple[Decision, ...] = ()
        if best is not None:
            candidate = self.files.candidate(best.candidate_digest)
            claims = (
                self.decision(candidate, EAGER, self.speedup * 0.98, 5),
                self.decision(candidate, COMPILED, self.speedup * 0.61, 5),
            )
        result = RunResult(
            run_id=self.manifest.run_id,
            exit_reason=reason,
            message="Every criterion is met." if best else "No attempt was promoted.",
            rounds=self.attempts[-1].round if self.attempts else 0,
            attempts=len(self.attempts),
            wall_s=287.4,
            job_s=271.9,
            best_attempt=best.attempt_id if best else None,
            best=claims,
            report="report.html",
            repository="repo",
        )
        self.files.save_result(result)
        return result


def whole_run(root: Path) -> SyntheticRun:
    """A run of every kind of attempt with four promotions."""
    run = SyntheticRun(root)
    run.rejected(Reason.COMPILE_FAILED, stage=Stage.BUILD, mismatch=None, message="no member 'q'")
    run.promoted(1.42)
    run.measured(0.98)
    run.rejected()
    run.promoted(1.35)
    run.measured(0.91)
    run.attempt(outcome=AttemptOutcome.UNSERVED, stage=Stage.BENCH, message="runner was lost")
    run.promoted(1.18)
    for gain in (0.99, 0.95, 1.01):
        run.measured(gain)
    run.rejected(Reason.TIMED_OUT, mismatch=None, message="no answer in 20 s")
    run.promoted(1.12)
    for gain in (0.97, 1.0, 0.88, 0.99):
        run.measured(gain)
    run.replies()
    run.log()
    return run
