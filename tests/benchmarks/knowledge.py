"""A store's whole life in one run: build, memory, search by meaning, pages, and exact search.

`python -m tests.benchmarks.knowledge --bundles DIR` builds a store of its own, in a temporary
folder; `--store DIR` measures one that is there. Figures depend on the machine.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from knowledge_store.pages import page
from knowledge_store.search import Searcher
from knowledge_store.truth import Truth
from tests.benchmarks import knowledge_exact
from tests.resident import most_resident_bytes

QUESTIONS = (
    "reduce shared memory bank conflicts in the epilogue with swizzle",
    "overlap the prologue with the previous kernel by programmatic dependent launch",
    "register spilling in the backward pass of attention",
    "blockwise scaled fp8 gemm with promoted accumulators",
    "persistent kernel with a tile scheduler",
    "warp specialised producer and consumer with mbarriers",
    "paged attention with large block tables",
    "split k reduction that is deterministic",
    "fused mixture of experts with grouped gemm",
    "vectorised loads in a normalisation kernel",
    "tensor map descriptor overhead on the host",
    "autotune number of warps and stages",
    "wrong results for odd head dimensions",
    "cuda graph capture fails with dynamic shapes",
    "quantise key value cache to four bits",
    "top k sampling without sorting",
)
WANTED = {
    "lexical_and_exact_ready_s": "at most 90",
    "build_s": "at most 600",
    "build_cpu_s": "",
    "second_build_s": "at most 60",
    "build_rss_mb": "at most 1500",
    "open_ms": "",
    "hybrid_p50_ms": "at most 15",
    "hybrid_p95_ms": "at most 30",
    "show_p50_ms": "at most 50",
    "show_p95_ms": "at most 50",
    "resident_rss_mb": "at most 1500",
    "words_mb": "",
}
_ROUNDS = 12
_PAGES = 200


def build(bundles: Path, store: Path, embedder: str) -> dict[str, float]:
    """Build a store twice in processes of their own; return times and the most memory used."""
    first, most_kib, cpu_s = _built(bundles, store, embedder)
    again, _, _ = _built(bundles, store, embedder)
    ready = max(stage["ready_s"] for stage in first["stages"] if stage["stage"] != "vectors")
    return {
        "lexical_and_exact_ready_s": ready,
        "build_s": first["seconds"],
        "build_cpu_s": cpu_s,
        "second_build_s": again["seconds"],
        "build_rss_mb": most_kib / 1024,
    }


def _built(bundles: Path, store: Path, embedder: str) -> tuple[dict[str, Any], int, float]:
    """Return what a build said, the most memory of one of its processes in KiB, and their time."""
    command = (
        "import resource, sys\n"
        "from knowledge_store.cli import app\n"
        "from tests.resident import most_resident_bytes\n"
        "try:\n    app(sys.argv[1:])\nfinally:\n"
        "    own = most_resident_bytes() >> 10\n"
        "    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "    times = [*map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))]\n"
        "    cpu_s = sum(one.ru_utime + one.ru_stime for one in times)\n"
        "    print(max(own, children), cpu_s, file=sys.stderr)\n"
    )
    arguments = ["build", "--bundles", str(bundles), "--store", str(store)]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments, "--embedder", embedder, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    most_kib, cpu_s = done.stderr.strip().splitlines()[-1].split()
    return json.loads(done.stdout), int(most_kib), float(cpu_s)


def resident(store: Path, embedder: str) -> dict[str, float]:
    """Return latencies of one process that keeps the store open."""
    from knowledge_store import embedders  # noqa: PLC0415 - a model is loaded only when measured

    started = time.perf_counter()
    choice = embedders.choose(embedder)
    with Searcher(store, choice.embedder) as searcher:
        searcher.search(QUESTIONS[0])
        opened_ms = (time.perf_counter() - started) * 1000
        times = sorted(
            timed_ms(partial(searcher.search, question, as_route="meaning"))
            for _ in range(_ROUNDS)
            for question in QUESTIONS
        )
    return {
        "open_ms": opened_ms,
        "hybrid_p50_ms": quantile(times, 0.5),
        "hybrid_p95_ms": quantile(times, 0.95),
        "resident_rss_mb": most_resident_bytes() / 1024**2,
    }


def shown(store: Path, seed: int = 0) -> dict[str, float]:
    """Return how long pages of random pull requests take, diff included."""
    with Truth(store, read_only=True) as truth:
        keys = sorted(truth.keys())
        some = random.Random(seed).sample(keys, min(_PAGES, len(keys)))
        times = sorted(timed_ms(partial(page, truth, key)) for key in some)
    return {"show_p50_ms": quantile(times, 0.5), "show_p95_ms": quantile(times, 0.95)}


def timed_ms(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def quantile(times: Sequence[float], fraction: float) -> float:
    """Return the time that a fraction of sorted times does not exceed."""
    return times[min(len(times) - 1, int(fraction * len(times)))]


def words_mb(store: Path) -> float:
    """Return the size of the indices of words."""
    files = [path for path in (store / "lexical").rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / 1e6


def main() -> int:
    """Measure; print a table or, with --json, one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, help="build a store of these first")
    parser.add_argument("--store", type=Path, help="of a store that is there, or to be kept")
    parser.add_argument("--embedder", default="none")
    parser.add_argument("--without-exact", action="store_true")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.bundles is None and chosen.store is None:
        parser.error("name --bundles to build a store, or --store that is there")
    with tempfile.TemporaryDirectory() as folder:
        store = chosen.store or Path(folder) / "store"
        figures = build(chosen.bundles, store, chosen.embedder) if chosen.bundles else {}
        figures |= resident(store, chosen.embedder) | shown(store) | {"words_mb": words_mb(store)}
        wanted = dict(WANTED)
        if not chosen.without_exact:
            exact, _ = knowledge_exact.run(store)
            figures |= exact
            wanted |= knowledge_exact.WANTED
    if chosen.json:
        sys.stdout.write(f"{json.dumps(figures)}\n")
        return 0
    table = Table(title=f"knowledge store, {os.cpu_count()} processors")
    for heading in ("figure", "value", "wanted"):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    for name, value in figures.items():
        table.add_row(name, f"{value:.2f}", wanted.get(name, ""))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
