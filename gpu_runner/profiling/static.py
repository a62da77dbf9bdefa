"""The facts an artefact holds without being run, and what cannot be had from it."""

from dataclasses import dataclass
from pathlib import Path

from gpu_runner.candidate import Language
from gpu_runner.errors import RunnerError
from gpu_runner.facts import Hotspot, InstructionMix, Remark
from gpu_runner.languages.artefact import Artefact
from gpu_runner.profiling.disassembly import (
    disassemble,
    hotspots,
    instruction_mix,
    is_readable,
)
from gpu_runner.profiling.remarks import parse_remarks


@dataclass(frozen=True, kw_only=True)
class StaticFacts:
    """What compiler and machine code say."""

    remarks: tuple[Remark, ...] = ()
    instructions: InstructionMix | None = None
    hotspots: tuple[Hotspot, ...] = ()
    unavailable: tuple[str, ...] = ()


def static_facts(artefact: Artefact, *, scratch: Path) -> StaticFacts:
    """Return remarks and machine code facts; what fails is named, not raised.

    Args:
        artefact: of any language.
        scratch: an existing folder for the disassembly's text.
    """
    if artefact.language is not Language.CPP:
        return StaticFacts(
            unavailable=(f"compiler remarks and machine code: none of {artefact.language}",)
        )
    remarks = parse_remarks(artefact.remarks.read_text(errors="replace"))
    try:
        listing = disassemble(artefact.entry, scratch=scratch)
    except RunnerError as error:
        return StaticFacts(remarks=remarks, unavailable=(f"machine code: {error}",))
    if not is_readable(listing):
        return StaticFacts(remarks=remarks, unavailable=("machine code: only x86-64 is read",))
    return StaticFacts(
        remarks=remarks, instructions=instruction_mix(listing), hotspots=hotspots(listing)
    )
