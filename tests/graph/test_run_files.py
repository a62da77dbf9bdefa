"""The run directory."""

import json

import pytest

from agents.replies import Digest, Draft, Plan, Research, Review
from gpu_runner.facts import Facts
from gpu_runner.jobs import Benched, Built, Reason, Rejected, Stage, Unserved
from gpu_runner.message import digest_of
from graph.errors import RunDamaged, RunNotFound, RunTooNew
from graph.ledger import AttemptOutcome, ExitReason, RunResult, Tuning
from graph.run_files import RunFiles
from tests.builders import make_candidate
from tests.graph.builders import (
    DIGEST,
    make_attempt,
    make_decision,
    make_digest,
    make_draft,
    make_manifest,
    make_plan,
    make_record,
    make_research,
    make_review,
)


@pytest.fixture
def files(tmp_path):
    return RunFiles(tmp_path / "run")


# -- manifest ------------------------------------------------------------------------------------


def test_the_manifest_comes_back_equal(files):
    manifest = make_manifest()
    files.write_manifest(manifest)
    assert RunFiles(files.root).read_manifest() == manifest


def test_a_directory_without_a_run_is_said_to_be_none(files):
    with pytest.raises(RunNotFound, match="holds no run"):
        files.read_manifest()


def test_a_file_in_place_of_the_directory_is_no_run(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunNotFound):
        RunFiles(tmp_path / "run").read_manifest()


def test_a_run_of_a_newer_version_is_refused_with_the_remedy(files):
    files.write_manifest(make_manifest())
    path = files.root / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2, "new": True}))
    with pytest.raises(RunTooNew, match=r"format 2.*upgrade"):
        files.read_manifest()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\x00\xff", b"[]", b'{"format": "one"}', b'{"format": 1}']
)
def test_a_damaged_manifest_is_named(files, content):
    files.write_manifest(make_manifest())
    (files.root / "run.json").write_bytes(content)
    with pytest.raises(RunDamaged, match=r"run\.json"):
        files.read_manifest()


# -- attempts ------------------------------------------------------------------------------------


def test_attempts_come_back_by_id_whatever_order_they_were_written_in(files):
    second, first = make_attempt(2), make_attempt(1, claims=(make_decision(),))
    files.append_attempt(second)
    files.append_attempt(first)
    assert files.attempts() == (first, second)
    assert RunFiles(files.root).attempts() == (first, second)


def test_a_row_is_written_once_and_the_first_one_stays(files):
    row = files.append_attempt(make_attempt(1, seconds={"build": 1.0}))
    again = RunFiles(files.root).append_attempt(make_attempt(1, seconds={"build": 2.0}))
    assert again == row
    assert len((files.root / "attempts.jsonl").read_bytes().splitlines()) == 1


def test_a_row_torn_by_a_kill_is_repaired_by_the_next_writer(files):
    files.append_attempt(make_attempt(1))
    path = files.root / "attempts.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-20])
    reader = RunFiles(files.root)
    assert len(reader.attempts()) == 1
    assert path.read_bytes() != whole
    writer = RunFiles(files.root)
    writer.append_attempt(make_attempt(2))
    assert [a.attempt_id for a in RunFiles(files.root).attempts()] == ["a0001", "a0002"]


def test_a_damaged_row_is_named_by_its_line(files):
    files.append_attempt(make_attempt(1))
    with (files.root / "attempts.jsonl").open("ab") as file:
        file.write(b'{"attempt_id": "a0002"}\n')
    with pytest.raises(RunDamaged, match=r"attempts\.jsonl line 2"):
        RunFiles(files.root).attempts()


def test_a_reader_sees_what_a_writer_adds(files):
    reader = RunFiles(files.root)
    assert reader.attempts() == ()
    files.append_attempt(make_attempt(1))
    assert len(reader.attempts()) == 1


# -- records and blobs ---------------------------------------------------------------------------


def test_a_record_is_found_by_the_id_of_its_content(files):
    record = make_record()
    assert files.save_record(record) == record.record_id
    assert files.record(record.record_id) == record
    assert files.records() == {record.record_id: record}


def test_a_missing_record_is_named(files):
    with pytest.raises(RunDamaged, match="ffff"):
        files.record("ffff")


def test_a_candidate_is_found_by_its_digest(files):
    candidate = make_candidate()
    digest = files.save_candidate(candidate)
    assert digest == candidate.digest
    assert files.candidate(digest) == candidate


def test_a_blob_is_named_by_its_content_and_written_once(files):
    digest = files.save_blob(b"content")
    assert digest == digest_of(b"content")
    assert files.save_blob(b"content") == digest
    assert files.blob(digest) == b"content"


def test_a_blob_that_was_changed_is_refused(files):
    digest = files.save_blob(b"content")
    (files.root / "blobs" / digest).write_bytes(b"other")
    with pytest.raises(RunDamaged, match="not what its name says"):
        files.blob(digest)


def test_a_missing_blob_is_named(files):
    with pytest.raises(RunDamaged, match=DIGEST):
        files.blob(DIGEST)


# -- facts, tuning, result -----------------------------------------------------------------------


def test_facts_are_kept_by_attempt(files):
    facts = Facts(tier="cpu", unavailable=("perf counters: not permitted",))
    files.save_facts("a0001", facts)
    assert files.facts("a0001") == facts
    assert files.facts("a0002") is None


def test_tuning_and_result_are_none_before_they_are_written(files):
    assert files.tuning() is None
    assert files.result() is None
    tuning = Tuning(points=(), regimes=(), is_trivial=True, reason="nothing")
    files.save_tuning(tuning)
    assert files.tuning() == tuning


def test_a_result_may_be_replaced_by_a_later_one(files):
    def result(reason):
        return RunResult(
            run_id="r", exit_reason=reason, message="m", rounds=1, attempts=1, wall_s=1, job_s=1
        )

    files.save_result(result(ExitReason.CANCELLED))
    files.save_result(result(ExitReason.GOAL_MET))
    assert files.result() == result(ExitReason.GOAL_MET)


# -- replies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [make_plan(), make_research(), make_draft(), make_digest(), make_review()],
    ids=lambda reply: type(reply).__name__,
)
def test_replies_come_back_by_kind_and_key(files, reply):
    files.save_reply("r001", reply)
    assert files.reply(type(reply), "r001") == reply
    assert files.replies(type(reply)) == {"r001": reply}
    others = {Plan, Research, Draft, Digest, Review} - {type(reply)}
    assert all(files.replies(kind) == {} for kind in others)


def test_an_answer_is_never_replaced(files):
    files.save_reply("r001", make_plan(strategy="first"))
    files.save_reply("r001", make_plan(strategy="second"))
    kept = files.reply(Plan, "r001")
    assert kept is not None
    assert kept.strategy == "first"


def test_replies_are_in_order_of_time(files):
    for key in ("r010", "r002", "r001"):
        files.save_reply(key, make_plan())
    assert list(files.replies(Plan)) == ["r001", "r002", "r010"]


# -- outcomes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [
        Built(job_id="j-t0", artefact_digest=DIGEST, compiler="g++", seconds=1, is_cached=True),
        Rejected(
            job_id="j-t0", stage=Stage.CHECK, reason=Reason.WRONG_RESULT, message="m", log_tail="l"
        ),
        Unserved(job_id="j-t0", cause="no_space", message="disk", is_retryable=True),
        Benched(job_id="j-t0", record=make_record(), seconds=2),
    ],
    ids=lambda outcome: outcome.kind,
)
def test_outcomes_come_back_equal(files, outcome):
    files.save_outcome(outcome)
    assert files.outcome("j-t0") == outcome
    assert files.outcome("j-t1") is None


def test_a_bench_outcome_keeps_its_record_once_under_records(files):
    record = make_record()
    files.save_outcome(Benched(job_id="j-t0", record=record, seconds=2))
    stored = json.loads((files.root / "outcomes" / "j-t0.json").read_text())
    assert stored["record"] == record.record_id
    assert files.record(record.record_id) == record


def test_a_damaged_outcome_is_named(files):
    (files.root / "outcomes").mkdir(parents=True)
    (files.root / "outcomes" / "j-t0.json").write_text('{"kind": "benched"}')
    with pytest.raises(RunDamaged, match=r"j-t0\.json"):
        files.outcome("j-t0")


def test_the_half_written_part_of_a_killed_writer_is_not_read(files):
    record = make_record()
    files.save_record(record)
    (files.root / "records" / f".{record.record_id}.json.123-abcd").write_bytes(b"{half")
    assert list(files.records()) == [record.record_id]


def test_an_attempt_row_holds_only_ids_of_what_it_rests_on(files):
    row = files.append_attempt(
        make_attempt(1, outcome=AttemptOutcome.PROMOTED, feedback=make_decision())
    )
    text = (files.root / "attempts.jsonl").read_text()
    assert row.candidate_digest in text
    assert "kp_run" not in text
