"""Captures the zoo under ncu and says which class each kernel got.

Usage: `python -m tests.gpu.zoo_capture OUT [--limit-s 540] [KERNEL...]`. Leaves in OUT:
`zoo.zip` with `<kernel>/{raw,details,source}.csv` (raw cut down to the columns that facts are read
from), `verdicts.json` and `zoo.txt` with one line a kernel. A kernel that fails is said to have
failed and stops no other.
"""

import argparse
import csv
import io
import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agents.diagnosis.device import diagnose_kernel
from gpu_runner.device import ncu
from gpu_runner.device.ncu_csv import ProfiledLaunch
from gpu_runner.device.ncu_facts import kernel_facts
from gpu_runner.device.watched import run_watched
from gpu_runner.errors import RunnerError
from gpu_runner.report import read_kernels
from tests.gpu.zoo_run import ZOO, manifest

_KERNEL_S = 120.0
PAGES = ("raw", "details", "source")
_IDENTITY = {"ID", "Kernel Name", "Block Size", "Grid Size", "Device", "CC"}
_ROOT = Path(__file__).parents[2]


class _Noted(dict[str, float]):
    """Readings that remember which of them were looked at."""

    def __init__(self, names: Iterable[str], value: float) -> None:
        super().__init__(dict.fromkeys(names, value))
        self.seen: set[str] = set()

    def __contains__(self, name: object) -> bool:
        is_here = super().__contains__(name)
        if is_here:
            self.seen.add(str(name))
        return is_here


def needed(names: Iterable[str]) -> set[str]:
    """Return the columns that facts are read from, and those that identify a launch."""
    names = list(names)
    metrics = [name for name in names if "__" in name or name.startswith("memory_")]
    seen: set[str] = set()
    for value in (1.0, 0.0):  # where a metric is zero, others are asked
        noted = _Noted(metrics, value)
        kernel_facts(ProfiledLaunch(index=0, kernel="k", readings=noted), workload="")
        seen |= noted.seen
    stalls = {name for name in names if "issue_stalled" in name and name.endswith(".ratio")}
    display = {name for name in names if name == "device__attribute_display_name"}
    return seen | stalls | display | _IDENTITY


def trimmed(raw: str) -> str:
    """Return a wide table with only the columns that are needed."""
    rows = [row for row in csv.reader(io.StringIO(raw)) if len(row) > 1]
    start = next(index for index, row in enumerate(rows) if row[0] == "ID")
    wanted = needed(rows[start])
    keep = [index for index, name in enumerate(rows[start]) if name in wanted]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([row[i] for i in keep] for row in rows[start:] if len(row) == len(rows[start]))
    return out.getvalue()


def capture(name: str, folder: Path, left_s: float) -> dict[str, str]:
    """Return the three pages of one kernel as text."""
    tool = ncu.capability()
    if tool.refusal:
        raise RunnerError(tool.refusal)
    report = folder / f"{name}.ncu-rep"
    program = [sys.executable, "-m", "tests.gpu.zoo_run", name]
    argv = ncu.report_command(tool.path, program, report=report)
    ended = run_watched(argv, timeout_s=min(_KERNEL_S, left_s), folder=folder)
    if not report.is_file():
        said = (ended.output + ended.errors).strip()[-400:]
        raise RunnerError(f"ncu left no report (rc {ended.returncode}): {said}")
    with ThreadPoolExecutor() as pool:  # each export takes seconds, on one core
        done = list(pool.map(lambda page: exported(tool.path, report, page, folder), PAGES))
    return {page: text for page, text in zip(PAGES, done, strict=True) if text}


def exported(tool: str, report: Path, page: str, folder: Path) -> str:
    """Return a page of a report as text, empty where it has none."""
    own = folder / page
    own.mkdir()
    argv = [tool, "--import", str(report), "--page", page, "--csv"]
    argv += ["--print-source", "sass,cuda"] if page == "source" else []
    ended = run_watched(argv, timeout_s=_KERNEL_S, folder=own)
    return ended.output if ended.returncode == 0 else ""


def verdict(pages: dict[str, str], folder: Path) -> tuple[str, float, str]:
    """Return class, confidence and evidence of a capture."""
    paths: dict[str, Path] = {}
    for page, text in pages.items():
        paths[page] = folder / f"{page}.csv"
        paths[page].write_text(text)
    kernels = read_kernels(paths["raw"], source=paths.get("source"), details=paths.get("details"))
    found = diagnose_kernel(kernels[0])
    evidence = ", ".join(f"{one.signal} {one.value:.3g}" for one in found.readings)
    return found.bottleneck, found.confidence, evidence


def captured(names: list[str], out: Path, limit_s: float) -> Iterator[dict[str, Any]]:
    """Capture kernel by kernel; yield what each got. Reports stay out of `out`: they are large."""
    with tempfile.TemporaryDirectory() as scratch:
        yield from _captured(names, out, limit_s, Path(scratch))


def _captured(
    names: list[str], out: Path, limit_s: float, scratch: Path
) -> Iterator[dict[str, Any]]:
    started = time.monotonic()
    known = manifest()
    with zipfile.ZipFile(out / "zoo.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(names):
            wanted = known[name]["bottleneck"]
            line = {"kernel": name, "wanted": wanted, "got": "", "confidence": 0.0, "said": ""}
            left_s = limit_s - (time.monotonic() - started)
            folder = scratch / str(number)
            folder.mkdir()
            try:
                if left_s <= 0:
                    raise RunnerError("no time was left")  # noqa: TRY301 - one place says so
                pages = capture(name, folder, left_s)
                line["got"], line["confidence"], line["said"] = verdict(pages, folder)
                if "raw" in pages:
                    pages["raw"] = trimmed(pages["raw"])
                for page, text in pages.items():
                    archive.writestr(f"{name}/{page}.csv", text)
            except (RunnerError, OSError, KeyError, StopIteration) as error:
                line["said"] = f"failed: {type(error).__name__}: {error}"
            line["begun_s"] = round(limit_s - left_s, 1)
            yield line
        archive.write(ZOO / "manifest.json", "manifest.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("kernels", nargs="*")
    parser.add_argument("--limit-s", type=float, default=540.0)
    asked = parser.parse_args()
    asked.out = asked.out.resolve()  # tools start in folders of their own
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *([before] if before else [])])
    asked.out.mkdir(parents=True, exist_ok=True)
    lines = []
    with (asked.out / "zoo.txt").open("w") as table:
        for line in captured(asked.kernels or list(manifest()), asked.out, asked.limit_s):
            lines.append(line)
            mark = "ok  " if line["got"] == line["wanted"] else "DIFF"
            text = f"{mark} {line['kernel']:20} {line['wanted']:28} {line['got']:28} {line['said']}"
            table.write(text + "\n")
            table.flush()
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
    (asked.out / "verdicts.json").write_text(json.dumps(lines, indent=1))
    right = sum(line["got"] == line["wanted"] for line in lines)
    sys.stdout.write(f"{right} of {len(lines)} as the manifest says\n")
    return 0 if right == len(lines) else 1


if __name__ == "__main__":
    sys.exit(main())
