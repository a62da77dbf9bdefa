"""Histories that depend on their content alone."""

import subprocess
from pathlib import Path

import pytest

from graph.errors import ShipFailed
from graph.repository.commits import Commits, head_of

DATE = "2030-01-02T03:04:05.123456Z"


def written(root: Path) -> Commits:
    root.mkdir()
    commits = Commits(root, DATE)
    commits.write({"a.txt": "one\n", "deep/b.txt": "zwei: ä\n"})
    commits.commit("first: one", "because")
    commits.write({"a.txt": "two\n"})
    commits.commit("second: two")
    return commits


def log(root: Path, form: str) -> list[str]:
    command = ["git", "log", f"--format={form}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()


def test_equal_content_has_equal_commits(tmp_path):
    assert written(tmp_path / "x").head() == written(tmp_path / "y").head()


def test_author_and_date_are_given(tmp_path):
    written(tmp_path / "x")
    form = "%an <%ae> %cn %aI %s"
    assert log(tmp_path / "x", form) == [
        "KernelPilot <kernelpilot@localhost> KernelPilot 2030-01-02T03:04:05+00:00 second: two",
        "KernelPilot <kernelpilot@localhost> KernelPilot 2030-01-02T03:04:05+00:00 first: one",
    ]


def test_the_users_own_settings_have_no_say(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text("[commit]\n\tgpgsign = true\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    written(tmp_path / "x")
    assert head_of(tmp_path / "x")
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_changed_is_no_commit(tmp_path):
    commits = written(tmp_path / "x")
    before = commits.head()
    commits.write({"a.txt": "two\n"})
    commits.commit("third: nothing")
    assert commits.head() == before


def test_what_is_no_repository_has_no_head(tmp_path):
    assert head_of(tmp_path) == ""
    Commits(tmp_path, DATE)
    assert head_of(tmp_path) == ""


def test_without_git_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ShipFailed, match="git is not on PATH; install it"):
        Commits(tmp_path, DATE)


def test_what_git_refuses_is_said(tmp_path):
    commits = written(tmp_path / "x")
    (tmp_path / "x" / ".git" / "index.lock").touch()
    commits.write({"a.txt": "three\n"})
    with pytest.raises(ShipFailed, match="git add failed"):
        commits.commit("never: committed")
