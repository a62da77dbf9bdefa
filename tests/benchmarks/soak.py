"""A long run of scripted models: memory, checkpoints, prompts and spend over hundreds of rounds.

Two models that answer from a table drive the real team, prompts, loop, ledger and checkpoints over
a pool that answers at once. Exits with 1 where a figure grows that must not::

    python -m tests.benchmarks.soak 300
"""

import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from agents.model import Answer, Form, Turn
from agents.roles import Spend
from agents.team import ModelTeam
from graph.events import AnyEvent, BudgetRead, Replied
from graph.run import begin, drive
from graph.run_files import RunFiles
from graph.settings import load_settings
from graph.target import Budget, Goal, Scope
from tests.graph.builders import (
    make_digest,
    make_draft,
    make_research,
    make_review,
    make_target,
)
from tests.graph.pool import ScenarioPool
from tests.graph.test_loop import NEVER

ROUNDS = 300
_CHARACTERS_A_TOKEN = 4
_USD_A_TOKEN = 3e-6
_MOST_CHECKPOINT_MIB = 50.0
_MOST_GROWTH_MIB = 24.0
"""Of the process, from a third of the run to its end: allocators keep a little."""
_MOST_PROMPT_GROWTH = 1.15
_MOST_SPEND_GROWTH = 1.15


class ScriptedModel:
    """Implements `ChatModel`: a reply that fits the role it is asked in, priced by length."""

    provider = "scripted"

    def __init__(self, name: str) -> None:
        self.name = name
        self.prompts: dict[str, list[int]] = {}
        """Role to the characters of each question, in order."""
        self._spend = Spend()

    async def answer(self, turns: Sequence[Turn], form: Form | None = None) -> Answer:
        """Answer at once."""
        text = "".join(turn.text for turn in turns)
        role = _found(r"You are the (\w+)\.", text)
        reply = _reply(role, int(_found(r"\(round (\d+)", text) or 1), text)
        self.prompts.setdefault(role, []).append(len(text))
        tokens = len(text) // _CHARACTERS_A_TOKEN
        out = len(reply) // _CHARACTERS_A_TOKEN
        self._spend = Spend(
            calls=self._spend.calls + 1,
            input_tokens=self._spend.input_tokens + tokens,
            output_tokens=self._spend.output_tokens + out,
            usd=self._spend.usd + (tokens + out) * _USD_A_TOKEN,
        )
        return Answer(text=reply, is_complete=True)

    def spend(self) -> Spend:
        """Return the cost so far."""
        return self._spend


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


def _reply(role: str, number: int, text: str) -> str:
    """Return a reply; every fortieth round writes a faster kernel than any before."""
    lane = int(_found(r"\(lane (\d+) of", text) or 1)
    us = 100 * 0.9 ** (number // 40) if number % 40 == 0 and lane == 1 else 101 + number % 7
    body = "\n".join(f"// line {line} of {number}.{lane}" for line in range(60))
    made = {
        "planner": NEVER,
        "researcher": make_research(),
        "writer": make_draft(
            f"#pragma us={us:.3f} in {number}.{lane}\n{body}", family="", recipe=""
        ),
        "profiler": make_digest(),
        "reviewer": make_review(),
    }[role]
    return made.model_dump_json()


async def run(rounds: int, folder: Path) -> dict[str, float]:
    """Run so many rounds in `folder`; return the figures."""
    files = RunFiles(folder / "soak")
    writer, reviewer = ScriptedModel("one"), ScriptedModel("two")
    team, pool = ModelTeam(writer, reviewer), ScenarioPool()
    limits = Budget(rounds=rounds, plateau_attempts=100_000, least_gain=0, stalled_reviews=1000)
    goal = Goal(speedup=1000, against="torch eager", kind="hard")
    target = make_target(budget=limits, goal=goal, scope=Scope(lanes=2))
    resident: list[float] = []
    spent: list[float] = [0.0]

    def listen(event: AnyEvent) -> None:
        if isinstance(event, Replied):
            spent[-1] += event.usd
        elif isinstance(event, BudgetRead):
            resident.append(_resident_mib())
            spent.append(0.0)
            pool.ran.clear()

    began = time.monotonic()
    await begin(files, target, "scripted", pool, seed=0)
    result = await drive(files, load_settings((), ["memory.lessons=none"]), team, pool, (listen,))
    third = max(1, len(resident) // 3)
    questions = {**writer.prompts, **reviewer.prompts}
    return {
        "rounds": result.rounds,
        "wall_s": time.monotonic() - began,
        "resident_mib_third": resident[third - 1],
        "resident_mib_last": resident[-1],
        "checkpoints_mib": (files.root / "checkpoints.sqlite").stat().st_size / 2**20,
        "longest_prompt": max(max(sizes) for sizes in questions.values()),
        "prompt_growth": max(_growth(sizes) for sizes in questions.values()),
        "usd": sum(spent),
        "spend_growth": _growth(spent[:-1]),
    }


def _growth(values: Sequence[float]) -> float:
    """Return the median of the last third over that of the middle third."""
    third = len(values) // 3
    if not third:
        return 1.0
    return statistics.median(values[-third:]) / statistics.median(values[third : 2 * third])


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def faults(found: dict[str, float]) -> list[str]:
    """Return what grew that must not."""
    growth = found["resident_mib_last"] - found["resident_mib_third"]
    limits = (
        ("resident memory grew by MiB", growth, _MOST_GROWTH_MIB),
        ("checkpoints take MiB", found["checkpoints_mib"], _MOST_CHECKPOINT_MIB),
        ("prompts grew by a factor", found["prompt_growth"], _MOST_PROMPT_GROWTH),
        ("a round's spend grew by a factor", found["spend_growth"], _MOST_SPEND_GROWTH),
    )
    return [f"{what} {value:.2f}, at most {most}" for what, value, most in limits if value > most]


def main() -> int:
    """Run, print the figures, and say what is out of bounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory(prefix="kernelpilot-soak-") as name:
        found = asyncio.run(run(rounds, Path(name)))
    sys.stdout.write(json.dumps({key: round(value, 3) for key, value in found.items()}) + "\n")
    wrong = faults(found)
    sys.stdout.writelines(f"{text}\n" for text in wrong)
    return 1 if wrong or found["rounds"] != rounds else 0


if __name__ == "__main__":
    sys.exit(main())
