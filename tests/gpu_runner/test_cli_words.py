"""Every outcome in words and as an exit code, and jobs that are not read."""

import json

import pytest
import typer

from gpu_runner.cli import Exit, _exit_code, _in_words, _made, _read_job
from gpu_runner.facts import Facts
from gpu_runner.jobs import (
    OUTCOME,
    Admitted,
    AnyOutcome,
    Benched,
    Checked,
    Profiled,
    Reason,
    Rejected,
    Sanitized,
    Stage,
    Unfit,
    Unserved,
)
from tests.builders import make_environment
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.measured import record_of, series_of, sitting_of

RESULTS: list[AnyOutcome] = [
    make_built(),
    Admitted(job_id="a", margins={"plain": 9.0}, caught=("zeros",), environment=make_environment()),
    Checked(job_id="c", cases=36, worst_error=0.2, rms_ratio=1.1, seconds=0.5),
    Benched(job_id="b", record=record_of(sitting_of(0, series_of(1.1))), seconds=1.5),
    Profiled(job_id="p", facts=Facts(tier="cpu"), seconds=0.1),
    Sanitized(job_id="s", tools=("address",), seconds=0.1),
]
REJECTED = Rejected(
    job_id="c", stage=Stage.CHECK, reason=Reason.CRASHED, message="killed by SIGSEGV"
)
FAILURES: list[tuple[AnyOutcome, Exit, str]] = [
    (REJECTED, Exit.REJECTED, "rejected (check, crashed): killed by SIGSEGV"),
    (
        REJECTED.model_copy(update={"log_tail": "last\nwords\n"}),
        Exit.REJECTED,
        "rejected (check, crashed): killed by SIGSEGV\nlast\nwords",
    ),
    (Unfit(job_id="a", message="zeros pass"), Exit.UNSERVED, "unfit target: zeros pass"),
    (
        Unserved(job_id="a", cause="no_tool", message="no g++", is_retryable=False),
        Exit.UNSERVED,
        "unserved (no_tool): no g++",
    ),
]


@pytest.mark.parametrize("outcome", RESULTS, ids=lambda outcome: outcome.kind)
def test_a_result_is_printed_whole_and_exits_0(outcome):
    assert _exit_code(outcome) is Exit.RESULT
    assert OUTCOME.validate_json(_in_words(outcome)) == outcome
    assert len(_in_words(outcome).splitlines()) > 1


@pytest.mark.parametrize(("outcome", "code", "words"), FAILURES)
def test_a_failure_is_a_sentence_and_a_code_of_its_own(outcome, code, words):
    assert (_exit_code(outcome), _in_words(outcome)) == (code, words)


def test_every_kind_of_outcome_is_covered_here():
    kinds = {outcome.kind for outcome in RESULTS} | {outcome.kind for outcome, _, _ in FAILURES}
    known = OUTCOME.json_schema()["discriminator"]["mapping"]
    assert kinds == set(known)


def test_exit_codes_are_the_documented_ones():
    assert {code.name: int(code) for code in Exit} == {
        "RESULT": 0,
        "REJECTED": 1,
        "USAGE": 2,
        "UNSERVED": 3,
    }


def test_a_job_file_is_read_as_the_job_it_holds(tmp_path):
    path = tmp_path / "job.json"
    path.write_text(make_job(timeout_s=7.5).model_dump_json(indent=2))
    assert _read_job(path) == make_job(timeout_s=7.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"job_id": "Not Allowed"}, "build.job_id: String should match pattern"),
        ({"timeout_s": 0}, "build.timeout_s: Input should be greater than 0"),
        ({"colour": "red"}, "build.colour: Extra inputs are not permitted"),
        ({"candidate": {}}, "build.candidate.language: Field required"),
        ({"kind": "paint"}, "file: Input tag 'paint'"),
    ],
)
def test_the_first_fault_of_a_job_file_is_named_by_its_place(tmp_path, change, said):
    path = tmp_path / "job.json"
    path.write_text(json.dumps({**make_job().model_dump(mode="json"), **change}))
    with pytest.raises(typer.BadParameter) as caught:
        _read_job(path)
    assert str(caught.value).startswith(f"{path} is not a job: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["none.json", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(typer.BadParameter, match=str(tmp_path)):
        _read_job(tmp_path / name)


def test_a_workspace_is_made_with_its_parents_and_may_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = tmp_path / "a" / "b"
    for spelling in ("a/b", "a/./b", "a/../a/b"):
        assert _made(type(tmp_path)(spelling)) == wanted
    assert wanted.is_dir()
