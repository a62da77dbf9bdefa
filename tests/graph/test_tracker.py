"""Criteria that stay, issues by lane, contracts, and what a full alignment finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agents.contexts import Contract
from agents.replies import CheckRule, CriterionStatus, Finding, Review
from graph.run_files import RunFiles
from graph.tracker import (
    ALIGN_EVERY,
    Issue,
    Tracker,
    alignment,
    contract_for,
    criteria_digest,
    criteria_of,
    is_alignment,
    issues_of,
    kept,
)
from graph.tracking import contract_in_force, markdown, save, track
from tests.graph.builders import make_check, make_manifest, make_plan, make_review, make_target

FIRST = make_plan(
    (make_check(CheckRule.CORRECT_OVER_W), make_check(CheckRule.WRONG_IS_REJECTED)),
    (make_check(CheckRule.ATTEMPTS_MADE, "4"), make_check(CheckRule.WRONG_IS_REJECTED)),
)


def status(name: str, how="NOT_MET") -> CriterionStatus:
    return CriterionStatus(criterion_id=name, status=how)


def found(lane: str, text: str, severity: int = 5) -> Finding:
    return Finding.model_validate({"lane": lane, "severity": severity, "text": text})


def reviews(**findings: list[Finding]) -> dict[int, Review]:
    """Reviews by `r3=[...]`; rounds between them found nothing."""
    named = {int(key[1:]): tuple(value) for key, value in findings.items()}
    return {n: make_review(findings=named.get(n, ())) for n in range(1, max(named) + 1)}


def make_tracker(**changes) -> Tracker:
    values = {
        "goal": "fast",
        "round": 4,
        "criteria": criteria_of(FIRST),
        "criteria_digest": criteria_digest(criteria_of(FIRST)),
        "statuses": (status("ac1"), status("ac2")),
        "versions": (),
        "issues": (),
        "contracts": (),
    }
    return Tracker(**{**values, **changes})


def make_contract(number: int, *criteria: str) -> Contract:
    return Contract(
        round=number, plan_version=1, objective="x", criteria=criteria or ("ac1",), success="y"
    )


# -- criteria ------------------------------------------------------------------------------------


def test_a_plan_with_the_same_criteria_is_taken_as_it_is():
    made = FIRST.model_copy(update={"version": 2, "strategy": "tiles"})
    assert kept(FIRST, made) == (made, ())


def test_a_reworded_criterion_is_put_back_and_the_strategy_stays():
    task = FIRST.tasks[0]
    easier = task.criterion.model_copy(update={"text": "mostly right"})
    made = FIRST.model_copy(
        update={
            "strategy": "tiles",
            "tasks": (task.model_copy(update={"criterion": easier}), FIRST.tasks[1]),
        }
    )
    plan, changes = kept(FIRST, made)
    assert criteria_of(plan) == criteria_of(FIRST)
    assert plan.strategy == "tiles"
    assert changes == ("ac1 was changed and is put back",)


def test_a_dropped_criterion_comes_back_and_a_new_one_stays_out():
    strange = FIRST.tasks[1].criterion.model_copy(update={"criterion_id": "ac9"})
    made = FIRST.model_copy(
        update={"tasks": (FIRST.tasks[0], FIRST.tasks[1].model_copy(update={"criterion": strange}))}
    )
    plan, changes = kept(FIRST, made)
    assert {c.criterion_id for c in criteria_of(plan)} == {"ac1", "ac2"}
    assert changes == ("ac9 is new and left out", "ac2 was dropped and is put back")


@given(st.lists(st.sampled_from(["ac1", "ac2", "ac3"]), min_size=1, max_size=4, unique=True))
def test_whatever_is_planned_the_criteria_are_those_of_the_first_plan(names):
    task = FIRST.tasks[0]
    tasks = tuple(
        task.model_copy(
            update={"criterion": task.criterion.model_copy(update={"criterion_id": name})}
        )
        for name in names
    )
    plan, _ = kept(FIRST, FIRST.model_copy(update={"tasks": tasks}))
    assert set(criteria_of(plan)) == set(criteria_of(FIRST))
    assert kept(FIRST, plan) == (plan, ())


# -- issues --------------------------------------------------------------------------------------


def test_the_same_finding_is_one_issue_however_it_is_spaced():
    said = reviews(r1=[found("mainline", "It spills")], r2=[found("mainline", "it  SPILLS")])
    (issue,) = issues_of(said)
    assert (issue.opened, issue.last, issue.times, issue.closed) == (1, 2, 2, None)


@pytest.mark.parametrize("lane", ["blocking", "mainline"])
def test_an_issue_is_closed_by_the_review_that_names_it_no_more(lane):
    said = reviews(r1=[found(lane, "races")], r2=[])
    assert [issue.closed for issue in issues_of(said)] == [2]


def test_a_queued_issue_waits_for_the_alignment_and_is_closed_where_nobody_takes_it_up():
    said = reviews(r2=[found("queued", "try tiles"), found("queued", "tidy")], r4=[])
    assert [issue.closed for issue in issues_of(said)] == [None, None]
    aligned = reviews(
        r2=[found("queued", "try tiles"), found("queued", "tidy")], r5=[found("queued", "tidy")]
    )
    assert {issue.text: issue.closed for issue in issues_of(aligned)} == {
        "try tiles": 5,
        "tidy": None,
    }


def test_an_issue_that_comes_back_is_open_again():
    said = reviews(r1=[found("blocking", "races")], r2=[], r3=[found("blocking", "races")])
    (issue,) = issues_of(said)
    assert (issue.opened, issue.closed, issue.times) == (1, None, 2)


# -- alignment -----------------------------------------------------------------------------------


def test_every_fifth_round_is_one_of_full_alignment():
    assert [n for n in range(1, 16) if is_alignment(n)] == [5, 10, 15]
    assert alignment(5, make_tracker()).words() == "0 forgotten, 0 deferred, 0 repeated"


def issue(lane: str, text: str, opened: int, last: int, times: int = 1) -> Issue:
    return Issue.model_validate(
        {
            "lane": lane,
            "severity": 3,
            "text": text,
            "opened": opened,
            "last": last,
            "times": times,
        }
    )


def test_queued_items_that_nobody_named_since_are_forgotten():
    tracker = make_tracker(
        issues=(issue("queued", "old", 1, 2), issue("queued", "fresh", 1, 4)),
        contracts=(make_contract(1, "ac1", "ac2"), make_contract(4, "ac1", "ac2")),
    )
    aligned = alignment(5, tracker)
    assert aligned.forgotten == ("P3 of round 1: old",)
    assert aligned.words() == "1 forgotten, 0 deferred, 0 repeated"


def test_criteria_that_no_contract_aimed_at_for_five_rounds_are_deferred():
    contracts = tuple(make_contract(n, "ac1") for n in range(1, 6))
    aligned = alignment(5, make_tracker(contracts=contracts))
    assert aligned.deferred == ("ac2",)
    met = make_tracker(contracts=contracts, statuses=(status("ac1"), status("ac2", "MET")))
    aligned = alignment(5, met)
    assert aligned.deferred == (), "what is met is not deferred"


def test_findings_that_come_again_and_again_are_named():
    aligned = alignment(10, make_tracker(issues=(issue("mainline", "spills", 1, 9, times=5),)))
    assert aligned.repeated == ("P3 of round 1: spills",)


# -- contracts -----------------------------------------------------------------------------------


def test_a_round_has_the_first_task_that_is_not_met_as_its_one_objective():
    made = contract_for(3, FIRST, (status("ac1", "MET"), status("ac2")), ())
    assert (made.criteria, made.objective) == (("ac2",), FIRST.tasks[1].text)
    assert contract_for(1, FIRST, (), ()).criteria == ("ac1",)


def test_what_blocks_comes_first_and_what_is_queued_stays_out():
    issues = (issue("blocking", "races", 1, 2), issue("queued", "tidy", 1, 2))
    made = contract_for(3, FIRST, (), issues)
    assert made.objective == "Resolve what blocks: P3 of round 1: races"
    assert made.queued == ("P3 of round 1: tidy",)
    closed = issues[0].model_copy(update={"closed": 2})
    assert contract_for(3, FIRST, (), (closed,)).blocking == ()


def test_with_every_criterion_met_a_round_looks_for_more():
    made = contract_for(3, FIRST, (status("ac1", "MET"), status("ac2", "MET")), ())
    assert made.objective.startswith("Hold what is met")


@pytest.mark.parametrize("criteria", [(), ("ac1", "ac2", "ac3"), ("x",)])
def test_a_contract_serves_one_or_two_criteria_of_the_plan(criteria):
    with pytest.raises(ValidationError):
        Contract(round=1, plan_version=1, objective="x", criteria=criteria, success="y")


# -- in the run directory ------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    made = RunFiles(tmp_path / "softmax-test")
    made.write_manifest(make_manifest())
    made.save_reply("r001", FIRST)
    return made


def test_a_contract_stays_as_it_was_made(files):
    first = contract_in_force(files, FIRST, 1)
    statuses = (status("ac1", "MET"), status("ac2"))
    save(files, track(files, make_target(), statuses, 1))
    assert contract_in_force(files, FIRST, 1) == first
    assert contract_in_force(files, FIRST, 2).criteria == ("ac2",)
    assert [c.round for c in files.contracts()] == [1, 2]


def test_the_tracker_is_data_and_a_page_that_a_person_reads(files):
    review = make_review(findings=(found("blocking", "reads | past\nthe end", 1),))
    files.save_reply("r001", review)
    contract_in_force(files, FIRST, 1)
    tracker = track(files, make_target(), (status("ac1", "MET"), status("ac2")), 1)
    save(files, tracker)
    assert files.tracker() == tracker
    page = (files.root / "tracker.md").read_text()
    assert "| ac1 | it is fast | MET |" in page
    assert "| P1 | 1 | 1 | reads \\| past the end |" in page
    assert "| 1 | 1 | first plan |" in page
    assert markdown(tracker) == page


def test_a_plan_whose_criteria_were_put_back_is_one_version(files):
    second = FIRST.model_copy(update={"version": 2, "reason": "again"})
    files.save_reply("r003", second)
    files.save_reply("r003-kept", second)
    tracker = track(files, make_target(), (), 3)
    assert [(v.version, v.round) for v in tracker.versions] == [(1, 1), (2, 3)]


def test_alignment_is_as_often_as_items_may_lie():
    assert ALIGN_EVERY == 5
