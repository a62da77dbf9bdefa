"""A run as its events tell it."""

import pytest

from gpu_runner.jobs import Reason, Stage
from gpu_runner.records import Verdict
from graph.events import (
    AttemptDecided,
    BudgetRead,
    DecisionTaken,
    Exited,
    Interval,
    JobFinished,
    JobSubmitted,
    ProfileRead,
    Promoted,
    Reviewed,
    RunStarted,
    StageEnded,
    StageStarted,
)
from graph.ledger import AttemptOutcome, ExitReason
from graph.progress import Progress, clock, describe, interval_words

FAST = Interval(speedup=1.8399, low=1.79, high=1.9)
STARTED = RunStarted(
    key="k", run_id="softmax-1", target="softmax", team="playbook", rounds=84, lanes=2, wall_s=300
)
PROMOTED = Promoted(
    key="k",
    attempt_id="a0003",
    version="v002",
    intervals={"incumbent": Interval(speedup=1.1, low=1.06, high=1.2), "torch eager": FAST},
)


def decided(**changes) -> AttemptDecided:
    values = {
        "key": "k",
        "attempt_id": "a0003",
        "round": 2,
        "lane": 0,
        "label": "row/online",
        "outcome": AttemptOutcome.MEASURED,
        "verdict": Verdict.FASTER,
        "against": "torch eager",
        "interval": FAST,
    }
    return AttemptDecided(**{**values, **changes})


def told(*events) -> Progress:
    progress = Progress()
    for event in events:
        progress.add(event)
    return progress


def test_the_beginning_says_what_runs():
    progress = told(STARTED)
    assert (progress.run_id, progress.rounds, progress.wall_s) == ("softmax-1", 84, 300)
    assert progress.best_words() == "nothing promoted yet"


def test_stage_and_round_follow_the_stages():
    progress = told(STARTED, StageStarted(key="k", stage="bench", round=3))
    assert (progress.stage, progress.round) == ("bench", 3)
    assert progress.left_words() == "5:00 and 81 rounds left"


def test_the_time_left_can_be_told_between_events():
    assert told(STARTED).left_words(elapsed_s=290) == "0:10 and 84 rounds left"
    assert told(STARTED).left_words(elapsed_s=400) == "0:00 and 84 rounds left"


def test_without_limits_nothing_is_said_of_them():
    assert Progress().left_words() == ""


def test_running_jobs_are_those_without_an_end():
    def submitted(name):
        return JobSubmitted(
            key=name, job_id=name, job="bench", attempt_id="a0001", timeout_s=10, elapsed_s=4
        )

    finished = JobFinished(
        key="f", job_id="j1", job="bench", outcome="benched", seconds=1, elapsed_s=6
    )
    progress = told(submitted("j1"), submitted("j2"), finished)
    assert progress.jobs == {"j2": "bench of a0001"}
    assert progress.elapsed_s == 6


def test_the_best_is_the_last_promotion_against_the_first_baseline():
    progress = told(STARTED, PROMOTED)
    assert progress.best_words() == "best v002 1.84x [1.79, 1.90] vs torch eager"
    assert progress.promoted == 1


def test_attempts_and_rejections_are_counted():
    rejected = decided(outcome=AttemptOutcome.REJECTED, verdict=Verdict.REJECTED)
    progress = told(decided(), rejected)
    assert (progress.attempts, progress.rejected) == (2, 1)


def test_a_resumption_takes_back_the_end():
    ended = Exited(key="k", exit_reason=ExitReason.CANCELLED, message="by the user")
    assert told(STARTED, ended).exit_reason == "cancelled"
    assert told(STARTED, ended, STARTED).exit_reason == ""


def test_rounds_left_come_from_the_budget():
    event = BudgetRead(
        key="k",
        round=1,
        rounds_left=7,
        wall_left_s=None,
        tokens_left=None,
        usd_left=None,
        job_left_s=None,
        job_s=1,
    )
    assert told(event).rounds_left == 7


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            STARTED,
            "run softmax-1 started: target softmax, team playbook, budget 5:00, 84 rounds of 2",
        ),
        (decided(), "a0003 row/online: FASTER 1.84x [1.79, 1.90] vs torch eager"),
        (
            decided(
                outcome=AttemptOutcome.REJECTED,
                verdict=Verdict.REJECTED,
                interval=None,
                stage=Stage.CHECK,
                reason=Reason.WRONG_RESULT,
                message="y is wrong",
            ),
            "a0003 row/online: REJECTED wrong_result: y is wrong",
        ),
        (
            decided(outcome=AttemptOutcome.UNSERVED, interval=None, message="worker gone"),
            "a0003 row/online: not measured (worker gone)",
        ),
        (
            PROMOTED,
            (
                "v002 (a0003) PROMOTED: 1.10x [1.06, 1.20] vs incumbent, "
                "1.84x [1.79, 1.90] vs torch eager"
            ),
        ),
        (
            ProfileRead(
                key="k", attempt_id="a0003", trigger="t", bottleneck="division", next_edit="hoist"
            ),
            "a0003 profiled: division; next: hoist",
        ),
        (
            Reviewed(
                key="k",
                round=2,
                verdict="ADVANCED",
                route="write",
                blocking=("unsafe",),
                met=1,
                criteria=3,
            ),
            "round 2 reviewed: ADVANCED, 1 of 3 criteria met, next write; blocked: unsafe",
        ),
        (
            Reviewed(key="k", round=2, verdict="", route="stop", met=0, criteria=1),
            "round 2 reviewed: no review, 0 of 1 criteria met, next stop",
        ),
        (
            DecisionTaken(key="k", subject="plateau", choice="pivot", reason="6 attempts"),
            "plateau: pivot (6 attempts)",
        ),
        (DecisionTaken(key="k", subject="profile", choice="none", reason="no question"), None),
        (
            Exited(key="k", exit_reason=ExitReason.GOAL_MET, message="all met"),
            "ended: goal_met: all met",
        ),
        (StageStarted(key="k", stage="write", round=1), None),
        (StageEnded(key="k", stage="write", round=1, seconds=1), None),
    ],
)
def test_events_in_words(event, words):
    assert describe(event) == words


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (247, "4:07"), (7447, "2:04:07")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_intervals_have_two_digits():
    assert interval_words(FAST) == "1.84x [1.79, 1.90]"


def test_the_first_line_says_where_it_is_measured():
    words = describe(STARTED.model_copy(update={"device": "cuda"}))
    assert words is not None
    assert "target softmax on cuda, team playbook" in words
    assert " on " not in (describe(STARTED) or "")
