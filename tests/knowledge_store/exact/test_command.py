"""`kernelpilot-grep`: what it prints, how it exits, and what it must not load."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from knowledge_store.exact import command, oneshot
from tests.knowledge_store.exact.stores import KERNEL, TEST, ask, indexed

DIFFS = {"x/kernels#12": KERNEL, "y/serving#7": TEST}


@pytest.fixture
def store(tmp_path):
    indexed(tmp_path, DIFFS).close()
    return str(tmp_path)


@pytest.fixture
def say(store, capsys):
    def run(*words):
        status = command.run(["--store", store, *words])
        return status, *capsys.readouterr()

    return run


def test_lines_are_printed_as_key_line_and_text(say):
    assert say("__ldg") == (
        0,
        "x/kernels#12:9:+  for (int i = lane; i < n; i += 32) m = fmaxf(m, __ldg(x + i));\n",
        "",
    )


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["num_warps"], ["x/kernels#12:16", "x/kernels#12:17", "y/serving#7:8"]),
        (["-e", r"num_warps\s*=\s*8"], ["x/kernels#12:17", "y/serving#7:8"]),
        (["-w", "test_softmax"], ["y/serving#7:1", "y/serving#7:5", "y/serving#7:7"]),
        (["-i", "NUM_WARPS", "--repo=serving"], ["y/serving#7:8"]),
        (["--all", "num_warps", "8"], ["x/kernels#12:17", "y/serving#7:8"]),
        (["--path", "tests/*", "num_warps"], ["y/serving#7:8"]),
        (["--kind", "kernel", "num_warps = 8"], ["x/kernels#12:17"]),
        (["--limit", "1", "num_warps = 8"], ["x/kernels#12:17"]),
        (["--per-repo", "1", "num_warps"], ["x/kernels#12:16", "y/serving#7:8"]),
        (["--", "--- /dev/null"], ["y/serving#7:4"]),
    ],
)
def test_options(say, words, keys):
    status, out, _ = say(*words)
    assert status == 0
    assert [":".join(row.split(":")[:2]) for row in out.splitlines()] == keys


def test_finding_nothing_exits_with_one(say):
    assert say("no such text") == (1, "", "")


def test_counts_and_what_is_left_out_are_said(say):
    assert say("--count", "num_warps") == (0, "3 lines in 2 pulls\n", "")
    status, out, error = say("--limit", "2", "num_warps")
    assert (status, len(out.splitlines())) == (0, 2)
    assert error == "3 lines in 2 pulls; --limit 3 shows all\n"


def test_json_is_the_answer_of_the_library(say, store, tmp_path):
    status, out, _ = say("--json", "num_warps")
    assert status == 0
    told = json.loads(out)
    with indexed(tmp_path, {}) as exact:
        answer = exact.search(ask("num_warps"))
    assert told["hits"] == [asdict(hit) for hit in answer.hits]
    assert told["total_hits"] == answer.total_hits == 3
    assert told["total_pulls"] == answer.total_pulls == 2
    assert told["is_truncated"] is False
    assert store


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a pattern"),
        (["--nonsense", "x"], "no option --nonsense; write `--`"),
        (["x", "--limit", "many"], "--limit many is no number"),
        (["x", "--limit", "0"], "--limit 0 must be above zero"),
        (["x", "--timeout", "nan"], "--timeout nan must be above zero"),
        (["-e", "("], "is not a regular expression"),
    ],
)
def test_a_wrong_command_line_exits_with_two_and_says_why(say, words, said):
    status, out, error = say(*words)
    assert (status, out) == (2, "")
    assert said in error


def test_an_option_without_its_value_is_refused(capsys):
    assert command.run(["x", "--store"]) == 2
    assert "--store wants a value" in capsys.readouterr().err


def test_no_index_is_said_with_the_remedy(tmp_path, capsys):
    assert command.run(["x", "--store", str(tmp_path)]) == 2
    assert "knowledge build" in capsys.readouterr().err


def test_damage_is_said(say, tmp_path):
    (path,) = (tmp_path / "exact").glob("part-*/text")
    path.unlink()
    status, _, error = say("x")
    assert status == 2
    assert "knowledge update" in error


def test_help_is_printed(capsys, monkeypatch):
    monkeypatch.setenv("KERNELPILOT_KNOWLEDGE", "/somewhere/else")
    assert command.run(["--help"]) == 0
    out = capsys.readouterr().out
    assert "default: /somewhere/else" in out
    for option in sorted(command._VALUES | command._SWITCHES - {"--help"}):
        assert option in out


def test_it_runs_by_its_path_without_packages_and_loads_nothing_slow(store):
    start = [sys.executable, "-I", "-S", "-X", "importtime", oneshot.__file__]
    done = subprocess.run(
        [*start, "__ldg", "--store", store], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("x/kernels#12:9:")
    loaded = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    slow = {"re", "json", "argparse", "dataclasses", "typing", "pathlib", "pydantic", "subprocess"}
    assert "knowledge_store.exact.command" in loaded
    assert not slow & loaded


def test_a_reader_that_stops_early_is_no_error(store):
    start = f"{sys.executable} -I -S {oneshot.__file__} --store {store} m | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {start}"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode in {0, 1}


def test_the_script_is_the_module(store):
    done = subprocess.run(
        [sys.executable, "-m", "knowledge_store.exact.oneshot", "--store", store, "--count", "m"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("lines in 2 pulls\n")
