"""Does the decision rule call identical code different, and does it see a planted slow-down?

`python -m tests.benchmarks.gate [--same 60] [--slower 10] [--permille 100] [--json]`: evaluates a
softmax against itself, then the same softmax made slower by so many thousandths, each as a claim.
Exit code 1 when more than 1 in 60 is called FASTER or SLOWER, or fewer than 9 in 10 are found.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from gpu_runner.local import LocalPool
from gpu_runner.records import Verdict
from graph.evaluate import evaluate
from graph.settings import load_settings
from tests.benchmarks.subjects import fast_softmax, shipped, slowed_softmax, trial

_FALSE_OF = 60
_FOUND_FRACTION = 0.9


async def verdicts(count: int, permille: int, state: Path) -> list[tuple[Verdict, float, float]]:
    """Return verdict, speed-up and seconds of each evaluation; permille 0 plants nothing."""
    settings = load_settings()
    target = shipped("softmax")
    plain = fast_softmax()
    candidate = slowed_softmax(permille) if permille else plain
    found = []
    async with LocalPool(state) as pool:
        for number in range(count):
            began = time.monotonic()
            result = await evaluate(trial(target, candidate, plain, settings), pool, settings.jobs)
            seconds = time.monotonic() - began
            found.append((result.verdict, result.speedup or 0.0, seconds))
            sys.stderr.write(
                f"{number + 1}/{count} planted {permille / 10:g} %: {result.verdict.value} "
                f"{result.speedup or 0:.3f}x in {seconds:.0f} s\n"
            )
    return found


def main() -> int:
    """Run both series, print both tables of verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--same", type=int, default=60)
    parser.add_argument("--slower", type=int, default=10)
    parser.add_argument("--permille", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kernelpilot-gate-") as folder:
        same = asyncio.run(verdicts(arguments.same, 0, Path(folder)))
        slower = asyncio.run(verdicts(arguments.slower, arguments.permille, Path(folder)))
    false = sum(v in {Verdict.FASTER, Verdict.SLOWER} for v, _, _ in same)
    found = sum(v is Verdict.SLOWER for v, _, _ in slower)
    if arguments.json:
        rows = {"same": same, "slower": slower}
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        counted = ", ".join(f"{n} {v.value}" for v, n in Counter(v for v, _, _ in same).items())
        sys.stdout.write(
            f"identical code, {len(same)} claims: {counted or 'none'}\n"
            f"  called FASTER or SLOWER: {false} (at most 1 in {_FALSE_OF})\n"
            f"planted {arguments.permille / 10:g} % slow-down: found SLOWER in {found} of "
            f"{len(slower)} (at least 9 in 10)\n"
        )
    allowed = max(1, len(same) // _FALSE_OF)
    return int(false > allowed or found < _FOUND_FRACTION * len(slower))


if __name__ == "__main__":
    raise SystemExit(main())
