"""Files that survive a kill."""

import os
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.durable import append_line, drop_torn_line, whole_lines, write_bytes


def test_a_file_is_replaced_whole_and_its_folder_made(tmp_path):
    path = tmp_path / "deep" / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_content_and_no_part(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")  # type: ignore[arg-type]  # the failure under test
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_written_file_has_the_permissions_of_the_user(tmp_path):
    path = tmp_path / "file"
    previous = os.umask(0o022)
    try:
        write_bytes(path, b"x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_missing_file_has_no_lines(tmp_path):
    assert list(whole_lines(tmp_path / "none")) == []
    assert drop_torn_line(tmp_path / "none") == b""


def test_a_line_still_being_written_is_not_read(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthr")
    assert list(whole_lines(path)) == [b"one", b"two"]


_APPEND_TOO_MUCH = """
import resource, sys
from pathlib import Path
from graph.durable import append_line
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
path = Path(sys.argv[1])
append_line(path, b"first")
try:
    append_line(path, b"second")
except OSError:
    append_line(path, b"3rd")
"""


def test_of_a_line_that_does_not_fit_nothing_stays(tmp_path):
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", _APPEND_TOO_MUCH, str(path)], check=True, timeout=60)
    assert path.read_bytes() == b"first\n3rd\n"


def test_the_torn_line_is_cut_off_and_returned(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthr")
    assert drop_torn_line(path) == b"thr"
    assert path.read_bytes() == b"one\ntwo\n"
    assert drop_torn_line(path) == b""


def test_a_file_of_one_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"never finished")
    assert drop_torn_line(path) == b"never finished"
    assert path.read_bytes() == b""


def test_reading_can_go_on_from_an_offset(tmp_path):
    path = tmp_path / "log"
    append_line(path, b"one")
    append_line(path, b"two")
    assert list(whole_lines(path, start=4)) == [b"two"]


@given(lines=st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b)), cut=st.integers(0))
def test_whatever_byte_a_writer_dies_at_only_its_last_line_is_lost(tmp_path_factory, lines, cut):
    path = tmp_path_factory.mktemp("torn") / "log"
    path.touch()
    for line in lines:
        append_line(path, line)
    content = path.read_bytes()
    kept = content[: len(content) - cut % (len(lines[-1]) + 2)] if lines else content
    path.write_bytes(kept)
    drop_torn_line(path)
    survivors = list(whole_lines(path))
    assert survivors in (lines, lines[:-1])
