"""What became of the digests' predictions, in the report."""

import pytest

from agents.diagnosis.prediction import Score
from graph.events import PredictionScored
from graph.report import render
from tests.graph.report.page import Page
from tests.graph.synthetic_run import whole_run

MEASURED = Score(
    rule="bank_conflicts",
    metric="shared_conflict_share",
    outcome="hit",
    before=0.9,
    after=0.1,
    expected_factor=0.1,
    factor=0.11,
)
UNMEASURED = Score(rule="<script>", metric="time_us", outcome="unmeasured", expected_factor=0.8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return whole_run(tmp_path_factory.mktemp("run"))


def rendered(run) -> Page:
    path = render(run.files, run.manifest, run.files.attempts(), None, None)
    return Page(path.read_text(encoding="utf-8"))


def test_without_a_score_there_is_no_table_of_them(run):
    assert "What became of their predictions" not in rendered(run).text


def test_scores_are_shown_with_what_was_foretold_and_measured(run):
    attempt = run.files.attempts()[0].attempt_id
    for number, score in enumerate((MEASURED, UNMEASURED)):
        run.files.events.append(
            PredictionScored(
                key=f"scored:r{number:03}", digest=f"r{number:03}", attempt_id=attempt, score=score
            )
        )
    page = rendered(run)
    assert "What became of their predictions" in page.text
    cells = page.texts_in("td")
    for word in ("bank conflicts", "0.10 times", "0.11 times", "hit", "<script>", "not measured"):
        assert word in cells
    assert page.named("script") == []
