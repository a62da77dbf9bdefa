"""Spans of time."""

import pytest

from graph.errors import SettingsError
from graph.spans import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300", 300), ("300s", 300), ("5m", 300), ("1.5 min", 90), ("2h", 7200), ("1d", 86400)],
)
def test_spans_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5s", "5 weeks", "five", "1e3", "5m30s", "nan"])
def test_what_is_no_span_is_refused_with_examples(text):
    with pytest.raises(SettingsError, match="write 300s, 5m, 2h or 1d"):
        seconds_of(text)
