"""A long run of the playbook: memory of every process, size of the checkpoints, time outside jobs.

Runs `kernelpilot run` on a small softmax with a short timing plan, so that a round takes seconds;
reads /proc while it runs and the event log after it.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.subjects import lean_softmax

_SHORT = (
    "bench.feedback={sittings: 1, pairs: 12, most_pairs: 20, candidate_s: 0, warmup_s: 0.02}",
    (
        "bench.claim={sittings: 5, most_sittings: 5, pairs: 12, most_pairs: 20, candidate_s: 0,"
        " warmup_s: 0.02}"
    ),
    "target.goal.speedup=100",
    "target.goal.kind=hard",
    "target.budget.plateau_attempts=1000",
    "target.budget.stalled_reviews=1000",
)
_SAMPLE_S = 1.0
_SETTLED_ROUND = 10


def run(rounds: int, limit_s: float) -> dict[str, float]:
    """Run so many rounds; return the figures."""
    with tempfile.TemporaryDirectory(prefix="kernelpilot-rounds-") as name:
        folder = Path(name)
        home = folder / "run"
        began = time.monotonic()
        process = _start(folder, home, rounds)
        samples = list(_samples(process, home, began + limit_s))
        process.wait()
        return {**_memory(samples), **_log(home)}


def _start(folder: Path, home: Path, rounds: int) -> subprocess.Popen[bytes]:
    target = lean_softmax(folder, 64, 1024)
    command = [sys.executable, "-m", "graph.cli", "run", str(target)]
    command += ["--rounds", str(rounds), "--lanes", "1", "--run-dir", str(home), "--json"]
    for setting in _SHORT:
        command += ["--set", setting]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _samples(
    process: subprocess.Popen[bytes], home: Path, until: float
) -> Iterator[tuple[int, float, float]]:
    """Yield (round, resident MiB of the orchestrator, of broker and worker) once a second."""
    while process.poll() is None:
        if time.monotonic() > until:
            process.send_signal(signal.SIGTERM)
            until = float("inf")
        children = _children(process.pid)
        yield _round(home), _resident_mib(process.pid), sum(map(_resident_mib, children))
        time.sleep(_SAMPLE_S)


def _round(home: Path) -> int:
    try:
        lines = (home / "attempts.jsonl").read_text().splitlines()
        return int(json.loads(lines[-1])["round"]) if lines else 0
    except (OSError, ValueError):
        return 0


def _resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _memory(samples: list[tuple[int, float, float]]) -> dict[str, float]:
    settled = [own for number, own, _ in samples if number >= _SETTLED_ROUND] or [0.0]
    return {
        "orchestrator_mib_first": settled[0],
        "orchestrator_mib_last": settled[-1],
        "orchestrator_mib_most": max(own for _, own, _ in samples),
        "broker_and_worker_mib_most": max(both for _, _, both in samples),
    }


def _log(home: Path) -> dict[str, float]:
    events: list[dict[str, Any]] = [
        json.loads(line) for line in (home / "events.jsonl").read_text().splitlines()
    ]
    result = json.loads((home / "result.json").read_text())
    spans = _job_spans(events)
    return {
        "rounds": result["rounds"],
        "attempts": result["attempts"],
        "wall_s": result["wall_s"],
        "in_jobs_s": _union(spans),
        "outside_jobs_percent": 100 * (1 - _union(spans) / result["wall_s"]),
        "checkpoints_mib": (home / "checkpoints.sqlite").stat().st_size / 2**20,
    }


def _job_spans(events: list[dict[str, Any]]) -> list[tuple[float, float]]:
    began: dict[str, float] = {}
    spans = []
    for event in events:
        at = datetime.fromisoformat(event["at"]).timestamp()
        if event["kind"] == "job_submitted":
            began[event["job_id"]] = at
        elif event["kind"] == "job_finished" and event["job_id"] in began:
            spans.append((began[event["job_id"]], at))
    return spans


def _union(spans: list[tuple[float, float]]) -> float:
    """Return the seconds covered by at least one span."""
    covered, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered
