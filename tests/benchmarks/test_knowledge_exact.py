"""The benchmark of exact search compares what it says it compares."""

import random
import re
import subprocess

import pytest

from knowledge_store.exact import ripgrep
from knowledge_store.truth import Truth
from tests.benchmarks import knowledge_exact
from tests.benchmarks.knowledge_exact import Shards
from tests.benchmarks.knowledge_queries import QUERIES, random_queries
from tests.knowledge_store.exact.stores import KERNEL, TEST, ask, indexed, plain_scan, put

pytestmark = pytest.mark.skipif(ripgrep.program() is None, reason="ripgrep is not installed")
DIFFS = {"x/y#1": KERNEL, "x/y#2": TEST[:-1], "z/w#3": KERNEL + TEST, "z/w#4": b"+a"}


def test_shards_say_which_line_of_which_pull_was_printed(tmp_path):
    put(tmp_path, DIFFS)
    (tmp_path / "shards").mkdir()
    with Truth(tmp_path) as truth:
        shards = Shards(tmp_path / "shards", truth)
    for query in (ask("num_warps"), ask("softmax", "word"), ask("^", "regex")):
        done = subprocess.run(shards.command(query), capture_output=True, check=True)
        source = query.patterns[0] if query.mode == "regex" else rf"\b{query.patterns[0]}\b"
        assert shards.places(done.stdout) == plain_scan(DIFFS, re.compile(source.encode()))


def test_there_are_24_queries_and_each_is_its_own():
    assert len({query.model_dump_json() for query in QUERIES}) == 24


def test_random_queries_find_the_line_they_were_made_from_often(tmp_path):
    lines = [line for line in (KERNEL + TEST).split(b"\n") if line]
    made = list(random_queries(lines, 120, random.Random(5)))
    hits = sum(any(plain.search(line) for line in lines) for _, plain in made)
    assert hits > 60
    assert {query.mode for query, _ in made} == {"literal", "word", "regex"}
    assert any(query.ignore_case for query, _ in made)


def test_a_wrong_answer_is_noticed(tmp_path, monkeypatch):
    with indexed(tmp_path, DIFFS) as exact, Truth(tmp_path) as truth:
        done, different = knowledge_exact.unequal_random(exact, truth, 30, 1)
        assert (done, different) == (30, [])
        monkeypatch.setattr(knowledge_exact, "found", lambda *_: {("x/y#1", 0)})
        _, different = knowledge_exact.unequal_random(exact, truth, 5, 1)
        assert len(different) == 5


def test_a_run_has_every_figure_that_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(knowledge_exact, "_REPEATS", 1)
    put(tmp_path, DIFFS)
    figures, rows = knowledge_exact.run(tmp_path, count=5)
    assert len(rows) == 24
    assert figures.keys() | {"oneshot_script_ms"} == knowledge_exact.WANTED.keys()
    assert figures["unequal_queries"] == figures["unequal_random_queries"] == 0
