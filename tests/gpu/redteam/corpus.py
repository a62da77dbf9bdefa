"""Reads the corpus: `manifest.json`, one `.cu` an item, and what they share in `common/`."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from gpu_runner.candidate import Candidate, Language, LaunchPlan, Source
from gpu_runner.jobs import Reason
from gpu_runner.message import Message, Name
from graph.target import Target
from graph.targets import load_target

HERE = Path(__file__).parent
COMMON = HERE / "common"
_PLANS: TypeAdapter[tuple[LaunchPlan, ...]] = TypeAdapter(tuple[LaunchPlan, ...])


class Item(Message):
    """One candidate, and what it must end as."""

    file: str
    expected: Literal["reject", "no_gain", "reject_or_no_gain"]
    reasons: tuple[Reason, ...]
    """What a rejection may say."""
    why: str
    """What stops it."""


class Manifest(Message):
    """The corpus."""

    target: Name
    compared_with: str
    """The honest kernel: gaining over it is the effect that no item may have."""
    workloads: tuple[Name, ...]
    """Public ones that are timed; the hidden ones are all checked."""
    items: tuple[Item, ...]


@cache
def manifest() -> Manifest:
    """Return the manifest."""
    return Manifest.model_validate_json((HERE / "manifest.json").read_bytes())


@cache
def victim() -> Target:
    """Return the target that is attacked, with the manifest's workloads."""
    whole = load_target(manifest().target, "cuda")
    public = tuple(w for w in whole.public if w.name in manifest().workloads)
    return whole.model_copy(update={"workloads": (*public, *whole.hidden)})


def candidate(file: str) -> Candidate:
    """Return the candidate of one item: its source, the common header, its plans or the common."""
    own = HERE / f"{Path(file).stem}.plan.json"
    plans = own if own.exists() else COMMON / "plan.json"
    sources = ((HERE / file, "kernel.cu"), (COMMON / "silu.cuh", "silu.cuh"))
    return Candidate(
        language=Language.CUDA,
        sources=tuple(Source(path=name, text=path.read_text()) for path, name in sources),
        plans=_PLANS.validate_json(plans.read_bytes()),
    )
