"""Thousands of jobs under random kills and freezes: `make chaos`; prints what became of them.

First everything dies, then only the broker: no job may be executed twice because of it. Then each
process has a machine of its own, in network namespaces, and is cut off as well, in silence and for
up to two leases. Exit code 1 where a promise was broken; the folder with logs and database is kept
then.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from tests.gpu_runner.fleet import LEASE_S, Fleet
from tests.gpu_runner.namespaces import Network, why_none

_PATIENCE_S = 3600.0
CUT: dict[str, float] = {"lease_s": LEASE_S / 3, "most_job_s": 1.0}
"""Jobs that last, so that who is cut off has one in hand."""


def shown(title, report):
    kills = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kills.items()))
    broken = [
        f"{name}: {what}"
        for name, what in (
            ("lost", report.lost),
            ("ended twice", report.ended_twice),
            ("overlapping executions", report.overlaps),
        )
        if what
    ]
    if report.runs_of_living_workers > 0:
        broken.append(f"executions that no lost worker explains: {report.runs_of_living_workers}")
    head = (
        f"{title}: {report.jobs} jobs in {report.seconds:.0f} s, {report.runs} executions; "
        f"killed, frozen or cut off: {kills or 'nobody'}"
    )
    good = [] if broken else ["  nothing lost, ended twice, overlapping or run again in vain"]
    return "\n".join([head, *(f"  BROKEN {line}" for line in broken), *good]), bool(broken)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000, help="in the first part")
    parser.add_argument("--broker-jobs", type=int, default=500, help="in the second")
    parser.add_argument("--cut-jobs", type=int, default=300, help="in the third; 0: none")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kernelpilot-chaos-", dir="."))
    is_broken = False
    mixed = ["cut off worker", "cut off client", "cut off worker", "broker", "worker", "client"]
    parts: tuple[tuple[str, int, list[str], dict[str, float]], ...] = (
        ("everything dies", arguments.jobs, ["broker", "worker", "worker", "client"], {}),
        ("the broker dies", arguments.broker_jobs, ["broker"], {}),
        ("the network parts", arguments.cut_jobs, mixed, CUT),
    )
    for number, (title, jobs, victims, terms) in enumerate(parts):
        if not jobs:
            continue
        hosts = 1 + arguments.workers + arguments.clients
        if terms and why_none():
            sys.stdout.write(f"{title}: not tried, {why_none()}\n")
            continue
        with contextlib.ExitStack() as stack:
            network = stack.enter_context(Network(hosts)) if terms else None
            fleet = Fleet(
                (folder / str(number)).resolve(),
                jobs=jobs,
                seed=arguments.seed,
                workers=arguments.workers,
                clients=arguments.clients,
                network=network,
                **terms,
            )
            report = stack.enter_context(fleet).run(
                victims, most=sys.maxsize, pause_s=(1.0, 4.0), patience_s=_PATIENCE_S
            )
        text, was_broken = shown(title, report)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        is_broken = is_broken or was_broken
    if is_broken:
        sys.stdout.write(f"logs and databases: {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
