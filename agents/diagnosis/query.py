"""From a symptom to what a researcher is asked: an evidence query. Pure."""

from collections.abc import Mapping

from agents.diagnosis.vocabulary import LABELS, Bottleneck
from gpu_runner.message import Message

_ARCHES: Mapping[str, str] = {
    "sm_80": "ampere a100",
    "sm_86": "ampere",
    "sm_89": "ada",
    "sm_90": "hopper h100",
    "sm_100": "blackwell b200",
    "sm_103": "blackwell b300",
    "sm_120": "blackwell",
}


class EvidenceQuery(Message):
    """What to look for: symptom, architecture, language and operator, and the words for them."""

    symptom: Bottleneck
    arch: str = ""
    language: str = ""
    operator: str = ""
    words: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The query as one line, each word once."""
        parts = (*self.words, self.operator, self.language, self.arch, _ARCHES.get(self.arch, ""))
        return " ".join(dict.fromkeys(word for part in parts for word in part.split()))


def evidence_query(
    symptom: Bottleneck, words: str, *, arch: str = "", language: str = "", operator: str = ""
) -> EvidenceQuery:
    """Return the query of a diagnosis.

    Args:
        symptom: the class that was found.
        words: those of its rule; the class's label stands in where there are none.
        arch: `sm_90a` is asked for as `sm_90`.
        language: `cuda`, `triton`.
        operator: `softmax`, or a kernel's name.
    """
    return EvidenceQuery(
        symptom=symptom,
        arch=arch.rstrip("abcdf"),
        language=language,
        operator=operator,
        words=tuple((words or LABELS[symptom]).split()),
    )
