"""What a person reads of a run at its end, and of an evaluation."""

import io

import pytest
from rich.console import Console

from gpu_runner.jobs import Admitted, Unfit
from gpu_runner.records import TimingPlan, Verdict
from graph.console import claim_table, print_result
from graph.errors import EvaluationError
from graph.evaluate import Evaluation, Trial, evaluate
from graph.ledger import ExitReason, RunResult
from graph.progress import clock
from graph.settings import load_settings
from tests.builders import make_candidate
from tests.graph.builders import make_admitted, make_comparison, make_decision, make_target
from tests.graph.pool import ScenarioPool

JOBS = load_settings().jobs


def printed(result: RunResult, width: int = 120) -> str:
    out = io.StringIO()
    print_result(Console(file=out, width=width), result, "runs/softmax-1")
    return out.getvalue()


def make_result(**changes) -> RunResult:
    values = {
        "run_id": "softmax-1",
        "exit_reason": ExitReason.BUDGET_WALL,
        "message": "the wall clock is used",
        "rounds": 12,
        "attempts": 24,
        "wall_s": 3723.0,
        "job_s": 1200.4,
    }
    return RunResult(**{**values, **changes})


def rows(table) -> list[list[str]]:
    return [
        [str(cell) for cell in row]
        for row in zip(*(column.cells for column in table.columns), strict=True)
    ]


# -- the summary of a run ------------------------------------------------------------------------


def test_the_table_begins_with_the_whole_of_w_and_keeps_the_order_of_the_workloads():
    decision = make_decision(
        2.0, workloads={"wide": make_comparison(3.0), "small": make_comparison(1.0)}
    )
    table = claim_table(decision, "a0007")
    assert table.title == "a0007 vs torch eager"
    assert rows(table) == [
        ["over W", "FASTER", "2.00x", "1.96", "2.04", "50.0", "100.0"],
        ["wide", "FASTER", "3.00x", "2.94", "3.06", "33.3", "100.0"],
        ["small", "SAME", "1.00x", "0.98", "1.02", "100.0", "100.0"],
    ]


@pytest.mark.parametrize(
    ("verdict", "style"),
    [
        (Verdict.FASTER, "green"),
        (Verdict.SLOWER, "red"),
        (Verdict.SAME, ""),
        (Verdict.AMBIGUOUS, ""),
    ],
)
def test_colours_follow_the_verdict_and_not_the_figure(verdict, style):
    overall = make_comparison(2.0, verdict=verdict)
    table = claim_table(make_decision(2.0, overall=overall, workloads={}), "a0001")
    (cell,) = table.columns[1].cells
    assert (str(cell), getattr(cell, "style", None)) == (verdict.value, style)


def test_effort_is_told_in_rounds_attempts_and_time():
    text = printed(make_result())
    assert "12 rounds, 24 attempts, 1:02:03 wall clock, 1200 s of check" in text
    assert "budget_wall: the wall clock is used" in text


def test_paths_that_do_not_exist_are_not_printed():
    lines = printed(make_result()).splitlines()
    names = [line.split("  ")[0].strip() or line.strip() for line in lines]
    assert not any(line.strip().startswith(("report", "repository")) for line in lines), names
    told = printed(make_result(report="r/report.html", repository="r/repo"))
    assert "report  r/report.html" in told
    assert "repository  r/repo" in told


def test_a_narrow_terminal_cuts_no_path():
    path = "runs/" + "a-long-directory-name/" * 6 + "report.html"
    assert path in printed(make_result(report=path), width=40)


def test_names_with_brackets_are_text():
    text = printed(make_result(message="[bold]not markup[/bold] [/wrong]"))
    assert "[bold]not markup[/bold] [/wrong]" in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (59.9, "0:59"),
        (60, "1:00"),
        (247, "4:07"),
        (3600, "1:00:00"),
        (7447, "2:04:07"),
    ],
)
def test_a_clock_is_read_as_one(seconds, shown):
    assert clock(seconds) == shown


# -- an evaluation -------------------------------------------------------------------------------


def make_evaluation(**changes) -> Evaluation:
    values = {
        "target": "softmax",
        "against": "torch eager",
        "candidate_digest": "0" * 64,
        "verdict": Verdict.SLOWER,
        "reason": "claim of 5 sittings, margin 5%",
        "speedup": 0.8,
        "low": 0.78,
        "high": 0.82,
        "workloads": {"small": make_comparison(0.8, verdict=Verdict.SLOWER)},
    }
    return Evaluation(**{**values, **changes})


def test_an_evaluation_is_read_from_the_verdict_down():
    assert make_evaluation(noise=("the machine was busy",)).words().splitlines() == [
        "SLOWER: claim of 5 sittings, margin 5%",
        "  0.800x [0.780, 0.820] vs torch eager",
        "  small                    SLOWER    0.800x [0.784, 0.816] 125.0 us vs 100.0 us",
        "  note: the machine was busy",
    ]


def test_a_rejection_has_a_message_and_no_figures():
    words = make_evaluation(
        verdict=Verdict.REJECTED,
        reason="crashed",
        message="signal 11",
        speedup=None,
        low=None,
        high=None,
        workloads={},
    ).words()
    assert words == "REJECTED: crashed\n  signal 11"


def make_trial(**changes) -> Trial:
    target = make_target()
    values = {
        "target": target,
        "candidate": make_candidate(text="// us=50"),
        "against": target.baselines[0],
        "plan": TimingPlan(sittings=5, most_sittings=5),
    }
    return Trial(**{**values, **changes})


class Answering(ScenarioPool):
    """Gives the same answer to every job."""

    def __init__(self, answer: Unfit | Admitted) -> None:
        super().__init__()
        self.answer = answer

    async def run(self, job):
        self.ran.append(job)
        return self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            Unfit(job_id="x", message="the output is constant"),
            "target 'softmax' cannot judge: the output is constant",
        ),
        (make_admitted("x"), "unexpected outcome 'admitted' of x"),
    ],
)
async def test_what_is_no_judgement_is_an_error_and_not_timed(answer, words, tmp_path):
    pool = Answering(answer)
    with pytest.raises(EvaluationError, match=words):
        await evaluate(make_trial(), pool, JOBS, tmp_path)
    assert len(pool.ran) == 1
    assert list(tmp_path.iterdir()) == []


async def test_two_evaluations_of_one_candidate_never_share_a_job():
    pool = ScenarioPool()
    for _ in range(2):
        await evaluate(make_trial(), pool, JOBS)
    ids = [job.job_id for job in pool.ran]
    assert len(set(ids)) == 4


async def test_the_plan_is_kept_but_for_the_threads_of_the_target():
    hardware = make_target().hardware.model_copy(update={"threads": 2})
    pool = ScenarioPool()
    plan = TimingPlan(sittings=6, most_sittings=7)
    trial = make_trial(target=make_target(hardware=hardware), plan=plan)
    await evaluate(trial, pool, JOBS)
    _, bench = pool.ran
    assert bench.plan == plan.model_copy(update={"threads": 2})  # type: ignore[union-attr]  # Bench
