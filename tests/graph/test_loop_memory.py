"""Two runs in one folder: the second begins with what the first learnt."""

from agents.contexts import WriteContext
from agents.playbook import Playbook
from gpu_runner.jobs import Bench
from graph.events import DecisionTaken, LessonsRecalled
from graph.ledger import ExitReason
from graph.memory import read_lessons
from graph.run import begin, drive
from graph.run_files import RunFiles
from graph.settings import load_settings
from graph.target import Goal, Scope
from graph.targets import load_target
from tests.graph.builders import make_target
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam
from tests.graph.test_loop import NEVER, budget


class DigestPool(ScenarioPool):
    """Times that follow from a candidate's content: the same in every run."""

    async def run(self, job):
        if isinstance(job, Bench):
            us = 40 + int(job.candidate.digest[:2], 16) / 4
            source = job.candidate.sources[0]
            timed = source.model_copy(update={"text": f"{source.text}// us={us:.3f}\n"})
            candidate = job.candidate.model_copy(update={"sources": (timed,)})
            job = job.model_copy(update={"candidate": candidate, "against": _timed(job.against)})
        return await super().run(job)


def _timed(against):
    made = []
    for side in against:
        us = 40 + int(side.candidate.digest[:2], 16) / 4 if side.name == "incumbent" else 100.0
        source = side.candidate.sources[0]
        timed = source.model_copy(update={"text": f"// us={us:.3f}\n{source.text}"})
        candidate = side.candidate.model_copy(update={"sources": (timed,)})
        made.append(side.model_copy(update={"candidate": candidate}))
    return tuple(made)


async def played(tmp_path, name: str, rounds: int, *settings: str):
    files = RunFiles(tmp_path / name)
    target = load_target(
        "softmax", "cpu", {"budget": {"rounds": rounds}, "goal": {"speedup": 50, "kind": "hard"}}
    )
    pool = DigestPool()
    await begin(files, target, "playbook", pool, seed=0)
    return files, await drive(files, load_settings((), settings), Playbook(), pool)


def memory(files) -> LessonsRecalled:
    (found,) = [event for event in files.events.read() if isinstance(event, LessonsRecalled)]
    return found


async def test_a_second_run_opens_with_the_first_ones_best_and_says_so(tmp_path):
    first, ended = await played(tmp_path, "softmax-1", 4)
    assert memory(first).lessons == ()
    best = next(a for a in first.attempts() if a.attempt_id == ended.best_attempt)
    second, _ = await played(tmp_path, "softmax-2", 1)
    told = memory(second)
    assert told.lessons, "it names the lessons"
    opening = second.attempts()[0]
    fast = [one for one in read_lessons(tmp_path / "lessons.jsonl") if one.finding == "fast"]
    assert opening.recipe in {one.recipe for one in fast}
    assert opening.motivation.startswith("recalled l")
    assert best.candidate_digest in {a.candidate_digest for a in second.attempts()} or len(fast) > 2
    followed = [
        event
        for event in second.events.read()
        if isinstance(event, DecisionTaken) and event.subject == "lesson"
    ]
    assert followed[0].choice in told.lessons
    assert followed[0].reason.startswith("a0001 follows it")
    assert followed[0].evidence, "record ids"
    page = (second.root / "report.html").read_text()
    assert "What earlier runs taught" in page
    assert told.lessons[0] in page


async def test_without_memory_nothing_is_kept_or_recalled(tmp_path):
    files, _ = await played(tmp_path, "softmax-1", 1, "memory.lessons=none")
    assert not (tmp_path / "lessons.jsonl").exists()
    assert files.lessons() is None


async def test_a_lesson_never_promotes(tmp_path):
    """The first run found it fast; here it is slow, and that is what counts."""
    goal = Goal(speedup=9.0, against="torch eager")
    target = make_target(budget=budget(rounds=1), goal=goal, scope=Scope(lanes=1))

    async def run(name: str, us: int):
        files, team, pool = RunFiles(tmp_path / name), TableTeam(plan=NEVER), ScenarioPool()
        team.drafts["1.0"] = f"us={us}"
        await begin(files, target, team.name, pool, seed=0)
        return files, team, await drive(files, load_settings(), team, pool)

    _, _, fast = await run("softmax-1", 60)
    assert fast.best_attempt == "a0001"
    files, team, slow = await run("softmax-2", 160)
    shown = [c.view.lessons for c in team.asked if isinstance(c, WriteContext)]
    assert [lesson.finding for lesson in shown[0]] == ["fast"]
    assert (slow.exit_reason, slow.best_attempt) == (ExitReason.BUDGET_ROUNDS, None)
    assert [row.outcome.value for row in files.attempts()] == ["measured"]
