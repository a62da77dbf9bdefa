"""Measurement records: what was timed, raw, and what arithmetic made of it.

Nouns only. A record is a file with an id; ledgers and reports are generated from records and from
nothing else. Times are microseconds for one call, as measured, never rounded.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from gpu_runner.message import Digest, Message, Name, digest_of
from gpu_runner.problem import Workload


class Environment(Message):
    """The machine a record was made on, as far as it can be read without privileges."""

    machine: str
    """Processor or GPU model."""
    arch: str
    """`x86_64`, `sm_90`."""
    cores: int
    isa: tuple[str, ...] = ()
    """Vector extensions: `avx2`, `avx512f`, `amx_int8`."""
    memory_bytes: int
    kernel: str
    compiler: str = ""
    python: str
    torch: str = ""
    governor: str = ""
    huge_pages: str = ""
    sandbox: tuple[str, ...] = ()
    """Layers that were active, by name."""


class TimingPlan(Message):
    """How much to measure; counts come from here and from the baseline, never the candidate."""

    sittings: int = Field(default=1, ge=1)
    most_sittings: int = Field(default=1, ge=1)
    """More sittings are added up to this while the interval is wider than `width`."""
    pairs: int = Field(default=40, ge=10)
    """Pairs a workload and sitting at least."""
    most_pairs: int = Field(default=400, ge=10)
    pair_block: int = Field(default=20, ge=1)
    candidate_s: float = Field(default=0.1, ge=0)
    """Measured time of the candidate a workload and sitting, at least."""
    most_s: float = Field(default=60.0, gt=0)
    """Time of one workload in one sitting at most; a dozen pairs are taken all the same."""
    warmup_s: float = Field(default=0.2, ge=0)
    token_us: float = Field(default=1000.0, gt=0)
    """Calls are chained until one token takes this long on the baseline."""
    most_slots: int = Field(default=256, ge=1)
    width: float = Field(default=0.06, gt=0)
    """Pairs (and sittings) are added until the interval of the log-ratio is narrower."""
    near_duplicate_every: int = Field(default=5, ge=2)
    threads: int = Field(default=1, ge=1)
    call_timeout_s: float = Field(default=20.0, gt=0)


class Series(Message):
    """The pairs of one workload against one contender in one sitting; equal lengths."""

    workload: Name
    against: str
    slots: int
    """Calls chained in one token."""
    candidate_us: tuple[float, ...]
    """Shape [pairs], wall clock."""
    against_us: tuple[float, ...]
    """Shape [pairs], wall clock."""
    candidate_cpu_us: tuple[float, ...]
    """Shape [pairs], processor time of the process that holds the candidate."""
    against_cpu_us: tuple[float, ...]


class Sitting(Message):
    """Fresh processes on both sides, a fresh secret key, every output verified."""

    index: int
    started_at: str
    """UTC, ISO 8601."""
    key_digest: Digest
    """sha256 of the secret key; the key itself dies with the sitting."""
    pressure_percent: float
    """Share of all processors that others used during the sitting, 0 to 100."""
    verified_outputs: int
    series: tuple[Series, ...]


class BenchRecord(Message):
    """One bench job: a candidate against named contenders over workloads, in sittings."""

    problem_digest: Digest
    candidate_digest: Digest
    against: dict[str, Digest]
    """Contender name to the digest of its content."""
    workloads: tuple[Workload, ...]
    plan: TimingPlan
    environment: Environment
    sittings: tuple[Sitting, ...]

    @property
    def record_id(self) -> str:
        """First 16 hex digits of the content's digest."""
        return digest_of(self)[:16]


class Verdict(StrEnum):
    """What the decision rule says of a candidate against one contender."""

    FASTER = "FASTER"
    SAME = "SAME"
    SLOWER = "SLOWER"
    AMBIGUOUS = "AMBIGUOUS"
    REJECTED = "REJECTED"


class Comparison(Message):
    """An estimate of how many times faster the candidate is, with its interval."""

    verdict: Verdict
    speedup: float = Field(gt=0)
    """Geometric; over 1 means that the candidate is faster."""
    low: float = Field(gt=0)
    high: float = Field(gt=0)
    candidate_us: float = Field(ge=0)
    """Median over all pairs of all sittings, one call."""
    against_us: float = Field(ge=0)


class Decision(Message):
    """The decision over W against one contender, and each workload by itself."""

    against: str
    record_id: str
    basis: Literal["feedback", "claim"]
    """One sitting is feedback for the loop; a claim needs at least five."""
    sittings: int
    clock: Literal["wall", "cpu"]
    margin: float
    """Minimum effect m: FASTER needs a low end above 1 + m."""
    confidence: float
    """One-sided, after the correction for the number of candidates."""
    overall: Comparison
    """Weighted geometric mean over public workloads."""
    workloads: dict[Name, Comparison]
    noise: tuple[str, ...] = ()
    """What disturbed the measurement, in words."""
