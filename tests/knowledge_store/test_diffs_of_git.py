"""Diffs as git itself prints them, whatever files and contents they are of."""

import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.chunks import chunk, clipped
from knowledge_store.diffs import parse, raw_lines
from knowledge_store.pulls import Hunk
from tests.knowledge_store.diff_builders import KEY

NAMES = st.sampled_from(
    ["a.cu", "with blank.py", 'quo"te.h', "tab\tin.c", "ümlaut.cpp", "back\\slash.cc", "-dash.cuh"]
)
PIECES = st.lists(
    st.sampled_from(
        [
            b"",
            b"int x;",
            b"--- a/y",
            b"+++ b/y",
            b"@@ -1 +1 @@",
            b"\\ No newline",
            b"\xff\xfe",
            b"diff --git a/q b/q",
            b"-- ",
            b"\r",
            b"\x0c",
            b"}",
            b"void f(int a) {",
        ]
    ),
    max_size=25,
)
CONTENTS = st.builds(
    lambda lines, is_ended: b"\n".join(lines) + (b"\n" if is_ended and lines else b""),
    PIECES,
    st.booleans(),
)


def git_diff(folder: Path, old: dict[str, bytes], new: dict[str, bytes], *options: str) -> bytes:
    for name, files in (("old", old), ("new", new)):
        (folder / name).mkdir()
        for path, content in files.items():
            (folder / name / path).write_bytes(content)
    done = subprocess.run(
        ["git", "diff", "--no-index", "--no-ext-diff", "--text", *options, "old", "new"],
        capture_output=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


def applied(old: bytes, hunks: list[Hunk], lines: list[bytes]) -> bytes:
    """The new content by the raw lines of the diff, with their missing newlines."""
    before = old.split(b"\n")
    before = [line + b"\n" for line in before[:-1]] + ([before[-1]] if before[-1] else [])
    after: list[bytes] = []
    at = 0
    for hunk in hunks:
        start = hunk.old_start - 1 if hunk.old_count else hunk.old_start
        after += before[at:start]
        at = start
        body = lines[hunk.diff_line : hunk.diff_line + len(hunk.lines)]
        for number, line in enumerate(body):
            is_last = number + 1 < len(body) and body[number + 1].startswith(b"\\ ")
            text = line[1:] + (b"" if is_last else b"\n")
            if line[:1] in {b" ", b"-"}:
                assert before[at] == text
                at += 1
            if line[:1] in {b" ", b"+"}:
                after.append(text)
    return b"".join([*after, *before[at:]])


@settings(max_examples=40)
@given(
    old=st.dictionaries(NAMES, CONTENTS, max_size=3),
    new=st.dictionaries(NAMES, CONTENTS, max_size=3),
    context=st.integers(0, 4),
)
def test_what_git_prints_is_read_whole(tmp_path_factory, old, new, context):
    diff = git_diff(tmp_path_factory.mktemp("git"), old, new, f"-U{context}", "--no-renames")
    parsed = parse(KEY, diff)
    assert parsed.problems == ()
    changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    assert len(parsed.files) == len(changed)
    lines = raw_lines(diff)
    for file in parsed.files:
        spelled = file.path.partition("/")[2].replace("\ufffd", "\t")
        assert spelled in changed
        hunks = [hunk for hunk in parsed.hunks if hunk.file == file.index]
        assert applied(old.get(spelled, b""), hunks, lines) == new.get(spelled, b"")
        expected = {(True, True): "modified", (False, True): "added", (True, False): "deleted"}
        assert file.status == expected[(spelled in old, spelled in new)]


@settings(max_examples=20)
@given(old=CONTENTS, new=CONTENTS)
def test_files_stand_where_they_say(tmp_path_factory, old, new):
    files = {"a.cu": old, "b.cu": old}, {"a.cu": new, "b.cu": new}
    diff = git_diff(tmp_path_factory.mktemp("git"), *files)
    lines = raw_lines(diff)
    end = 0
    for file in parse(KEY, diff).files:
        assert file.first_line == end + 1
        assert lines[file.first_line - 1].startswith(b"diff --git ")
        end = file.last_line
    assert end == len(lines)


@settings(max_examples=20)
@given(old=CONTENTS, new=CONTENTS, context=st.integers(0, 4))
def test_chunks_of_what_git_prints_rejoin(tmp_path_factory, old, new, context):
    files = {"a.cu": old}, {"a.cu": new}
    diff = git_diff(tmp_path_factory.mktemp("git"), *files, f"-U{context}")
    parsed = parse(KEY, diff)
    between = {hunk.diff_line for hunk in parsed.hunks}
    joined = [
        line
        for piece in chunk(KEY, parsed).chunks
        for at, line in enumerate(piece.text.split("\n"), piece.diff_line)
        if at not in between
    ]
    assert joined == [clipped(line) for hunk in parsed.hunks for line in hunk.lines]


def test_renames_and_copies_that_git_finds_are_told(tmp_path):
    text = b"".join(b"line %d\n" % number for number in range(50))
    diff = git_diff(tmp_path, {"a.cu": text}, {"b.cu": text + b"more\n"}, "-M")
    (file,) = parse(KEY, diff).files
    assert (file.status, file.old_path, file.path) == ("renamed", "old/a.cu", "new/b.cu")


def test_a_change_of_mode_alone_is_a_file_without_hunks(tmp_path):
    for name, mode in (("old", 0o644), ("new", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.sh").write_bytes(b"x\n")
        (tmp_path / name / "run.sh").chmod(mode)
    done = subprocess.run(
        ["git", "diff", "--no-index", "old", "new"], capture_output=True, cwd=tmp_path, check=False
    )
    parsed = parse(KEY, done.stdout)
    assert [file.status for file in parsed.files] == ["modified"]
    assert parsed.hunks == ()
