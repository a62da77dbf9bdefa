import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from knowledge_store.errors import StoreError
from knowledge_store.truth import Truth
from knowledge_store.truth_schema import NAME, SCHEMA
from tests.knowledge_store.diff_builders import KERNEL, KEY, make_pull

ROOT = Path(__file__).resolve().parents[2]
OPENER = "import sys; from pathlib import Path; from knowledge_store.truth import Truth;"
OPENER += "Truth(Path(sys.argv[1])).close()"


def test_a_store_says_what_it_is(tmp_path):
    Truth(tmp_path).close()
    with sqlite3.connect(tmp_path / NAME) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
        assert file.execute("PRAGMA application_id").fetchone() == (0x4B504B53,)
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    file.close()


def test_opening_again_keeps_what_is_there(tmp_path):
    with Truth(tmp_path / "deep" / "store") as truth:
        truth.put(make_pull(), KERNEL.encode())
    with Truth(tmp_path / "deep" / "store") as truth:
        assert list(truth.keys()) == [KEY]


@pytest.mark.processes
def test_many_may_create_a_store_at_once(tmp_path):
    store = tmp_path / "store"
    openers = [
        subprocess.Popen([sys.executable, "-c", OPENER, str(store)], cwd=ROOT) for _ in range(6)
    ]
    assert [opener.wait(60) for opener in openers] == [0] * 6
    with Truth(store) as truth:
        assert truth.revision == 0


def test_a_reader_cannot_write(tmp_path):
    Truth(tmp_path).close()
    with Truth(tmp_path, read_only=True) as truth, pytest.raises(StoreError, match="readonly"):
        truth.put(make_pull(), KERNEL.encode())


def test_a_reader_sees_what_a_writer_commits_meanwhile(tmp_path):
    with Truth(tmp_path) as writer, Truth(tmp_path, read_only=True) as reader:
        assert list(reader.keys()) == []
        writer.put(make_pull(), KERNEL.encode())
        assert list(reader.keys()) == [KEY]
        assert reader.diff(KEY) == KERNEL.encode()


def test_a_copied_store_is_read_without_its_log(tmp_path):
    with Truth(tmp_path / "store") as truth:
        truth.put(make_pull(), KERNEL.encode())
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "store" / NAME, tmp_path / "copy" / NAME)
    with Truth(tmp_path / "copy", read_only=True) as truth:
        assert list(truth.keys()) == [KEY]


def test_a_store_in_a_folder_with_odd_marks_is_opened(tmp_path):
    folder = tmp_path / "a?b#c %20 ü"
    with Truth(folder) as truth:
        truth.put(make_pull(), KERNEL.encode())
    with Truth(folder, read_only=True) as truth:
        assert list(truth.keys()) == [KEY]


def test_a_log_left_by_a_kill_is_taken_up(tmp_path):
    truth = Truth(tmp_path / "store")
    truth.put(make_pull(), KERNEL.encode())
    shutil.copytree(tmp_path / "store", tmp_path / "left")  # as it is on disk, unclosed
    truth.close()
    with Truth(tmp_path / "left") as left:
        assert list(left.keys()) == [KEY]
        assert list(left.verify()) == []
