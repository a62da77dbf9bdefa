"""Exact search beside ripgrep on two shards, in one run; and against a plain scan.

`python -m tests.benchmarks.knowledge_exact --store DIR` needs a store with pull requests in it; the
index is brought up to date first. Figures depend on the machine, ratios hardly.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from knowledge_store.exact import Exact, ExactQuery, oneshot, ripgrep
from knowledge_store.exact.engine import search
from knowledge_store.exact.index import request_of
from knowledge_store.truth import Truth
from tests.benchmarks.knowledge_queries import QUERIES, random_queries

_REPEATS = 7
_SAMPLE_PULLS = 120
_FEW_HITS = 1000
WANTED = {
    "exact_few_hits_p50_ms": "at most 3",
    "exact_median_ms": "",
    "ripgrep_median_ms": "",
    "exact_of_ripgrep_median": "at most 0.33",
    "exact_of_ripgrep_worst": "at most 1.2",
    "unequal_queries": "0",
    "random_queries": "at least 300",
    "unequal_random_queries": "0",
    "oneshot_ms": "at most 25",
    "oneshot_script_ms": "at most 25",
    "index_mb_beside_text": "at most 60",
    "build_s": "at most 30",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A query, timed side by side."""

    query: ExactQuery
    hits: int
    engine: str
    exact_ms: float
    ripgrep_ms: float
    is_equal: bool

    @property
    def ratio(self) -> float:
        """Return our time over ripgrep's."""
        return self.exact_ms / self.ripgrep_ms


class Shards:
    """All diffs in two files, and which line of which pull each of their lines is."""

    def __init__(self, folder: Path, truth: Truth) -> None:
        self.paths = [folder / "0", folder / "1"]
        self._starts: list[list[tuple[int, str]]] = [[], []]
        sizes, lines = [0, 0], [0, 0]
        with self.paths[0].open("wb") as first, self.paths[1].open("wb") as second:
            files = (first, second)
            for key in truth.keys(0):
                diff = truth.diff(key)
                if not diff:
                    continue
                at = sizes.index(min(sizes))
                text = diff if diff.endswith(b"\n") else diff + b"\n"
                files[at].write(text)
                self._starts[at].append((lines[at], key))
                sizes[at] += len(text)
                lines[at] += text.count(b"\n")

    def command(self, query: ExactQuery) -> list[str]:
        """Return the ripgrep command of a query."""
        program = ripgrep.program()
        assert program is not None, "ripgrep is not installed"
        options = ["--no-config", "-a", "--no-unicode", "-n", "-b", "--no-heading", "-H"]
        options += {"literal": ["-F"], "word": ["-F", "-w"], "regex": []}[query.mode]
        options += ["-i"] if query.ignore_case else []
        return [program, *options, "-e", query.patterns[0], *map(str, self.paths)]

    def places(self, printed: bytes) -> set[tuple[str, int]]:
        """Return the key and line of every line that ripgrep printed."""
        found: set[tuple[str, int]] = set()
        for at, path in enumerate(self.paths):
            own, starts = str(path).encode() + b":", self._starts[at]
            numbers = sorted(
                int(row[len(own) :].partition(b":")[0])
                for row in printed.split(b"\n")
                if row.startswith(own)
            )
            pull = 0
            for number in numbers:
                while pull + 1 < len(starts) and starts[pull + 1][0] < number:
                    pull += 1
                found.add((starts[pull][1], number - starts[pull][0]))
        return found


def side_by_side(exact: Exact, shards: Shards) -> list[Row]:
    """Return every query timed with both, turn by turn."""
    times: dict[int, tuple[list[float], list[float]]] = {at: ([], []) for at in range(len(QUERIES))}
    for _ in range(_REPEATS):
        for at, query in enumerate(QUERIES):
            start = time.perf_counter()
            exact.search(query)
            middle = time.perf_counter()
            done = subprocess.run(shards.command(query), capture_output=True, check=False)
            done.stdout.count(b"\n")
            times[at][0].append((middle - start) * 1e3)
            times[at][1].append((time.perf_counter() - middle) * 1e3)
    rows = []
    for at, query in enumerate(QUERIES):
        printed = subprocess.run(shards.command(query), capture_output=True, check=False).stdout
        answer = exact.search(query.model_copy(update={"limit": 10**9}))
        rows.append(
            Row(
                query,
                answer.total_hits,
                answer.engine,
                statistics.median(times[at][0]),
                statistics.median(times[at][1]),
                {(hit.key, hit.diff_line) for hit in answer.hits} == shards.places(printed),
            )
        )
    return rows


def unequal_random(
    exact: Exact, truth: Truth, count: int, seed: int, pulls: int = _SAMPLE_PULLS
) -> tuple[int, list[str]]:
    """Compare with a plain scan of some pulls, 0 for all; return how many differ, and which."""
    rng = random.Random(seed)
    keys = [key for key in truth.keys(0) if truth.diff(key)]
    sample = {key: truth.diff(key) for key in rng.sample(keys, min(pulls or len(keys), len(keys)))}
    lines = {key: diff.removesuffix(b"\n").split(b"\n") for key, diff in sample.items()}
    every = [line for own in lines.values() for line in own]
    different: list[str] = []
    done = 0
    for query, plain in random_queries(every, count, rng):
        wanted = {
            (key, number)
            for key, own in lines.items()
            for number, line in enumerate(own, start=1)
            if plain.search(line)
        }
        done += 1
        if found(exact, query, sample) != wanted:
            different.append(f"{query.mode} {query.patterns[0]!r} ignore_case={query.ignore_case}")
    return done, different


def found(exact: Exact, query: ExactQuery, keys: Iterable[str]) -> set[tuple[str, int]]:
    """Return key and line of the hits of some pulls, of a search of everything."""
    wanted = frozenset(keys)
    groups, _ = search(exact._opened(), request_of(query))
    return {
        (group.pull.key, before - group.pull.first_line + 1)
        for group in groups
        if group.pull.key in wanted
        for _, _, before in group.lines(len(group.hits))
    }


def one_shot_ms(command: Sequence[str], store: Path) -> float:
    """Return the median time of a search in a process of its own, milliseconds."""
    times = []
    for _ in range(3 * _REPEATS):
        start = time.perf_counter()
        subprocess.run(
            [*command, "--store", str(store), "tcgen05.fence"], capture_output=True, check=False
        )
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def run(
    store: Path, count: int = 300, seed: int = 0, pulls: int = _SAMPLE_PULLS
) -> tuple[dict[str, float], list[Row]]:
    """Measure a store; return figures by name and the rows of the queries."""
    figures: dict[str, float] = {}
    with Truth(store) as truth, Exact(store) as exact:
        report = exact.update(truth)
        if report.indexed == report.pulls:
            figures["build_s"] = report.seconds
        figures["index_mb_beside_text"] = report.index_bytes / 1e6
        with tempfile.TemporaryDirectory() as folder:
            rows = side_by_side(exact, Shards(Path(folder), truth))
        few = [row.exact_ms for row in rows if row.hits < _FEW_HITS]
        figures["exact_few_hits_p50_ms"] = statistics.median(few)
        figures["exact_median_ms"] = statistics.median(row.exact_ms for row in rows)
        figures["ripgrep_median_ms"] = statistics.median(row.ripgrep_ms for row in rows)
        figures["exact_of_ripgrep_median"] = (
            figures["exact_median_ms"] / figures["ripgrep_median_ms"]
        )
        figures["exact_of_ripgrep_worst"] = max(row.ratio for row in rows)
        figures["unequal_queries"] = sum(not row.is_equal for row in rows)
        done, different = unequal_random(exact, truth, count, seed, pulls)
        figures["random_queries"] = done
        figures["unequal_random_queries"] = len(different)
        for query in different:
            sys.stderr.write(f"differs from a plain scan: {query}\n")
    path = [sys.executable, "-I", "-S", str(oneshot.__file__)]
    figures["oneshot_ms"] = one_shot_ms(path, store)
    script = Path(sys.executable).with_name("kernelpilot-grep")
    if script.exists():
        figures["oneshot_script_ms"] = one_shot_ms([str(script)], store)
    return figures, rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--random", type=int, default=300, help="random queries")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pulls", type=int, default=_SAMPLE_PULLS, help="that are scanned as well; 0 for all"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures, rows = run(arguments.store, arguments.random, arguments.seed, arguments.pulls)
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return 0
    console = Console(width=110)
    view = Table("query", "hits", "by", "exact ms", "rg ms", "ratio", "equal")
    for row in rows:
        told = (f"{row.exact_ms:.2f}", f"{row.ripgrep_ms:.1f}", f"{row.ratio:.2f}")
        view.add_row(row.query.patterns[0], str(row.hits), row.engine, *told, str(row.is_equal))
    console.print(view)
    view = Table("figure", "measured", "wanted", title="exact search")
    for name, value in figures.items():
        view.add_row(name, f"{value:.2f}", WANTED.get(name, ""))
    console.print(view)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
