"""Folders with what folders hold: marks of byte order, links, pipes, git's own, odd line ends."""

import os
import sys

import pytest

from knowledge_store.errors import SourceError
from knowledge_store.exact import ripgrep, search_tree
from knowledge_store.exact.errors import PatternError, SearchTimeout
from tests.knowledge_store.exact.stores import ask, plain_pattern, plain_scan
from tests.knowledge_store.exact.test_tree import make, places

MIXED = {
    "bom.h": b"\xef\xbb\xbf#pragma once\n#pragma once\n",
    "utf16.txt": "\ufeff#pragma once\n".encode("utf-16-le"),
    "utf16be.txt": b"\xfe\xff" + "#pragma once\n".encode("utf-16-be"),
    "crlf.c": b"#pragma once\r\n\r\n  #pragma once\r",
    "nul.bin": b"\x00\x00#pragma once\x00\n\xff\n#pragma",
    "only-newlines": b"\n\n\n",
    "one-byte": b"#",
    "wide.cu": b"#" * 9000 + b"pragma\n" + b"#pragma",
    "a b/c'd/[e]*.py": b"#pragma",
    "colon:1:x": b"x\n:\n1:#pragma\n",
    "nul.ends": b"#pragma\x00",
    ".dot/.hidden": b"#pragma\n\n",
    "node_modules/x.min.js": b"#pragma",
}
PATTERNS = [
    ("#pragma", "literal"), ("pragma", "word"), ("^#", "regex"), ("once$", "regex"),
    ("^$", "regex"),
    (r"^\s*#pragma\s+once\s*$", "regex"), (r"\x00", "regex"), (r"[\x80-\xff]", "regex"),
    (r"^[^#]", "regex"), (":", "literal"), ("\r", "literal"), ("^.$", "regex"),
    ("#+pragma", "regex"),
]  # fmt: skip


@pytest.fixture(params=["ripgrep", "process"])
def engine(request, monkeypatch):
    if request.param == "process":
        monkeypatch.setattr(ripgrep, "program", lambda: None)
    elif ripgrep.program() is None:
        pytest.skip("ripgrep is not installed")
    return request.param


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return make(tmp_path_factory.mktemp("mixed") / "tree", MIXED)


def test_every_engine_finds_the_lines_of_a_plain_scan(mixed, engine):
    chosen = PATTERNS if engine == "ripgrep" else PATTERNS[:7]
    for pattern, mode in chosen:
        answer = search_tree(mixed, ask(pattern, mode))
        wanted = plain_scan(MIXED, plain_pattern(pattern, mode))
        assert wanted
        assert places(answer) == wanted, (pattern, mode)
        assert answer.engine == engine
        assert answer.total_hits == len(wanted)
        assert answer.total_files == len({path for path, _ in wanted})
        assert [(hit.path, hit.line) for hit in answer.hits] == sorted(wanted)


@pytest.mark.parametrize("patterns", [("#", "once"), ("#", "#"), ("pragma", "^#", "e$")])
def test_lines_that_meet_every_pattern(mixed, patterns):
    scans = [plain_scan(MIXED, plain_pattern(one, "regex")) for one in patterns]
    answer = search_tree(mixed, ask(patterns, "regex", combine="all"))
    assert places(answer) == set.intersection(*scans)
    answer = search_tree(mixed, ask(patterns, "regex", combine="any"))
    assert places(answer) == set.union(*scans)


def test_what_is_of_git_is_left_out_and_what_is_only_named_alike_is_not(tmp_path, engine):
    kept = {".gitignore": b"needle\n*\n", ".github/x.yml": b"needle", "x.git/config": b"needle",
            "git": b"needle", ".ignore": b"needle\n*\n", ".rgignore": b"needle\n*"}  # fmt: skip
    own = {"sub/.git": b"gitdir: needle", ".git/config": b"needle", "a/b/.git/HEAD": b"needle"}
    answer = search_tree(make(tmp_path / "t", {**kept, **own}), ask("needle"))
    assert answer.engine == engine
    assert {hit.path for hit in answer.hits} == set(kept)


def test_links_and_pipes_are_not_followed(tmp_path, engine):
    folder = make(tmp_path / "t", {"real/a.c": b"needle\n", "b.c": b"needle"})
    (folder / "to-file").symlink_to("b.c")
    (folder / "to-folder").symlink_to("real")
    (folder / "to-itself").symlink_to("to-itself")
    (folder / "real" / "up").symlink_to("..")
    (folder / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    answer = search_tree(folder, ask("needle"))
    assert places(answer) == {("real/a.c", 1), ("b.c", 1)}
    assert answer.engine == engine


def test_a_link_to_a_folder_is_a_folder_when_it_is_asked_for(tmp_path, engine):
    make(tmp_path / "t", {"sub/a.c": b"needle"})
    (tmp_path / "link").symlink_to("t")
    answer = search_tree(tmp_path / "link", ask("needle"))
    assert [hit.path for hit in answer.hits] == ["sub/a.c"]
    assert answer.engine == engine


def test_names_that_are_no_text_come_back_as_the_system_says_them(tmp_path, engine):
    folder = make(tmp_path / "t", {"a": b"x"})
    (folder / os.fsdecode(b"odd\xff\n\x01")).write_bytes(b"\nneedle")
    (hit,) = search_tree(folder, ask("needle")).hits
    assert os.fsencode(hit.path) == b"odd\xff\n\x01"
    assert (folder / hit.path).read_bytes()
    assert (hit.line, engine) == (2, engine)


def test_a_wide_line_is_shown_to_a_bound(mixed, engine):
    hits = search_tree(mixed, ask("#pragma", paths=("wide.*",))).hits
    assert [(hit.line, len(hit.text)) for hit in hits] == [(1, 4096), (2, 7)]
    assert engine


@pytest.mark.parametrize(
    ("globs", "paths"),
    [
        (("*.h",), {"bom.h"}), (("BOM.h",), set()), (("a b/*",), {"a b/c'd/[e]*.py"}),
        (("*.py", "*.js"), {"a b/c'd/[e]*.py", "node_modules/x.min.js"}), (("?om.h",), {"bom.h"}),
        (("[!b]*.h",), set()), (("./bom.h",), set()), (("hidden",), set()),
    ],
)  # fmt: skip
def test_globs_are_over_whole_relative_paths(mixed, globs, paths):
    answer = search_tree(mixed, ask("#pragma", paths=globs))
    assert {hit.path for hit in answer.hits} == paths
    assert answer.total_files == len(paths)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 11, 100])
def test_a_limit_counts_lines_and_files_share_it(tmp_path, limit):
    folder = make(tmp_path / "t", {"a": b"x\n" * 8, "b": b"x", "c": b"x\ny\nx\n"})
    answer = search_tree(folder, ask("x", limit=limit))
    assert len(answer.hits) == min(limit, 11)
    assert answer.is_truncated is (limit < 11)
    assert (answer.total_hits, answer.total_files) == (11, 3)
    if limit >= 3:
        assert {hit.path for hit in answer.hits} == {"a", "b", "c"}


def test_an_empty_folder_has_no_hits(tmp_path, engine):
    answer = search_tree(tmp_path, ask("x"))
    assert (answer.hits, answer.total_hits, answer.engine) == ((), 0, engine)


def test_a_program_that_cannot_start_is_done_without(tmp_path, monkeypatch):
    folder = make(tmp_path / "t", {"a": b"needle"})
    for name, content in (
        ("none", b""),
        ("odd", b"\x7fELF odd"),
        ("fails", b"#!/bin/sh\nexit 2\n"),
    ):
        rg = tmp_path / name / "rg"
        rg.parent.mkdir()
        rg.write_bytes(content)
        rg.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / name / "python"))
        assert ripgrep.program() == str(rg)
        monkeypatch.undo()
        monkeypatch.setattr(ripgrep, "program", lambda rg=rg: str(rg))
        answer = search_tree(folder, ask("needle"))
        assert (answer.total_hits, answer.engine) == (1, "process"), name
        monkeypatch.undo()


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SourceError, match="is not a folder"):
            search_tree(path, ask("x"))


@pytest.mark.parametrize(
    "filters",
    [{"repos": ("a",)}, {"since": "2025-01-01"}, {"until": "2025-01-01"}, {"kinds": ("test",)},
     {"tags": ("tma",)}, {"per_repo": 1}],
)  # fmt: skip
def test_filters_of_pulls_mean_nothing_for_files(tmp_path, filters):
    with pytest.raises(PatternError, match="no repository, date, kind or tag"):
        search_tree(tmp_path, ask("x", **filters))


def test_a_pattern_is_read_before_any_file(tmp_path):
    with pytest.raises(PatternError, match="not a regular expression"):
        search_tree(tmp_path, ask(("x", "("), "regex"))


def test_no_time_is_an_error_and_no_empty_answer(tmp_path, engine):
    folder = make(tmp_path / "t", {"a": b"x\n"})
    with pytest.raises(SearchTimeout, match="allow more time"):
        search_tree(folder, ask("x", timeout_s=1e-7))
    assert engine
