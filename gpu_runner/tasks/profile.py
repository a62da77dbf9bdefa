"""The profile job: what compiler, machine code and a few calls say of a candidate.

For the loop's next edit, never for a decision: no output is verified here, and the times are the
least of a handful of calls.
"""

import os
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.candidate import DEVICE_LANGUAGES
from gpu_runner.errors import ToolchainMissing
from gpu_runner.facts import Facts, Roofline
from gpu_runner.jobs import Profile, Profiled, Unserved
from gpu_runner.oracle.contents import Contents
from gpu_runner.problem import Workload
from gpu_runner.profiling.counters import Counts, counting, frozen_descendants
from gpu_runner.profiling.roofline import ceilings, place_below
from gpu_runner.profiling.static import StaticFacts, static_facts
from gpu_runner.tasks.device_profile import device_profile
from gpu_runner.tasks.sides import POISONS, Place, Side, build_for, slots_within

MOST_WORKLOADS = 8
MOST_SLOTS = 32
CALL_TIMEOUT_S = 20.0
_SAMPLE_S = 0.1
"""Time a workload is called for, counted after its first call."""
_LEAST_SAMPLES = 3
_WARMUPS = 2
_COUNTED_TOKENS = 3


@dataclass(frozen=True)
class _Timing:
    time_us: float
    """One call; what a token costs beside its calls is subtracted."""
    busy_threads: float


def profile(job: Profile, *, workspace: Path) -> Profiled | Unserved:
    """Build or take from the cache, call every public workload a few times, and say what was found.

    Raises:
        SubjectFailed: the candidate does not build, load or run.
        ToolchainMissing: nothing here can build this language.
    """
    if job.candidate.language in DEVICE_LANGUAGES:
        return device_profile(job, workspace=workspace)
    started = time.monotonic()
    artefact = build_for(job.problem, job.candidate, workspace=workspace, timeout_s=job.timeout_s)
    public = [w for w in job.workloads if w.visibility == "public"][:MOST_WORKLOADS]
    places = [
        Place(workload=workload, slots=slots_within(job.problem, workload, MOST_SLOTS))
        for workload in public
    ]
    scratch = workspace / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    side = Side(artefact, job.problem, places, threads=job.threads, call_timeout_s=CALL_TIMEOUT_S)
    with side, tempfile.TemporaryDirectory(dir=scratch) as folder:
        static = static_facts(artefact, scratch=Path(folder))
        side.wait_ready()
        timings = {place.workload.name: _time(side, index) for index, place in enumerate(places)}
        counts = _counters(side, timings)
    facts = _facts(job, public, timings, static, workspace)
    facts = facts.model_copy(
        update={
            "counters": {**facts.counters, **counts.events},
            "unavailable": (*facts.unavailable, *counts.unavailable),
        }
    )
    return Profiled(job_id=job.job_id, facts=facts, seconds=time.monotonic() - started)


def _facts(
    job: Profile,
    public: list[Workload],
    timings: dict[str, _Timing],
    static: StaticFacts,
    workspace: Path,
) -> Facts:
    unavailable = list(static.unavailable)
    roofline: tuple[Roofline, ...] = ()
    try:
        roofline = tuple(
            place_below(
                job.problem,
                workload,
                timings[workload.name].time_us,
                ceilings(
                    job.problem.required_bytes(workload), threads=job.threads, workspace=workspace
                ),
            )
            for workload in public
        )
    except ToolchainMissing as error:
        unavailable.append(f"roofline: {error}")
    return Facts(
        tier="cpu",
        remarks=static.remarks,
        instructions=static.instructions,
        roofline=roofline,
        hotspots=static.hotspots,
        counters={f"{name}.busy_threads": t.busy_threads for name, t in timings.items()},
        unavailable=tuple(unavailable),
    )


def _time(side: Side, place: int) -> _Timing:
    """Call one workload with one slot and with all, alternately; the least of each counts.

    Disturbances only ever add. Two lengths give the cost of a call without that of its token.
    """
    slots = side.places[place].slots
    contents = Contents(side.problem, side.places[place].workload, secrets.token_bytes(32))
    for slot in range(slots):
        contents.fill(side.inputs(place, slot), call=slot)
    for _ in range(_WARMUPS):
        side.call(place, 0, 1, poison=POISONS[0])
    one: list[int] = []
    all_slots: list[int] = []
    busy: list[float] = []
    deadline = time.monotonic() + _SAMPLE_S
    while len(one) < _LEAST_SAMPLES or time.monotonic() < deadline:
        poison = POISONS[len(one) % len(POISONS)]
        one.append(side.call(place, 0, 1, poison=poison).wall_ns)
        token = side.call(place, 0, slots, poison=poison)
        all_slots.append(token.wall_ns)
        busy.append(token.cpu_ns / token.wall_ns)
    return _Timing(
        time_us=_per_call_ns(min(one), min(all_slots), slots) / 1e3, busy_threads=max(busy)
    )


def _counters(side: Side, timings: dict[str, _Timing]) -> Counts:
    """Count events of the workload that takes longest, a call; `<workload>.<event>`."""
    names = [place.workload.name for place in side.places]
    index = max(range(len(names)), key=lambda i: timings[names[i]].time_us)
    slots = side.places[index].slots
    frozen = frozen_descendants(os.getpid())
    if len(frozen) != 1:
        return Counts(events={}, unavailable=("counters: the process cannot be seen from here",))
    with counting(frozen[0]) as result:
        for _ in range(_COUNTED_TOKENS):
            side.call(index, 0, slots, poison=POISONS[0])
    calls = _COUNTED_TOKENS * slots
    events = {f"{names[index]}.{name}": n / calls for name, n in result.counts.events.items()}
    cycles = result.counts.events.get("cycles")
    if cycles:
        events[f"{names[index]}.instructions_per_cycle"] = (
            result.counts.events.get("instructions", 0.0) / cycles
        )
    return Counts(events=events, unavailable=result.counts.unavailable)


def _per_call_ns(one_ns: int, all_ns: int, slots: int) -> float:
    if slots == 1:
        return min(one_ns, all_ns)
    slope = (all_ns - one_ns) / (slots - 1)
    return slope if slope > 0 else all_ns / slots
