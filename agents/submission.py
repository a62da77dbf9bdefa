"""What a model that writes kernels answers: a whole candidate, or edits of the source shown. Pure.

Edits are applied exactly or not at all: what they search for must stand once in its file. What is
wrong with them is said in words that the model can use.
"""

import difflib
from typing import Self

from pydantic import Field, ValidationError, model_validator

from agents.replies import Citation, Draft, Movement
from gpu_runner.candidate import Candidate, LaunchPlan, Source, SourcePath
from gpu_runner.message import Message

_LONGEST_ECHO = 160
_MOST_LINES = 4000
"""Lines of a file among which the nearest one is looked for."""


class SourceEdit(Message):
    """Replaces one text of one file."""

    path: SourcePath
    search: str
    """Stands exactly once in the file, blanks and line breaks included; empty: a new file."""
    replace: str


class Submission(Message):
    """The writer's answer as a model gives it; becomes a Draft."""

    candidate: Candidate | None = None
    """The whole of it; or null, with `edits`."""
    edits: tuple[SourceEdit, ...] = Field(default=(), max_length=64)
    """Of the source to start from, in order."""
    plans: tuple[LaunchPlan, ...] | None = None
    """Beside edits: launch plans instead of those of the source."""
    flags: tuple[str, ...] | None = None
    """Beside edits: compiler flags instead of those of the source."""
    family: str = ""
    recipe: str = ""
    parameters: dict[str, int | float | str | bool] = Field(default_factory=dict)
    motivation: str
    expected: Movement | None = None
    provenance: tuple[Citation, ...] = ()

    @model_validator(mode="after")
    def _is_whole_or_edits(self) -> Self:
        changes = bool(self.edits) or self.plans is not None or self.flags is not None
        if self.candidate is not None and changes:
            msg = "give either candidate or edits (with plans and flags beside them), not both"
            raise ValueError(msg)
        if self.candidate is None and not changes:
            msg = "there is neither a candidate nor an edit"
            raise ValueError(msg)
        return self


def drafted(submission: Submission, parent: Candidate | None) -> Draft | str:
    """Return the draft that a submission makes of its parent, or what is wrong with it."""
    candidate = submission.candidate
    if candidate is None:
        if parent is None:
            return "there is no source to edit; give the whole candidate"
        edited = _edited(submission, parent)
        if isinstance(edited, str):
            return edited
        candidate = edited
    return Draft(
        candidate=candidate,
        family=submission.family,
        recipe=submission.recipe,
        parameters=submission.parameters,
        motivation=submission.motivation,
        expected=submission.expected,
        provenance=submission.provenance,
    )


def _edited(submission: Submission, parent: Candidate) -> Candidate | str:
    texts = {source.path: source.text for source in parent.sources}
    for number, edit in enumerate(submission.edits, start=1):
        fault = _apply(texts, edit)
        if fault:
            return f"edit {number} of {edit.path}: {fault}"
    try:
        edited = Candidate(
            language=parent.language,
            sources=tuple(Source(path=path, text=text) for path, text in texts.items()),
            calling=parent.calling,
            flags=parent.flags if submission.flags is None else submission.flags,
            plans=parent.plans if submission.plans is None else submission.plans,
        )
    except ValidationError as error:
        return f"the edited candidate is none: {error.errors()[0]['msg']}"
    return "the edits change nothing" if edited == parent else edited


def _apply(texts: dict[str, str], edit: SourceEdit) -> str:
    """Apply one edit to the files; return what is wrong with it, empty where it was applied."""
    if not edit.search:
        if edit.path in texts:
            return "the file exists; say in search which of its text is replaced"
        texts[edit.path] = edit.replace
        return ""
    if edit.path not in texts:
        return f"there is no such file; files: {', '.join(sorted(texts))}"
    text = texts[edit.path]
    first = text.find(edit.search)
    if first < 0:
        return f"the text searched for does not stand there{_nearest(text, edit.search)}"
    again = text.find(edit.search, first + 1)
    if again >= 0:
        lines = [text.count("\n", 0, at) + 1 for at in (first, again)]
        return (
            f"the text searched for stands more than once (lines {lines[0]} and {lines[1]}); take "
            "more of what is around it"
        )
    texts[edit.path] = text[:first] + edit.replace + text[first + len(edit.search) :]
    return ""


def _nearest(text: str, search: str) -> str:
    """Return a hint: where the text differs in blanks only, or the line most like its first."""
    wanted = [line.strip() for line in search.strip().splitlines()]
    lines = text.splitlines()[:_MOST_LINES]
    bare = [line.strip() for line in lines]
    for at in range(len(bare) - len(wanted) + 1):
        if wanted and bare[at : at + len(wanted)] == wanted:
            return f"; lines {at + 1} to {at + len(wanted)} differ from it in blanks only"
    if not wanted:
        return "; it is blank"
    close = difflib.get_close_matches(wanted[0], bare, n=1, cutoff=0.6)
    if not close:
        return "; no line is like its first one"
    at = bare.index(close[0])
    return f"; the line most like its first is {at + 1}: {lines[at][:_LONGEST_ECHO]!r}"
