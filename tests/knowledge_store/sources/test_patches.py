import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.errors import SourceError
from knowledge_store.sources import patches
from knowledge_store.sources.patches import FIRST_GIVEN_NUMBER, Head, head_of, number_of
from knowledge_store.truth import Truth
from tests.knowledge_store.diff_builders import KERNEL

DIFF = KERNEL.encode()
MAIL = (
    b"From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n"
    b"From: =?UTF-8?q?S=C3=B6meone?= <someone@example.invalid>\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\n"
    b"Subject: [PATCH v2 1/3] kernels: load through\n the cache\n\n"
    b"Loads hit L1.\n\nSecond paragraph.\n---\n csrc/attention.cu | 4 +++-\n\n" + DIFF
)


@pytest.fixture
def truth(tmp_path):
    with Truth(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "my patches"
    path.mkdir()
    return path


def test_patches_of_a_folder_are_taken_in(truth, folder):
    (folder / "0007-load.patch").write_bytes(MAIL)
    (folder / "deep").mkdir()
    (folder / "deep" / "faster_norm.diff").write_bytes(DIFF)
    (folder / "README.md").write_text("no patch")
    report = patches.ingest(truth, folder)
    assert (report.changed, report.problems) == (2, [])
    pull = truth.pull("local/my-patches#7")
    assert pull is not None
    assert (pull.title, pull.author) == ("kernels: load through the cache", "Sömeone")
    assert (pull.body, pull.merged_at) == ("Loads hit L1.\n\nSecond paragraph.", "2026-01-05")
    assert truth.diff(pull.key) == MAIL
    assert truth.counts().hunks == 2
    other = next(pull for pull in truth.pulls() if pull.number != 7)
    assert other.title == "faster norm"
    assert other.number >= FIRST_GIVEN_NUMBER


def test_one_patch_is_taken_in_for_a_repository_with_its_licence(truth, folder):
    (folder / "pr-12.diff").write_bytes(DIFF)
    report = patches.ingest(truth, folder / "pr-12.diff", repo="a/b", licence="MIT")
    assert report.changed == 1
    assert truth.pull("a/b#12").licence == "MIT"


def test_the_same_patches_again_change_nothing(truth, folder):
    (folder / "1.diff").write_bytes(DIFF)
    patches.ingest(truth, folder)
    assert patches.ingest(truth, folder).unchanged == 1
    (folder / "1.diff").write_bytes(MAIL)
    assert patches.ingest(truth, folder).changed == 1


def test_two_patches_of_one_number_are_a_problem(truth, folder):
    (folder / "1-a.diff").write_bytes(DIFF)
    (folder / "1-b.diff").write_bytes(DIFF)
    report = patches.ingest(truth, folder)
    assert (report.changed, report.problems) == (1, ["1-b.diff: the same number as 1-a.diff"])


def test_links_and_large_files_are_refused_and_said(truth, folder, tmp_path):
    (tmp_path / "secret.diff").write_bytes(DIFF)
    (folder / "1.diff").symlink_to(tmp_path / "secret.diff")
    with (folder / "2.diff").open("wb") as file:
        file.truncate(40 * 1024 * 1024)
    report = patches.ingest(truth, folder)
    assert report.changed == 0
    assert report.contained == {"links": 1, "too large": 1}
    assert report.problems == ["2.diff: too large"]


def test_what_is_not_there_or_no_repository_is_said(truth, folder):
    with pytest.raises(SourceError, match="does not exist"):
        patches.ingest(truth, folder / "nowhere")
    (folder / "1.diff").write_bytes(DIFF)
    with pytest.raises(SourceError, match="is not owner/name"):
        patches.ingest(truth, folder, repo="just-a-name")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("0007-load.patch", 7),
        ("pr-12.diff", 12),
        ("PR_34.diff", 34),
        ("gh-2472.diff", 2472),
        ("deep/99.diff", 99),
        ("pull#5.diff", 5),
    ],
)
def test_a_name_begins_with_its_number(name, number):
    assert number_of(name) == number


@given(st.text(st.characters(categories=["Ll"]), min_size=1))
def test_other_names_are_given_a_number_that_is_theirs(name):
    assert number_of(f"{name}.x.diff") == number_of(f"{name}.x.diff") >= FIRST_GIVEN_NUMBER
    assert number_of(f"a/{name}.x.diff") != number_of(f"b/{name}.x.diff")


@given(st.binary(max_size=300))
def test_no_header_raises(content):
    assert head_of(content) == Head()
    head_of(MAIL[:75] + content)


def test_a_date_that_is_none_is_left_out():
    assert head_of(MAIL.replace(b"Mon, 5 Jan 2026", b"some day")).day == ""
