"""`kernelpilot-grep` as a program: what it exits with, what it prints, and what it refuses."""

import json
import os
import subprocess
import sys

import pytest

from knowledge_store.exact import Exact, command, oneshot
from knowledge_store.exact.part import Part
from knowledge_store.truth import Truth
from tests.knowledge_store.exact.stores import KERNEL, TEST, ask, indexed, pull, put, updated

DIFFS = {
    "x/kernels#12": KERNEL,
    "y/serving#7": TEST + b"+caf\xc3\xa9 \xff\x00 end\r\n+last",
    "y/serving#8": b"",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with Truth(folder) as truth, Exact(folder) as exact:
        for number, (key, diff) in enumerate(DIFFS.items(), start=1):
            truth.put(pull(key, merged_at=f"2025-01-{number:02d}"), diff)
        exact.update(truth)
    return str(folder)


@pytest.fixture
def say(store, capsys):
    def run(*words):
        status = command.run(["--store", store, *words])
        return status, *capsys.readouterr()

    return run


def program(store, *words, **environment):
    return subprocess.run(
        [sys.executable, "-I", "-S", oneshot.__file__, "--store", store, *words],
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("words", "status", "out"),
    [
        (["__ldg", "--count"], 0, b"1 lines in 1 pulls\n"),
        (["nowhere"], 1, b""),
        (["nowhere", "--count"], 1, b"0 lines in 0 pulls\n"),
        (["(", "--regex"], 2, b""),
        ([], 2, b""),
        (["-e", "^.last$"], 0, b"y/serving#7:11:+last\n"),
        ([b"\xff"], 0, "y/serving#7:10:+caf\u00e9 \ufffd\x00 end\r\n".encode()),
        (["café".encode(), "--word"], 0, "y/serving#7:10:+caf\u00e9 \ufffd\x00 end\r\n".encode()),
        (["caf\u00c9".encode(), "-i"], 1, b""),
    ],
)
def test_the_program_exits_and_prints(store, words, status, out):
    done = program(store, *words)
    assert (done.returncode, done.stdout) == (status, out)
    assert bool(done.stderr) == (status == 2)
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", "--limit", "0.5"], "--limit 0.5 is no whole number"),
        (["x", "--limit=1.5"], "--limit 1.5 is no whole number"),
        (["x", "--per-repo", "0.5"], "--per-repo 0.5 is no whole number"),
        (["x", "--per-repo", "-1"], "--per-repo -1 must be above zero"),
        (["x", "--limit", "inf"], "--limit inf must be above zero"),
        (["x", "--limit="], "--limit  is no number"),
        (["x", "--timeout", "0"], "--timeout 0 must be above zero"),
        (["x", "--since", "2025"], "--since 2025 is no day; write it as 2025-01-31"),
        (["x", "--until", "2025-01"], "--until 2025-01 is no day"),
        (["x", "--until", "2025-1-31"], "--until 2025-1-31 is no day"),
        (["x", "--since", "20250-1-31"], "--since 20250-1-31 is no day"),
        (["x", "--since", "²025-01-31"], "no day"),
        (["x", "--since", "yesterday"], "--since yesterday is no day"),
        (["-x"], "no option -x"),
        (["--regex=a", "x"], "no option --regex=a"),
        (["-ei", "x"], "no option -ei"),
        (["--repo"], "--repo wants a value"),
        (["--", ""], "a pattern has 1 to 4096 characters, this one 0"),
        (["a\nb"], "search for each line of the pattern"),
        (["-e", "[é]"], "takes several bytes"),
        (["-e", r"((x|m)+)+\1!", "--timeout", "1e-9"], "was judged within 1e-09 s"),
    ],
)
def test_what_is_refused_is_said_and_finds_nothing(say, words, said):
    status, out, error = say(*words)
    assert (status, out) == (2, "")
    assert error.startswith("kernelpilot-grep: ")
    assert said in error


KEYS_WITH_A_DASH = [
    key for key, diff in DIFFS.items() for line in diff.splitlines() if b"-" in line
]


def keys_of(out):
    return [row.split(":")[0] for row in out.splitlines()]


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["num_warps", "--since", "2025-01-02"], ["y/serving#7"]),
        (["num_warps", "--until=2025-01-01"], ["x/kernels#12"] * 2),
        (["num_warps", "--since", "2025-01-01", "--until", "2025-01-01"], ["x/kernels#12"] * 2),
        (["num_warps", "--since", "2025-01-03"], []),
        (["num_warps", "--since="], ["x/kernels#12"] * 2 + ["y/serving#7"]),
        (["num_warps", "--since", "2030-01-01", "--since", "2025-01-02"], ["y/serving#7"]),
        (["num_warps", "--repo", "serving", "--repo", "X/Kernels", "--limit=2"],
         ["x/kernels#12", "y/serving#7"]),
        (["num_warps", "--path", "none", "--path=csrc/*"], ["x/kernels#12"] * 2),
        (["num_warps", "--path", "*", "--kind=test"], ["y/serving#7"]),
        (["num_warps", "--tag", "no-such-tag"], []),
        (["num_warps", "last", "--all"], []),
        (["num_warps", "num_warps", "--all", "--per-repo=1"], ["x/kernels#12", "y/serving#7"]),
        (["__ldg", "last"], ["x/kernels#12", "y/serving#7"]),
        (["NUM_WARPS", "-w"], []),
        (["NUM_WARPS", "-w", "-i", "--limit", "1e0"], ["x/kernels#12"]),
        (["--limit", "1", "--", "--- /dev/null", "-e"], ["y/serving#7"]),
        (["-"], KEYS_WITH_A_DASH),
    ],
)  # fmt: skip
def test_options_and_their_values(say, words, keys):
    status, out, _ = say(*words)
    assert keys_of(out) == keys
    assert status == (0 if keys else 1)


def test_lines_are_those_of_the_library(say, store, tmp_path):
    status, out, error = say("-e", ".", "--limit", "100")
    assert (status, error) == (0, "")
    with Exact(tmp_path.__class__(store)) as exact:
        hits = exact.search(ask(".", "regex")).hits
    assert out == "".join(f"{hit.key}:{hit.diff_line}:{hit.text}\n" for hit in hits)


def test_what_a_limit_leaves_out_is_said_beside_the_lines(say):
    status, out, error = say("-e", "^", "--limit", "5")
    total = len(KERNEL.splitlines()) + len(TEST.splitlines()) + 2
    assert status == 0
    assert keys_of(out) == ["x/kernels#12"] * 3 + ["y/serving#7"] * 2
    assert error == f"{total} lines in 2 pulls; --limit {total} shows all\n"
    assert say("-e", "^", "--limit", str(total))[2] == ""


def test_what_a_bound_of_repositories_leaves_out_is_said(say):
    status, out, error = say("num_warps", "--per-repo", "1")
    assert (status, len(out.splitlines())) == (0, 2)
    assert error == "3 lines in 2 pulls; --limit 3 without --per-repo shows all\n"
    assert say("num_warps", "--per-repo", "2")[2] == ""


def test_any_letter_is_printed_whatever_the_terminal_reads(store):
    done = subprocess.run(
        [sys.executable, "-m", "knowledge_store.exact.oneshot", "--store", store, "caf"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == "y/serving#7:10:+caf\u00e9 \ufffd\x00 end\r\n".encode()


def test_a_raw_byte_of_the_command_line_may_stand_in_a_class_or_be_repeated(store):
    for pattern in (b"[\xff]+\\x00", b"\xff{1}", b"^.*\xff+.*$"):
        done = program(store, "-e", pattern, "--count")
        assert (done.returncode, done.stdout) == (0, b"1 lines in 1 pulls\n"), done.stderr


def test_json_says_what_a_limit_leaves_out(say):
    told = json.loads(say("--json", "num_warps", "--per-repo", "1")[1])
    assert [(hit["key"], hit["new_line"]) for hit in told["hits"]] == [
        ("x/kernels#12", None), ("y/serving#7", 2),
    ]  # fmt: skip
    assert (told["total_hits"], told["total_pulls"], told["is_truncated"]) == (3, 2, True)
    assert told["engine"] == "index"
    status, out, _ = say("--json", "nowhere")
    assert status == 1
    assert json.loads(out)["hits"] == []


def test_the_store_is_that_of_the_environment_unless_named(store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERNELPILOT_KNOWLEDGE", raising=False)
    assert command.run(["__ldg"]) == 2
    assert "knowledge/exact" in capsys.readouterr().err
    monkeypatch.setenv("KERNELPILOT_KNOWLEDGE", store)
    assert command.run(["__ldg", "--count"]) == 0
    assert command.run(["__ldg", "--store", str(tmp_path)]) == 2
    monkeypatch.setenv("KERNELPILOT_KNOWLEDGE", str(tmp_path))
    assert command.run(["__ldg", "--store", store]) == 0


def test_a_store_that_is_a_file_is_none(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    done = program(str(tmp_path / "file"), "x")
    assert done.returncode == 2
    assert b"nothing is indexed" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_manifest_that_cannot_be_read_is_no_empty_answer(tmp_path):
    (tmp_path / "exact" / "MANIFEST").mkdir(parents=True)
    done = program(str(tmp_path), "x")
    assert done.returncode == 2
    assert done.stderr.startswith(b"kernelpilot-grep: ")
    assert b"Traceback" not in done.stderr


def test_a_part_that_vanishes_while_it_is_opened_is_read_from_the_next_manifest(
    tmp_path, monkeypatch, capsys
):
    indexed(tmp_path, {"x/y#1": b"+old\n", "x/y#2": b"+old\n"}).close()
    opened = Part.__init__
    calls = []

    def replaced_meanwhile(part, folder):
        calls.append(folder)
        if len(calls) == 1:
            put(tmp_path, {"x/y#1": b"+new\n", "x/y#2": b"+new\n"})
            updated(tmp_path).close()
        opened(part, folder)

    monkeypatch.setattr(Part, "__init__", replaced_meanwhile)
    assert command.run(["new", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "x/y#1:1:+new\nx/y#2:1:+new\n"
    assert calls[0] != calls[-1]


@pytest.mark.parametrize("harm", [b"", b"exact 2\n", b"\xff\xfe", b"exact 2\n1\n00000000\n"])
def test_a_damaged_manifest_is_said_with_the_remedy(tmp_path, harm, capsys):
    indexed(tmp_path, {"x/y#1": KERNEL}).close()
    (tmp_path / "exact" / "MANIFEST").write_bytes(harm)
    assert command.run(["__ldg", "--store", str(tmp_path)]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_an_empty_index_finds_nothing(tmp_path, capsys):
    indexed(tmp_path, {}).close()
    assert command.run(["x", "--store", str(tmp_path)]) == 1
    assert command.run(["x", "--count", "--store", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "0 lines in 0 pulls\n"
