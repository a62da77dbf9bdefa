"""Jobs out, outcomes back: read as what they were, or refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.archive import Contents, pack
from gpu_runner.archive_content import read_jobs, read_results, write_jobs, write_results
from gpu_runner.errors import ArchiveError
from gpu_runner.jobs import Admit, Check
from gpu_runner.message import digest_of
from gpu_runner.spool import encode_outcome
from tests.builders import make_candidate, make_environment, make_problem, make_workload
from tests.gpu_runner.executors import make_built, make_job


def spooled(job_id="job", **changes):
    outcome = make_built(job_id)
    return encode_outcome(
        outcome, **{"spec_digest": digest_of(make_job(job_id)), "token": 3, **changes}
    )


def test_jobs_come_out_as_they_went_in(tmp_path):
    jobs = (make_job("b"), make_job("a", "sleep 3"))
    size = write_jobs(tmp_path / "jobs.zip", "a-run", jobs)
    found = read_jobs(tmp_path / "jobs.zip")
    assert found.jobs == tuple(reversed(jobs))
    assert found.origin == "a-run"
    assert size == (tmp_path / "jobs.zip").stat().st_size


def test_what_may_refuse_early_is_run_first(tmp_path):
    problem, workloads = make_problem(), (make_workload(),)
    jobs = (
        Check(job_id="a", problem=problem, workloads=workloads, candidate=make_candidate()),
        make_job("b"),
        Admit(job_id="c", problem=problem, workloads=workloads),
    )
    write_jobs(tmp_path / "jobs.zip", "a-run", jobs)
    assert [job.job_id for job in read_jobs(tmp_path / "jobs.zip").jobs] == ["c", "b", "a"]


def test_results_come_out_as_they_went_in(tmp_path):
    environment = make_environment(machine="far away")
    contents = {"job": spooled(), "other": spooled("other")}
    write_results(tmp_path / "results.zip", "a-run", environment, contents)
    found = read_results(tmp_path / "results.zip")
    assert (found.origin, found.environment) == ("a-run", environment)
    assert found.contents == contents
    assert found.outcomes["job"].outcome == make_built()
    assert found.outcomes["job"].token == 3


@given(orders=st.lists(st.text(max_size=30), max_size=5))
def test_any_source_text_survives_the_journey(tmp_path_factory, orders):
    path = tmp_path_factory.getbasetemp() / "texts.zip"
    jobs = tuple(make_job(f"job-{number}", f"x{text}") for number, text in enumerate(orders))
    write_jobs(path, "a-run", jobs)
    found = read_jobs(path).jobs
    assert found == jobs
    assert [digest_of(job) for job in found] == [digest_of(job) for job in jobs]


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("jobs/a.json", b"{}", "job a cannot be read; make the archive again"),
        ("jobs/a.json", b"[" * 9000, "job a cannot be read"),
        ("jobs/b.json", make_job("a").model_dump_json().encode(), "job b (it says a)"),
        ("outcomes/a.json", spooled("a"), "has outcomes/a.json among its jobs"),
        ("environment.json", b"{}", "has environment.json among its jobs"),
    ],
)
def test_a_member_that_is_no_job(tmp_path, name, content, text):
    path = tmp_path / "jobs.zip"
    pack(path, Contents.JOBS, "a-run", {name: content})
    with pytest.raises(ArchiveError) as raised:
        read_jobs(path)
    assert text in str(raised.value)


ENVIRONMENT = make_environment().model_dump_json().encode()


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({}, "environment.json cannot be read"),
        ({"environment.json": b"{}"}, "environment.json cannot be read"),
        ({"environment.json": ENVIRONMENT, "outcomes/a.json": b"{"}, "outcome of a cannot be read"),
        (
            {"environment.json": ENVIRONMENT, "outcomes/b.json": spooled("a")},
            "outcome of b cannot be read",
        ),
        (
            {
                "environment.json": ENVIRONMENT,
                "outcomes/a.json": spooled("a").replace(b'"seconds": 0.0', b'"seconds": 1.0'),
            },
            "outcome of a cannot be read",
        ),
        ({"environment.json": ENVIRONMENT, "jobs/a.json": b"{}"}, "jobs/a.json among its outcomes"),
    ],
)
def test_a_member_that_is_no_result(tmp_path, members, text):
    path = tmp_path / "results.zip"
    pack(path, Contents.RESULTS, "a-run", members)
    with pytest.raises(ArchiveError) as raised:
        read_results(path)
    assert text in str(raised.value)


def test_what_another_version_wrote_names_both(tmp_path, monkeypatch):
    """A field that this version does not know."""
    monkeypatch.setattr("gpu_runner.archive.program_version", lambda: "9.9")
    body = {**json.loads(make_job("a").model_dump_json()), "novelty": 1}
    pack(tmp_path / "jobs.zip", Contents.JOBS, "a", {"jobs/a.json": json.dumps(body).encode()})
    with pytest.raises(ArchiveError, match=r"written by kernelpilot 9\.9, this is .*one version"):
        read_jobs(tmp_path / "jobs.zip")
