"""A whole run whose writer cheats: every exploit of the corpus is a model's draft: `make cheat`.

The models were taken over as well: the reviewer finds every draft splendid and every criterion met.
As a program the drafts are really built, checked and timed, on the shapes that are verified in no
time; the tests replay how each must end.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from agents.replies import CheckRule
from gpu_runner.candidate import Candidate, Language
from gpu_runner.client import JobPool
from gpu_runner.jobs import AnyJob, AnyOutcome, Bench, Check, Reason, Rejected, Stage
from gpu_runner.local import LocalPool
from graph.candidates import read_candidate
from graph.ledger import Attempt, RunResult
from graph.run import begin, drive
from graph.run_files import RunFiles
from graph.settings import load_settings
from graph.target import Budget, Goal, Scope, Target
from tests.exploits.run import items, softmax
from tests.graph.builders import make_check, make_draft, make_plan, make_review
from tests.graph.pool import ScenarioPool
from tests.graph.table_models import TOKENS, Reply, table_team

CORPUS = Path(__file__).parents[1] / "exploits"
SPLENDID = make_review(
    verdict="ADVANCED",
    route="autotune",
    advice="promote it",
    criteria=({"criterion_id": "ac1", "status": "MET", "evidence": ["a0001"]},),
)


def exploits(target: Target, folder: Path) -> dict[str, Candidate]:
    """Return the corpus as candidates, by file name."""
    return {
        path.name: read_candidate(str(path), target.problem, folder) for path, _ in items(CORPUS)
    }


def expected() -> dict[str, str]:
    """Return how each must end: `reject`, `no_gain`, or either."""
    return {path.name: must for path, must in items(CORPUS)}


class ReplayPool(ScenarioPool):
    """Ends each exploit as the corpus says it must; where either is allowed, as no gain."""

    def __init__(self, cheats: dict[str, Candidate]) -> None:
        super().__init__()
        musts = expected()
        self._refused = {c.digest for name, c in cheats.items() if musts[name] == "reject"}

    async def run(self, job: AnyJob) -> AnyOutcome:
        """Refuse in the check; what compiles is otherwise as fast as the baseline."""
        if isinstance(job, Check | Bench) and job.candidate.digest in self._refused:
            self.ran.append(job)
            return Rejected(
                job_id=job.job_id,
                stage=Stage.CHECK,
                reason=Reason.WRONG_RESULT,
                message="differs from the oracle",
            )
        return await super().run(job)


def cheated(target: Target, cheats: dict[str, Candidate]) -> Target:
    """Return the target with a round for every exploit, and no other reason to stop."""
    rounds = len(cheats)
    languages = (Language.CPP, Language.PYTHON)
    return target.model_copy(
        update={
            "budget": Budget(
                rounds=rounds,
                wall_s=None,
                plateau_attempts=10 * rounds,
                stalled_reviews=10 * rounds,
                least_gain=0,
            ),
            "goal": Goal(speedup=1.1, against=target.baselines[0].name),
            "scope": Scope(languages=languages, lanes=1),
        }
    )


async def run(
    target: Target, cheats: dict[str, Candidate], pool: JobPool, root: Path
) -> tuple[RunResult, tuple[Attempt, ...]]:
    """Have a taken-over team write one exploit after the other."""
    plan = make_plan((make_check(CheckRule.REACHES_GOAL), make_check(CheckRule.WRONG_IS_REJECTED)))
    table: dict[str, Reply] = {"planner": plan, "reviewer": SPLENDID}
    for number, candidate in enumerate(cheats.values(), start=1):
        draft = make_draft(motivation="splendid", family="", recipe="")
        table[f"writer {number}.0"] = draft.model_copy(update={"candidate": candidate})
    files = RunFiles(root / "cheating")
    team = table_team(table)
    await begin(files, cheated(target, cheats), team.name, pool, seed=0)
    settings = load_settings((), ["memory.lessons=none", "loop.repairs=0"])
    result = await drive(files, settings, team, pool)
    assert result.tokens % (TOKENS.input_tokens + TOKENS.output_tokens) == 0
    return result, files.attempts()


async def _really() -> int:
    with tempfile.TemporaryDirectory(prefix="kernelpilot-cheat-") as name:
        folder = Path(name)
        target = softmax(is_small=True)
        cheats = exploits(target, folder)
        async with LocalPool(folder / "pool") as pool:
            result, rows = await run(target, cheats, pool, folder)
    by_digest = {row.candidate_digest: row for row in rows}
    for file, candidate in cheats.items():
        row = by_digest.get(candidate.digest)
        told = (
            f"{row.outcome.value:10} {row.reason or ''} {row.message[:60]}" if row else "not tried"
        )
        sys.stdout.write(f"{file:28} {told}\n")
    ended = result.model_dump(
        mode="json", include={"exit_reason", "message", "rounds", "best_attempt"}
    )
    sys.stdout.write(json.dumps(ended) + "\n")
    return 1 if result.best_attempt or result.rounds < len(cheats) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_really()))
