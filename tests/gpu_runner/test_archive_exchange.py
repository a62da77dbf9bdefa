"""The folder of jobs that wait: what goes out comes back once, to exactly its job."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner import archive_exchange
from gpu_runner.archive_content import read_jobs, write_results
from gpu_runner.archive_exchange import Exchange, origin_in
from gpu_runner.errors import ArchiveError
from gpu_runner.jobs import Unserved
from gpu_runner.message import digest_of
from gpu_runner.spool import Spool, encode_outcome, write_file
from tests.builders import make_environment
from tests.gpu_runner.executors import make_built, make_job, seen


@pytest.fixture
def exchange(tmp_path):
    return Exchange(tmp_path / "exchange")


def make_unserved(job_id="job", message="no compiler"):
    return Unserved(job_id=job_id, cause="no_tool", message=message, is_retryable=True)


def bring(path, *jobs, outcomes=None, machine="far away", token=1):
    """Write results of jobs, each built unless `outcomes` says otherwise."""
    contents = {
        job.job_id: encode_outcome(
            (outcomes or {}).get(job.job_id) or make_built(job.job_id),
            spec_digest=digest_of(job),
            token=token,
        )
        for job in jobs
    }
    write_results(path, "a-run", make_environment(machine=machine), contents)
    return path


def test_a_job_waits_until_its_outcome_is_there(exchange, tmp_path):
    job = make_job()
    assert not exchange.is_there
    exchange.put(job)
    assert exchange.is_there
    assert exchange.pending() == (job,)
    assert exchange.outcome(job) is None
    brought = exchange.take_in(bring(tmp_path / "results.zip", job))
    assert (brought.new, brought.known, brought.waiting) == ((make_built(),), 0, 0)
    assert (brought.origin, brought.machine_before) == ("a-run", "")
    assert exchange.pending() == ()
    assert exchange.take(job) == make_built()
    assert exchange.environment() == brought.environment


def test_the_spool_holds_what_the_other_machine_wrote(exchange, tmp_path):
    """Also a worker of this folder finds it: the same file, byte for byte."""
    job = make_job()
    exchange.put(job)
    exchange.take_in(bring(tmp_path / "results.zip", job, token=9))
    assert seen(Spool(exchange.folder).find("job")).token == 9
    content = encode_outcome(make_built(), spec_digest=digest_of(job), token=9)
    assert (exchange.folder / "spool" / "job.json").read_bytes() == content


def test_all_that_waits_goes_out(exchange, tmp_path):
    for name in ("b", "a"):
        exchange.put(make_job(name))
    sent = exchange.export(tmp_path / "jobs.zip", "a-run")
    assert [job.job_id for job in sent] == ["a", "b"]
    assert read_jobs(tmp_path / "jobs.zip").jobs == sent
    assert exchange.pending() == sent  # until they are back


def test_nothing_goes_out_where_nothing_waits(exchange, tmp_path):
    with pytest.raises(ArchiveError, match=r"no job of a-run waits in .*kernelpilot resume"):
        exchange.export(tmp_path / "jobs.zip", "a-run")
    assert not (tmp_path / "jobs.zip").exists()


def test_putting_a_job_again_changes_nothing(exchange):
    exchange.put(make_job())
    path = exchange.folder / "pending" / "job.json"
    before = path.stat()
    exchange.put(make_job())
    assert path.stat().st_ino == before.st_ino
    exchange.put(make_job(order="sleep 3"))
    assert exchange.pending() == (make_job(order="sleep 3"),)


def test_results_come_in_once_however_often_they_are_imported(exchange, tmp_path):
    jobs = [make_job("a"), make_job("b")]
    for job in jobs:
        exchange.put(job)
    results = bring(tmp_path / "results.zip", *jobs)
    assert len(exchange.take_in(results).new) == 2
    files = {path: path.stat().st_ino for path in exchange.folder.rglob("spool/*.json")}
    again = exchange.take_in(results)
    assert (again.new, again.known, again.waiting) == ((), 2, 0)
    assert {path: path.stat().st_ino for path in files} == files
    exchange.take(jobs[0])
    assert exchange.take_in(results).known == 2


def test_a_part_of_the_results_leaves_the_rest_waiting(exchange, tmp_path):
    jobs = [make_job("a"), make_job("b")]
    for job in jobs:
        exchange.put(job)
    assert exchange.take_in(bring(tmp_path / "one.zip", jobs[0])).waiting == 1
    assert exchange.pending() == (jobs[1],)
    both = exchange.take_in(bring(tmp_path / "both.zip", *jobs))
    assert ([one.job_id for one in both.new], both.known) == (["b"], 1)


# -- results of something else ---------------------------------------------------------------------


def everything(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_outcome_of_another_job_of_the_same_id_is_refused(exchange, tmp_path):
    exchange.put(make_job("a"))
    exchange.put(make_job("b"))
    before = everything(exchange.folder)
    results = bring(tmp_path / "results.zip", make_job("a"), make_job("b", order="sleep 3"))
    with pytest.raises(ArchiveError, match=r"outcome of b in .* is of another job of this id"):
        exchange.take_in(results)
    assert everything(exchange.folder) == before


def test_an_outcome_that_nobody_asked_for_is_refused(exchange, tmp_path):
    exchange.put(make_job("a"))
    before = everything(exchange.folder)
    results = bring(tmp_path / "results.zip", make_job("a"), make_job("c"))
    with pytest.raises(ArchiveError, match="of c, which never went out from"):
        exchange.take_in(results)
    assert everything(exchange.folder) == before


def test_an_outcome_of_another_job_than_the_one_that_is_here_is_refused(exchange, tmp_path):
    exchange.put(make_job())
    exchange.take_in(bring(tmp_path / "results.zip", make_job()))
    other = bring(tmp_path / "other.zip", make_job(order="sleep 3"))
    with pytest.raises(ArchiveError, match="another job of this id"):
        exchange.take_in(other)
    with pytest.raises(ArchiveError, match="another job of this id"):
        exchange.take(make_job(order="sleep 3"))


def test_a_damaged_archive_changes_nothing(exchange, tmp_path):
    exchange.put(make_job())
    results = bring(tmp_path / "results.zip", make_job())
    results.write_bytes(results.read_bytes()[:-9])
    before = everything(exchange.folder)
    with pytest.raises(ArchiveError, match="nothing was taken from it"):
        exchange.take_in(results)
    assert everything(exchange.folder) == before


# -- jobs that could not be served -----------------------------------------------------------------


def test_what_was_not_served_is_told_and_goes_out_again(exchange, tmp_path):
    job = make_job()
    exchange.put(job)
    failed = bring(tmp_path / "failed.zip", job, outcomes={"job": make_unserved()})
    brought = exchange.take_in(failed)
    assert brought.unserved == (make_unserved(),)
    assert exchange.pending() == (job,)
    assert exchange.outcome(job) == make_unserved()
    assert exchange.take_in(failed).known == 1
    assert exchange.take_in(bring(tmp_path / "done.zip", job)).new == (make_built(),)
    assert exchange.pending() == ()


def test_a_caller_that_was_told_of_a_failure_does_not_wait_any_more(exchange, tmp_path):
    """It tries again under another id; the first one is over."""
    job = make_job()
    exchange.put(job)
    exchange.take_in(bring(tmp_path / "failed.zip", job, outcomes={"job": make_unserved()}))
    assert exchange.take(job) == make_unserved()
    assert exchange.pending() == ()
    assert exchange.take_in(bring(tmp_path / "done.zip", job)).new == ()
    assert exchange.take(job) == make_unserved()


def test_a_later_failure_does_not_replace_a_result(exchange, tmp_path):
    job = make_job()
    exchange.put(job)
    exchange.take_in(bring(tmp_path / "done.zip", job))
    exchange.put(job)
    exchange.take_in(bring(tmp_path / "failed.zip", job, outcomes={"job": make_unserved()}))
    assert exchange.take(job) == make_built()


# -- machines, disks, damage -----------------------------------------------------------------------


def test_another_machine_is_told(exchange, tmp_path):
    exchange.put(make_job("a"))
    exchange.put(make_job("b"))
    exchange.take_in(bring(tmp_path / "a.zip", make_job("a"), machine="first"))
    later = exchange.take_in(bring(tmp_path / "b.zip", make_job("b"), machine="second"))
    assert (later.machine_before, later.environment.machine) == ("first", "second")
    assert exchange.environment() == later.environment


def test_a_full_disk_loses_nothing_and_the_import_can_be_repeated(exchange, tmp_path, monkeypatch):
    jobs = [make_job("a"), make_job("b")]
    for job in jobs:
        exchange.put(job)
    results = bring(tmp_path / "results.zip", *jobs)

    def fail_at_b(path, content):
        if path.name == "b.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_file(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(archive_exchange, "write_file", fail_at_b)
        with pytest.raises(ArchiveError, match=r"No space left on device; then import .* again"):
            exchange.take_in(results)
    assert exchange.take(jobs[0]) == make_built("a")
    assert exchange.pending() == (jobs[1],)
    assert len(exchange.take_in(results).new) == 1


def test_damage_here_names_the_file_and_the_remedy(exchange, tmp_path):
    exchange.put(make_job())
    exchange.take_in(bring(tmp_path / "results.zip", make_job()))
    (exchange.folder / "environment.json").write_text("{")
    with pytest.raises(ArchiveError, match=r"environment\.json is damaged; import the results"):
        exchange.environment()
    (exchange.folder / "pending" / "other.json").write_text("{")
    with pytest.raises(ArchiveError, match=r"other\.json is damaged; delete it and resume"):
        exchange.pending()


def test_a_damaged_outcome_lets_its_job_wait_again(exchange, tmp_path):
    job = make_job()
    exchange.put(job)
    exchange.take_in(bring(tmp_path / "results.zip", job))
    (exchange.folder / "spool" / "job.json").write_text("{")
    assert exchange.take(job) is None
    exchange.put(job)
    assert exchange.take_in(tmp_path / "results.zip").new == (make_built(),)


def test_an_archive_says_whose_it_is(tmp_path):
    assert origin_in(bring(tmp_path / "results.zip", make_job())) == "a-run"


# -- any order of journeys -------------------------------------------------------------------------

JOBS = tuple(make_job(name) for name in "abcd")
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "bring", "fail", "take"]), st.sets(st.integers(0, 3))),
    max_size=12,
)


@given(steps=STEPS)
def test_in_any_order_every_job_waits_or_has_its_own_outcome(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("law")
    exchange = Exchange(folder / "exchange")
    sent: set[int] = set()
    done: set[int] = set()
    for step, chosen in steps:
        jobs = [JOBS[number] for number in sorted(chosen & (sent if step != "put" else chosen))]
        if step == "put":
            for job in jobs:
                exchange.put(job)
            sent |= chosen
        elif step == "take":
            for job in jobs:
                exchange.take(job)
        else:
            outcomes = {j.job_id: make_unserved(j.job_id) for j in jobs} if step == "fail" else {}
            before = {job.job_id for job in exchange.pending()}
            exchange.take_in(bring(folder / "results.zip", *jobs, outcomes=outcomes))
            if step == "bring":
                done |= {number for number in chosen & sent if JOBS[number].job_id in before}
    waiting = {job.job_id for job in exchange.pending()}
    for number in done:
        assert exchange.outcome(JOBS[number]) == make_built(JOBS[number].job_id)
        assert JOBS[number].job_id not in waiting
    assert waiting <= {JOBS[number].job_id for number in sent}
