import pytest

from agents.replies import CheckRule, ExecutableCheck, Plan, Review
from graph.errors import RunDamaged
from graph.events import DecisionTaken, StageEnded
from graph.report.evidence import gather
from tests.graph.synthetic_run import SyntheticRun, whole_run


@pytest.fixture
def run(tmp_path):
    return whole_run(tmp_path)


def gathered(run):
    return gather(run.files, run.manifest.target, run.files.attempts(), run.incumbent)


def test_an_empty_run_has_no_evidence(tmp_path):
    found = gathered(SyntheticRun(tmp_path))
    assert (found.plan, found.review, found.research, found.budget) == (None, None, None, None)
    assert (found.records, found.sources, found.profiled) == ((), (), ())
    assert found.statuses == {}
    assert found.events == 0


def test_the_last_plan_counts(run):
    first = run.files.reply(Plan, "r000")
    run.files.save_reply("r005", first.model_copy(update={"version": 2, "reason": "Drift."}))
    assert gathered(run).plan.version == 2


def test_criteria_stand_as_the_ledger_says(run):
    found = gathered(run).statuses
    assert found["ac1"].status == "MET"
    assert run.incumbent.claims[0].record_id in found["ac1"].evidence
    assert found["ac2"].status == "PARTIAL"
    assert found["ac2"].evidence == ("run-admit",)


def test_a_reviewer_cannot_meet_a_criterion(run):
    (review,) = run.files.replies(Review).values()
    generous = tuple(c.model_copy(update={"status": "MET"}) for c in review.criteria)
    run.files.save_reply("r999", review.model_copy(update={"criteria": generous}))
    assert gathered(run).statuses["ac2"].status == "PARTIAL"


def test_a_recorded_plateau_is_evidence(run):
    check = ExecutableCheck(rule=CheckRule.PLATEAU_RECORDED)
    plan = run.files.reply(Plan, "r000")
    first = plan.tasks[0]
    criterion = first.criterion.model_copy(update={"positive": (check,), "negative": (check,)})
    task = first.model_copy(update={"criterion": criterion})
    run.files.save_reply("r005", plan.model_copy(update={"tasks": (task,)}))
    assert gathered(run).statuses["ac1"].status == "NOT_MET"
    stop = DecisionTaken(key="stop", subject="plateau", choice="stop", reason="12 attempts")
    run.files.events.append(stop)
    assert gathered(run).statuses["ac1"].evidence == ("stop",)


def test_records_are_summed_over_their_sittings(run):
    claim = run.incumbent.claims[0]
    line = next(r for r in gathered(run).records if r.record_id == claim.record_id)
    assert line.candidate == run.incumbent.attempt_id
    assert line.against == (claim.against,)
    assert line.sittings == 6
    assert line.pairs == 6 * len(run.workloads) * 4
    assert line.verified_outputs == 6 * 192
    assert line.pressure_percent == 4.0


def test_a_record_of_no_attempt_is_named_by_its_digest(run):
    stranger = run.candidate("// nobody's\n")
    decision = run.decision(stranger, "torch eager", 1.0, 1)
    line = next(r for r in gathered(run).records if r.record_id == decision.record_id)
    assert line.candidate == stranger.digest[:12]


def test_every_saved_record_is_listed(run):
    assert {r.record_id for r in gathered(run).records} == set(run.files.records())


def test_only_profiled_attempts_have_rooflines_and_one_is_the_best(run):
    found = gathered(run).profiled
    assert [p.version for p in found] == ["v001", "v002", "v003", "v004"]
    assert [p.is_best for p in found] == [False, False, False, True]


def test_stage_time_is_summed_longest_first(run):
    run.files.events.append(StageEnded(key="again", stage="write", round=2, seconds=500.0))
    assert list(gathered(run).stage_s.items())[:2] == [("write", 500.9), ("bench", 171.0)]


def test_the_source_of_the_best_kernel_is_read(run):
    (source,) = gathered(run).sources
    assert source.path == "kernel.cpp"
    assert source.text.startswith("// attempt 12")


def test_a_missing_candidate_leaves_the_report_without_source(run):
    (run.files.root / "blobs" / run.incumbent.candidate_digest).unlink()
    assert gathered(run).sources == ()


def test_a_damaged_record_is_named(run):
    path = run.files.root / "records" / f"{run.incumbent.claims[0].record_id}.json"
    path.write_text("{")
    with pytest.raises(RunDamaged, match=path.name):
        gathered(run)
