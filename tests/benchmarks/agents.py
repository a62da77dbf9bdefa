"""What models cost a run: tokens a round by role, what a cache could serve, time outside of them.

The real clients, team, prompts and loop, against the loopback server. Replies take `--reply-s`
and jobs `--job-s`: ten seconds are 800 tokens, a short kernel, at 80 a second. Time is the model's
from a request's arrival to its answer's beginning, and a job's while the pool has it. What is left
is ours: prompts, clients, reading, ledger, checkpoints, and the server's own work. The first round,
which imports the clients, is not counted::

    python -m tests.benchmarks.agents --rounds 8
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_runner.jobs import AnyJob, AnyOutcome
from gpu_runner.message import Message
from graph.events import AnyEvent, BudgetRead, Replied
from graph.run import begin, drive
from graph.run_files import RunFiles
from graph.settings import load_settings
from graph.target import Budget, Goal, Scope
from tests.agents.model_server import ModelServer, Say, model_server
from tests.graph.builders import make_draft, make_target
from tests.graph.model_run import Roles, make_models, prompt_of
from tests.graph.pool import ScenarioPool
from tests.graph.test_loop import NEVER

MOST_OVERHEAD = 0.02
LEAST_SHARE = 0.5
_CHARACTERS_A_TOKEN = 4
_ROLES = {
    "plan": "planner",
    "research": "researcher",
    "draft": "writer",
    "digest": "profiler",
    "review": "reviewer",
    "inspection": "reviewer of the final kernel",
}
Interval = tuple[float, float]


class RoleCost(Message):
    """Of one role, over the run."""

    questions: int
    input_tokens_a_round: float
    output_tokens_a_round: float
    cached_share: float
    """Of the input, what began an earlier prompt to the same model; first questions included."""


class Figures(Message):
    """Of one run."""

    rounds: int
    wall_s: float
    """From the first round's end to the last one's."""
    models_s: float
    jobs_s: float
    overhead_s_a_round: float
    processor_s_a_round: float = 0.0
    """Of this process, the server with it; other work on the machine does not count."""
    overhead_fraction: float
    """Of the wall clock, neither a model nor a job."""
    cached_share: float
    roles: dict[str, RoleCost]


def covered(intervals: Sequence[Interval], within: Interval) -> float:
    """Return the seconds of a stretch in which at least one interval lies."""
    first, last = within
    total, reached = 0.0, first
    for begin_s, end_s in sorted(intervals):
        more = min(end_s, last) - max(begin_s, reached)
        if more > 0:
            total += more
            reached = min(end_s, last)
    return total


class Clocked(ScenarioPool):
    """Notes when it had a job."""

    def __init__(self, job_s: float) -> None:
        super().__init__(delay_s=job_s)
        self.busy: list[Interval] = []

    async def run(self, job: AnyJob) -> AnyOutcome:
        began = time.monotonic()
        outcome = await super().run(job)
        self.busy.append((began, time.monotonic()))
        return outcome


class Talk:
    """What the server says: replies of a usual length, priced by what was really sent."""

    def __init__(self, reply_s: float) -> None:
        self.busy: list[Interval] = []
        self._reply_s = reply_s
        self._roles = Roles(
            planner=lambda _: NEVER.model_dump_json(), writer=lambda _: self._text()
        )
        self._number = 0

    def __call__(self, request: dict[str, Any]) -> Say:
        now = time.monotonic()
        self.busy.append((now, now + self._reply_s))
        said = self._roles(request).text
        return Say(
            text=said,
            read=len(prompt_of(request)) // _CHARACTERS_A_TOKEN,
            written=len(said) // _CHARACTERS_A_TOKEN,
            silence_s=self._reply_s,
        )

    def _text(self) -> str:
        """A kernel of 120 lines that nobody wrote before; every sixth one is the fastest so far."""
        self._number += 1
        us = 100 * 0.9 ** (self._number // 6) if self._number % 6 == 0 else 101
        lines = "\n".join(f"float t{line} = x[{line}] * {self._number};" for line in range(120))
        return make_draft(f"#pragma us={us:.2f}\n{lines}\n", family="", recipe="").model_dump_json()


async def measure(server: ModelServer, rounds: int, reply_s: float, job_s: float) -> Figures:
    """Run so many rounds with two lanes, and read what they cost."""
    talk, pool = Talk(reply_s), Clocked(job_s)
    server.forget()
    server.reply = talk
    team = make_models(server)
    limits = Budget(rounds=rounds, plateau_attempts=10_000, least_gain=0, stalled_reviews=10_000)
    goal = Goal(speedup=1000, against="torch eager", kind="hard")
    target = make_target(budget=limits, goal=goal, scope=Scope(lanes=2))
    replied: list[Replied] = []
    moments: list[tuple[float, float]] = []
    """Wall clock and processor time at the end of each round."""

    def listen(event: AnyEvent) -> None:
        if isinstance(event, Replied):
            replied.append(event)
        elif isinstance(event, BudgetRead):
            moments.append((time.monotonic(), time.process_time()))

    with tempfile.TemporaryDirectory(prefix="kernelpilot-agents-") as name:
        files = RunFiles(Path(name) / "agents")
        await begin(files, target, team.name, pool, seed=0)
        await drive(files, load_settings((), ["memory.lessons=none"]), team, pool, (listen,))
    began, ended = moments[0], moments[-1]
    found = read(replied, (began[0], ended[0]), talk.busy, pool.busy, rounds)
    own_s = (ended[1] - began[1]) / (rounds - 1)
    return found.model_copy(update={"processor_s_a_round": round(own_s, 4)})


def read(
    replied: Sequence[Replied],
    within: Interval,
    models: Sequence[Interval],
    jobs: Sequence[Interval],
    rounds: int,
) -> Figures:
    """Return the figures of what happened."""
    wall_s = within[1] - within[0]
    busy_s = covered([*models, *jobs], within)
    return Figures(
        rounds=rounds,
        wall_s=round(wall_s, 3),
        models_s=round(covered(models, within), 3),
        jobs_s=round(covered(jobs, within), 3),
        overhead_s_a_round=round((wall_s - busy_s) / max(1, rounds - 1), 4),
        overhead_fraction=round((wall_s - busy_s) / wall_s, 4),
        cached_share=_share(replied),
        roles={
            title: RoleCost(
                questions=len(mine),
                input_tokens_a_round=round(sum(e.input_tokens for e in mine) / rounds, 1),
                output_tokens_a_round=round(sum(e.output_tokens for e in mine) / rounds, 1),
                cached_share=_share(mine),
            )
            for role, title in _ROLES.items()
            for mine in [[event for event in replied if event.role == role]]
            if mine
        },
    )


def _share(events: Sequence[Replied]) -> float:
    read_tokens = sum(event.input_tokens for event in events)
    return round(sum(e.repeated_tokens for e in events) / read_tokens, 3) if read_tokens else 0.0


def faults(found: Figures) -> list[str]:
    """Return which goal is missed."""
    told = []
    if found.overhead_fraction > MOST_OVERHEAD:
        told.append(f"overhead {found.overhead_fraction:.1%}, at most {MOST_OVERHEAD:.0%}")
    if found.cached_share < LEAST_SHARE:
        told.append(f"{found.cached_share:.0%} of the input repeats, at least {LEAST_SHARE:.0%}")
    return told


def main() -> int:
    """Run, print the figures, and say which goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--reply-s", type=float, default=10.0, help="what a reply takes")
    parser.add_argument("--job-s", type=float, default=0.5, help="what a job takes")
    options = parser.parse_args()
    with model_server() as server:
        found = asyncio.run(measure(server, options.rounds, options.reply_s, options.job_s))
    sys.stdout.write(json.dumps(found.model_dump(), indent=1) + "\n")
    wrong = faults(found)
    sys.stdout.writelines(f"{text}\n" for text in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
