"""`make bench`: what the product itself costs. Prints one table; `--json` for machines.

`--rounds 84` is the long run of a release; the default shows the same figures in minutes.
"""

import argparse
import json
import sys

from rich.console import Console
from rich.table import Table

from tests.benchmarks import latency, rounds

_WANTED = {
    "job_ms": "at most 50",
    "feedback_s": "at most 5",
    "claim_s": "at most 30",
    "outside_jobs_percent": "at most 5",
    "orchestrator_mib_last": "within 10 % of the first",
    "checkpoints_mib": "below 50",
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="evaluations per latency figure")
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--limit-s", type=float, default=3600)
    parser.add_argument("--only", choices=("latency", "rounds"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    if arguments.only != "rounds":
        figures |= latency.run(arguments.runs)
    if arguments.only != "latency":
        figures |= rounds.run(arguments.rounds, arguments.limit_s)
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return 0
    view = Table("figure", "measured", "wanted", title="what the product itself costs")
    for name, value in figures.items():
        view.add_row(name, f"{value:.2f}", _WANTED.get(name, ""))
    Console(width=90).print(view)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
