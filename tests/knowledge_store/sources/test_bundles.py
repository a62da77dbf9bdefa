import datetime as dt
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from knowledge_store.errors import SourceError
from knowledge_store.progress import Progress
from knowledge_store.sources import bundles
from knowledge_store.sources.bundles import pull_of
from knowledge_store.sources.catalogue import Catalogue, LedgerRow, Upstream
from knowledge_store.sources.reading import Refused
from knowledge_store.truth import Truth
from tests.knowledge_store.diff_builders import KERNEL, make_diff, write_bundle

DIFF = KERNEL.encode()
COMMIT = "415d587ebf4307761acc17778ecf072f938e8b0a"
FULL = {
    "number": 12,
    "title": "Load through the cache",
    "body": "Faster.",
    "html_url": "https://github.com/owner/name/pull/12",
    "user": {"login": "someone"},
    "merged_at": "2025-02-24T13:31:56Z",
    "merge_commit_sha": COMMIT,
    "labels": [{"name": "perf"}, "kernels"],
    "base": {"ref": "main", "repo": {"full_name": "owner/name", "license": {"spdx_id": "MIT"}}},
}
BUNDLE_ORIGIN: dict[str, object] = {
    "schema_version": 1,
    "source_key": "owner/name#12",
    "repo": "owner/name",
    "repo_id": "name",
    "pr_number": 12,
    "title": "Load through the cache",
    "url": "https://github.com/owner/name/pull/12",
    "merged_at": "2025-02-24T13:31:56Z",
    "bundle": {"diff": "review.diff"},
}
ORIGINS: dict[str, dict[str, object]] = {
    "bundle": BUNDLE_ORIGIN,
    "artifacts": {**BUNDLE_ORIGIN, "bundle": None, "artifacts": {"diff": "review.diff"}},
    "families": {**BUNDLE_ORIGIN, "architecture_families": ["hopper"], "source_page": None},
    "provenance": {
        "origin_url": "https://github.com/owner/name/pull/12",
        "upstream_repo": "owner/name",
        "upstream_sha": "ca4fdbea",
        "license": "inherits-from-upstream",
        "source_pr_id": "pr-name-12",
        "files": [{"local_path": "review.diff", "role": "pr-diff"}],
    },
}
UPSTREAMS: dict[str, dict[str, object]] = {
    "diff-parse": {"pull": FULL, "files": [], "files_source": "diff-parse", "source_page": "x"},
    "page": {"pull": FULL, "files": [], "source_page": "x"},
    "plain": {"pull": FULL, "files": []},
    "flat": {
        "number": 12,
        "title": "Load through the cache",
        "url": "https://github.com/owner/name/pull/12",
        "body_excerpt": "Faster.",
        "merged_at": "2025-02-24T13:31:56Z",
        "files": [],
        "categories": ["attention"],
    },
}


@pytest.fixture
def truth(tmp_path):
    with Truth(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "bundles"
    path.mkdir()
    return path


def read(truth, source, **given):
    return bundles.ingest(truth, source, **{"catalogue": Catalogue(), **given})


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_all_shapes_of_both_records_give_the_same_pull_request(origin, upstream):
    pull = pull_of(ORIGINS[origin], UPSTREAMS[upstream], "name/gh-12")
    assert (pull.key, pull.title, pull.body) == (
        "owner/name#12",
        "Load through the cache",
        "Faster.",
    )
    assert (pull.merged_at, pull.url) == ("2025-02-24", "https://github.com/owner/name/pull/12")
    if upstream != "flat":
        assert (pull.licence, pull.author, pull.base_branch) == ("MIT", "someone", "main")
        assert (pull.merge_commit, pull.labels) == (COMMIT, ("perf", "kernels"))


@pytest.mark.parametrize("origin", ORIGINS)
def test_an_origin_alone_is_enough(origin):
    assert pull_of(ORIGINS[origin], {}, "gh-12").key == "owner/name#12"


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_forges_record_alone_is_enough(upstream):
    assert pull_of({}, UPSTREAMS[upstream], "gh-12").key == "owner/name#12"


@pytest.mark.parametrize(
    ("origin", "upstream"),
    [
        ({}, {}),
        ({"repo": "owner/name"}, {}),
        ({"pr_number": 12}, {}),
        ({"repo": 5, "pr_number": "x"}, {"pull": []}),
        ({"repo": "../../x", "pr_number": 1}, {}),
        ({"repo": "owner/name", "pr_number": -1}, {}),
        ({"repo": "owner/name", "pr_number": True}, {"pull": {"title": ["a"], "labels": {}}}),
    ],
)
def test_records_that_name_no_pull_request_are_refused(origin, upstream):
    with pytest.raises(Refused, match="repository and a number"):
        pull_of(origin, upstream, "folder")


def test_bundles_at_any_depth_are_taken_in(truth, folder):
    write_bundle(folder / "name" / "gh-1")
    write_bundle(folder / "deep" / "er" / "name" / "gh-2")
    report = read(truth, folder)
    assert (report.changed, report.problems) == (2, [])
    assert sorted(truth.keys()) == ["owner/name#1", "owner/name#2"]


def test_files_below_a_snapshot_are_no_bundles(truth, folder):
    bundle = write_bundle(folder / "name" / "gh-1")
    write_bundle(bundle / "source-snapshot" / "gh-2")
    assert read(truth, folder).total == 1


def test_the_same_bundles_again_change_nothing_and_are_not_parsed(truth, folder):
    for number in (1, 2, 3):
        write_bundle(folder / f"gh-{number}")
    write_bundle(folder / "gh-4", diff=None)
    first = read(truth, folder)
    revision = truth.revision
    again = read(truth, folder)
    assert (first.changed, again.changed, again.unchanged) == (4, 0, 4)
    assert first.missing == again.missing == ["owner/name#4"]
    assert truth.revision == revision


def test_only_what_changed_is_taken_in_again(truth, folder):
    for number in (1, 2):
        write_bundle(folder / f"gh-{number}")
    read(truth, folder)
    seen = truth.revision
    (folder / "gh-2" / "review.diff").write_bytes(make_diff({"b.cu": (["x"], ["y"])}))
    report = read(truth, folder)
    assert (report.changed, report.unchanged) == (1, 1)
    assert list(truth.keys(since=seen)) == ["owner/name#2"]


def test_a_missing_diff_is_named_until_it_comes(truth, folder):
    bundle = write_bundle(folder / "gh-1", diff=None)
    assert read(truth, folder).missing == ["owner/name#1"]
    (bundle / "review.diff").write_bytes(DIFF)
    report = read(truth, folder)
    assert (report.changed, report.missing, truth.counts().missing) == (1, [], ())


def test_one_bad_record_is_told_every_time_and_the_other_serves(truth, folder):
    bundle = write_bundle(folder / "gh-1")
    (bundle / "upstream.json").write_text('{"pull": {"num')
    for _ in range(2):
        report = read(truth, folder)
        assert report.problems == ["gh-1/upstream.json: no JSON (JSONDecodeError)"]
        assert report.total == 1
    assert truth.pull("owner/name#1") is not None


def test_two_bundles_of_one_pull_request_are_told(truth, folder):
    write_bundle(folder / "a" / "gh-1")
    write_bundle(folder / "b" / "gh-1")
    report = read(truth, folder)
    assert (report.total, report.problems) == (1, ["b/gh-1: the same pull request as a/gh-1"])


def test_a_licence_comes_from_the_source_list_where_no_record_says_it(truth, folder):
    write_bundle(folder / "gh-1")
    read(truth, folder)
    assert truth.pull("owner/name#1").licence == "unknown"
    upstream = Upstream(repo="Owner/Name", licence="BSD-3-Clause", kernel_paths=("*",))
    report = read(truth, folder, catalogue=Catalogue(upstreams=(upstream,)))
    assert report.changed == 1
    assert truth.pull("owner/name#1").licence == "BSD-3-Clause"


def test_the_ledger_holds_and_every_decision_has_its_reason(truth, folder):
    write_bundle(folder / "gh-1")
    write_bundle(folder / "gh-2")
    row = LedgerRow(pull="owner/name#2", decision="defer", reason="a release")
    report = read(truth, folder, catalogue=Catalogue(ledger=(row,)))
    assert (report.changed, report.deferred) == (1, 1)
    assert [(row.key, row.decision, row.reason) for row in truth.decisions()] == [
        ("owner/name#1", "include", "somebody bundled it"),
        ("owner/name#2", "defer", "a release"),
    ]


def test_what_was_dropped_stays_out(truth, folder):
    write_bundle(folder / "gh-1")
    read(truth, folder)
    truth.drop("owner/name#1", "its authors asked for it")
    assert (read(truth, folder).dropped, truth.counts().pulls) == (1, 0)
    truth.restore("owner/name#1")
    assert (read(truth, folder).changed, truth.counts().pulls) == (1, 1)


def packed(folder: Path, name: str) -> Path:
    path = folder.parent / name
    if name.endswith(".zst"):
        plain = packed(folder, "plain.tar")
        path.write_bytes(zstandard.ZstdCompressor().compress(plain.read_bytes()))
        return path
    kinds: dict[str, Any] = {".gz": "w:gz", ".tar": "w", "bz2": "w:bz2"}
    with tarfile.open(path, next(mode for end, mode in kinds.items() if name.endswith(end))) as tar:
        tar.add(folder, arcname=".")
    return path


@pytest.mark.parametrize("name", ["b.tar", "b.tar.zst", "b.tar.gz", "b.tar.bz2"])
def test_an_archive_gives_what_its_folder_gives(truth, folder, tmp_path, name):
    for number in (1, 2, 3):
        write_bundle(folder / "name" / f"gh-{number}")
    write_bundle(folder / "name" / "gh-4", diff=None)
    report = read(truth, packed(folder, name))
    assert (report.changed, report.missing, report.stopped) == (4, ["owner/name#4"], "")
    with Truth(tmp_path / "other") as other:
        read(other, folder)
        assert list(other.pulls()) == list(truth.pulls())
        assert other.counts() == truth.counts()
    assert read(truth, folder).unchanged == 4


def test_files_of_bundles_may_come_in_any_order(truth, folder):
    for number in range(1, 101):
        write_bundle(folder / f"gh-{number}")
    path = folder.parent / "sorted.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("ORIGIN.yaml", "upstream.json", "review.diff"):
            for number in range(1, 51):
                tar.add(folder / f"gh-{number}" / name, f"gh-{number}/{name}")
    report = read(truth, path)
    assert (report.changed, report.missing) == (50, [])


def test_an_archive_that_breaks_off_keeps_what_came_before(truth, folder):
    for number in range(1, 30):
        write_bundle(folder / f"gh-{number}")
    path = packed(folder, "b.tar.zst")
    path.write_bytes(path.read_bytes()[:-200])
    report = read(truth, path)
    assert "b.tar.zst" in report.stopped
    assert (report.problems, report.missing) == ([report.stopped], [])
    assert report.changed == truth.counts().pulls


def test_what_is_neither_folder_nor_archive_is_said(truth, tmp_path):
    (tmp_path / "x.txt").write_text("")
    for name in ("nowhere", "x.txt"):
        with pytest.raises(SourceError, match="neither a folder of bundles nor an archive"):
            read(truth, tmp_path / name)


def test_progress_counts_up_to_the_whole(truth, folder):
    for number in (1, 2, 3):
        write_bundle(folder / f"gh-{number}")
    told: list[Progress] = []
    read(truth, folder, tell=told.append)
    assert [(step.done, step.total) for step in told] == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_without_a_bundle_is_told(truth, folder):
    (folder / "README.md").write_text("no bundle")
    report = read(truth, folder)
    assert report.total == 0
    assert report.problems == [
        f"no bundle in {folder}: none of review.diff, ORIGIN.yaml, upstream.json below it"
    ]


def test_a_changed_source_list_looks_at_unchanged_bundles_again(truth, folder):
    write_bundle(folder / "gh-1")
    read(truth, folder)
    upstream = Upstream(repo="other/one", kernel_paths=("*",))
    report = read(truth, folder, catalogue=Catalogue(upstreams=(upstream,)))
    assert (report.changed, report.unchanged) == (0, 1)


def test_an_unquoted_time_stamp_is_read_as_its_day():
    origin: dict[str, object] = {
        **BUNDLE_ORIGIN,
        "merged_at": dt.datetime(2025, 2, 24, 13, tzinfo=dt.UTC),
    }
    assert pull_of(origin, {}, "gh-12").merged_at == "2025-02-24"
