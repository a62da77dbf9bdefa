"""What a digest of one kernel says. Nouns only; every renderer shows this and nothing else."""

from typing import Literal

from pydantic import Field

from agents.diagnosis.query import EvidenceQuery
from agents.diagnosis.vocabulary import Bottleneck
from gpu_runner.facts import Hotspot, KernelFacts
from gpu_runner.message import Message

Direction = Literal["up", "down"]


class EvidenceLine(Message):
    """One fact that speaks for the class."""

    metric: str
    value: float
    shown: str
    op: str = ""
    threshold: float | None = None
    source: str = ""
    """Where the threshold comes from."""
    text: str
    """The same as a sentence."""


class ExpectedMovement(Message):
    """What the edit should do to a metric."""

    metric: str
    direction: Direction
    factor: float
    """New over old."""
    text: str


class NextEdit(Message):
    """Exactly one next edit."""

    file: str
    symbol: str
    change: str
    why_others_are_weaker: str
    expected: ExpectedMovement
    validation: str


class MetricChange(Message):
    """One metric against another report."""

    metric: str
    label: str
    before: float | None
    after: float | None
    shown_before: str
    shown_after: str
    change: str
    is_better: bool | None


class Against(Message):
    """The comparison with another report."""

    report: str
    kernel: str
    bottleneck: Bottleneck
    time_change_percent: float | None
    """Of the duration; negative is faster."""
    headline: str
    """`850 us against 1.2 ms: -29 %`."""
    changes: tuple[MetricChange, ...]
    explanation: tuple[str, ...]
    """Why it is slower, where it is."""
    sass: tuple[str, ...] = ()
    """Kinds of instructions that became more or fewer."""


class Alternative(Message):
    """Another class whose rule holds."""

    bottleneck: Bottleneck
    label: str
    confidence: float


class KernelLine(Message):
    """A kernel of the report in one line."""

    kernel: str
    launches: int
    time_us: float | None
    share: float | None
    bottleneck: Bottleneck
    label: str
    confidence: float
    is_chosen: bool


class Digest(Message):
    """All of it."""

    digest_id: str = ""
    """Beginning of the sha256 of the rest."""
    report: str
    kernel: str
    bottleneck: Bottleneck
    label: str
    confidence: float = Field(ge=0, le=1)
    confidence_word: Literal["high", "medium", "low"]
    is_near_roof: bool
    route: Literal["edit", "stop", "capture"]
    """`stop`: no cheap edit is left; `capture`: too little was measured."""
    rule: str
    evidence: tuple[EvidenceLine, ...]
    stalls: dict[str, float]
    """Share of the waiting, warps that only wait for their turn left out."""
    inference: tuple[str, ...]
    next_edit: NextEdit
    alternatives: tuple[Alternative, ...]
    missing: tuple[str, ...]
    """Signals that were not measured and would decide more."""
    query: EvidenceQuery | None
    hotspots: tuple[Hotspot, ...]
    against: Against | None
    kernels: tuple[KernelLine, ...]
    facts: KernelFacts


MOST_LISTED = 30


def listed(digest: Digest) -> tuple[KernelLine, ...]:
    """Return the kernels that are shown of a report with very many: the longest, and the chosen."""
    first = digest.kernels[:MOST_LISTED]
    return (*first, *(line for line in digest.kernels[MOST_LISTED:] if line.is_chosen))
