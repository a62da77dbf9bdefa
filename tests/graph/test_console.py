"""The terminal display."""

import asyncio
import io

import pytest
from rich.console import Console

from graph.console import RunConsole, print_result
from graph.events import JobSubmitted, StageStarted
from graph.ledger import ExitReason, RunResult
from tests.graph.builders import make_decision
from tests.graph.test_progress import PROMOTED, STARTED, decided


def plain() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=100), out


async def test_without_a_terminal_each_event_is_a_line():
    console, out = plain()
    shown = RunConsole(console, heartbeat_s=60)
    async with shown.showing():
        for event in (STARTED, decided(elapsed_s=61), PROMOTED):
            shown(event)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1] == "[1:01] a0003 row/online: FASTER 1.84x [1.79, 1.90] vs torch eager"


async def test_a_long_job_is_heard_of_now_and_then():
    console, out = plain()
    shown = RunConsole(console, heartbeat_s=0.01)
    async with shown.showing():
        shown(STARTED)
        shown(StageStarted(key="k", stage="bench", round=2, elapsed_s=1))
        shown(JobSubmitted(key="j", job_id="j", job="bench", attempt_id="a0001", timeout_s=9))
        while "bench of a0001" not in out.getvalue():  # noqa: ASYNC110 - output has no event
            await asyncio.sleep(0.01)
    line = next(line for line in out.getvalue().splitlines() if "bench of a0001" in line)
    assert "round 2/84 | bench (bench of a0001) | nothing promoted yet | " in line


async def test_a_terminal_shows_the_recent_lines_and_keeps_them_at_the_end():
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True)
    shown = RunConsole(console, heartbeat_s=60)
    async with shown.showing():
        shown(STARTED)
        shown(StageStarted(key="k", stage="bench", round=2))
        shown(decided())
        await asyncio.sleep(0.3)
    text = out.getvalue()
    assert "run softmax-1 started" in text
    assert "round 2/84 | bench" in text
    assert "a0003 row/online: FASTER" in text.splitlines()[-1]


def result(**changes) -> RunResult:
    values = {
        "run_id": "softmax-1",
        "exit_reason": ExitReason.GOAL_MET,
        "message": "all met [really]",
        "rounds": 3,
        "attempts": 6,
        "wall_s": 247.0,
        "job_s": 100.0,
    }
    return RunResult(**{**values, **changes})


def test_the_summary_has_a_table_for_each_baseline_and_the_paths():
    console, out = plain()
    best = (make_decision(1.5), make_decision(1.2, against="torch compile"))
    told = result(best_attempt="a0003", best=best, report="r/report.html", repository="r/repo")
    print_result(console, told, "r")
    text = out.getvalue()
    assert "a0003 vs torch eager" in text
    assert "a0003 vs torch compile" in text
    assert "over W" in text
    assert "1.50x" in text
    assert "goal_met: all met [really]" in text
    assert "3 rounds, 6 attempts, 4:07 wall clock" in text
    for path in ("r/report.html", "r/repo"):
        assert path in text


@pytest.mark.parametrize(
    ("best_attempt", "words"),
    [(None, "no candidate was promoted"), ("a0003", "its final claim was not made")],
)
def test_a_run_without_a_final_claim_says_so(best_attempt, words):
    console, out = plain()
    print_result(console, result(best_attempt=best_attempt), "r")
    assert words in out.getvalue()


def test_the_summary_shows_floors_where_they_are_known():
    told = result(best_attempt="a0001", best=(make_decision(2.0),))
    console, out = plain()
    print_result(console, told, "r", {"small": 31.25})
    assert "floor us" in out.getvalue()
    assert "31.2" in out.getvalue()
    console, out = plain()
    print_result(console, told, "r")
    assert "floor us" not in out.getvalue()
