import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.errors import SourceError
from knowledge_store.sources import git
from knowledge_store.sources.catalogue import Catalogue, LedgerRow, Upstream
from knowledge_store.truth import Truth

WHO = {
    "GIT_AUTHOR_NAME": "Someone",
    "GIT_AUTHOR_EMAIL": "someone@example.invalid",
    "GIT_COMMITTER_NAME": "Someone",
    "GIT_COMMITTER_EMAIL": "someone@example.invalid",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}
MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy\n"


class Clone:
    """A repository that tests write commits into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.days = 0
        folder.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "origin", "https://github.com/owner/name.git")
        self.commit("Begin", {"LICENSE": MIT})

    def git(self, *arguments: str) -> str:
        day = f"2026-01-{self.days + 1:02d}T10:00:00+0000"
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **WHO, "GIT_AUTHOR_DATE": day, "GIT_COMMITTER_DATE": day},
        )
        return done.stdout.strip()

    def commit(self, message: str, files: dict[str, str]) -> str:
        self.days += 1
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def squash(self, number: int, text: str, path: str = "csrc/gemm.cu") -> str:
        return self.commit(f"Change {number} (#{number})\n\nWhy it is faster.", {path: text})

    def merge(self, number: int, files: list[dict[str, str]]) -> str:
        self.git("checkout", "-q", "-b", f"topic{number}")
        for at, one in enumerate(files):
            self.commit(f"step {at}", one)
        self.git("checkout", "-q", "main")
        message = f"Merge pull request #{number} from someone/topic{number}\n\nMerged {number}\n\nB"
        self.git("merge", "-q", "--no-ff", "-m", message, f"topic{number}")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path / "clone")


@pytest.fixture
def truth(tmp_path):
    with Truth(tmp_path / "store") as opened:
        yield opened


def read(truth, clone, **given):
    return git.ingest(truth, clone.folder, **{"catalogue": Catalogue(), **given})


def test_a_squashed_change_is_taken_in(truth, clone):
    commit = clone.squash(7, "__global__ void gemm() {}\n")
    report = read(truth, clone)
    assert (report.changed, report.problems) == (1, [])
    pull = truth.pull("owner/name#7")
    assert (pull.title, pull.body, pull.author) == ("Change 7", "Why it is faster.", "Someone")
    assert (pull.merge_commit, pull.merged_at, pull.licence) == (commit, "2026-01-03", "MIT")
    assert (pull.url, pull.origin) == ("https://github.com/owner/name/pull/7", "git")
    assert b"+__global__ void gemm() {}\n" in truth.diff("owner/name#7")


def test_a_merge_commit_is_taken_in_with_all_its_steps_as_one_diff(truth, clone):
    clone.merge(9, [{"csrc/a.cu": "one\n"}, {"csrc/a.cu": "two\n"}])
    assert read(truth, clone).changed == 1
    pull = truth.pull("owner/name#9")
    assert (pull.title, pull.body) == ("Merged 9", "B")
    (hunk,) = truth.hunks("owner/name#9")
    assert hunk.lines == ("+two",)


def test_commits_of_no_pull_request_are_passed_over(truth, clone):
    clone.commit("A plain commit", {"csrc/a.cu": "x\n"})
    clone.commit("Mentions (#5) inside", {"csrc/a.cu": "y\n"})
    assert read(truth, clone).total == 0


def test_a_second_call_goes_on_from_where_the_first_ended(truth, clone):
    clone.squash(1, "a\n")
    read(truth, clone)
    assert read(truth, clone).total == 0
    clone.squash(2, "b\n")
    report = read(truth, clone)
    assert (report.changed, report.unchanged) == (1, 0)


def test_a_rewritten_branch_is_read_again(truth, clone):
    clone.squash(1, "a\n")
    clone.squash(2, "b\n")
    read(truth, clone)
    clone.git("reset", "-q", "--hard", "HEAD~1")
    clone.squash(3, "c\n")
    report = read(truth, clone)
    assert (report.changed, report.unchanged) == (1, 1)


def test_a_first_date_bounds_the_walk(truth, clone):
    for number in (1, 2, 3):
        clone.squash(number, f"{number}\n")
    assert read(truth, clone, since="2026-01-05").changed == 1


def test_paths_defer_with_the_reason(truth, clone):
    clone.squash(1, "a\n")
    clone.squash(2, "b\n", "docs/x.md")
    report = read(truth, clone, paths=("docs/*",))
    assert (report.changed, report.deferred) == (1, 1)
    assert {row.key: row.decision for row in truth.decisions()} == {
        "owner/name#1": "defer",
        "owner/name#2": "include",
    }


def test_a_decision_by_hand_holds(truth, clone):
    clone.squash(1, "a\n")
    row = LedgerRow(pull="owner/name#1", decision="defer", reason="a release")
    assert read(truth, clone, catalogue=Catalogue(ledger=(row,))).deferred == 1


def test_what_was_dropped_stays_out(truth, clone):
    clone.squash(1, "a\n")
    read(truth, clone)
    truth.drop("owner/name#1", "its authors asked for it")
    report = read(truth, clone, paths=("csrc/*",))
    assert (report.dropped, list(truth.keys())) == (1, [])
    truth.restore("owner/name#1")
    assert read(truth, clone).changed == 1


def test_a_renamed_file_is_told_as_renamed(truth, clone):
    clone.squash(1, "a\nb\nc\nd\n")
    clone.git("mv", "csrc/gemm.cu", "csrc/other.cu")
    clone.commit("Move (#2)", {})
    read(truth, clone)
    (file,) = truth.files("owner/name#2")
    assert (file.status, file.old_path, file.path) == ("renamed", "csrc/gemm.cu", "csrc/other.cu")


def test_odd_names_and_contents_are_taken_in(truth, clone):
    (clone.folder / "csrc").mkdir()
    (clone.folder / "csrc" / "a b\u00e4\n.cu").write_bytes(b"\xff\xfe\0\n+++ b/x\n")
    (clone.folder / "csrc" / "link.cu").symlink_to("/etc/passwd")
    clone.commit("Odd (#1)", {"csrc/k.cu": "@@ -1 +1 @@\n"})
    assert read(truth, clone).changed == 1
    files = {file.path: file.status for file in truth.files("owner/name#1")}
    assert files == {
        "csrc/a b\u00e4\ufffd.cu": "binary",
        "csrc/link.cu": "added",
        "csrc/k.cu": "added",
    }
    assert b"root:" not in truth.diff("owner/name#1")


def test_the_clones_configuration_runs_nothing(truth, clone):
    witness = clone.folder.parent / "witness"
    command = f"touch {witness};"
    (clone.folder / ".gitattributes").write_text("*.cu diff=odd\n")
    clone.squash(1, "a\n")
    for name in (
        "diff.external",
        "diff.odd.command",
        "diff.odd.textconv",
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "gpg.program",
    ):
        clone.git("config", name, command)
    clone.git("config", "log.showSignature", "true")
    assert read(truth, clone).changed == 1
    assert not witness.exists()
    assert b"+a\n" in truth.diff("owner/name#1")


def test_the_users_diff_settings_do_not_show(truth, clone):
    clone.squash(1, "a\n")
    clone.git("config", "diff.noprefix", "true")
    clone.git("config", "color.ui", "always")
    read(truth, clone)
    assert truth.diff("owner/name#1").startswith(b"diff --git a/csrc/gemm.cu b/csrc/gemm.cu\n")


def test_a_clone_without_some_objects_names_what_is_missing(truth, clone):
    clone.squash(1, "a\n")
    blob = clone.git("rev-parse", "HEAD:csrc/gemm.cu")
    (clone.folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    (clone.folder / "csrc" / "gemm.cu").unlink()
    report = read(truth, clone)
    assert (report.changed, report.missing) == (1, ["owner/name#1"])
    assert truth.counts().missing == ("owner/name#1",)


def test_where_a_clone_is_shallow_no_diff_is_made_up(truth, clone, tmp_path):
    for number in (1, 2, 3):
        clone.squash(number, f"{number}\n")
    shallow = tmp_path / "shallow"
    clone.git("clone", "-q", "--depth=2", f"file://{clone.folder}", str(shallow))
    report = git.ingest(truth, shallow, repo="owner/name", catalogue=Catalogue())
    assert (report.changed, report.missing) == (2, ["owner/name#2"])
    assert report.problems == ["owner/name#2: the clone is shallow here; deepen it"]
    assert truth.diff("owner/name#3").count(b"diff --git") == 1


def test_a_bare_clone_is_read_like_any_other(truth, clone, tmp_path):
    clone.squash(1, "a\n")
    clone.merge(2, [{"csrc/b.cu": "b\n"}])
    bare = tmp_path / "bare.git"
    clone.git("clone", "-q", "--bare", str(clone.folder), str(bare))
    report = git.ingest(truth, bare, repo="owner/name", catalogue=Catalogue())
    assert (report.changed, report.problems) == (2, [])
    assert truth.pull("owner/name#1").licence == "MIT"


def test_the_first_commit_may_be_a_pull_request(truth, tmp_path):
    clone = Clone.__new__(Clone)
    clone.folder, clone.days = tmp_path / "young", 0
    clone.folder.mkdir()
    clone.git("init", "-q", "-b", "main")
    clone.squash(1, "a\n")
    report = git.ingest(truth, clone.folder, repo="owner/name", catalogue=Catalogue())
    assert report.changed == 1
    assert truth.files("owner/name#1")[0].status == "added"


def test_an_empty_repository_is_said(truth, tmp_path):
    clone = Clone.__new__(Clone)
    clone.folder, clone.days = tmp_path / "empty", 0
    clone.folder.mkdir()
    clone.git("init", "-q", "-b", "main")
    with pytest.raises(SourceError, match="rev-parse"):
        git.ingest(truth, clone.folder, repo="owner/name")


def test_many_merges_are_read_in_order(truth, clone):
    for number in range(1, 26):
        clone.squash(number, f"{number}\n")
    assert read(truth, clone).changed == 25
    assert list(truth.keys()) == [f"owner/name#{number}" for number in range(1, 26)]


@pytest.mark.parametrize(
    "url",
    [
        "git@github.com:owner/name.git",
        "https://github.com/owner/name",
        "ssh://git@host/owner/name.git",
        "https://host/owner/name/",
    ],
)
def test_the_remote_names_the_repository(truth, clone, url):
    clone.git("remote", "set-url", "origin", url)
    clone.squash(1, "a\n")
    read(truth, clone)
    assert list(truth.keys()) == ["owner/name#1"]


def test_without_a_remote_the_caller_names_it(truth, clone):
    clone.git("remote", "remove", "origin")
    clone.squash(1, "a\n")
    with pytest.raises(SourceError, match="say which one"):
        read(truth, clone)
    assert read(truth, clone, repo="my/fork").changed == 1


def test_what_is_no_clone_is_said(truth, tmp_path):
    for name in ("nowhere", "empty"):
        folder = tmp_path / name
        with pytest.raises(SourceError, match="a clone"):
            git.ingest(truth, folder, repo="a/b")
        (tmp_path / "empty").mkdir(exist_ok=True)


RECORD = "c" * 40 + "\x1f" + "p" * 40 + " " + "q" * 40 + "\x1fSomeone\x1f2026-01-02\x1f"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Fix (#12)", (12, "Fix", "")),
        ("Backport (#12) (#34)\n\nbody", (34, "Backport (#12)", "body")),
        ("Merge pull request #5 from a/b\n\nTitle\n\nBody", (5, "Title", "Body")),
        ("Merge pull request #5 from a/b", (5, "Merge pull request #5 from a/b", "")),
        (
            "Fix (#12)\n\nPull Request resolved: https://github.com/owner/name/pull/77\n",
            (77, "Fix", "Pull Request resolved: https://github.com/owner/name/pull/77"),
        ),
        (
            "Fix (#12)\n\nPull Request resolved: https://github.com/other/one/pull/77",
            (12, "Fix", "Pull Request resolved: https://github.com/other/one/pull/77"),
        ),
    ],
)
def test_a_message_tells_of_its_pull_request(message, expected):
    merge = git.merge_of((RECORD + message).encode(), "owner/name")
    assert merge is not None
    assert (merge.number, merge.title, merge.body) == expected
    assert (merge.parent, merge.merged_at) == ("p" * 40, "2026-01-02")


@pytest.mark.parametrize("message", ["", "Fix", "Fix #12", "(#12) first", "Merge branch 'x'"])
def test_a_message_that_tells_of_none_is_none(message):
    assert git.merge_of((RECORD + message).encode(), "owner/name") is None


def test_a_record_of_another_shape_is_none():
    assert git.merge_of(b"garbage", "owner/name") is None


@given(st.binary(max_size=200))
def test_no_record_raises(content):
    git.merge_of(content, "owner/name")
    git.merge_of(RECORD.encode() + content, "owner/name")


def test_a_listed_repository_begins_where_its_list_says(truth, clone):
    for number in (1, 2, 3):
        clone.squash(number, f"{number}\n")
    upstream = Upstream(repo="owner/name", since="2026-01-05", kernel_paths=("csrc/*",))
    report = read(truth, clone, catalogue=Catalogue(upstreams=(upstream,)))
    assert (report.changed, list(truth.keys())) == (1, ["owner/name#3"])


def test_a_licence_file_speaks_before_the_source_list(truth, clone):
    clone.squash(1, "a\n")
    upstream = Upstream(repo="owner/name", licence="Apache-2.0", kernel_paths=("csrc/*",))
    read(truth, clone, catalogue=Catalogue(upstreams=(upstream,)))
    assert truth.pull("owner/name#1").licence == "MIT"


def test_without_a_licence_file_the_source_list_speaks(truth, clone):
    clone.git("rm", "-q", "LICENSE")
    clone.commit("Remove", {})
    clone.squash(1, "a\n")
    upstream = Upstream(repo="owner/name", licence="Apache-2.0", kernel_paths=("csrc/*",))
    read(truth, clone, catalogue=Catalogue(upstreams=(upstream,)))
    assert truth.pull("owner/name#1").licence == "Apache-2.0"


def test_a_diff_beyond_the_bound_is_said_to_be_too_large(truth, clone):
    clone.squash(1, "x" * 100 + "\n", "csrc/small.cu")
    clone.squash(2, ("y" * 1023 + "\n") * 33 * 1024, "csrc/large.cu")
    report = read(truth, clone)
    assert (report.changed, report.contained) == (2, {"too large": 1})
    assert truth.counts().too_large == ("owner/name#2",)


def test_a_number_of_nothing_is_no_pull_request(truth, clone):
    clone.commit("Odd (#0)", {"csrc/a.cu": "a\n"})
    assert read(truth, clone).total == 0


def test_a_merge_of_two_topics_is_one_change(truth, clone):
    for topic in ("one", "two"):
        clone.git("checkout", "-q", "-b", topic, "main")
        clone.commit(topic, {f"csrc/{topic}.cu": f"{topic}\n"})
    clone.git("checkout", "-q", "main")
    message = "Merge pull request #4 from a/both\n\nBoth"
    clone.git("merge", "-q", "--no-ff", "-m", message, "one", "two")
    assert read(truth, clone).changed == 1
    assert [file.path for file in truth.files("owner/name#4")] == ["csrc/one.cu", "csrc/two.cu"]
