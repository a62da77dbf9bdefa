"""Digests of the captured kernels."""

from gpu_runner.report import read_kernels
from graph.digest.build import build
from graph.digest.model import Digest
from tests.agents.diagnosis.kernels import NCU

KNOWN = NCU / "known"


def digest_of(name: str = "dram_stream", **changes) -> Digest:
    """The digest of a captured kernel, with all its pages."""
    kernels = read_kernels(
        KNOWN / "raw.csv", source=KNOWN / "source.csv", details=KNOWN / "details.csv"
    )
    return build(kernels, report="known/raw.csv", kernel=name, **changes)
