"""The project's own recipes as a small corpus, so that search works before anything is ingested."""

import hashlib
from pathlib import Path

from knowledge_store.errors import SourceError
from knowledge_store.progress import Progress, Report, Tell, silent
from knowledge_store.pulls import PullRequest
from knowledge_store.sources.reading import Refused, file_bytes, fingerprint
from knowledge_store.truth import Truth

REPO = "kernelpilot/recipes"
RECIPES = Path(__file__).resolve().parent.parent / "agents" / "recipes"

_LICENCE = "Apache-2.0"
_SUFFIXES = frozenset({".md", ".yaml", ".j2", ".cpp", ".cu", ".h"})
_NOTES = "notes.md"
_MOST_BYTES = 1024 * 1024


def ingest(truth: Truth, recipes: Path = RECIPES, *, tell: Tell = silent) -> Report:
    """Take in each recipe as a change that adds its files.

    Args:
        truth: the open store.
        recipes: `<language>/<family>/` with templates, their parameters and notes.
        tell: hears how far it is.

    Raises:
        SourceError: there is no such folder.
    """
    if not recipes.is_dir():
        raise SourceError(f"{recipes} is not a folder of recipes")
    report = Report(source=str(recipes))
    families = sorted(path for path in recipes.glob("*/*") if path.is_dir())
    with truth.batch() as batch:
        for done, family in enumerate(families, 1):
            files = _files(family, recipes, report)
            if not files:
                continue
            name = family.relative_to(recipes).as_posix()
            diff = b"".join(added_file(path, content) for path, content in files.items())
            pull = PullRequest(
                repo=REPO,
                number=_number(name),
                title=f"Recipe: {family.name.replace('_', ' ')} in {family.parent.name}",
                body=files.get(f"{name}/{_NOTES}", b"").decode("utf-8", "replace"),
                licence=_LICENCE,
                origin="patch",
            )
            item, mark = f"own:{name}", fingerprint(diff)
            if truth.seen(item)[0] == mark:
                report.count("unchanged")
            else:
                report.count(batch.put(pull, diff))
                batch.mark(item, mark, pull.key)
            tell(Progress(stage="recipes", done=done, total=len(families), item=name))
    return report


def added_file(path: str, content: bytes) -> bytes:
    """Return a file as the diff that adds it."""
    lines = content.split(b"\n")
    is_ended = not lines[-1]
    lines = lines[:-1] if is_ended else lines
    head = f"diff --git a/{path} b/{path}\nnew file mode 100644\n".encode()
    if not lines:
        return head
    names = f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n".encode()
    body = b"".join(b"+" + line + b"\n" for line in lines)
    return head + names + body + (b"" if is_ended else b"\\ No newline at end of file\n")


def _number(name: str) -> int:
    """Return six digits for a recipe, the same whatever other recipes there are."""
    digest = hashlib.sha256(name.encode()).digest()
    return 100_000 + int.from_bytes(digest[:8], "big") % 900_000


def _files(family: Path, recipes: Path, report: Report) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for path in sorted(family.iterdir()):
        if path.suffix not in _SUFFIXES:
            continue
        name = path.relative_to(recipes).as_posix()
        try:
            content = file_bytes(path, _MOST_BYTES)
        except Refused as refusal:
            report.contain(str(refusal))
            continue
        if content is not None:
            files[name] = content
    return files
