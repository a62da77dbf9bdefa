"""What a run leaves for people, while it goes on and once it has ended."""

import pytest

from graph.ledger import ExitReason, RunResult
from graph.lock import locked
from graph.publish import publish, report
from graph.run_files import RunFiles
from tests.graph.builders import make_manifest
from tests.graph.report.page import Page
from tests.graph.synthetic_run import SyntheticRun, whole_run

IN_PROGRESS = "This run is in progress"


def page_of(files: RunFiles) -> Page:
    return Page(report(files).read_text(encoding="utf-8"))


def result(**changes) -> RunResult:
    values = {
        "run_id": "softmax-test",
        "exit_reason": ExitReason.PLATEAU,
        "message": "nothing was faster",
        "rounds": 2,
        "attempts": 4,
        "wall_s": 61.0,
        "job_s": 50.0,
    }
    return RunResult(**{**values, **changes})


def test_the_report_of_a_run_that_has_just_begun_is_in_progress(tmp_path):
    files = RunFiles(tmp_path)
    files.write_manifest(make_manifest())
    page = page_of(files)
    assert IN_PROGRESS in page.text
    assert "cancelled" not in page.text
    assert "No attempt has ended yet." in page.text
    assert "#tuning" not in page.targets


def test_a_run_in_progress_shows_its_kernel_as_provisional(tmp_path):
    run = whole_run(tmp_path)
    page = page_of(run.files)
    assert IN_PROGRESS in page.text
    assert "running" in page.text
    assert "Provisional: these are the claims that promoted the kernel" in page.text
    assert "Time left" in page.text
    assert "Wall clock" not in page.text
    assert "tuning" not in page.ids


def test_a_run_that_is_being_tuned_shows_its_dispatcher(tmp_path):
    run = whole_run(tmp_path)
    run.tuning()
    page = page_of(run.files)
    assert IN_PROGRESS in page.text
    assert "tuning" in page.ids


@pytest.mark.parametrize("reason", [ExitReason.PLATEAU, ExitReason.CANCELLED, ExitReason.ERROR])
def test_the_report_of_an_ended_run_says_how_it_ended(tmp_path, reason):
    run = SyntheticRun(tmp_path)
    run.rejected()
    run.files.save_result(result(exit_reason=reason, message="that is why"))
    page = page_of(run.files)
    assert IN_PROGRESS not in page.text
    assert "That is why." in page.text
    assert "Wall clock" in page.text
    assert "Nothing was promoted: the baseline serves every shape." in page.text


def test_a_cancelled_run_that_was_taken_up_again_is_in_progress(tmp_path):
    run = SyntheticRun(tmp_path)
    run.measured(0.9)
    run.files.save_result(result(exit_reason=ExitReason.CANCELLED, message="stopped by hand"))
    with locked(run.files.root):
        assert IN_PROGRESS in page_of(run.files).text
    assert "Stopped by hand." in page_of(run.files).text


def test_asking_for_a_report_writes_no_result(tmp_path):
    run = whole_run(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    assert report(run.files) == tmp_path / "report.html"
    assert {path.name for path in tmp_path.iterdir()} == before | {"report.html"}
    assert run.files.result() is None


def test_a_run_without_a_kernel_is_published_without_a_repository(tmp_path):
    run = SyntheticRun(tmp_path)
    run.rejected()
    published = publish(run.files, run.manifest, result())
    assert published.repository == ""
    assert published.report == str(tmp_path / "report.html")
    assert not (tmp_path / "repo").exists()
    assert run.files.result() is None, "the node saves it once everything is there"


def test_a_kernel_without_a_tuning_is_reported_and_not_shipped(tmp_path):
    run = SyntheticRun(tmp_path)
    run.promoted(1.5)
    published = publish(run.files, run.manifest, result(best_attempt="a0001"))
    assert (published.repository, published.best_attempt) == ("", "a0001")
    assert "a0001" in Page((tmp_path / "report.html").read_text()).ids
