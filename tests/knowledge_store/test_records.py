"""A passage names its place."""

import pytest
from pydantic import ValidationError

from knowledge_store.records import Passage


def make_passage(**changes) -> Passage:
    values = {"path": "a.md", "first_line": 3, "last_line": 3, "text": "x"}
    return Passage(**{**values, **changes})


def test_one_line_and_a_range_are_written_as_citations_write_them():
    assert make_passage().lines == "3"
    assert make_passage(last_line=9).lines == "3-9"


def test_a_passage_survives_json():
    passage = make_passage(repo="o/r", pr=7, commit="abc", licence="MIT", source="s")
    assert Passage.model_validate_json(passage.model_dump_json()) == passage


@pytest.mark.parametrize("changes", [{"first_line": 0}, {"stars": 5}])
def test_what_is_no_passage_is_refused(changes):
    with pytest.raises(ValidationError):
        make_passage(**changes)
