"""The log of a subject."""

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.host.log import Log


@pytest.fixture
def log():
    made = Log()
    yield made
    made.close()


def test_nothing_written_is_nothing_shown(log):
    assert (log.tail(), log.last_line()) == ("", "")


def test_two_streams_of_a_process_are_kept_in_order(log):
    text = "echo one; echo two >&2; echo three"
    subprocess.run(["sh", "-c", text], stdout=log.fd, stderr=log.fd, check=True)
    assert log.tail() == "one\ntwo\nthree\n"
    assert log.last_line() == "three"


def test_tail_is_the_last_8_kib(log):
    os.write(log.fd, b"a" * 10_000 + b"b" * 100)
    assert log.tail() == "a" * 8092 + "b" * 100


def test_writes_beyond_a_mebibyte_fail(log):
    written = sum(os.write(log.fd, b"x" * 65536) for _ in range(16))
    with pytest.raises(PermissionError):
        os.write(log.fd, b"x")
    assert written == 1 << 20
    assert log.tail() == "x" * 8192


def test_size_cannot_be_changed(log):
    for size in (0, 1 << 21):
        with pytest.raises(PermissionError):
            os.ftruncate(log.fd, size)


def test_control_characters_are_not_shown(log):
    os.write(log.fd, b"\x1b[31mred\x1b[0m\x1b[2J\x07\x00bell\rreturn\ttab\xff\n")
    assert log.tail() == "redbellreturn\ttab\N{REPLACEMENT CHARACTER}\n"


def test_last_line_is_short_and_says_something(log):
    os.write(log.fd, b"first\n" + b"y" * 500 + b"\n   \n\n")
    assert log.last_line() == "y" * 300


@given(st.binary(max_size=200))
def test_any_bytes_can_be_shown(content):
    log = Log()
    os.write(log.fd, content)
    shown = log.tail()
    log.close()
    assert all(c in "\t\n" or c >= " " for c in shown)
    assert "\x1b" not in shown


def test_position_moved_by_the_writer_is_harmless(log):
    os.write(log.fd, b"abc")
    os.lseek(log.fd, 1 << 30, os.SEEK_SET)
    assert log.tail() == ""
    os.lseek(log.fd, 0, os.SEEK_SET)
    assert log.tail() == ""
