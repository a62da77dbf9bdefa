"""Logs for people and for collectors."""

import json
import logging
import sys

import pytest

from gpu_runner.logs import JsonFormatter


def record(message, *arguments, error=None):
    trace = (type(error), error, None) if error else None
    return logging.LogRecord("gpu_runner.broker", logging.INFO, "f", 1, message, arguments, trace)


def parsed(message, *arguments, **changes):
    return json.loads(JsonFormatter().format(record(message, *arguments, **changes)))


def test_a_line_holds_the_phrase_and_its_fields():
    line = parsed("job leased job=%s token=%d", "run-a", 7)
    assert line["event"] == "job leased"
    assert line["fields"] == {"job": "run-a", "token": "7"}
    assert line["message"] == "job leased job=run-a token=7"
    assert (line["level"], line["logger"]) == ("info", "gpu_runner.broker")
    assert line["at"].endswith("+00:00")


def test_a_sentence_without_fields_is_its_own_event():
    assert parsed("the disk\nis full")["event"] == "the disk\nis full"


def test_a_line_is_one_line_whatever_it_says():
    text = JsonFormatter().format(record("two\nlines and ünïcode a=%s", "\x00"))
    assert len(text.splitlines()) == 1


def test_an_exception_is_kept():
    assert "ValueError: bad" in parsed("failed", error=ValueError("bad"))["exception"]


@pytest.mark.parametrize("form", ["", "json"])
def test_the_environment_chooses_the_form(form):
    import subprocess  # noqa: PLC0415 - only here

    code = (
        "import logging; from gpu_runner.logs import log_to_stderr; log_to_stderr();"
        "logging.getLogger('x').info('begun job=%s', 'a')"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"KERNELPILOT_LOG": "info", "KERNELPILOT_LOG_FORMAT": form, "PYTHONPATH": "."},
    ).stderr
    if form:
        assert json.loads(shown)["fields"] == {"job": "a"}
    else:
        assert "INFO x begun job=a" in shown
