"""Write `report.html`: gather, draw, fill the template.

Whatever a model, a candidate or a target wrote goes through Jinja's autoescape or `svg.element`;
nothing is marked safe but figures made by this package. The page has no script and a policy that
forbids one.
"""

import shlex
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from gpu_runner.facts import Roofline
from graph.durable import write_bytes
from graph.ledger import Attempt, AttemptOutcome, RunManifest, RunResult, Tuning
from graph.report import story
from graph.report.evidence import Evidence, gather
from graph.report.lineage import lineage_figure
from graph.report.progress import latency_figure, speedup_figure
from graph.report.roofline import fraction_figure, roofline_figure
from graph.report.svg import micros, ratio, shortened
from graph.report.workloads import MOST_SERIES, workloads_figure
from graph.retrospective import retrospective
from graph.run_files import RunFiles

NAME = "report.html"
REPOSITORY_COMMANDS = ("cd repo", "pip install -e .[test]", "pytest", "python benchmarks/bench.py")


def render(
    files: RunFiles,
    manifest: RunManifest,
    attempts: tuple[Attempt, ...],
    tuning: Tuning | None,
    result: RunResult | None,
) -> Path:
    """Write the report of a run, ended or (`result` is None) in progress; return its path.

    Raises:
        RunDamaged: a file of the run cannot be read; names it.
    """
    page = _templates().get_template("page.html.j2")
    content = page.render(_context(files, manifest, attempts, tuning, result))
    path = files.root / NAME
    write_bytes(path, content.encode())
    return path


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("graph.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ratio=ratio,
        micros=micros,
        shortened=shortened,
        duration=duration,
        size=binary_size,
        sentence=sentence,
    )
    return environment


def _context(
    files: RunFiles,
    manifest: RunManifest,
    attempts: tuple[Attempt, ...],
    tuning: Tuning | None,
    result: RunResult | None,
) -> dict[str, object]:
    target = manifest.target
    baseline = target.baselines[0].name
    headline = story.headline(manifest, attempts, result)
    evidence = gather(files, target, attempts, headline.attempt)
    points = story.points(attempts, baseline)
    direct = [point for point in points if point.is_direct]
    baseline_us = direct[-1].decision.overall.against_us if direct else None
    return {
        "manifest": manifest,
        "target": target,
        "environment": manifest.environment,
        "attempts": attempts,
        "tuning": tuning,
        "result": result,
        "is_gpu": target.hardware.device == "cuda",
        "headline": headline,
        "floors": _floors(evidence),
        "evidence": evidence,
        "counts": story.counts(attempts),
        "promoted": [a for a in attempts if a.outcome is AttemptOutcome.PROMOTED],
        "points": {point.attempt.attempt_id: point for point in points},
        "decisions_of": story.decisions_of,
        "record_ids": story.record_ids(attempts, tuning, result),
        "series": MOST_SERIES,
        "commands": commands(manifest, headline.attempt),
        "repository_commands": REPOSITORY_COMMANDS,
        "speedup_figure": speedup_figure(points, attempts, baseline) if attempts else "",
        "latency_figure": latency_figure(points, attempts, baseline, baseline_us) if points else "",
        "workloads_figure": (
            workloads_figure(headline.decisions, target.public) if headline.decisions else ""
        ),
        "roofline_figure": roofline_figure(evidence.profiled),
        "back": retrospective(target, attempts, files.events.read(), result),
        "fraction_figure": fraction_figure(evidence.profiled) if evidence.profiled else "",
        "lineage_figure": lineage_figure(story.lineage(attempts), points) if attempts else "",
    }


def _floors(evidence: Evidence) -> dict[str, Roofline]:
    """Return where the best kernel stands under its roof, by workload."""
    best = [profiled for profiled in evidence.profiled if profiled.is_best]
    return {roof.workload: roof for profiled in best for roof in profiled.roofline}


def commands(manifest: RunManifest, best: Attempt | None) -> tuple[str, ...]:
    """Return what repeats the run, and what measures its best kernel again."""
    target = manifest.target
    limits = target.budget
    asked = shlex.quote(manifest.request) if manifest.request else target.name
    run = [
        f".venv/bin/kernelpilot run {asked} --device {target.hardware.device}",
        f"--seed {manifest.seed} --rounds {limits.rounds} --lanes {target.scope.lanes}",
        f"--team {manifest.team}",
    ]
    if limits.wall_s is not None:
        run.append(f"--budget {limits.wall_s:g}s")
    repeat = ("make install", " ".join(run))
    if best is None:
        return repeat
    again = f".venv/bin/kernelpilot evaluate {asked} {manifest.run_id}:{best.attempt_id}"
    against = (f'{again} --against "{baseline.name}"' for baseline in target.baselines)
    return (*repeat, *against)


def sentence(text: str) -> str:
    """Return the text with a capital at its start and one full stop at its end."""
    trimmed = text.strip().rstrip(".")
    return f"{trimmed[:1].upper()}{trimmed[1:]}." if trimmed else ""


def duration(seconds: float) -> str:
    """Return a length of time in at most two units: `4 min 12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{seconds:.1f} s"


def binary_size(count: int) -> str:
    """Return bytes in the largest binary unit that leaves at least one."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - the step between binary units
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"
