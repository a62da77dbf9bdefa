"""What the reading of the final kernel came to, from the run directory."""

from agents.inspection import actionable
from agents.replies import Inspection, Remark
from graph.run_files import RunFiles


def inspection_of(files: RunFiles, attempt_id: str) -> Inspection | None:
    """Return what was said of an attempt's text; None where it was not read."""
    return files.reply(Inspection, attempt_id) if attempt_id else None


def to_mend(files: RunFiles, attempt_id: str) -> tuple[Remark, ...]:
    """Return the remarks on an attempt that go back to the writer."""
    found = inspection_of(files, attempt_id)
    return actionable(found) if found else ()


def open_remarks(files: RunFiles, attempt_id: str) -> tuple[str, ...]:
    """Return what blocks in an attempt's text, as words; the final kernel's is unresolved."""
    found = inspection_of(files, attempt_id)
    remarks = found.remarks if found else ()
    return tuple(words(remark) for remark in remarks if remark.lane == "blocking")


def words(remark: Remark) -> str:
    """Return a remark as `place: text`."""
    return f"{remark.path}:{remark.line}: {' '.join(remark.text.split())}"
