"""Jobs (infinitive), their outcomes (participle), and whose fault it is when there is none.

Nouns only. `Rejected` is the candidate's fault and may be shown to its writer; `Unfit` is the
target's fault; `Unserved` is ours and never counts against a candidate.
"""

import base64
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter

from gpu_runner.candidate import Candidate, Contender, SourcePath
from gpu_runner.facts import Facts
from gpu_runner.message import Digest, JobId, Message
from gpu_runner.problem import Problem, Workload
from gpu_runner.records import BenchRecord, Environment, TimingPlan


class Stage(StrEnum):
    """Where on its way a candidate was stopped."""

    BUILD = "build"
    CHECK = "check"
    BENCH = "bench"
    PROFILE = "profile"
    SANITIZE = "sanitize"
    ADMIT = "admit"


class Reason(StrEnum):
    """Why a candidate was rejected."""

    COMPILE_FAILED = "compile_failed"
    BUILD_TIMED_OUT = "build_timed_out"
    FLAG_NOT_ALLOWED = "flag_not_allowed"
    FORBIDDEN_INSTRUCTION = "forbidden_instruction"
    LANGUAGE_MISMATCH = "language_mismatch"
    LOAD_FAILED = "load_failed"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    EXITED = "exited"
    PROTOCOL_VIOLATED = "protocol_violated"
    FORKED = "forked"
    OUTPUT_NOT_WRITTEN = "output_not_written"
    OUTPUT_MISSHAPEN = "output_misshapen"
    GUARD_OVERWRITTEN = "guard_overwritten"
    WRONG_RESULT = "wrong_result"
    IMPRECISE = "imprecise"
    NOT_DETERMINISTIC = "not_deterministic"
    STALE_RESULT = "stale_result"
    LIBRARY_CALL = "library_call"
    FASTER_THAN_POSSIBLE = "faster_than_possible"
    SANITIZER_FINDING = "sanitizer_finding"
    ENTRY_FAILED = "entry_failed"


class Job(Message):
    """What every job carries."""

    job_id: JobId
    problem: Problem
    timeout_s: float = Field(default=120.0, gt=0)
    """Wall clock of the whole job; its processes are killed after it."""


class Admit(Job):
    """May this target be run at all? Calibration gate and degenerate tasks (MEASUREMENT C3, C4)."""

    kind: Literal["admit"] = "admit"
    workloads: tuple[Workload, ...] = Field(min_length=1)
    baselines: tuple[Contender, ...] = ()
    """The first one is run over every workload as a trusted implementation."""
    threads: int = Field(default=1, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the baseline runs."""


class Build(Job):
    """Turn sources into an artefact, in the sandbox."""

    kind: Literal["build"] = "build"
    candidate: Candidate
    returns_files: bool = False
    """Device code is wanted too: whoever ships a kernel has no compiler for it."""


class Check(Job):
    """Public and hidden workloads, every profile, guards, fences, policy."""

    kind: Literal["check"] = "check"
    candidate: Candidate
    workloads: tuple[Workload, ...] = Field(min_length=1)
    threads: int = Field(default=1, ge=1)


class Bench(Job):
    """Time a candidate against contenders in pairs."""

    kind: Literal["bench"] = "bench"
    candidate: Candidate
    against: tuple[Contender, ...] = Field(min_length=1)
    workloads: tuple[Workload, ...] = Field(min_length=1)
    hidden: tuple[Workload, ...] = ()
    """Never timed; verified in the same processes after the timing (MEASUREMENT B12)."""
    plan: TimingPlan = TimingPlan()


class Profile(Job):
    """Collect facts of a candidate."""

    kind: Literal["profile"] = "profile"
    candidate: Candidate
    workloads: tuple[Workload, ...] = Field(min_length=1)
    threads: int = Field(default=1, ge=1)


class Sanitize(Job):
    """Run a candidate under sanitizers, small shapes, never timed."""

    kind: Literal["sanitize"] = "sanitize"
    candidate: Candidate
    workloads: tuple[Workload, ...] = Field(min_length=1)


AnyJob = Annotated[Admit | Build | Check | Bench | Profile | Sanitize, Field(discriminator="kind")]


class Mismatch(Message):
    """The first wrong element of a public case; hidden cases name only their category."""

    case: str
    """`rows_4096/normal`, or `hidden shape`, `near duplicate`."""
    output: str
    index: tuple[int, ...] | None = None
    actual: str = ""
    expected: str = ""
    error_over_bound: float | None = None
    wrong_fraction: float | None = None


class Admitted(Message):
    """The target may be run."""

    kind: Literal["admitted"] = "admitted"
    job_id: JobId
    margins: dict[str, float]
    """Trusted implementation to bound / error; the gate wants at least 4."""
    caught: tuple[str, ...]
    """Planted wrong implementations that the comparison refused."""
    environment: Environment


class BuiltFile(Message):
    """One file of an artefact: a cubin, or the index that says what is in it."""

    path: SourcePath
    """Inside the artefact."""
    base64: str

    @classmethod
    def of(cls, path: str, content: bytes) -> Self:
        """Return the file of a content."""
        return cls(path=path, base64=base64.b64encode(content).decode())

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return base64.b64decode(self.base64)


class Built(Message):
    """The artefact is in the builder's cache."""

    kind: Literal["built"] = "built"
    job_id: JobId
    artefact_digest: Digest
    compiler: str
    seconds: float
    is_cached: bool
    log_tail: str = ""
    files: tuple[BuiltFile, ...] = ()
    """Device code and its index, where they were asked for; other languages have none."""
    files_withheld: str = ""
    """Why files that were asked for are not here."""


class Checked(Message):
    """Every case was right."""

    kind: Literal["checked"] = "checked"
    job_id: JobId
    cases: int
    worst_error: float
    """Largest error over its bound, 0 to 1."""
    rms_ratio: float
    """Root-mean-square error over that of the trusted same-precision implementation."""
    seconds: float


class Benched(Message):
    """Raw measurements; the decision is arithmetic over them, made wherever they are read."""

    kind: Literal["benched"] = "benched"
    job_id: JobId
    record: BenchRecord
    seconds: float


class Profiled(Message):
    """The facts."""

    kind: Literal["profiled"] = "profiled"
    job_id: JobId
    facts: Facts
    seconds: float


class Sanitized(Message):
    """No tool found a fault."""

    kind: Literal["sanitized"] = "sanitized"
    job_id: JobId
    tools: tuple[str, ...]
    seconds: float


class Rejected(Message):
    """The candidate was at fault; safe and useful to show to the writer."""

    kind: Literal["rejected"] = "rejected"
    job_id: JobId
    stage: Stage
    reason: Reason
    message: str
    """One sentence that names the thing and what to do."""
    mismatch: Mismatch | None = None
    log_tail: str = ""
    """Last 8 KiB of the process's output, decoded with replacement."""


class Unfit(Message):
    """The target was at fault: its reference, its tolerance, its workloads or its baseline."""

    kind: Literal["unfit"] = "unfit"
    job_id: JobId
    message: str


class Unserved(Message):
    """We were at fault: a runner was lost, a tool is missing, a disk is full."""

    kind: Literal["unserved"] = "unserved"
    job_id: JobId
    cause: Literal[
        "cancelled",
        "runner_lost",
        "timed_out",
        "no_tool",
        "no_space",
        "unhealthy_device",
        "expired",
        "internal_error",
    ]
    message: str
    is_retryable: bool


AnyOutcome = Annotated[
    Admitted | Built | Checked | Benched | Profiled | Sanitized | Rejected | Unfit | Unserved,
    Field(discriminator="kind"),
]

JOB: TypeAdapter[AnyJob] = TypeAdapter(AnyJob)
OUTCOME: TypeAdapter[AnyOutcome] = TypeAdapter(AnyOutcome)
