"""What nodes work with: the live things of one process, given to the graph as its context."""

import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from agents.contexts import RunView
from agents.errors import Overdrawn
from agents.replies import Digest, Draft, Inspection, Plan, Research, Review
from agents.roles import Spend, Team
from gpu_runner.candidate import Contender
from gpu_runner.jobs import AnyJob, AnyOutcome
from gpu_runner.records import TimingPlan
from graph import budget
from graph.asking import Asking
from graph.desk import Desk
from graph.errors import OutOfBudget, RunDamaged
from graph.events import AnyEvent, BudgetWarned, DecisionTaken, StageEnded, StageStarted
from graph.gate import Gate
from graph.ledger import INCUMBENT, Attempt, ExitReason, RunManifest
from graph.library import Library
from graph.meter import COUNTED, JOB, Meter
from graph.run_files import RunFiles
from graph.settings import BenchPlans, JobSettings, LoopSettings
from graph.state import RunState
from graph.steering import Steering
from graph.target import Target
from graph.view import Told, make_view

ReplyT = TypeVar("ReplyT", Plan, Research, Draft, Digest, Review, Inspection)
Phase = Literal["loop", "map", "final"]
"""Later phases may use what earlier ones have to leave for them."""


_AFTER_ROUNDS = frozenset({"inspect", "autotune", "finish"})
"""Stages between rounds once the search is over: of the round that ended."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """One run in one process."""

    manifest: RunManifest
    files: RunFiles
    team: Team
    asking: Asking
    desk: Desk
    meter: Meter
    jobs: JobSettings
    loop: LoopSettings
    bench: BenchPlans
    """Of the target's device."""
    library: Library = field(default_factory=Library)
    steering: Steering
    """What users said to the run."""
    ask_gate: Gate = field(default_factory=Gate)
    job_gate: Gate = field(default_factory=Gate)

    @property
    def target(self) -> Target:
        """The target of the run."""
        return self.manifest.target

    # -- what the run has ------------------------------------------------------------------------

    def attempt(self, attempt_id: str) -> Attempt:
        """Return a row of the ledger.

        Raises:
            RunDamaged: the checkpoint knows the row and the ledger does not.
        """
        for attempt in self.files.attempts():
            if attempt.attempt_id == attempt_id:
                return attempt
        raise RunDamaged(
            f"{self.files.root / 'attempts.jsonl'} has lost its row {attempt_id}; delete "
            "checkpoints.sqlite beside it: the loop then writes it again from its outcomes"
        )

    def incumbent(self, state: RunState) -> Contender | None:
        """Return the incumbent as a side of a comparison."""
        if not state["incumbent"]:
            return None
        attempt = self.attempt(state["incumbent"])
        return Contender(
            name=INCUMBENT,
            version=attempt.version,
            candidate=self.files.candidate(attempt.candidate_digest),
        )

    def view(self, state: RunState) -> RunView:
        """Return what every role may see of the run."""
        told = Told(
            hints=self.steering.hints,
            vetoed=self.steering.vetoed,
            lessons=self.files.lessons() or (),
        )
        return make_view(self.manifest, self.files.attempts(), state, told)

    # -- what the run may use --------------------------------------------------------------------

    def spent(self, state: RunState) -> budget.Spent:
        """Return what is used up; rounds are those that ended."""
        return self.meter.spent(state["round"] - 1)

    def bench_s(self, state: RunState, plan: TimingPlan, contenders: int) -> float:
        """Estimate a bench job from those before it; 0 where there were none."""
        return budget.bench_s(self.meter.pace(state["round"] - 1), plan.sittings, contenders)

    def final_s(self, state: RunState) -> float:
        """Estimate the final claims against every baseline."""
        baselines = len(self.target.baselines)
        estimate = budget.final_s(
            self.meter.pace(state["round"] - 1), self.bench.claim.sittings, baselines
        )
        compiling_s = 0.0
        if self.target.hardware.device == "cuda":
            compiling_s = self.loop.compile_expected_s * (baselines - 1)
        return (estimate or self.loop.claim_expected_s) + compiling_s

    def reserve_s(self, state: RunState, promoted: int | None = None) -> float:
        """Return the seconds kept back for the end of the run."""
        return budget.reserve(
            self.target.budget,
            state["promoted"] if promoted is None else promoted,
            self.final_s(state),
            self.bench_s(state, self.bench.claim, 1),
        )

    def useful_s(self, state: RunState) -> float:
        """Return what a round needs at least: feedback of its lanes and one claim."""
        pace = self.meter.pace(state["round"] - 1)
        feedback_s = self.bench_s(state, self.bench.feedback, 1) * self.target.scope.lanes
        claim_s = self.bench_s(state, self.bench.claim, 1)
        return max(pace.round_s / 2, feedback_s + claim_s)

    def time_left(self, state: RunState, wanted_s: float, phase: Phase = "loop") -> float | None:
        """Cut a timeout to what is left beside what later phases need; None: too little."""
        limits = self.target.budget
        keep_s = budget.closing(limits)
        if phase == "loop":
            keep_s = self.reserve_s(state)
        elif phase == "map":
            keep_s += self.final_s(state)
        keep_job_s = budget.job_reserve(limits, keep_s)
        return budget.job_timeout(wanted_s, limits, self.spent(state), keep_s, keep_job_s)

    def timing(
        self,
        plan: TimingPlan,
        state: RunState,
        seconds: float | None,
        contenders: int,
        share: float = 1,
    ) -> TimingPlan:
        """Fit a timing plan into what is left, on the target's number of threads.

        Args:
            plan: what would be measured with time to spare.
            state: of the run.
            seconds: of `time_left`.
            contenders: sides to compare with.
            share: how many times this job's time has to fit into `seconds`.
        """
        fitted = budget.fit_plan(
            plan,
            (seconds or budget.LEAST_JOB_S) / share,
            contenders * len(self.target.public),
            self.bench_s(state, plan, contenders) / plan.sittings,
        )
        return fitted.model_copy(update={"threads": self.target.hardware.threads})

    def wall_left_s(self, state: RunState) -> float | None:
        """Return the seconds that roles may take beside the reserve; None: no limit."""
        limits = self.target.budget
        if limits.wall_s is None:
            return None
        return max(0.1, limits.wall_s - self.meter.elapsed_s() - self.reserve_s(state))

    async def run(
        self, job: AnyJob, state: RunState, attempt_id: str = "", phase: Phase = "loop"
    ) -> AnyOutcome:
        """Run a job within the budget; see `Desk.run`."""
        limits = self.target.budget

        def fits(jobs: int) -> bool:
            if limits.gpu_s is None or job.kind not in COUNTED:
                return True
            dearest = self.meter.dearest(JOB)
            alone = limits.model_copy(update={"tokens": None, "usd": None})
            return budget.overlap_fits(alone, self.spent(state), dearest, jobs)

        async with self.job_gate.passing(fits):
            return await self.desk.run(
                job,
                time_left=lambda wanted_s: self.time_left(state, wanted_s, phase),
                attempt_id=attempt_id,
            )

    async def ask(
        self,
        kind: type[ReplyT],
        key: str,
        question: Coroutine[Any, Any, ReplyT],
        state: RunState,
        attempt_id: str = "",
    ) -> ReplyT:
        """Ask a role within the budget; see `Asking.ask`.

        Raises:
            OutOfBudget: tokens or money are used up, or what is left is kept for the review.
        """
        limits = self.target.budget
        alone = limits.model_copy(update={"gpu_s": None})
        is_last_word = kind is Review or kind is Inspection
        keep = budget.Dearest() if is_last_word else self.review_price()

        def fits(calls: int) -> bool:
            dearest = self.meter.dearest(kind.__name__.lower())
            spent = self.spent(state)
            kept = {"tokens": spent.tokens + keep.tokens, "usd": spent.usd + keep.usd}
            return budget.overlap_fits(alone, spent.model_copy(update=kept), dearest, calls)

        def used_up(under_way: Spend) -> ExitReason | None:
            spent = self.spent(state)
            under_way_tokens = under_way.input_tokens + under_way.output_tokens
            costs = {"tokens": spent.tokens + under_way_tokens, "usd": spent.usd + under_way.usd}
            return budget.unaffordable(limits, spent.model_copy(update=costs), keep)

        try:
            async with self.ask_gate.passing(fits):
                before = used_up(Spend())
                if before is not None and self.files.reply(kind, key) is None:
                    raise OutOfBudget(before.value)
                left_s = self.wall_left_s(state)
                return await self.asking.ask(
                    kind,
                    key,
                    question,
                    left_s=left_s,
                    has_room=lambda under_way: used_up(under_way) is None,
                    # The final kernel is read after the round that found it.
                    round_number=state["round"] - (kind is Inspection),
                    attempt_id=attempt_id,
                )
        except Overdrawn as error:
            after = used_up(Spend()) or ExitReason.BUDGET_TOKENS
            raise OutOfBudget(after.value) from error
        finally:
            question.close()
            self.warn(state)

    def review_price(self) -> budget.Dearest:
        """Return the most that a review has cost: a round without one promotes nothing."""
        return self.meter.dearest("review")

    def warn(self, state: RunState) -> None:
        """Log, once for each, the budgets of which four fifths are used."""
        found = budget.warnings(self.target.budget, self.spent(state))
        for name, (used, limit) in found.items():
            key = f"budget_warned:{name}"
            self.tell(BudgetWarned(key=key, budget=name, used=round(used, 6), limit=limit))

    # -- what the run says -----------------------------------------------------------------------

    def job_id(self, *parts: object) -> str:
        """Return the id of a job: the run and what it is for, the same after every resumption."""
        return "-".join((self.manifest.run_id, *(str(part) for part in parts)))

    def tell(self, event: AnyEvent) -> None:
        """Log an event."""
        self.files.events.append(event)

    def decide(
        self,
        subject: str,
        choice: str,
        reason: str,
        *,
        at: object,
        evidence: tuple[str, ...] = (),
    ) -> str:
        """Log a decision that no measurement record says; return the event's key.

        Args:
            subject: what is decided.
            choice: the answer, one word where possible.
            reason: one sentence.
            at: makes the key unique, the same after a resumption.
            evidence: ids of records, attempts or jobs.
        """
        key = f"decision:{subject}:{at}"
        self.tell(
            DecisionTaken(key=key, subject=subject, choice=choice, reason=reason, evidence=evidence)
        )
        return key

    @asynccontextmanager
    async def stage(self, name: str, state: RunState, at: object = "") -> AsyncIterator[None]:
        """Log the beginning and the end of a node's work; hear what users said before it."""
        self.steering.take()
        self.warn(state)
        is_after = state["exit_reason"] and name in _AFTER_ROUNDS
        number = state["round"] - 1 if is_after else state["round"]
        key = f"{name}:{number}:{at}"
        self.tell(StageStarted(key=f"stage_started:{key}", stage=name, round=number))
        started = time.monotonic()
        yield
        seconds = round(time.monotonic() - started, 3)
        self.tell(
            StageEnded(key=f"stage_ended:{key}", stage=name, round=state["round"], seconds=seconds)
        )
